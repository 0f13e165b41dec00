//! `decisions.csv`: one row for each decision that changes something, and one for each completed switch.
//!
//! | column | meaning |
//! | --- | --- |
//! | `at_s` | seconds since the run began, exact to the nanosecond |
//! | `wall_time` | the date and the time of day as the recording writes them; the column is absent if it does not |
//! | `event` | `decision` when a change was decided, `switched` when it was complete |
//! | `from`, `to` | tiers before and after |
//! | `action` | `upgrade` or `downgrade` |
//! | `urgency` | for a downgrade: `graceful`, `immediate` or `critical` |
//! | `reason` | the kind of reason, as the log spells it |
//! | `resource` | the resource that the reason names |
//! | `value`, `limit`, `unit` | the reason's number, its limit, and their unit: `bytes`, `percent`, `s` or `count` |
//! | `for_s` | how long the condition had lasted (`decision`), or how long the switch took (`switched`) |
//! | `text` | the reason as text |
//!
//! Missing values are empty.

use std::time::Duration;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Measure, Reason};
use tiershift_core::sample::Resource;
use tiershift_core::text;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

use crate::report::timeline::{Change, Completion, Timeline};
use crate::wall::WallClock;

/// Returns `decisions.csv`: the changes of a run, each with its outcome.
pub fn csv(timeline: &Timeline) -> Vec<u8> {
    let rows = csv::Writer::from_writer(Vec::new());
    let mut table = Table { catalog: &timeline.catalog, clock: &timeline.clock, rows };
    table.write(COLUMNS.map(str::to_owned), Some("wall_time".to_owned()));
    for change in timeline.changes() {
        table.change(change);
    }
    table.rows.into_inner().expect("writing to memory cannot fail")
}

struct Table<'a> {
    catalog: &'a Catalog,
    clock: &'a WallClock,
    rows: csv::Writer<Vec<u8>>,
}

impl Table<'_> {
    /// Writes a row for the decision, and one for the switch that completes it.
    fn change(&mut self, change: &Change) {
        let Change { at, from, to, reason, urgency, completed, .. } = change;
        if let Some(reason) = reason {
            let urgency = urgency.map(text::urgency).unwrap_or_default();
            let row = Row { event: "decision", from: *from, to: *to, urgency };
            self.row(*at, &row, Some(reason), Numbers::of(reason));
        }
        if let Some(Completion { at, from, took }) = completed {
            let row = Row { event: "switched", from: *from, to: *to, urgency: "" };
            self.row(*at, &row, None, Numbers { for_: Some(*took), ..Numbers::default() });
        }
    }

    fn row(&mut self, now: Timestamp, row: &Row, reason: Option<&Reason>, numbers: Numbers) {
        let [value, limit, unit] = match numbers.compared {
            Some(Compared::Bytes(value, limit)) => {
                [value.get().to_string(), limit.get().to_string(), "bytes".to_owned()]
            }
            Some(Compared::Share(value, limit)) => {
                let number = |share: Percent| share.to_string().trim_end_matches('%').to_owned();
                [number(value), number(limit), "percent".to_owned()]
            }
            Some(Compared::Spans(value, limit)) => [seconds(value), seconds(limit), "s".to_owned()],
            Some(Compared::Count(count)) => [count.to_string(), String::new(), "count".to_owned()],
            None => [const { String::new() }; 3],
        };
        let cells = [
            seconds(now.since(Timestamp::ZERO)),
            row.event.to_owned(),
            self.catalog.tier_name(row.from).to_owned(),
            self.catalog.tier_name(row.to).to_owned(),
            if row.to > row.from { "upgrade" } else { "downgrade" }.to_owned(),
            row.urgency.to_owned(),
            reason.map(Reason::kind).unwrap_or_default().to_owned(),
            numbers.resource.map(Resource::name).unwrap_or_default().to_owned(),
            value,
            limit,
            unit,
            numbers.for_.map(seconds).unwrap_or_default(),
            reason.map(|reason| text::reason(reason, self.catalog)).unwrap_or_default(),
        ];
        self.write(cells, self.clock.at(now).map(|time| time.to_string()));
    }

    /// Writes a row, with the wall time as its second cell if the run has a wall clock.
    fn write(&mut self, row: [String; COLUMNS.len()], wall_time: Option<String>) {
        let [at, rest @ ..] = row;
        let wall_time = wall_time.filter(|_| self.clock.started_at().is_some());
        let row = std::iter::once(at).chain(wall_time).chain(rest);
        self.rows.write_record(row).expect("writing to memory cannot fail");
    }
}

