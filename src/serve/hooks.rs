//! Commands of the user's that run when the tier changes or a notice is given. They get the event as JSON on standard
//! input.
//!
//! One runs at a time, within its time limit; further events wait in a bounded queue. The controller's thread only adds
//! to that queue, and never waits for it.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tiershift_core::decision::Decision;
use tiershift_core::event::Notice;
use tiershift_core::time::{duration_ns, duration_ns_or_none};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::probe::clock;
use crate::serve::{DaemonEvent, Notify};
use crate::wall::WallTime;

/// The commands, each split into words, and how long each may run; one without words does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookPlan {
    /// Run when another tier serves.
    pub on_change: Vec<String>,
    /// Run when a notice is given.
    pub on_notice: Vec<String>,
    /// A command that takes longer is ended.
    pub time_limit: Duration,
}

/// An event that a hook runs for, as on its standard input.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Happening {
    /// Another tier serves.
    Change {
        from: String,
        to: String,
        /// Why, as text.
        text: String,
        /// From the decision to this moment.
        #[serde(rename = "took_ns", with = "duration_ns")]
        took: Duration,
        /// The part of that time that was loading.
        #[serde(rename = "load_ns", with = "duration_ns_or_none")]
        load: Option<Duration>,
        /// The decision behind it; none if a model ended on its own.
        decision: Option<Decision>,
    },
    /// A notice was given.
    Notice { notice: Notice, text: String },
}

/// An event with its date.
#[derive(Serialize)]
struct Dated {
    time: WallTime,
    #[serde(flatten)]
    happening: Happening,
}

/// The controller's end.
pub(super) struct Hooks {
    plan: HookPlan,
    to: Option<Sender<Dated>>,
    notify: Notify,
}

impl Hooks {
    /// Waits for events, if a command is named.
    pub(super) fn begin(plan: HookPlan, runtime: &Handle, notify: Notify) -> Self {
        let is_wanted = !(plan.on_change.is_empty() && plan.on_notice.is_empty());
        let to = is_wanted.then(|| {
            let (to, inbox) = mpsc::channel(MOST_WAITING);
            runtime.spawn(run_all(plan.clone(), inbox, Arc::clone(&notify)));
            to
        });
        Self { plan, to, notify }
    }

    /// Runs the command for this event, when its turn comes.
    pub(super) fn start(&self, happening: Happening) {
        let Some(to) = &self.to else { return };
        let (hook, words) = self.plan.of(&happening);
        if words.is_empty() {
            return;
        }
        if to.try_send(Dated { time: clock::date(), happening }).is_err() {
            let error = format!("{MOST_WAITING} events are already waiting: this one is skipped");
            (self.notify)(DaemonEvent::HookFailed { hook, error: &error });
        }
    }
}

impl HookPlan {
    fn of(&self, happening: &Happening) -> (&'static str, &[String]) {
        match happening {
            Happening::Change { .. } => ("on-change", &self.on_change),
            Happening::Notice { .. } => ("on-notice", &self.on_notice),
        }
    }
}

async fn run_all(plan: HookPlan, mut inbox: Receiver<Dated>, notify: Notify) {
    while let Some(dated) = inbox.recv().await {
        let (hook, words) = plan.of(&dated.happening);
        let input = serde_json::to_vec(&dated).expect("plain data with text keys is always JSON");
        if let Err(error) = run(words, &input, plan.time_limit).await {
            notify(DaemonEvent::HookFailed { hook, error: &error });
        }
    }
}

/// Runs a command to its end, with this on its standard input. Its output goes to our standard error.
async fn run(words: &[String], input: &[u8], time_limit: Duration) -> Result<(), String> {
    let [program, arguments @ ..] = words else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    // Its own child processes end with it, and Ctrl-C does not reach it.
    #[cfg(unix)]
    command.process_group(0);
    let mut child =
        command.spawn().map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    let id = child.id();
    let ended = tokio::time::timeout(time_limit, async {
        if let Some(mut stdin) = child.stdin.take() {
            // A command need not read it.
            let _ = stdin.write_all(input).await;
        }
        child.wait().await
    });
    match ended.await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("`{program}` failed ({status})")),
        Ok(Err(error)) => Err(format!("`{program}` cannot be waited for: {error}")),
        Err(_) => {
            end_group(id);
            let _ = child.kill().await;
            let limit = tiershift_core::text::span(time_limit);
            Err(format!("`{program}` took longer than {limit}, and was ended"))
        }
    }
}

#[cfg(unix)]
fn end_group(id: Option<u32>) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let id = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(id) = id {
        let _ = kill_process_group(id, Signal::KILL);
    }
}

#[cfg(not(unix))]
fn end_group(_: Option<u32>) {}

/// Chosen: more than happens while one command runs, unless everything goes wrong.
const MOST_WAITING: usize = 16;
