//! The page to send: what came of a run, in one file that needs nothing else.
//!
//! It holds the charts' library, our scripts and the run's data; a policy within the page keeps the browser from fetching
//! anything. The data is packed, so that a day of two-second readings is some hundred KB, and so that no name of a file or a
//! model can be read as markup.
//!
//! ```text
//! records --> PageData (bounded memory) --> Document (JSON of small integers) --> deflate, base64 --> the page
//! ```

mod document;
mod moments;
mod series;
mod words;

use std::collections::BTreeMap;
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Code, Decision};
use tiershift_core::event::{EventRef, Input, Observe, Output};
use tiershift_core::request::End;
use tiershift_core::settings::Settings;
use tiershift_core::time::{Timestamp, nanos};

use crate::report::html::document::Document;
use crate::report::html::moments::Moments;
use crate::report::timeline::Timeline;
use crate::report::timeline::gaps::Gaps;
use crate::summary::Summary;
use crate::wall::{Part, WallClock};

/// Gathers what a page shows of a run while records go by. Some tens of megabytes at most, however long the run.
#[derive(Clone, Debug)]
pub struct PageData {
    timeline: Timeline,
    settings: Settings,
    moments: Moments,
    gaps: Gaps,
    /// Which rung serves from when on.
    steps: Vec<(Timestamp, Rung)>,
    /// The same of the best schedule; empty where none was computed.
    optimum: Vec<(Timestamp, Rung)>,
    /// How often each reason was given for a hold, and for a change.
    reasons: BTreeMap<Code, [u64; 2]>,
    /// The moment of the last event.
    stood: Timestamp,
}

/// A run that is whole.
#[derive(Clone, Copy, Debug)]
pub struct PageRun<'a> {
    /// What was run: the scenario's or the recording's name.
    pub title: &'a str,
    /// What was gathered of it.
    pub data: &'a PageData,
    /// What it came to.
    pub summary: &'a Summary,
}

impl Observe for PageData {
    fn observe(&mut self, now: Timestamp, event: EventRef<'_>) {
        self.stand(now);
        if now > self.timeline.part.to {
            return;
        }
        self.timeline.observe(now, event);
        match event {
            EventRef::Input(Input::Sample(_)) => self.gaps.sample(now),
            EventRef::Input(Input::SampleMissing { .. }) => self.gaps.missing(now),
            EventRef::Input(Input::Settings(raw)) => {
                // What the controller refuses, it does not go by either.
                if let Ok(settings) = self.settings.with((**raw).clone()) {
                    self.settings = settings;
                }
            }
            EventRef::Output(Output::Serving { rung, .. }) => self.serving(now, *rung),
            EventRef::Input(_) | EventRef::Output(_) => {}
        }
        if now >= self.timeline.part.from {
            self.show(now, event);
        }
    }
}

impl PageData {
    /// Begins at zero with nothing loaded.
    pub fn new(catalog: &Catalog, settings: &Settings) -> Self {
        Self::of_part(Part::WHOLE, catalog, settings)
    }

    /// As [`PageData::new`], of a part of a run.
    pub fn of_part(part: Part, catalog: &Catalog, settings: &Settings) -> Self {
        let begin = part.from;
        Self {
            timeline: Timeline::of_part(part, catalog, settings.reversal_window),
            settings: settings.clone(),
            moments: Moments::default(),
            gaps: Gaps::new(begin),
            steps: vec![(begin, Rung::NONE)],
            optimum: Vec::new(),
            reasons: BTreeMap::new(),
            stood: Timestamp::ZERO,
        }
    }

    /// Closes what is still open. The run lasted until `end` at least. `clock` is what the wall clock showed, and `optimum` the
    /// best schedule, where one was computed.
    pub fn finish(&mut self, end: Timestamp, clock: &WallClock, optimum: &[(Timestamp, Rung)]) {
        self.stand(end);
        self.timeline.finish(end);
        self.timeline.clock = clock.clone();
        self.gaps.finish(self.timeline.end);
        self.optimum = optimum.to_vec();
        self.optimum.retain(|(at, _)| *at <= self.timeline.part.to);
    }