struct Row {
    event: &'static str,
    from: Rung,
    to: Rung,
    urgency: &'static str,
}

/// The numbers of a reason.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    resource: Option<Resource>,
    compared: Option<Compared>,
    for_: Option<Duration>,
}

/// A value, and the limit that it was compared with.
#[derive(Clone, Copy, Debug)]
enum Compared {
    Bytes(Bytes, Bytes),
    Share(Percent, Percent),
    Spans(Duration, Duration),
    Count(u32),
}

impl Compared {
    /// Returns two numbers with the same unit; a count has no limit.
    fn of(pair: (Measure, Measure)) -> Option<Self> {
        match pair {
            (Measure::Bytes(value), Measure::Bytes(limit)) => Some(Self::Bytes(value, limit)),
            (Measure::MilliPercent(value), Measure::MilliPercent(limit)) => {
                Some(Self::Share(value, limit))
            }
            (Measure::Nanos(value), Measure::Nanos(limit)) => {
                Some(Self::Spans(Duration::from_nanos(value), Duration::from_nanos(limit)))
            }
            (Measure::Count(count), Measure::Count(_)) => Some(Self::Count(count)),
            _ => None,
        }
    }
}

impl Numbers {
    fn of(reason: &Reason) -> Self {
        let of = |resource, compared, for_| Self { resource, compared: Some(compared), for_ };
        match *reason {
            Reason::Room { resource, projected, limit, good_for, .. } => {
                of(Some(resource), Compared::Bytes(projected, limit), Some(good_for))
            }
            Reason::TooRisky { resource, good_for, odds, .. } => {
                of(Some(resource), Compared::Share(odds.risk, odds.worth), Some(good_for))
            }
            Reason::NotRead { resource, .. } => {
                Self { resource: Some(resource), ..Self::default() }
            }
            Reason::WouldNotFit { resource, projected, limit, .. } => {
                of(Some(resource), Compared::Bytes(projected, limit), None)
            }
            Reason::AboveDegradeLine { resource, used, limit, .. } => {
                of(Some(resource), Compared::Bytes(used, limit), None)
            }
            Reason::AboveUpgradeLine { resource, used, line, .. } => {
                of(Some(resource), Compared::Share(used, line), None)
            }
            Reason::SustainedLoad { resource, used, line, high_for, .. } => {
                of(Some(resource), Compared::Share(used, line), Some(high_for))
            }
            Reason::Exhaustion { resource, full_in, lead, .. } => {
                of(Some(resource), Compared::Spans(full_in, lead), None)
            }
            Reason::WouldBeSlow { predicted, limit, .. } => {
                of(None, Compared::Spans(predicted, limit), None)
            }
            Reason::SlowLoad { took, by_catalog } => {
                of(None, Compared::Spans(took, by_catalog), None)
            }
            Reason::Slow { measured, limit } => of(None, Compared::Spans(measured, limit), None),
            Reason::Failing { failures } => of(None, Compared::Count(failures), None),
            Reason::Ordered { remaining, .. } => Self { for_: remaining, ..Self::default() },
            Reason::Stale { age: span }
            | Reason::Settling { since: span }
            | Reason::Window { remaining: span, .. }
            | Reason::Cooldown { remaining: span, .. }
            | Reason::Backoff { remaining: span, .. }
            | Reason::Idle { for_: span }
            | Reason::Named { remaining: span, .. } => Self { for_: Some(span), ..Self::default() },
            Reason::Own { resource, value, limit, lasted, .. } => {
                let compared = value.zip(limit).and_then(Compared::of);
                Self { resource, compared, for_: lasted }
            }
            Reason::NoData
            | Reason::Switching
            | Reason::AtTop
            | Reason::Fixed
            | Reason::Stopping
            | Reason::WouldNotServe { .. }
            | Reason::Asked => Self::default(),
        }
    }
}

