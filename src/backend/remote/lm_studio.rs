//! LM Studio, from version 0.4: before, its HTTP interface could neither load nor unload.
//!
//! # Source
//! Its documents, at c6854fba of 2026-04-29. What a manager must know of it:
//!
//! - A load is answered when it is done, and cannot be cancelled: one that is no longer wanted is waited for and then
//!   dropped, because its memory is taken in the meantime.
//! - A request that names a model which is not loaded loads it, and may drop another for it. Ours name loaded ones.
//! - It reports the size of a model's file but not its memory.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::json;
use tiershift_core::units::Bytes;

use crate::backend::remote::client::{ServerClient, ServerError, read};
use crate::backend::remote::entry::{Entry, Presence};
use crate::backend::remote::protocol::Protocol;

pub(super) const PROTOCOL: Protocol = Protocol {
    name: "LM Studio",
    recognise: |client| Box::pin(async { Ok(client.get::<Models>(LIST).await?.map(drop)) }),
    list: LIST,
    loaded: None,
    entries: |list, _| Ok(read::<Models>(list)?.entries()),
    default_tag: None,
    query: "",
    keep_alive: None,
    load: Some(|client, model| Box::pin(load(client, model))),
    unload: Some(|client, model| Box::pin(unload(client, model))),
    renew: None,
    is_busy: None,
    can_cancel_load: false,
    slots: None,
    is_one_process: false,
    processes: |_| BTreeSet::new(),
};

#[derive(Debug, Deserialize)]
struct Models {
    models: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: String,
    key: String,
    size_bytes: Option<u64>,
    #[serde(default)]
    loaded_instances: Vec<Instance>,
}

#[derive(Debug, Deserialize)]
struct Instance {
    id: String,
}

impl Models {
    fn entries(self) -> Vec<Entry> {
        let entry = |model: Model| Entry {
            presence: if model.loaded_instances.is_empty() {
                Presence::Absent
            } else {
                Presence::Ready
            },
            embeds_only: model.kind == "embedding",
            name: model.key,
            size: model.size_bytes.map(Bytes::new),
            ..Entry::default()
        };
        self.models.into_iter().map(entry).collect()
    }
}

async fn load(client: &ServerClient, name: &str) -> Result<(), ServerError> {
    client.post("/api/v1/models/load", &json!({ "model": name })).await.map(drop)
}

/// Drops every instance of a model.
async fn unload(client: &ServerClient, name: &str) -> Result<(), ServerError> {
    let models: Models = client.ask(LIST).await?;
    let model = models.models.into_iter().find(|model| model.key == name);
    for Instance { id } in model.into_iter().flat_map(|model| model.loaded_instances) {
        client.post("/api/v1/models/unload", &json!({ "instance_id": id })).await?;
    }
    Ok(())
}

/// The path of its list.
const LIST: &str = "/api/v1/models";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_with_an_instance_is_loaded() {
        let list = r#"{"models":[
            {"type":"llm","key":"google/gemma","size_bytes":17990911801,"loaded_instances":[{"id":"x","config":{}}]},
            {"type":"embedding","key":"e","size_bytes":1},{"type":"llm","key":"b","loaded_instances":[]}]}"#;
        let entries = serde_json::from_str::<Models>(list).unwrap().entries();
        let embeds_only: Vec<bool> = entries.iter().map(|entry| entry.embeds_only).collect();
        assert_eq!(embeds_only, [false, true, false]);
        assert_eq!((entries[0].presence, entries[2].presence), (Presence::Ready, Presence::Absent));
        assert_eq!(entries[0].size, Some(Bytes::new(17_990_911_801)));
        let unknown_path = r#"{"error":"Unexpected endpoint or method. (GET /api/v1/models)"}"#;
        assert!(serde_json::from_str::<Models>(unknown_path).is_err());
    }
}
