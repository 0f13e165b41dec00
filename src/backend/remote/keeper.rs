//! Keeps one model of another's server in its required state: asks for it, checks whether it has been reached, and
//! reports.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tiershift_core::event::Outcome;
use tiershift_core::model::{Footprint, ModelId};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::backend::callbacks::Callbacks;
use crate::backend::remote::client::ServerError;
use crate::backend::remote::entry::{Entry, Presence};
use crate::backend::remote::server::Server;

/// How much a loaded model uses, and the source of the figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OwnUse {
    /// The reading of these processes.
    Processes(BTreeSet<u32>),
    /// The server's own figure.
    Server(Footprint),
    /// The growth at its load.
    Step(Footprint),
    /// The catalog's.
    Catalog,
}

/// What a keeper reports.
pub(super) enum Report {
    Own(ModelId, OwnUse),
    Outcome(Outcome),
}

/// What every keeper needs.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) runtime: Handle,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) callbacks: Callbacks,
}

impl Tools {
    pub(super) fn report(&self, outcome: Outcome) {
        self.send(Report::Outcome(outcome));
    }

    fn send(&self, report: Report) {
        // The receiver is gone once the daemon has stopped.
        let _ = self.reports.send(report);
        (self.callbacks.wake)();
    }
}

/// Keeps one model in its required state, and reports what happens to it.
pub(super) struct Keeper {
    pub(super) model: ModelId,
    pub(super) name: String,
    pub(super) server: Arc<Server>,
    pub(super) tools: Tools,
}

impl Keeper {
    pub(super) async fn load(self, mut stopped: oneshot::Receiver<()>) {
        // A load may be answered only after minutes; whether the server answers at all is known sooner.
        if let Err(error) = self.server.look(&self.name).await {
            return self.load_failed(&error);
        }
        let answer = {
            let mut asked = pin!(self.server.load(&self.name));
            tokio::select! {
                answer = &mut asked => answer,
                _ = &mut stopped => {
                    // A load that cannot be cancelled takes its memory in any case, and is dropped when it is done.
                    if !self.server.can_cancel_load() {
                        let _ = tokio::time::timeout(UNLOAD_PATIENCE, asked).await;
                    }
                    return self.unload().await;
                }
            }
        };
        if let Err(error) = answer {
            return self.load_failed(&error);
        }
        let (mut has_begun, mut looks) = (false, 0);
        loop {
            match self.server.look(&self.name).await {
                Ok(entry) => match entry.presence {
                    Presence::Ready => {
                        self.report_own(&entry);
                        self.tools.report(Outcome::Loaded { model: self.model.clone() });
                        return self.keep(stopped).await;
                    }
                    Presence::Loading => {
                        has_begun = true;
                        self.report_own(&entry);
                    }
                    // Before the load has begun, this is the result of its last run.
                    Presence::Absent | Presence::Failed if !has_begun && looks < LOOKS_TO_BEGIN => {
                    }
                    Presence::Absent | Presence::Failed => {
                        let error = "the server did not bring it up".to_owned();
                        return self
                            .tools
                            .report(Outcome::LoadFailed { model: self.model.clone(), error });
                    }
                },
                Err(error @ ServerError::Away) => return self.load_failed(&error),
                // The manager decides whether it takes too long.
                Err(_) => {}
            }
            looks += 1;
            tokio::select! {
                () = tokio::time::sleep(LOAD_POLL) => {}
                _ = &mut stopped => return self.unload().await,
            }
        }
    }

    /// Watches from the moment at which it can serve.
    pub(super) async fn keep(&self, mut stopped: oneshot::Receiver<()>) {
        let mut unanswered = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_POLL) => {}
                _ = &mut stopped => return self.unload().await,
            }
            let model = self.model.clone();
            let crashed = match self.server.look(&self.name).await {
                Ok(entry) => {
                    unanswered = 0;
                    match entry.presence {
                        Presence::Ready if entry.expires => {
                            self.server.renew(&self.name).await;
                            continue;
                        }
                        Presence::Ready | Presence::Loading => continue,
                        Presence::Failed => "its process ended".to_owned(),
                        // Dropped to make room for another, idle for too long, or unloaded by another client.
                        Presence::Absent => return self.tools.report(Outcome::Unloaded { model }),
                    }
                }
                Err(error) => {
                    unanswered += 1;
                    if error != ServerError::Away && unanswered < MOST_UNANSWERED {
                        continue;
                    }
                    error.to_string()
                }
            };
            return self.tools.report(Outcome::Crashed { model, error: crashed });
        }
    }

    async fn unload(&self) {
        if !self.server.never_unloads() {
            let idle = async {
                while self.server.is_busy(&self.name).await {
                    tokio::time::sleep(LOAD_POLL).await;
                }
            };
            // Our own requests have ended; those of others are not waited for without end.
            let _ = tokio::time::timeout(BUSY_LIMIT, idle).await;
            let gone = tokio::time::timeout(UNLOAD_PATIENCE, self.until_gone());
            if gone.await.is_err() {
                let words = "its server was asked to unload it and has not, so its memory counts as others' now";
                (self.tools.callbacks.exit_message)(&self.model, words);
            }
        }
        self.tools.report(Outcome::Unloaded { model: self.model.clone() });
    }

    async fn until_gone(&self) {
        loop {
            let asked = tokio::time::timeout(UNLOAD_AGAIN, self.server.unload(&self.name)).await;
            if asked == Ok(Err(ServerError::Away)) {
                return;
            }
            for _ in 0..LOOKS_TO_GO {
                match self.server.look(&self.name).await {
                    Ok(Entry { presence: Presence::Absent | Presence::Failed, .. })
                    | Err(ServerError::Away) => return,
                    Ok(_) | Err(_) => tokio::time::sleep(LOAD_POLL).await,
                }
            }
        }
    }

    fn load_failed(&self, error: &ServerError) {
        if let ServerError::Refused { words, .. } = error {
            (self.tools.callbacks.exit_message)(&self.model, words);
        }
        let (model, error) = (self.model.clone(), error.to_string());
        self.tools.report(Outcome::LoadFailed { model, error });
    }

    pub(super) fn report_own(&self, entry: &Entry) {
        let pids = self.server.processes(entry);
        let own = match entry.used {
            _ if !pids.is_empty() => OwnUse::Processes(pids),
            Some(used) => OwnUse::Server(used),
            None => OwnUse::Catalog,
        };
        self.tools.send(Report::Own(self.model.clone(), own));
    }
}

/// A small model loads in a router in 75 ms (measured 2026-11-23).
const LOAD_POLL: Duration = Duration::from_millis(50);

/// Chosen: an unreported end is noticed this soon, for a thousandth of a processor.
pub(super) const WATCH_POLL: Duration = Duration::from_millis(500);

/// A router reports that it loads a model some milliseconds after it was asked, and that a file is broken within 1.5 s
/// (measured 2026-11-23): together 2 s.
const LOOKS_TO_BEGIN: u32 = 40;

/// Chosen: 10 s of no answer, at 2 s and a pause each.
const MOST_UNANSWERED: u32 = 4;

/// The manager's own drain deadline, by default.
const BUSY_LIMIT: Duration = Duration::from_mins(2);

/// Chosen: an unload that has not worked after 5 s is requested again.
const UNLOAD_AGAIN: Duration = Duration::from_secs(5);
const LOOKS_TO_GO: u32 = 100;

/// Chosen: three times the longest stop time-out of these servers (10 s).
const UNLOAD_PATIENCE: Duration = Duration::from_secs(30);
