//! Any server with OpenAI's API. It lists and completes; a listed model counts as loaded while it is listed.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde::Deserialize;
use tiershift_core::units::Bytes;

use crate::backend::remote::client::{ServerError, read};
use crate::backend::remote::entry::{Entry, Presence};
use crate::backend::remote::processes;
use crate::backend::remote::protocol::Protocol;

pub(super) const PROTOCOL: Protocol = Protocol {
    name: "an OpenAI-compatible server",
    recognise: |client| Box::pin(async { Ok(client.get::<Models>("/v1/models").await?.map(drop)) }),
    list: "/v1/models",
    loaded: None,
    entries: |list, _| Ok(read::<Models>(list)?.entries()),
    default_tag: None,
    query: "",
    keep_alive: None,
    load: None,
    unload: None,
    renew: None,
    is_busy: None,
    can_cancel_load: true,
    slots: None,
    is_one_process: false,
    processes: |_| BTreeSet::new(),
};

/// A llama-server of one model is also such a server. It identifies itself in its model's entry.
pub(super) const LLAMA_SERVER: Protocol = Protocol {
    name: "llama-server",
    recognise: |client| {
        Box::pin(async {
            let models = client.get::<Models>("/v1/models").await?;
            Ok(models.and_then(|models| {
                let is_its_own = |model: &Model| model.owned_by.as_deref() == Some("llamacpp");
                let is_it = models.data.iter().any(is_its_own);
                if is_it { Ok(()) } else { Err(ServerError::Unclear) }
            }))
        })
    },
    slots: Some(|client| {
        Box::pin(async { Ok(client.ask::<Props>("/props").await?.total_slots.get()) })
    }),
    is_one_process: true,
    processes: processes::of_entry,
    ..PROTOCOL
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Models {
    data: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Model {
    id: String,
    owned_by: Option<String>,
    /// A single llama-server reports the size of its model, and its context.
    meta: Option<Meta>,
}

#[derive(Debug, Default, Deserialize)]
struct Meta {
    size: Option<u64>,
    n_ctx: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Props {
    total_slots: NonZeroU32,
}

impl Models {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.data.iter().map(|model| model.id.as_str())
    }

    pub(super) fn entries(self) -> Vec<Entry> {
        let entry = |model: Model| {
            let meta = model.meta.unwrap_or_default();
            Entry {
                name: model.id,
                presence: Presence::Ready,
                size: meta.size.map(Bytes::new),
                context_tokens: meta.n_ctx,
                ..Entry::default()
            }
        };
        self.data.into_iter().map(entry).collect()
    }
}