/// Returns seconds with as many decimals as are exact.
fn seconds(span: Duration) -> String {
    match span.subsec_nanos() {
        0 => span.as_secs().to_string(),
        nanos => {
            let decimals = format!("{nanos:09}");
            format!("{}.{}", span.as_secs(), decimals.trim_end_matches('0'))
        }
    }
}

const COLUMNS: [&str; 13] = [
    "at_s", "event", "from", "to", "action", "urgency", "reason", "resource", "value", "limit",
    "unit", "for_s", "text",
];

#[cfg(test)]
mod tests {
    use tiershift_core::catalog::LadderId;
    use tiershift_core::decision::{Action, Decision, Urgency};
    use tiershift_core::event::{EventRef, Observe, Output};

    use super::*;

    #[test]
    fn a_row_a_change_and_none_for_a_hold() {
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        let mut timeline = Timeline::new(&catalog, Duration::from_mins(15));
        let mut decide = |millis, rung, action, reason| {
            let decision = Decision { action, rung: Rung(rung), reason, gates: vec![] };
            let output = Output::Decision(decision);
            timeline.observe(Timestamp::from_millis(millis), EventRef::Output(&output));
        };
        let resource = Resource::Memory;
        let up = Action::Upgrade { to: Rung(3) };
        let down = |urgency| Action::Downgrade { to: Rung(1), urgency };
        let [projected, limit] = [9, 13].map(Bytes::from_gib);
        let [short, long] = [2500, 300_000].map(Duration::from_millis);
        let [used, line] = [97_250, 90_000].map(Percent::from_milli);
        decide(0, 0, Action::Hold, Reason::NoData);
        decide(
            300_001,
            0,
            up,
            Reason::Room { resource, gpu: None, projected, limit, good_for: long, odds: None },
        );
        let reason =
            Reason::AboveDegradeLine { resource, gpu: None, used: limit, limit: projected };
        decide(400_000, 3, down(Urgency::Immediate), reason);
        let reason = Reason::SustainedLoad {
            resource: Resource::Cpu,
            gpu: None,
            used,
            line,
            high_for: long,
        };
        decide(500_000, 3, down(Urgency::Graceful), reason);
        let reason = Reason::Exhaustion { resource, gpu: None, full_in: short, lead: long };
        decide(500_001, 3, down(Urgency::Critical), reason);
        decide(500_002, 3, down(Urgency::Graceful), Reason::Slow { measured: long, limit: short });
        decide(500_003, 3, down(Urgency::Graceful), Reason::Failing { failures: 3 });
        decide(500_004, 3, down(Urgency::Graceful), Reason::Asked);
        let switched = |from, to| Output::Switched {
            ladder: LadderId::FIRST,
            from: Rung(from),
            to: Rung(to),
            took: short,
            called_off: None,
        };
        timeline.observe(Timestamp::from_secs(600), EventRef::Output(&switched(3, 1)));
        timeline.observe(Timestamp::from_secs(601), EventRef::Output(&switched(1, 1)));
        insta::assert_snapshot!(String::from_utf8(csv(&timeline)).unwrap());
        timeline.clock = WallClock::from_start("2026-01-31T23:55:00.5+01:00".parse().unwrap());
        insta::assert_snapshot!("with_a_wall_clock", String::from_utf8(csv(&timeline)).unwrap());
    }
}
