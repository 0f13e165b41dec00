//! Ollama.
//!
//! # Source
//! Its own documents and code, at fb307609 of 2026-08-21. What a manager must know of it:
//!
//! - How long a model stays when it is idle, the last request with a `keep_alive` says. So somebody else's request may
//!   undo ours: whoever sees that, says it again.
//! - An unload lets finish what runs, and the model is listed until then.
//! - Another `num_ctx` reloads a model. OpenAI's API cannot name one, so none is named with the load either: a
//!   model's context is what Ollama was told at its start.
//! - It drops models by itself at OLLAMA_MAX_LOADED_MODELS: told as gone unasked.

use serde::Deserialize;
use serde_json::json;
use tiershift_core::model::Footprint;
use tiershift_core::units::Bytes;

use crate::backend::remote::server::{Entry, Presence, ServerClient, ServerError};

/// What it says at its root.
pub(super) const GREETING: &str = "Ollama is running";

/// A negative time, in seconds, has no end.
pub(super) const FOR_EVER: i64 = -1;

pub(super) const NO_LONGER: i64 = 0;

#[derive(Debug, Deserialize)]
pub(super) struct Tags {
    models: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
struct Tag {
    name: String,
    size: u64,
    /// Versions of 2025 and later say what a model is for.
    capabilities: Option<Vec<String>>,
}

/// What is loaded.
#[derive(Debug, Deserialize)]
pub(super) struct Loaded {
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
    pub(super) fn entries(self, loaded: &Loaded) -> Vec<Entry> {
        let completes = |tag: &Tag| {
            tag.capabilities.as_ref().is_none_or(|all| all.iter().any(|one| one == "completion"))
        };
        let entry = |tag: Tag| {
            let running = loaded.models.iter().find(|running| running.name == tag.name);
            let entry = running.map(Running::entry).unwrap_or_default();
            Entry { name: tag.name, size: Some(Bytes::new(tag.size)), ..entry }
        };
        self.models.into_iter().filter(completes).map(entry).collect()
    }
}

impl Loaded {
    pub(super) fn entries(&self) -> Vec<Entry> {
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

/// Loads a model for this time after its last request, in seconds, or drops it. A load is answered when it is done.
pub(super) async fn keep(wire: &ServerClient, name: &str, seconds: i64) -> Result<(), ServerError> {
    wire.post("/api/generate", &json!({"model": name, "keep_alive": seconds})).await.map(drop)
}

/// Dates compare as text. A model without end is given a date 292 years from now (Go's longest duration).
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
        assert_eq!(entries.len(), 2, "an embedding model completes nothing");
        assert_eq!((entries[0].presence, entries[0].expires), (Presence::Ready, false));
        let used = Footprint { ram: Bytes::new(2000), vram: Bytes::new(1000) };
        assert_eq!(
            (entries[0].used, entries[0].size),
            (Some(used), Some(Bytes::new(2_019_393_189)))
        );
        assert_eq!(entries[1].presence, Presence::Absent);
    }
}
