//! Two runs side by side, by their logs: how long they served from the same tier, where they parted and why, and the
//! results.
//!
//! Runs part when they begin to serve from different tiers, and meet again when they serve from the same. Two decisions
//! explain why they parted: the change behind it, and the other run's decision of that moment.

use schemars::JsonSchema;
use serde::Serialize;
use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Decision};
use tiershift_core::event::{Event, Observe, Output, Record};
use tiershift_core::settings::{Settings, SettingsError};
use tiershift_core::time::Timestamp;

use crate::log::{Header, LogError};
use crate::study::compare::{Figures, OVER_MEMORY};
use crate::study::oracle::Oracle;
use crate::summary::{Fold, Summary};

/// Two runs side by side.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Parted {
    /// The runs, left and right.
    pub runs: [Run; 2],
    /// How long both lasted: what comes after is not compared \[s\].
    pub seconds: f64,
    /// How long both served from the same tier \[s\].
    pub same_tier_seconds: f64,
    /// Where they parted, in order of time.
    pub partings: Vec<Parting>,
}

/// One of the runs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Run {
    /// The policy that decided.
    pub policy: String,
    /// Its figures, as far as its log has them: not the time over memory, because a log has only the moments of
    /// samples. The optimum uses the left run's settings; a log of changes has none.
    pub figures: Figures,
}

/// A stretch in which two runs served from different tiers.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Parting {
    /// When it began.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// How long it lasted \[s\].
    pub seconds: f64,
    /// The tiers that they first served from, left and right.
    pub tiers: [String; 2],
    /// The decisions of both, left and right, when the change behind it was decided.
    pub decisions: [Option<Decided>; 2],
    /// How much more the right run served than the left, in seconds of a quality of 100 %.
    pub right_gains_seconds: f64,
}

/// A decision and its moment.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Decided {
    /// When it was taken.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// What was decided.
    pub decision: Decision,
}

/// The content of a log, as far as it was read.
struct Side {
    catalog: Catalog,
    policy: String,
    fold: Fold,
    oracle: Option<Oracle>,
    serving: Rung,
    /// The last decision.
    decided: Option<Decided>,
    end: Timestamp,
}

impl Side {
    fn new(header: &Header, yardstick: &Settings) -> Result<Self, PartingError> {
        let catalog = header.checked_catalog()?;
        let settings = header.checked_settings()?;
        let fold = Fold::new(&catalog, settings.reversal_window).judging_samples(&settings);
        let has_readings = header.level.has_every_input();
        Ok(Self {
            policy: settings.policy.name().to_owned(),
            oracle: has_readings.then(|| Oracle::new(yardstick, &catalog)),
            serving: Rung::NONE,
            decided: None,
            end: Timestamp::ZERO,
            catalog,
            fold,
        })
    }

    fn read(&mut self, record: Record) -> Read {
        let Record { at, event, .. } = record;
        self.end = at;
        self.fold.observe(at, event.as_ref());
        self.oracle.observe(at, event.as_ref());
        match event {
            Event::Output(Output::Serving { rung, .. }) => {
                self.serving = rung;
                Read::Other
            }
            Event::Output(Output::Decision(decision)) => {
                let is_change = decision.action != Action::Hold;
                self.decided = Some(Decided { at, decision });
                if is_change { Read::Change } else { Read::Other }
            }
            Event::Input(_) | Event::Output(_) => Read::Other,
        }
    }

    fn tier(&self) -> &str {
        self.catalog.tier_name(self.serving)
    }

    /// Returns the quality of what serves, as a share of one.
    fn quality(&self) -> f64 {
        self.catalog.primary(self.serving).map_or(0.0, |model| model.quality.fraction())
    }

    fn finish(self) -> Run {
        let mut summary: Summary = self.fold.finish(self.end);
        if let Some(oracle) = &self.oracle {
            oracle.finish(&mut summary);
        }
        Run { policy: self.policy, figures: Figures::of(&summary).without(OVER_MEMORY) }
    }
}

/// The kind of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// A decision to change something.
    Change,
    Other,
}

/// The decisions on both sides when one of them last decided to change something.
type Behind = [Option<Decided>; 2];

