//! Waits for a model server that is not up yet: the daemon listens, and answers every client with when to come back.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum::http::Uri;
use axum::response::IntoResponse;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::inventory::listing::{ListingError, RemoteServer};
use crate::serve::http::connections::{self, Limits};
use crate::serve::http::refusal::Refusal;
use crate::serve::signals::Stops;
use crate::serve::{Access, DaemonEvent, LiveError, Notify, check_access};

/// A server that is up, and the listener that was open while waiting for it.
#[derive(Debug)]
pub struct Arrived {
    /// The server.
    pub server: RemoteServer,
    /// The listener for clients from now on.
    pub listener: TcpListener,
}

/// Listens at an address until a model server answers at `url`, and asks clients to come back; `None` if it is asked to
/// stop before.
///
/// # Errors
/// When the address is taken or is open to others without a token, or a server's answer is not understood.
pub fn wait_for_server(
    url: &str,
    address: SocketAddr,
    access: &Access,
    notify: &Notify,
) -> Result<Option<Arrived>, LiveError> {
    check_access(address, access)?;
    let refuse = |source| LiveError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(refuse)?;
    listener.set_nonblocking(true).map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(LiveError::Runtime)?;
    let shared = listener.try_clone().map_err(refuse)?;
    let found = runtime.block_on(async {
        let mut stops = Stops::new().map_err(LiveError::Runtime)?;
        let shared = tokio::net::TcpListener::from_std(shared).map_err(refuse)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let waiting = tokio::spawn(connections::serve(shared, router(url), Limits::USUAL, async {
            let _ = stopped.await;
        }));
        notify(DaemonEvent::Waiting { url });
        notify(DaemonEvent::Listening { address });
        let found = tokio::select! {
            found = until_there(url) => found.map(Some),
            () = stops.next() => {
                notify(DaemonEvent::Stopping);
                Ok(None)
            }
        };
        let _ = stop.send(());
        // For clients that are being answered; new connections wait for the daemon itself.
        let _ = tokio::time::timeout(GOODBYE, waiting).await;
        Ok(found?)
    });
    found.map(|found: Option<RemoteServer>| found.map(|server| Arrived { server, listener }))
}

async fn until_there(url: &str) -> Result<RemoteServer, ListingError> {
    loop {
        match RemoteServer::look(url).await {
            Err(error) if error.is_not_up_yet() => tokio::time::sleep(LOOK_PAUSE).await,
            found => return found,
        }
    }
}

fn router(url: &str) -> Router {
    let message = format!("no model server answers at {url} yet: the daemon waits for it");
    Router::new().fallback(move |_: Uri| {
        let refusal = Refusal::no_server(message.clone());
        async move { refusal.into_response() }
    })
}

/// Chosen: a server is used this soon after it is up, at the cost of a connection a second.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Chosen: an answer of one line is written at once.
const GOODBYE: Duration = Duration::from_millis(200);
