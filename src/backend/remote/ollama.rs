//! Ollama.
//!
//! # Source
//! Its own documents and code, at fb307609 of 2026-08-21. What a manager must know of it:
//!
//! - The last request with a `keep_alive` decides how long an idle model stays. So a request of another client may undo
//!   ours, and then ours is sent again.
//! - An unload lets running requests finish, and the model is listed until then.
//! - Another `num_ctx` reloads a model. OpenAI's API cannot name one, so the load names none either: a model's context
//!   is the one that Ollama was started with.
//! - It drops models on its own at OLLAMA_MAX_LOADED_MODELS: reported as unloads that were not requested.

use serde::Deserialize;
use serde_json::json;
use tiershift_core::model::Footprint;
use tiershift_core::units::Bytes;

use crate::backend::remote::client::{ServerClient, ServerError, read};
use crate::backend::remote::entry::{Entry, Presence};
use crate::backend::remote::processes;
use crate::backend::remote::protocol::{LoadedList, Protocol};

pub(super) const PROTOCOL: Protocol = Protocol {
    name: "Ollama",
    recognise: |client| Box::pin(recognise(client)),
    list: "/api/tags",
    loaded: Some(LoadedList {
        path: "/api/ps",
        entries: |loaded| Ok(read::<Loaded>(loaded)?.entries()),
    }),
    entries: |list, loaded| Ok(read::<Tags>(list)?.entries(&read(loaded)?)),
    default_tag: Some(":latest"),
    query: "",
    // The last request decides how long a model stays, and this one must not shorten it.
    keep_alive: Some(FOR_EVER),
    load: Some(|client, model| Box::pin(keep(client, model, FOR_EVER))),
    unload: Some(|client, model| Box::pin(keep(client, model, NO_LONGER))),
    renew: Some(|client, model| Box::pin(keep(client, model, FOR_EVER))),
    is_busy: None,
    can_cancel_load: false,
    slots: None,
    is_one_process: false,
    processes: |_| processes::of_ollama(),
};

#[derive(Debug, Deserialize)]
struct Tags {
    models: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
struct Tag {
    name: String,
    size: u64,
    /// Versions of 2025 and later state what a model is for.
    capabilities: Option<Vec<String>>,
}

/// What is loaded.
#[derive(Debug, Deserialize)]
struct Loaded {
    models: Vec<Running>,
}

#[derive(Clone, Debug, Deserialize)]
struct Running {
    name: String,
    size: u64,
    #[serde(default)]
    size_vram: u64,
    expires_at: Option<String>,
}

impl Tags {
    fn entries(self, loaded: &Loaded) -> Vec<Entry> {
        let has = |tag: &Tag, what: &str| {
            tag.capabilities.as_ref().is_none_or(|all| all.iter().any(|one| one == what))
        };
        let entry = |tag: Tag| {
            let running = loaded.models.iter().find(|running| running.name == tag.name);
            let entry = running.map(Running::entry).unwrap_or_default();
            let embeds_only = !has(&tag, "completion");
            Entry { name: tag.name, size: Some(Bytes::new(tag.size)), embeds_only, ..entry }
        };
        let is_for_us = |tag: &Tag| has(tag, "completion") || has(tag, "embedding");
        self.models.into_iter().filter(is_for_us).map(entry).collect()
    }
}

impl Loaded {
    fn entries(&self) -> Vec<Entry> {
        self.models.iter().map(Running::entry).collect()
    }
}

impl Running {
    fn entry(&self) -> Entry {
        let vram = self.size_vram.min(self.size);
        Entry {
            name: self.name.clone(),
            presence: Presence::Ready,
            used: Some(Footprint { ram: Bytes::new(self.size - vram), vram: Bytes::new(vram) }),
            expires: self.expires_at.as_deref().is_some_and(|date| date < FAR_AWAY),
            ..Entry::default()
        }
    }
}

async fn recognise(client: &ServerClient) -> Result<Result<(), ServerError>, ServerError> {
    let greets = client.text("/").await?.is_ok_and(|text| text.trim() == GREETING);
    Ok(if greets { Ok(()) } else { Err(ServerError::Unclear) })
}

/// Keeps a model loaded for this time after its last request, in seconds, or drops it. A load is answered when it is
/// done.
async fn keep(client: &ServerClient, name: &str, seconds: i64) -> Result<(), ServerError> {
    let ask = json!({"model": name, "keep_alive": seconds});
    match client.post("/api/generate", &ask).await {
        // A model that only embeds is loaded and dropped at the path for embeddings.
        Err(ServerError::Refused { words, .. }) if words.contains(EMBEDS_ONLY) => {
            client.post("/api/embed", &ask).await.map(drop)
        }
        answer => answer.map(drop),
    }
}

/// In its answer if a model completes nothing.
const EMBEDS_ONLY: &str = "does not support generate";

/// Its answer at the root path.
const GREETING: &str = "Ollama is running";

/// A negative time, in seconds, has no end.
const FOR_EVER: i64 = -1;

const NO_LONGER: i64 = 0;

/// Dates compare as text. A model without an end is given a date 292 years from now (Go's longest duration).
const FAR_AWAY: &str = "2200";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_what_is_loaded_are_one_list() {
        let tags = r#"{"models":[{"name":"a:latest","size":2019393189,"capabilities":["completion"]},
            {"name":"b:8b","size":5000000000},{"name":"e","size":1,"capabilities":["embedding"]}]}"#;
        let loaded = r#"{"models":[{"name":"a:latest","size":3000,"size_vram":1000,
            "expires_at":"2318-03-04T14:38:31.83753-07:00"}]}"#;
        let loaded: Loaded = serde_json::from_str(loaded).unwrap();
        let entries = serde_json::from_str::<Tags>(tags).unwrap().entries(&loaded);
        let embeds_only: Vec<bool> = entries.iter().map(|entry| entry.embeds_only).collect();
        assert_eq!(embeds_only, [false, false, true]);
        assert_eq!((entries[0].presence, entries[0].expires), (Presence::Ready, false));
        let used = Footprint { ram: Bytes::new(2000), vram: Bytes::new(1000) };
        assert_eq!(
            (entries[0].used, entries[0].size),
            (Some(used), Some(Bytes::new(2_019_393_189)))
        );
        assert_eq!(entries[1].presence, Presence::Absent);
    }
}