/// Reads two logs to their ends and compares them.
///
/// # Errors
/// When a log cannot be read further, or its header is not valid.
pub fn part(
    headers: [&Header; 2],
    logs: [&mut dyn Iterator<Item = Result<Record, LogError>>; 2],
) -> Result<Parted, PartingError> {
    let yardstick = headers[0].checked_settings()?;
    let [left, right] = headers;
    let mut sides = [Side::new(left, &yardstick)?, Side::new(right, &yardstick)?];
    let [left, right] = logs;
    let mut logs = [left.peekable(), right.peekable()];
    let mut behind: [Option<Behind>; 2] = [None, None];
    let mut open: Option<Parting> = None;
    let (mut partings, mut same, mut now) = (Vec::new(), 0.0, Timestamp::ZERO);
    let mut both_end = None;
    loop {
        let mut next = [None, None];
        for (log, next) in logs.iter_mut().zip(&mut next) {
            *next = log.peek().and_then(|record| record.as_ref().ok()).map(|record| record.at);
        }
        // An error is taken out below, where it ends everything.
        let at = match next {
            [Some(left), Some(right)] => left.min(right),
            [Some(at), None] | [None, Some(at)] => at,
            [None, None] => now,
        };
        if both_end.is_none() {
            let span = at.since(now).as_secs_f64();
            match &mut open {
                Some(parting) => {
                    parting.seconds += span;
                    let gain = sides[1].quality() - sides[0].quality();
                    parting.right_gains_seconds += gain * span;
                }
                None => same += span,
            }
        }
        now = at;
        let served = [sides[0].serving, sides[1].serving];
        let mut is_over = true;
        for place in 0..2 {
            let is_now = |record: &Result<Record, LogError>| {
                record.as_ref().map_or(true, |record| record.at <= at)
            };
            let mut has_changed = false;
            while let Some(record) = logs[place].next_if(is_now) {
                is_over = false;
                has_changed |= sides[place].read(record?) == Read::Change;
            }
            if has_changed {
                // The other side's decision of this moment may still follow, and is entered below.
                behind[place] = Some([None, None]);
            }
        }
        for behind in behind.iter_mut().flatten().filter(|it| it.iter().all(Option::is_none)) {
            *behind = [sides[0].decided.clone(), sides[1].decided.clone()];
        }
        if is_over {
            break;
        }
        let has_ended = logs.iter_mut().any(|log| log.peek().is_none());
        let is_apart = sides[0].tier() != sides[1].tier();
        match (&mut open, is_apart && both_end.is_none()) {
            (None, true) => {
                let changed = [0, 1].map(|place| sides[place].serving != served[place]);
                let cause = cause(&behind, changed);
                let decisions =
                    cause.unwrap_or_else(|| [0, 1].map(|place| sides[place].decided.clone()));
                let tiers = [0, 1].map(|place| sides[place].tier().to_owned());
                let (seconds, right_gains_seconds) = (0.0, 0.0);
                open = Some(Parting { at, seconds, tiers, decisions, right_gains_seconds });
            }
            (Some(_), false) => partings.extend(open.take()),
            (None, false) | (Some(_), true) => {}
        }
        if has_ended && both_end.is_none() {
            both_end = Some(at);
            partings.extend(open.take());
        }
    }
    partings.extend(open);
    partings.retain(|parting| parting.seconds > 0.0);
    Ok(Parted {
        runs: sides.map(Side::finish),
        seconds: both_end.unwrap_or(now).as_secs_f64(),
        same_tier_seconds: same,
        partings,
    })
}

/// Returns the decisions behind a change of what serves: those of the side that changed or, if both did, the later.
fn cause(behind: &[Option<Behind>; 2], changed: [bool; 2]) -> Option<Behind> {
    let mut found: Option<(Timestamp, &Behind)> = None;
    for place in 0..2 {
        let Some(behind) = behind[place].as_ref().filter(|_| changed[place]) else { continue };
        let at = behind[place].as_ref().map_or(Timestamp::ZERO, |decided| decided.at);
        if found.is_none_or(|(known, _)| at > known) {
            found = Some((at, behind));
        }
    }
    found.map(|(_, behind)| behind.clone())
}

/// Why two logs cannot be compared.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum PartingError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("the log's catalog is not valid: {0}")]
    Catalog(#[from] tiershift_core::catalog::CatalogError),
}
