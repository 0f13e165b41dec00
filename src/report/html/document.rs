//! The content of a page: runs as integers and words, as its script reads them.

use serde::Serialize;
use tiershift_core::catalog::Rung;
use tiershift_core::text;
use tiershift_core::time::{Timestamp, nanos};

use crate::report::html::PageRun;
use crate::report::html::moments::{Moment, RateCell, SpaceCell};
use crate::report::html::series::{Deltas, Runs};
use crate::report::html::words::{Packed, Sentences};
use crate::report::text::figures;
use crate::report::timeline::{Change, Phase};
use crate::wall::{WallClock, WallTime};

/// The input of a page's script.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    version: &'static str,
    runs: Vec<Run<'a>>,
}

/// One run. Times are in milliseconds since it began, and series have a value for each moment.
#[derive(Debug, Serialize)]
struct Run<'a> {
    title: &'a str,
    policy: &'a str,
    /// The figures of the run with their names, as text.
    figures: Vec<(&'static str, String)>,
    /// Warnings, broken rules first.
    warnings: Vec<&'a str>,
    begin: u64,
    end: u64,
    /// Moments with the wall clock's time at each: milliseconds since the beginning of 1970, local time. Empty if it is
    /// not known.
    clock: Vec<(u64, i64)>,
    /// The clock's offset from UTC.
    offset: Option<String>,
    /// The unit of rates, in thousandths of a percent.
    rate_unit: u64,
    /// By rung, `none` first.
    tiers: Vec<&'a str>,
    readings_each: usize,
    at: Deltas,
    gaps: Vec<(u64, u64)>,
    spaces: Vec<Space>,
    rates: Vec<Rate>,
    steps: Vec<(u64, u8)>,
    optimum: Vec<(u64, u8)>,
    /// Name, rung, from, until.
    phases: Vec<(&'static str, u8, u64, u64)>,
    companions: Vec<Companion<'a>>,
    gates: Vec<Gate>,
    requests: Option<Requests>,
    /// The decision at each moment, as text.
    said: Packed,
    /// The reason of that decision, as an index into `reasons`.
    kinds: Runs<Option<usize>>,
    /// Reasons with how often each was given for a hold, and for a change.
    reasons: Vec<(&'a str, u64, u64)>,
    changes: Changes,
}

/// A space, in units of this many bytes.
#[derive(Debug, Serialize)]
struct Space {
    name: String,
    unit: u64,
    others: Deltas,
    used: Deltas,
    /// The smallest values of use, if a moment stands for several samples.
    used_least: Option<Deltas>,
    projected: Option<Deltas>,
    total: Runs<Option<u64>>,
    /// Its lines, if it constrains decisions.
    lines: Vec<Line>,
}

/// A rate, in units of [`RATE_UNIT`].
#[derive(Debug, Serialize)]
struct Rate {
    name: String,
    /// The mean of others' use; absent if it is not known whose use it is.
    others: Option<Deltas>,
    /// The mean of all use.
    used: Deltas,
    /// The largest values, if a moment stands for several samples.
    most: Option<Deltas>,
    lines: Vec<Line>,
}

/// A line over time, in the units of its resource.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    at: Runs<Option<u64>>,
}

#[derive(Debug, Serialize)]
struct Companion<'a> {
    name: &'a str,
    serves: Vec<(u64, u64)>,
}

/// A gate, with the rungs for which it was evaluated and those for which it was closed, one bit per rung; nothing if it
/// was not evaluated.
#[derive(Debug, Serialize)]
struct Gate {
    name: String,
    states: Runs<Option<(u64, u64)>>,
}

#[derive(Debug, Serialize)]
struct Requests {
    running: Runs<u64>,
    waiting: Runs<u64>,
    refused: Runs<u64>,
    failed: Runs<u64>,
    /// Milliseconds, of completed requests.
    quickest: Deltas,
    slowest: Deltas,
    limit: Option<u64>,
}

