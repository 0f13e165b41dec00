//! What every handler has at hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, MutexGuard};

use tiershift_core::catalog::Catalog;
use tiershift_core::request::RequestId;
use tokio::sync::Semaphore;

use crate::serve::board::{Board, SharedBoard};
use crate::serve::http::body::BodyReader;
use crate::serve::message::Message;

/// What every handler needs.
pub(in crate::serve) struct App {
    pub(super) to: Sender<Message>,
    pub(super) catalog: Catalog,
    pub(super) client: reqwest::Client,
    pub(super) bodies: BodyReader,
    /// Pages that may still be opened.
    pub(super) watchers: Arc<Semaphore>,
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
        Self { to, catalog, client, bodies, watchers, board, next_id: AtomicU64::new(0) }
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
