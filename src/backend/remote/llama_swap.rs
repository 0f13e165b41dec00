//! llama-swap.
//!
//! # Source
//! Its code, at 0bdb3720 of 2026-08-22. What a manager must know of it:
//!
//! - There is no load: any request that names a model starts it, and is answered when it has started.
//! - An unload does not wait for requests. Ours have ended by then; others' are not reported, so they cannot be waited
//!   for.
//! - It may be configured to run one model at a time: then a load drops the model before, after its requests. That is
//!   reported as an unload that was not requested.

use serde::Deserialize;

use crate::backend::remote::client::{ServerClient, ServerError, read};
use crate::backend::remote::entry::{Entry, Presence};
use crate::backend::remote::protocol::{LoadedList, Protocol};
use crate::backend::remote::{plain, processes};

pub(super) const PROTOCOL: Protocol = Protocol {
    name: "llama-swap",
    recognise: |client| Box::pin(async { Ok(client.get::<Running>(RUNNING).await?.map(drop)) }),
    list: "/v1/models",
    loaded: Some(LoadedList {
        path: RUNNING,
        entries: |loaded| Ok(read::<Running>(loaded)?.entries(&plain::Models::default())),
    }),
    entries: |list, loaded| Ok(read::<Running>(loaded)?.entries(&read(list)?)),
    default_tag: None,
    query: "",
    keep_alive: None,
    load: Some(|client, model| Box::pin(load(client, model))),
    unload: Some(|client, model| Box::pin(unload(client, model))),
    renew: None,
    is_busy: None,
    can_cancel_load: true,
    slots: None,
    is_one_process: false,
    processes: processes::of_entry,
};

#[derive(Debug, Deserialize)]
struct Running {
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
    fn entries(&self, models: &plain::Models) -> Vec<Entry> {
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

async fn load(client: &ServerClient, name: &str) -> Result<(), ServerError> {
    client.get_slowly(&["upstream", name, "health"]).await
}

async fn unload(client: &ServerClient, name: &str) -> Result<(), ServerError> {
    client.post_to("api/models/unload", name).await
}

/// The path of the list of running models.
const RUNNING: &str = "/running";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_kept_apart_from_what_is_listed() {
        let models = r#"{"data":[{"id":"a"},{"id":"b"}]}"#;
        let running = r#"{"running":[{"model":"b","state":"ready","cmd":"llama-server",
            "proxy":"http://127.0.0.1:5800","ttl":300}]}"#;
        let running: Running = serde_json::from_str(running).unwrap();
        let entries = running.entries(&serde_json::from_str(models).unwrap());
        assert_eq!((entries[0].name.as_str(), entries[0].presence), ("a", Presence::Absent));
        assert_eq!((entries[1].name.as_str(), entries[1].port), ("b", Some(5800)));
    }
}
