//! llama-server in router mode: one process per model, started and stopped on request.
//!
//! # Source
//! Measured with build 11669 on 2026-11-23. What a manager must know of it:
//!
//! 1. An unload does not wait for requests: they fall silent, and are cut after its stop time-out. So it is asked for
//!    when no slot works any more, or for too long.
//! 2. A client that hangs up frees its slot some 0.6 s later, and an unload before that may take those 10 s: the same
//!    wait is enough.
//! 3. A single server that is told to stop waits for its clients; ours have ended by then (`llama_server`).
//! 4. An unload while it loads ends the process at once, and then the entry says `failed` as for a broken file. So
//!    `failed` means something only to one that wanted the model loaded.
//! 5. At `--models-max` a load drops whoever was idle the longest; that is told as gone unasked.
//! 6. A broken file is accepted, and its entry says `failed` within 1.5 s.
//! 7. A router that is told to stop takes its models with it; so the server's end is the models' end.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;
use tiershift_core::units::Bytes;

use crate::backend::remote::server::{Entry, Presence, ServerClient, ServerError};

#[derive(Debug, Deserialize)]
pub(super) struct Props {
    role: Option<String>,
}

impl Props {
    pub(super) fn is_router(&self) -> bool {
        self.role.as_deref() == Some("router")
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Models {
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
    pub(super) fn entries(self) -> Vec<Entry> {
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
    let place = arguments.iter().position(|argument| argument == name)?;
    arguments.get(place + 1).map(String::as_str)
}

pub(super) async fn load(wire: &ServerClient, name: &str) -> Result<(), ServerError> {
    ask(wire, "/models/load", name, "already running").await
}

pub(super) async fn unload(wire: &ServerClient, name: &str) -> Result<(), ServerError> {
    ask(wire, "/models/unload", name, "not running").await
}

/// What is so already is no error.
async fn ask(wire: &ServerClient, path: &str, name: &str, is_so: &str) -> Result<(), ServerError> {
    match wire.post(path, &json!({ "model": name })).await {
        Err(ServerError::Refused { code: 400, words }) if words.contains(is_so) => Ok(()),
        told => told.map(drop),
    }
}

/// A router that was started without slots tells nothing; then only our own requests are known to have ended.
pub(super) async fn is_busy(wire: &ServerClient, name: &str) -> bool {
    #[derive(Deserialize)]
    struct Slot {
        #[serde(default)]
        is_processing: bool,
    }
    let query = reqwest::Url::parse_with_params("http://localhost/slots", [("model", name)]);
    let Ok(url) = query else { return false };
    let path = format!("/slots?{}", url.query().unwrap_or_default());
    let slots: Result<Vec<Slot>, ServerError> = wire.ask(&path).await;
    slots.is_ok_and(|slots| slots.iter().any(|slot| slot.is_processing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_tells_what_is_there_and_where() {
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
