//! The shared state of the handlers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, MutexGuard};

use tiershift_core::catalog::Catalog;
use tiershift_core::model::ModelId;
use tiershift_core::request::RequestId;
use tiershift_core::units::Bytes;
use tokio::sync::Semaphore;

use crate::serve::board::{Board, SharedBoard};
use crate::serve::http::body::BodyReader;
use crate::serve::http::clients::Clients;
use crate::serve::http::names::Names;
use crate::serve::message::Message;
use crate::serve::token_length::TokenLength;

/// What every handler needs.
pub(in crate::serve) struct App {
    pub(super) to: Sender<Message>,
    pub(super) catalog: Catalog,
    pub(super) client: reqwest::Client,
    pub(super) names: Names,
    pub(super) bodies: BodyReader,
    /// Pages that may still be opened.
    pub(super) watchers: Arc<Semaphore>,
    pub(super) clients: Clients,
    pub(super) token_length: Arc<TokenLength>,
    /// In seconds since 1970.
    pub(super) started_at: i64,
    /// Whether Ollama's own API is available.
    pub(super) is_ollama: bool,
    /// Whether nothing is loaded, ever.
    pub(super) is_dry_run: bool,
    /// When each model's file was written, if known.
    written: BTreeMap<ModelId, i64>,
    board: SharedBoard,
    next_id: AtomicU64,
}

/// What is known of the models besides the catalog, and of the clients.
pub(in crate::serve) struct Facts {
    pub(in crate::serve) names: Names,
    pub(in crate::serve) longest_body: Bytes,
    pub(in crate::serve) started_at: i64,
    pub(in crate::serve) written: BTreeMap<ModelId, i64>,
    pub(in crate::serve) is_ollama: bool,
    pub(in crate::serve) is_dry_run: bool,
}

impl App {
    pub(in crate::serve) fn new(
        to: Sender<Message>,
        catalog: Catalog,
        client: reqwest::Client,
        board: SharedBoard,
        facts: Facts,
    ) -> Self {
        let Facts { names, longest_body, started_at, written, is_ollama, is_dry_run } = facts;
        let bodies = BodyReader::new(longest_body);
        let watchers = Arc::new(Semaphore::new(MOST_WATCHERS));
        let (clients, next_id) = (Clients::default(), AtomicU64::new(0));
        Self {
            to,
            catalog,
            client,
            names,
            bodies,
            watchers,
            clients,
            token_length: Arc::default(),
            started_at,
            is_ollama,
            is_dry_run,
            written,
            board,
            next_id,
        }
    }

    /// Returns when a model's file was written, or else when the daemon began, in seconds since 1970.
    pub(super) fn created(&self, model: &ModelId) -> i64 {
        self.written.get(model).copied().unwrap_or(self.started_at)
    }

    pub(super) fn next_request(&self) -> RequestId {
        RequestId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock()
    }
}

/// Chosen: a user has a few pages open, and each is sent a kilobyte or two at most four times a second.
const MOST_WATCHERS: usize = 32;
