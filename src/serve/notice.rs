//! The daemon's reports: the lines of its journal.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tiershift_core::model::ModelId;
use tiershift_core::sample::Resource;
use tiershift_core::time::{duration_ns, duration_ns_or_none};

use crate::serve::{ResourceUse, ShadowReport};

/// What a running daemon reports.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum DaemonEvent<'a> {
    /// It answers at this address.
    Listening {
        /// The address.
        address: SocketAddr,
    },
    /// No model server answers at this address yet; the daemon waits for it.
    Waiting {
        /// The address.
        url: &'a str,
    },
    /// What it reads of the machine, by the second sample: a rate is an average between two.
    Reads {
        /// Each resource with its lines.
        lines: &'a [ResourceUse],
        /// What cannot be read here.
        not_read: &'a [Resource],
    },
    /// A model that an earlier daemon left loaded continues to serve.
    Adopted {
        /// The model.
        model: &'a ModelId,
    },
    /// Another tier serves.
    Switched {
        /// The tier before.
        from: &'a str,
        /// The tier that serves now.
        to: &'a str,
        /// Why, as text.
        reason: &'a str,
        /// From the decision to this moment.
        #[serde(rename = "took_ns", with = "duration_ns")]
        took: Duration,
        /// The part of that time that was loading.
        #[serde(rename = "load_ns", with = "duration_ns_or_none")]
        load: Option<Duration>,
    },
    /// Another event for the user.
    Happened {
        /// `model`, `server`, `note` and `dry run` at the start; `notice`, `order`, `companion`, `failure` or `called-off`.
        kind: &'a str,
        /// The event, as text.
        text: &'a str,
    },
    /// A detail for close inspection.
    Detail {
        /// `decision`, `load`, `loaded`, `unloaded` or `no reading`.
        kind: &'a str,
        /// The detail, as text.
        text: &'a str,
    },
    /// A model ended on its own or did not load.
    ExitMessage {
        /// The model.
        model: &'a ModelId,
        /// The last output of its process or server.
        words: &'a str,
    },
    /// The log cannot be written for now. Serving continues, and writing is retried.
    RecordingStopped {
        /// Why.
        error: &'a str,
    },
    /// The log cannot be written for now; new records are held in memory until it can.
    RecordingHeld {
        /// Why.
        error: &'a str,
    },
    /// The log is written again.
    RecordingResumed {
        /// The name of its folder.
        run: &'a str,
        /// Whether records are missing, so that the folder is a new one.
        gap: bool,
    },
    /// A hook did not run, failed, or took too long.
    HookFailed {
        /// Its key in the config.
        hook: &'a str,
        /// Why.
        error: &'a str,
    },
    /// The shadow policy failed. Serving continues.
    ShadowStopped {
        /// Why.
        error: &'a str,
    },
    /// How the shadow policy compared, at the end.
    Shadow(&'a ShadowReport),
    /// The config was read again, and its policy applies from now on.
    Reloaded {
        /// The policy's keys that have changed.
        taken: &'a [String],
        /// Tables that have changed and apply from the next start.
        left: &'a [&'a str],
        /// How the folder of models has changed, for the next start.
        models: &'a [String],
    },
    /// The config could not be taken, and everything stays as it is.
    NotReloaded {
        /// Why.
        error: &'a str,
    },
    /// It is stopping: it finishes what runs.
    Stopping,
    /// It has stopped.
    Stopped {
        /// How many replies were cut by the stop.
        cut: u64,
    },
}
