//! When the requests of a request trace arrive in a replay.

use std::time::Duration;

use anyhow::{Context, Result};
use tiershift_core::time::{Timestamp, span_text};

use crate::log::{Played, Source};
use crate::study::replay::{Recording, RecordingError, Requests};
use crate::wall::WallTime;

/// The requests of a file that was named.
#[derive(Clone)]
pub(super) struct NamedRequests {
    pub(super) content: Requests,
    pub(super) source: Source,
}

/// When the requests of a request trace arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum RequestsAt {
    /// At the times of the wall clock
    Clock,
    /// From the start
    Start,
}

/// Requests at the moments of a run.
pub(super) struct Laid {
    pub(super) requests: NamedRequests,
    /// Those that arrived outside the recording.
    pub(super) left_out: u64,
    /// Notes for the user.
    pub(super) notes: Vec<String>,
}

impl Laid {
    /// Places requests at their wall-clock times if both files have dates and nothing else is wanted, or else from the
    /// start. `reopen` opens the recording again, to find its end.
    pub(super) fn new(
        requests: &NamedRequests,
        wanted: Option<RequestsAt>,
        repeats: bool,
        recording: &Recording,
        reopen: impl FnOnce() -> Result<Recording, RecordingError>,
    ) -> Result<Self> {
        let by_clock = wanted == Some(RequestsAt::Clock);
        anyhow::ensure!(
            !(by_clock && repeats),
            "--loop-requests repeats requests from the start of the recording: remove --requests-at clock"
        );
        let clock = requests.content.clock();
        let from_start = |notes| Self { requests: requests.clone(), left_out: 0, notes };
        let (machine, first) = match (recording.clock().started_at(), clock.started_at()) {
            _ if wanted == Some(RequestsAt::Start) => return Ok(from_start(Vec::new())),
            (Some(machine), Some(first)) => (machine, first),
            _ if by_clock => anyhow::bail!(
                "--requests-at clock needs the date of both files: --starts-at gives the recording's, --requests-at start plays \
                 the requests from its start"
            ),
            _ => return Ok(from_start(Vec::new())),
        };
        let after = first.since(machine);
        let apart = span_text(Duration::from_secs(after.unsigned_abs().as_secs()));
        let order = if after.is_negative() { "before" } else { "after" };
        let begin = format!(
            "the requests begin {apart} {order} the recording of the machine, by the dates in both files"
        );
        if repeats {
            let is_noted = after.unsigned_abs() > CLOCKS_APART;
            let note = format!("{begin}; they are repeated from its start");
            return Ok(from_start(is_noted.then_some(note).into_iter().collect()));
        }
        let again = reopen()?;
        let end = again.read_to_end().map_err(anyhow::Error::from_boxed).context(
            "cannot read the recording for its wall clock, which the requests are placed by",
        )?;
        let (laid, left_out) = requests.content.at_wall_time(&again.clock(), end);
        if laid.is_empty() {
            let [from, to] = [Timestamp::ZERO, end]
                .map(|at| again.clock().at(at).map_or_else(String::new, WallTime::short));
            let range =
                format!("{begin}, which goes from {from} to {to}: none of them came during it");
            anyhow::ensure!(!by_clock, "{range}; --requests-at start plays them from its start");
            return Ok(from_start(vec![format!("{range}, and they are played from its start")]));
        }
        let mut notes = Vec::new();
        if machine.offset().is_some() != first.offset().is_some() {
            let [known, unknown] = match machine.offset() {
                Some(_) => [machine, first],
                None => [first, machine],
            };
            let whose = if known == machine { "the requests" } else { "the recording" };
            notes.push(format!(
                "{whose} ({}) state no offset from UTC; the other file's, {}, is taken for both (--requests-at start plays the \
                 requests from the recording's start)",
                unknown.short(),
                known.offset_described()
            ));
        }
        if left_out > 0 {
            notes.push(format!(
                "{left_out} requests did not come while the machine was recorded, and are left out (--requests-at start plays \
                 all of them from its start)"
            ));
        }
        if after.unsigned_abs() > CLOCKS_APART {
            notes.push(format!("{begin}, and are played at these times"));
        }
        let source = Source { played: Some(Played::AtWallTime), ..requests.source.clone() };
        Ok(Self { requests: NamedRequests { content: laid, source }, left_out, notes })
    }
}

/// Chosen: users start two loggers within a minute and mean one moment.
const CLOCKS_APART: Duration = Duration::from_secs(60);
