//! A request of our own for one token, after a server has answered a client's request with an error: is the model at
//! fault, or the request? Servers answer 500 in both cases.

use std::time::Duration;

use serde_json::{Value, json};
use tiershift_core::model::Task;

use crate::backend::endpoint::Endpoint;

/// Returns whether a model's server answers the shortest request for this kind of work. An error about that request is
/// an answer too.
pub(crate) async fn is_answered(client: &reqwest::Client, endpoint: &Endpoint, task: Task) -> bool {
    let (path, mut body) = match task {
        Task::Embedding => ("/v1/embeddings", json!({"input": "a"})),
        Task::Rerank => ("/v1/rerank", json!({"query": "a", "documents": ["a"]})),
        // Without a template, which may be what is wrong.
        Task::Chat | Task::Code | Task::Vision | Task::Speech => {
            ("/v1/completions", json!({"prompt": "a", "max_tokens": 1}))
        }
    };
    let changes = endpoint.changes();
    if let Some(model) = &changes.model {
        body["model"] = Value::from(model.as_str());
    }
    if let Some(keep_alive) = changes.keep_alive {
        body["keep_alive"] = Value::from(keep_alive);
    }
    let answer = endpoint.post(client, path).timeout(LIMIT).json(&body).send().await;
    answer.is_ok_and(|answer| !answer.status().is_server_error())
}

/// Chosen: the client's request has freed its slot, and a model that takes longer for one token is useless.
const LIMIT: Duration = Duration::from_secs(60);
