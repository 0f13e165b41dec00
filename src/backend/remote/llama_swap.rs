//! llama-swap.
//!
//! # Source
//! Its code, at 0bdb3720 of 2026-08-22. What a manager must know of it:
//!
//! - There is no load: any request that names a model starts it, and is answered when it has started.
//! - An unload does not wait for requests. Ours have ended by then; of others' nothing is told that could be waited
//!   for.
//! - It may be set up to run one model at a time: then a load drops the model before, after its requests. That is
//!   told as gone unasked.

use serde::Deserialize;

use crate::backend::remote::plain;
use crate::backend::remote::server::{Entry, Presence, ServerClient, ServerError};

#[derive(Debug, Deserialize)]
pub(super) struct Running {
    running: Vec<One>,
}

#[derive(Debug, Deserialize)]
struct One {
    model: String,
    state: String,
    #[serde(default)]
    proxy: String,
}

impl Running {
    /// Returns these models and those that run.
    pub(super) fn entries(&self, models: &plain::Models) -> Vec<Entry> {
        let mut entries: Vec<Entry> = models
            .names()
            .map(|name| Entry { name: name.to_owned(), ..Entry::default() })
            .collect();
        for one in &self.running {
            let presence = match one.state.as_str() {
                "ready" => Presence::Ready,
                "starting" | "stopping" => Presence::Loading,
                _ => Presence::Absent,
            };
            let port = reqwest::Url::parse(&one.proxy).ok().and_then(|url| url.port());
            entries.retain(|entry| entry.name != one.model);
            entries.push(Entry { name: one.model.clone(), presence, port, ..Entry::default() });
        }
        entries
    }
}

pub(super) async fn load(wire: &ServerClient, name: &str) -> Result<(), ServerError> {
    wire.get_slowly(&["upstream", name, "health"]).await
}

pub(super) async fn unload(wire: &ServerClient, name: &str) -> Result<(), ServerError> {
    wire.post_to("api/models/unload", name).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_told_apart_from_what_is_listed() {
        let models = r#"{"data":[{"id":"a"},{"id":"b"}]}"#;
        let running = r#"{"running":[{"model":"b","state":"ready","cmd":"llama-server",
            "proxy":"http://127.0.0.1:5800","ttl":300}]}"#;
        let running: Running = serde_json::from_str(running).unwrap();
        let entries = running.entries(&serde_json::from_str(models).unwrap());
        assert_eq!((entries[0].name.as_str(), entries[0].presence), ("a", Presence::Absent));
        assert_eq!((entries[1].name.as_str(), entries[1].port), ("b", Some(5800)));
    }
}
