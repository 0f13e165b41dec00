//! What every handler has at hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, MutexGuard};

use tiershift_core::catalog::Catalog;
use tiershift_core::request::RequestId;
use tokio::sync::Semaphore;

use crate::serve::board::{Board, SharedBoard};
use crate::serve::http::body::BodyReader;
use crate::serve::http::clients::Clients;
use crate::serve::message::Message;

/// What every handler needs.
pub(in crate::serve) struct App {
    pub(super) to: Sender<Message>,
    pub(super) catalog: Catalog,
    pub(super) client: reqwest::Client,
    pub(super) bodies: BodyReader,
    /// Pages that may still be opened.
    pub(super) watchers: Arc<Semaphore>,
    pub(super) clients: Clients,
    board: SharedBoard,
    next_id: AtomicU64,
}

impl App {
    pub(in crate::serve) fn new(
        to: Sender<Message>,
        catalog: Catalog,
        client: reqwest::Client,
        board: SharedBoard,
    ) -> Self {
        let bodies = BodyReader::default();
        let watchers = Arc::new(Semaphore::new(MOST_WATCHERS));
        let (clients, next_id) = (Clients::default(), AtomicU64::new(0));
        Self { to, catalog, client, bodies, watchers, clients, board, next_id }
    }

    pub(super) fn next_request(&self) -> RequestId {
        RequestId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock()
    }
}

/// Chosen: a person has a few pages open, and each is sent a kilobyte or two four times a second at most.
const MOST_WATCHERS: usize = 32;
