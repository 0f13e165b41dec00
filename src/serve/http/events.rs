//! `/events`: the content of the page, live.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::serve::board::Mark;
use crate::serve::http::app::App;
use crate::serve::http::refusal::Refusal;

/// `GET /events`: the history as far as it is kept, then the status after each change, with what is new in the history.
pub(super) async fn events(State(app): State<Arc<App>>) -> Response {
    let Ok(permit) = Arc::clone(&app.watchers).try_acquire_owned() else {
        return Refusal::busy().into_response();
    };
    let news = app.board().subscribe();
    let watcher = Watcher { app, news, step: Step::Past, _permit: permit };
    let events = stream::unfold(watcher, |mut watcher| async move {
        watcher.next().await.map(|event| (Ok::<_, Infallible>(event), watcher))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)).into_response()
}

/// One open page.
struct Watcher {
    app: Arc<App>,
    news: watch::Receiver<()>,
    step: Step,
    _permit: OwnedSemaphorePermit,
}

/// The next thing to send.
enum Step {
    /// All that is kept.
    Past,
    /// The status, and what is new since then.
    Status(Mark),
    /// Nothing until there is news; then as `Status`.
    Wait(Mark),
}

impl Watcher {
    /// Returns the next event; `None` when the daemon ends.
    async fn next(&mut self) -> Option<Event> {
        if let Step::Wait(since) = self.step {
            // Not more often than a person can follow.
            tokio::time::sleep(PAUSE).await;
            self.news.changed().await.ok()?;
            self.step = Step::Status(since);
        }
        let board = self.app.board();
        let (event, next) = match self.step {
            Step::Past => {
                let history = board.history();
                (event("history", history), Step::Status(history.end()))
            }
            Step::Status(since) | Step::Wait(since) => {
                self.news.mark_unchanged();
                (event("status", &board.news(since)), Step::Wait(board.history().end()))
            }
        };
        drop(board);
        self.step = next;
        event
    }
}

fn event(name: &str, data: &impl serde::Serialize) -> Option<Event> {
    // The board's content can always be serialized.
    Event::default().event(name).json_data(data).ok()
}

/// Chosen: four times a second looks like movement.
const PAUSE: Duration = Duration::from_millis(250);

/// Chosen: shorter than the 30 s after which intermediaries drop a connection.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