/// Changes in the order of their decisions, one column per property.
#[derive(Debug, Serialize)]
struct Changes {
    at: Deltas,
    from: Vec<u8>,
    to: Vec<u8>,
    /// Milliseconds; nothing if it was given up.
    took: Vec<Option<u64>>,
    /// Indices of those that undid the change before them within the reversal window.
    reversals: Vec<usize>,
    /// Indices of the worst, the worst first: reversals, then the longest.
    worst: Vec<usize>,
    /// Each as text.
    said: Packed,
}

impl<'a> Document<'a> {
    pub(super) fn of(runs: &[PageRun<'a>]) -> Self {
        Self { version: env!("CARGO_PKG_VERSION"), runs: runs.iter().map(Run::of).collect() }
    }
}

impl<'a> Run<'a> {
    fn of(&PageRun { title, data, summary }: &PageRun<'a>) -> Self {
        let timeline = &data.timeline;
        let catalog = &timeline.catalog;
        let moments = &data.moments.list;
        let mut said = Sentences::default();
        for moment in moments {
            let decided = moment.decided.as_ref();
            let text = decided.map(|it| text::decision(it.action, it.on, &it.reason, catalog));
            said.add(text.as_deref());
        }
        let reason_of = |moment: &Moment| {
            let code = moment.decided.as_ref()?.reason.code();
            data.reasons.keys().position(|known| *known == code)
        };
        let gpus = moments.iter().map(|moment| moment.gpus.len()).max().unwrap_or(0);
        let phase = |&(phase, rung, from, until): &(Phase, Rung, Timestamp, Timestamp)| {
            (phase_name(phase), rung.0, millis(from), millis(until))
        };
        let steps = |steps: &[(Timestamp, Rung)]| {
            steps.iter().map(|&(at, rung)| (millis(at), rung.0)).collect()
        };
        let companion = |(lane, model): (usize, &'a tiershift_core::model::Model)| Companion {
            name: model.id.as_str(),
            serves: timeline
                .companions
                .list
                .iter()
                .filter(|stretch| usize::from(stretch.1.0) == lane)
                .map(|&(_, _, from, until)| (millis(from), millis(until)))
                .collect(),
        };
        Self {
            title,
            policy: &summary.policy,
            figures: figures(summary).into_iter().filter(|(_, text)| !text.is_empty()).collect(),
            warnings: summary
                .violations
                .iter()
                .chain(&summary.warnings)
                .map(String::as_str)
                .collect(),
            begin: millis(timeline.part.from),
            end: millis(timeline.end),
            clock: marks(&timeline.clock),
            offset: timeline.clock.started_at().map(WallTime::offset_described),
            rate_unit: RATE_UNIT,
            tiers: (0..=catalog.top().0).map(|rung| catalog.tier_name(Rung(rung))).collect(),
            readings_each: data.moments.readings_each,
            at: Deltas::of(moments.iter().map(|moment| Some(millis(moment.at)))),
            gaps: data.gaps.list.iter().map(|&(from, to)| (millis(from), millis(to))).collect(),
            spaces: spaces(moments, gpus),
            rates: rates(moments, gpus),
            steps: steps(&data.steps),
            optimum: steps(&data.optimum),
            phases: timeline.phases.list.iter().map(phase).collect(),
            companions: catalog.companions().iter().enumerate().map(companion).collect(),
            gates: gates(moments),
            requests: requests(moments, data.settings.latency_limit),
            said: said.packed(),
            kinds: Runs::of(moments.iter().map(reason_of)),
            reasons: data
                .reasons
                .iter()
                .map(|(code, &[holds, changes])| (code.as_str(), holds, changes))
                .collect(),
            changes: changes(timeline.shown_changes(), |change| change.text(catalog)),
        }
    }
}

fn spaces(moments: &[Moment], gpus: usize) -> Vec<Space> {
    let vram = |gpu: usize| {
        let name = match gpus {
            1 => "video memory".to_owned(),
            _ => format!("video memory of GPU {gpu}"),
        };
        space(name, moments, move |moment| Some(&moment.gpus.get(gpu)?.vram))
    };
    let memory = space("memory".to_owned(), moments, |moment| Some(&moment.memory));
    memory.into_iter().chain((0..gpus).filter_map(vram)).collect()
}

fn space(
    name: String,
    moments: &[Moment],
    of: impl Fn(&Moment) -> Option<&SpaceCell>,
) -> Option<Space> {
    let is_read = |cell: &&SpaceCell| cell.used.get().is_some();
    let cells: Vec<Option<&SpaceCell>> =
        moments.iter().map(|moment| of(moment).filter(is_read)).collect();
    let total = cells.iter().flatten().map(|cell| cell.total.get()).max()?;
    // The largest power of two that still leaves enough units for a picture's height.
    let unit = 1u64 << (total / FINEST_SHARE).max(1).ilog2();
    let scaled = |bytes: u64| (bytes + unit / 2) / unit;
    let series = |of: &dyn Fn(&SpaceCell) -> Option<u64>| -> Vec<Option<u64>> {
        cells.iter().map(|cell| cell.and_then(of).map(scaled)).collect()
    };
    let is_joined = |cell: &&SpaceCell| cell.used.get().is_some_and(|(min, max)| min != max);
    let least = cells.iter().flatten().any(is_joined);
    let line = |name, of: fn(&crate::report::html::moments::SpaceLines) -> u64| {
        let at = Runs::of(series(&|cell| cell.lines.as_ref().map(of)));
        at.any(Option::is_some).then_some(Line { name, at })
    };
    Some(Space {
        name,
        unit,
        others: Deltas::of(series(&|cell| Some(cell.others.get()?.1))),
        used: Deltas::of(series(&|cell| Some(cell.used.get()?.1))),
        used_least: least.then(|| Deltas::of(series(&|cell| Some(cell.used.get()?.0)))),
        projected: Deltas::unless_empty(series(&|cell| Some(cell.projected.get()?.1))),
        total: Runs::of(series(&|cell| Some(cell.total.get()))),
        lines: [
            line("degrade", |lines| lines.degrade.get()),
            line("preventive", |lines| lines.preventive.get()),
            line("upgrade", |lines| lines.upgrade.get()),
        ]
        .into_iter()
        .flatten()
        .collect(),
    })
}

fn rates(moments: &[Moment], gpus: usize) -> Vec<Rate> {
    let gpu = |gpu: usize| {
        let name = if gpus == 1 { "GPU".to_owned() } else { format!("GPU {gpu}") };
        rate(name, true, moments, move |moment| Some(&moment.gpus.get(gpu)?.utilization))
    };
    let processor = rate("processor".to_owned(), true, moments, |moment| Some(&moment.cpu));
    let pressure =
        rate("memory pressure".to_owned(), false, moments, |moment| Some(&moment.pressure));
    processor.into_iter().chain((0..gpus).filter_map(gpu)).chain(pressure).collect()
}

fn rate(
    name: String,
    is_split: bool,
    moments: &[Moment],
    of: impl Fn(&Moment) -> Option<&RateCell>,
) -> Option<Rate> {
    let cells: Vec<Option<&RateCell>> = moments.iter().map(of).collect();
    let series = |of: &dyn Fn(&RateCell) -> Option<u64>| -> Vec<Option<u64>> {
        let scaled = |milli: u64| (milli + RATE_UNIT / 2) / RATE_UNIT;
        cells.iter().map(|cell| cell.and_then(of).map(scaled)).collect()
    };
    let figure = |place: usize| series(&|cell| Some(cell.figures()?[place]));
    let (used, most) = (figure(1), figure(2));
    let line = |name, of: fn((u64, u64)) -> u64| {
        let both = |cell: &RateCell| {
            let (degrade, upgrade) = cell.lines?;
            Some(of((u64::from(degrade.milli()), u64::from(upgrade.milli()))))
        };
        let at = Runs::of(series(&both));
        at.any(Option::is_some).then_some(Line { name, at })
    };
    used.iter().any(Option::is_some).then(|| Rate {
        name,
        others: is_split.then(|| Deltas::of(figure(0))),
        most: (used != most).then(|| Deltas::of(most)),
        used: Deltas::of(used),
        lines: [line("degrade", |both| both.0), line("upgrade", |both| both.1)]
            .into_iter()
            .flatten()
            .collect(),
    })
}

fn gates(moments: &[Moment]) -> Vec<Gate> {
    let names: std::collections::BTreeSet<_> =
        moments.iter().flat_map(|moment| &moment.gates).map(|gate| gate.name).collect();
    let gate = |name| {
        let state = |moment: &Moment| {
            let place = moment.gates.binary_search_by_key(&name, |gate| gate.name).ok()?;
            let gate = moment.gates[place];
            Some((gate.asked, gate.closed))
        };
        Gate { name: text::gate(name), states: Runs::of(moments.iter().map(state)) }
    };
    names.into_iter().map(gate).collect()
}

fn requests(moments: &[Moment], limit: Option<std::time::Duration>) -> Option<Requests> {
    let cells = || moments.iter().map(|moment| &moment.requests);
    let is_any = cells().any(|cell| {
        cell.running + cell.waiting + cell.refused + cell.failed > 0 || cell.latency.get().is_some()
    });
    is_any.then(|| Requests {
        running: Runs::of(cells().map(|cell| cell.running)),
        waiting: Runs::of(cells().map(|cell| cell.waiting)),
        refused: Runs::of(cells().map(|cell| cell.refused)),
        failed: Runs::of(cells().map(|cell| cell.failed)),
        quickest: Deltas::of(cells().map(|cell| Some(cell.latency.get()?.0))),
        slowest: Deltas::of(cells().map(|cell| Some(cell.latency.get()?.1))),
        limit: limit.map(|limit| nanos(limit) / NANOS_IN_MILLI),
    })
}

fn changes(list: &[Change], words: impl Fn(&Change) -> String) -> Changes {
    let mut said = Sentences::default();
    for (place, change) in list.iter().enumerate() {
        said.add((place < MOST_IN_WORDS).then(|| words(change)).as_deref());
    }
    let took = |change: &Change| Some(nanos(change.completed?.took) / NANOS_IN_MILLI);
    let mut worst: Vec<usize> = (0..list.len()).collect();
    worst.sort_by_key(|&place| {
        let change = &list[place];
        (!change.reversal, std::cmp::Reverse(took(change)), place)
    });
    worst.truncate(WORST);
    Changes {
        at: Deltas::of(list.iter().map(|change| Some(millis(change.at)))),
        from: list.iter().map(|change| change.from.0).collect(),
        to: list.iter().map(|change| change.to.0).collect(),
        took: list.iter().map(took).collect(),
        reversals: (0..list.len()).filter(|&place| list[place].reversal).collect(),
        worst,
        said: said.packed(),
    }
}

/// Returns the marks of a clock.
fn marks(clock: &WallClock) -> Vec<(u64, i64)> {
    let zone = jiff::tz::Offset::UTC;
    let mark = |mark: &crate::wall::WallMark| {
        let shown = zone.to_timestamp(mark.wall_time.civil()).ok()?;
        Some((millis(mark.at), shown.as_millisecond()))
    };
    clock.marks().iter().filter_map(mark).collect()
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Loading => "loading",
        Phase::Draining => "draining",
        Phase::Unloading => "unloading",
    }
}

fn millis(at: Timestamp) -> u64 {
    at.as_nanos() / NANOS_IN_MILLI
}

const NANOS_IN_MILLI: u64 = 1_000_000;
/// A space is drawn 200 pixels high, and may be enlarged five times.
const FINEST_SHARE: u64 = 1024;
/// Thousandths of a percent. Chosen: a rate is drawn 100 pixels high, so that this is half a pixel.
const RATE_UNIT: u64 = 500;
/// The most changes that a page describes; all are in `decisions.csv`. Chosen: about 200 KB.
const MOST_IN_WORDS: usize = 20_000;
/// Source: issue 12, section 3.
const WORST: usize = 10;