    /// Counts the requests that there were up to a moment. What began and ended at one moment, such as the wait of a request that
    /// is started at once, was not there.
    fn stand(&mut self, now: Timestamp) {
        if let Some(moment) = self.moments.list.last_mut()
            && now > self.stood
        {
            moment.requests.count(self.timeline.requests());
        }
        self.stood = now;
    }

    fn serving(&mut self, now: Timestamp, rung: Rung) {
        match self.steps.first_mut() {
            Some(first) if now < self.timeline.part.from => first.1 = rung,
            _ => self.steps.push((now, rung)),
        }
    }

    /// Takes in what is of the part that is shown.
    fn show(&mut self, now: Timestamp, event: EventRef<'_>) {
        match event {
            EventRef::Input(Input::Sample(sample)) => {
                self.moments.reading(now);
                self.moments.last().read(sample, &self.settings);
            }
            EventRef::Input(Input::SampleMissing { .. }) => self.moments.reading(now),
            EventRef::Output(Output::Decision(decision)) => self.decision(decision),
            EventRef::Output(Output::Ended { end, .. }) => self.ended(end),
            EventRef::Input(_) | EventRef::Output(_) => {}
        }
    }

    fn decision(&mut self, decision: &Decision) {
        self.moments.last().decide(decision);
        let is_change = usize::from(decision.action != Action::Hold);
        self.reasons.entry(decision.reason.code()).or_default()[is_change] += 1;
    }

    fn ended(&mut self, end: &End) {
        let requests = &mut self.moments.last().requests;
        match end {
            End::Done { latency, .. } => requests.latency.add(nanos(*latency) / 1_000_000),
            End::Rejected { .. } => requests.refused += 1,
            End::Failed { .. } => requests.failed += 1,
            End::Cancelled { .. } => {}
        }
    }
}

/// Returns the page of runs, each over the ones before it. The same runs make the same bytes.
pub fn page(runs: &[PageRun<'_>]) -> String {
    let titles: Vec<&str> = runs.iter().map(|run| run.title).collect();
    let document = Document::of(runs);
    let json = serde_json::to_vec(&document).expect("plain data with text keys is always JSON");
    filled(&titles.join(" and "), &packed(&json))
}

fn packed(json: &[u8]) -> String {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(json).expect("writing to memory cannot fail");
    STANDARD.encode(encoder.finish().expect("writing to memory cannot fail"))
}

/// Puts the parts into the frame of the page. None of them is looked through for the name of another.
fn filled(title: &str, data: &str) -> String {
    let mut page = String::with_capacity(FRAME.len() + SCRIPTS.len() + data.len());
    let mut rest = FRAME;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("the frame closes what it opens");
        page.push_str(before);
        match name {
            "title" => page.push_str(&escaped(title)),
            "styles" => page.push_str(STYLES),
            "data" => page.push_str(data),
            "scripts" => page.push_str(SCRIPTS),
            _ => unreachable!("the frame names these parts only"),
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

/// Returns text as markup in which none of it is read as markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

const FRAME: &str = include_str!("../../assets/report/report.html");
const STYLES: &str = concat!(
    include_str!("../../assets/uplot/uPlot.min.css"),
    include_str!("../../assets/page/base.css"),
    include_str!("../../assets/report/report.css"),
);
/// The licence of the library is beside it, and in the page.
const SCRIPTS: &str = concat!(
    "/*\n",
    include_str!("../../assets/uplot/LICENSE"),
    "*/\n",
    include_str!("../../assets/uplot/uPlot.iife.min.js"),
    include_str!("../../assets/page/charts.js"),
    include_str!("../../assets/report/data.js"),
    include_str!("../../assets/report/panels.js"),
    include_str!("../../assets/report/report.js"),
);

#[cfg(test)]
mod tests;
