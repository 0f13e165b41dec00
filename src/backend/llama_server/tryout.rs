//! A short request of our own to a model that has just been loaded, by the same interface as everybody's.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::backend::endpoint::Endpoint;
use crate::backend::stream_usage::Count;

/// Returns how many tokens the model wrote and how long that took, without the prompt; where it does not end in time, how many
/// it was asked for, and that time. `None` where it answers otherwise: others will see to that.
pub(super) async fn run(client: &reqwest::Client, endpoint: &Endpoint) -> Option<(u32, Duration)> {
    // To the end of its tokens, whatever the model would say.
    let body = json!({
        "messages": [{"role": "user", "content": "Count from one to twenty."}],
        "max_tokens": TOKENS, "temperature": 0, "ignore_eos": true,
    });
    let began = Instant::now();
    let answered = async {
        let answer = endpoint.post(client, "/v1/chat/completions").json(&body).send().await.ok()?;
        answer.error_for_status().ok()?.bytes().await.ok()
    };
    match tokio::time::timeout(LIMIT, answered).await {
        Ok(reply) => {
            let count = Count::read(&reply?);
            // Without a word of how long it read, all of the time counts.
            let read = count.first_token.unwrap_or_default();
            Some((count.output_tokens.filter(|&it| it > 0)?, began.elapsed().saturating_sub(read)))
        }
        Err(_) => Some((TOKENS, LIMIT)),
    }
}

/// Chosen: at four tokens a second two seconds, and enough that the first of them does not count for much.
const TOKENS: u32 = 8;

/// Within a minute of the load it is known whether it is slow. A model that needs longer for eight tokens writes one in five
/// seconds or so.
const LIMIT: Duration = Duration::from_secs(45);
