//! The messages between the HTTP side and the controller's thread: data and one-time answers; no state is shared.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tiershift_core::event::{OrderNews, Outcome};
use tiershift_core::model::ModelId;
use tiershift_core::request::{End, Request, RequestId};
use tiershift_core::settings::RawSettings;
use tokio::sync::oneshot;

use crate::backend::endpoint::Endpoint;
use crate::backend::stream_usage::Count;
use crate::serve::token_length::TokenLength;

/// What the controller's thread receives.
#[derive(Debug)]
pub(super) enum Message {
    /// A client sends a request.
    Request(Request, ReplyHandle),
    /// A client hung up.
    HangUp(RequestId),
    /// The outcome of a running request.
    Outcome(Outcome),
    /// The policy's settings are these from now on.
    Settings(Box<RawSettings>),
    /// A client orders a tier.
    Switch(Order),
    /// A handler asks for the endpoint of a model, or of the server itself; none if it is not loaded.
    Endpoint(Option<ModelId>, oneshot::Sender<Option<Endpoint>>),
    /// The backend has news.
    Wake,
    /// Stop: finish what runs.
    Shutdown,
    /// Stop at once.
    Abort,
}

/// An order for a tier.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) tier: String,
    pub(super) for_: Option<Duration>,
    /// The channel for the answer.
    pub(super) answer: oneshot::Sender<OrderNews>,
}

/// Where a request can be run.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) endpoint: Endpoint,
    pub(super) model: ModelId,
    /// A companion belongs to none.
    pub(super) tier: Option<String>,
}

/// The world's half of a request: through it the client is notified.
#[derive(Debug)]
pub(super) struct ReplyHandle {
    /// Taken at the start.
    pub(super) started: Option<oneshot::Sender<Started>>,
    pub(super) ended: oneshot::Sender<End>,
}

/// The client's half of a request. Dropped before the end, it reports that the client hung up.
#[derive(Debug)]
pub(super) struct PendingRequest {
    id: RequestId,
    to: Sender<Message>,
    started: oneshot::Receiver<Started>,
    ended: oneshot::Receiver<End>,
    /// The bytes of its text, and who learns how many tokens they are.
    text: Option<(u64, Arc<TokenLength>)>,
    is_over: bool,
}

/// The controller's thread is gone: the daemon has ended.
#[derive(Debug)]
pub(super) struct Gone;

impl PendingRequest {
    /// Submits a request.
    pub(super) fn submit(to: &Sender<Message>, request: Request) -> Result<Self, Gone> {
        let id = request.id;
        let (start, started) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let handle = ReplyHandle { started: Some(start), ended: end };
        to.send(Message::Request(request, handle)).map_err(|_| Gone)?;
        Ok(Self { id, to: to.clone(), started, ended, text: None, is_over: false })
    }

    /// Lets the server's count of a text of this many bytes be learned.
    pub(super) fn teach(&mut self, bytes: u64, token_length: &Arc<TokenLength>) {
        self.text = Some((bytes, Arc::clone(token_length)));
    }

    /// Waits for the start, or for the end of a request that is not started.
    pub(super) async fn start(&mut self) -> Result<Result<Started, End>, Gone> {
        match (&mut self.started).await {
            Ok(started) => Ok(Ok(started)),
            // The other half was dropped at the end.
            Err(_) => self.end().await.map(Err),
        }
    }

    /// Waits for an end that the controller decides. A second call would never return.
    pub(super) async fn end(&mut self) -> Result<End, Gone> {
        if self.is_over {
            return std::future::pending().await;
        }
        let end = (&mut self.ended).await.map_err(|_| Gone);
        self.is_over = true;
        end
    }

    /// Reports that the reply is complete: its first token came after `first_token`, and this is the server's count.
    pub(super) fn done(&mut self, first_token: Duration, count: Count) {
        let Count { prompt_tokens, prompt_length, output_tokens, .. } = count;
        if let (Some((bytes, token_length)), Some(tokens)) = (self.text.take(), prompt_length) {
            token_length.learn(bytes, tokens.into());
        }
        let output_tokens = output_tokens.unwrap_or_default();
        let request = self.id;
        self.report(Outcome::Done { request, first_token, prompt_tokens, output_tokens });
    }

    /// Reports that the model server answered with something else than a reply.
    pub(super) fn failed(&mut self, error: &str) {
        self.report(Outcome::Failed { request: self.id, error: error.to_owned() });
    }

    /// Reports that the connection to the model's server broke. If its process died, this waits until the controller
    /// knows: a client that is answered earlier would next be served by a dead model.
    pub(super) async fn lost(&mut self, error: &str) {
        if tokio::time::timeout(DEATH_NOTICE, self.end()).await.is_err() {
            self.failed(error);
        }
    }

    /// Reports that the request itself was wrong, which says nothing about the model.
    pub(super) fn refused(&mut self) {
        self.report(Outcome::Cancelled { request: self.id });
    }

    /// Leaves the end to a task that outlives the client's connection.
    pub(super) fn hand_over(&mut self, to: impl FnOnce(Self)) {
        if self.is_over {
            return;
        }
        let (_, started) = oneshot::channel();
        let (_, ended) = oneshot::channel();
        let (id, to_controller) = (self.id, self.to.clone());
        let rest = Self { id, to: to_controller, started, ended, text: None, is_over: true };
        to(std::mem::replace(self, rest));
    }

    fn report(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.is_over, true) {
            // The receiver is gone once the daemon has stopped.
            let _ = self.to.send(Message::Outcome(outcome));
        }
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = self.to.send(Message::HangUp(self.id));
        }
    }
}

/// Chosen: the death of a process of ours is seen in milliseconds, that of a model on another server at the next look,
/// every 500 ms; three of them fit in. A client that is answered earlier asks again, and is sent to a dead model.
const DEATH_NOTICE: Duration = Duration::from_millis(1500);
