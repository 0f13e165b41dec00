//! llama-server in router mode: one process per model, started and stopped on request.
//!
//! # Source
//! Measured with build 11669 on 2026-11-23. What a manager must know of it:
//!
//! 1. An unload does not wait for requests: they fall silent, and are cut after its stop time-out. So it is requested
//!    when no slot works any more, or has worked for too long.
//! 2. A client that hangs up frees its slot some 0.6 s later, and an unload before that may take those 10 s: the same
//!    wait is enough.
//! 3. A single server that is asked to stop waits for its clients; ours have ended by then (`llama_server`).
//! 4. An unload during a load ends the process at once, and then the entry's status is `failed`, as for a broken file.
//!    So `failed` means something only if the model was to be loaded.
//! 5. At `--models-max` a load drops the model that was idle the longest; that is reported as an unload that was not
//!    requested.
//! 6. A broken file is accepted, and its entry's status is `failed` within 1.5 s.
//! 7. A router that is asked to stop also stops its models; so the server's end is the models' end.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;
use tiershift_core::units::Bytes;

use crate::backend::remote::client::{ServerClient, ServerError, read};
use crate::backend::remote::entry::{Entry, Presence};
use crate::backend::remote::processes;
use crate::backend::remote::protocol::Protocol;

pub(super) const PROTOCOL: Protocol = Protocol {
    name: "llama-server in router mode",
    recognise: |client| Box::pin(recognise(client)),
    list: "/models",
    loaded: None,
    entries: |list, _| Ok(read::<Models>(list)?.entries()),
    default_tag: None,
    // A model that has just gone must not be loaded again unasked.
    query: "?autoload=false",
    keep_alive: None,
    load: Some(|client, model| Box::pin(ask(client, "/models/load", model, "already running"))),
    unload: Some(|client, model| Box::pin(ask(client, "/models/unload", model, "not running"))),
    renew: None,
    is_busy: Some(|client, model| Box::pin(is_busy(client, model))),
    // It answers a load at once; an unload that overtook the load would be lost.
    can_cancel_load: false,
    slots: None,
    is_one_process: false,
    processes: processes::of_entry,
};

#[derive(Debug, Deserialize)]
struct Props {
    role: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Model {
    id: String,
    status: Status,
    meta: Option<Meta>,
}

#[derive(Debug, Deserialize)]
struct Status {
    value: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    failed: bool,
}

#[derive(Debug, Deserialize)]
struct Meta {
    size: Option<u64>,
}

impl Models {
    fn entries(self) -> Vec<Entry> {
        self.data.into_iter().map(Model::entry).collect()
    }
}

impl Model {
    fn entry(self) -> Entry {
        let Self { id, status, meta } = self;
        let presence = match status.value.as_str() {
            // A sleeping model wakes with its next request.
            "loaded" | "sleeping" => Presence::Ready,
            "loading" | "downloading" => Presence::Loading,
            _ if status.failed => Presence::Failed,
            _ => Presence::Absent,
        };
        Entry {
            name: id,
            presence,
            size: meta.and_then(|meta| meta.size).map(Bytes::new),
            file: option(&status.args, "--model").map(PathBuf::from),
            port: option(&status.args, "--port").and_then(|port| port.parse().ok()),
            ..Entry::default()
        }
    }
}

fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).map(String::as_str)
}

async fn recognise(client: &ServerClient) -> Result<Result<(), ServerError>, ServerError> {
    let props = client.get::<Props>("/props").await?;
    let is_router = props.is_ok_and(|props| props.role.as_deref() == Some("router"));
    Ok(if is_router { Ok(()) } else { Err(ServerError::Unclear) })
}

/// Asks to load or unload; it is not an error if that has already been done.
async fn ask(
    client: &ServerClient,
    path: &str,
    name: &str,
    done_already: &str,
) -> Result<(), ServerError> {
    match client.post(path, &json!({ "model": name })).await {
        Err(ServerError::Refused { code: 400, words }) if words.contains(done_already) => Ok(()),
        answered => answered.map(drop),
    }
}

/// An error if the router was started without slots.
async fn is_busy(client: &ServerClient, name: &str) -> Result<bool, ServerError> {
    #[derive(Deserialize)]
    struct Slot {
        #[serde(default)]
        is_processing: bool,
    }
    let query = reqwest::Url::parse_with_params("http://localhost/slots", [("model", name)]);
    let url = query.map_err(|_| ServerError::Unclear)?;
    let path = format!("/slots?{}", url.query().unwrap_or_default());
    let slots: Vec<Slot> = client.ask(&path).await?;
    Ok(slots.iter().any(|slot| slot.is_processing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_is_there_and_where() {
        let list = r#"{"object":"list","data":[
            {"id":"a","status":{"value":"unloaded","args":["llama-server","--port","0","--model","/m/a.gguf"]}},
            {"id":"b","status":{"value":"unloaded","exit_code":1,"failed":true}},
            {"id":"c","status":{"value":"loading"}},
            {"id":"d","status":{"value":"loaded","args":["--port","48015"]},"meta":{"size":20020224}}]}"#;
        let entries = serde_json::from_str::<Models>(list).unwrap().entries();
        let presences: Vec<Presence> = entries.iter().map(|entry| entry.presence).collect();
        let [absent, failed, loading, ready] =
            [Presence::Absent, Presence::Failed, Presence::Loading, Presence::Ready];
        assert_eq!(presences, [absent, failed, loading, ready]);
        assert_eq!(entries[0].file, Some(PathBuf::from("/m/a.gguf")));
        assert_eq!((entries[3].port, entries[3].size), (Some(48015), Some(Bytes::new(20_020_224))));
    }
}
