//! Any server with OpenAI's API. It lists and completes; what it lists is taken as loaded, for as long as it lists it.

use serde::Deserialize;
use tiershift_core::units::Bytes;

use crate::backend::remote::server::{Entry, Presence};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Models {
    data: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Model {
    id: String,
    /// A single llama-server tells the size of its model.
    meta: Option<Meta>,
}

#[derive(Debug, Deserialize)]
struct Meta {
    size: Option<u64>,
}

impl Models {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.data.iter().map(|model| model.id.as_str())
    }

    pub(super) fn entries(self) -> Vec<Entry> {
        let entry = |model: Model| Entry {
            name: model.id,
            presence: Presence::Ready,
            size: model.meta.and_then(|meta| meta.size).map(Bytes::new),
            ..Entry::default()
        };
        self.data.into_iter().map(entry).collect()
    }
}
