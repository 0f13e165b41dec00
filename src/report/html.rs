//! The single-file page of a run, which needs no other file. Comparisons and suites have such pages too; all are filled
//! into one `frame`.
//! ```text
//! records --> PageData (bounded memory) --> Document (JSON of small integers) --> deflate, base64 --> the page
//! ```

mod columns;
mod comparison;
mod document;
mod frame;
mod moments;
mod series;
mod suite;
mod words;

use std::collections::BTreeMap;

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Action, Code, Decision};
use tiershift_core::event::{EventRef, Input, Observe, Output};
use tiershift_core::request::End;
use tiershift_core::settings::Settings;
use tiershift_core::time::{Timestamp, nanos};

pub use crate::report::html::comparison::comparison_page;
pub use crate::report::html::suite::{ScenarioRow, suite_page};

use crate::report::html::document::Document;
use crate::report::html::frame::Frame;
use crate::report::html::moments::Moments;
use crate::report::text::text_summary;
use crate::report::timeline::Timeline;
use crate::report::timeline::gaps::Gaps;
use crate::summary::Summary;
use crate::wall::{Part, WallClock};

/// Collects the data for a page while records pass. At most some tens of megabytes, however long the run.
#[derive(Clone, Debug)]
pub struct PageData {
    timeline: Timeline,
    settings: Settings,
    moments: Moments,
    gaps: Gaps,
    /// Which rung serves from when on.
    steps: Vec<(Timestamp, Rung)>,
    /// The same for the best schedule; empty if none was computed.
    optimum: Vec<(Timestamp, Rung)>,
    /// How often each reason was given for a hold, and for a change.
    reasons: BTreeMap<Code, [u64; 2]>,
    /// The moment of the last event.
    stood: Timestamp,
}

/// A complete run.
#[derive(Clone, Copy, Debug)]
pub struct PageRun<'a> {
    /// The name of the scenario or the recording.
    pub title: &'a str,
    /// The collected data.
    pub data: &'a PageData,
    /// Its summary.
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
                // Settings that the controller refuses do not apply here either.
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

    /// As [`PageData::new`], for a part of a run.
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

    /// Closes what is still open. The run lasted at least until `end`. `clock` is what the wall clock showed, and
    /// `optimum` the best schedule, if one was computed.
    pub fn finish(&mut self, end: Timestamp, clock: &WallClock, optimum: &[(Timestamp, Rung)]) {
        self.stand(end);
        self.timeline.finish(end);
        self.timeline.clock = clock.clone();
        self.gaps.finish(self.timeline.end);
        self.optimum = optimum.to_vec();
        self.optimum.retain(|(at, _)| *at <= self.timeline.part.to);
    }

    /// Counts the requests at a moment. What began and ended at one moment, such as the wait of a request that starts
    /// at once, does not count.
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

    /// Takes an event of the part that is shown.
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

/// Returns the page of runs, each over the ones before it. The same runs give the same bytes.
pub fn page(runs: &[PageRun<'_>]) -> String {
    let titles: Vec<&str> = runs.iter().map(|run| run.title).collect();
    let text = |run: &PageRun<'_>| format!("{}\n{}", run.title, text_summary(run.summary));
    let texts: Vec<String> = runs.iter().map(text).collect();
    PAGE.filled(&titles.join(" and "), &texts.join("\n"), &Document::of(runs))
}

const PAGE: Frame = Frame {
    markup: concat!(
        include_str!("../../assets/report/head.html"),
        include_str!("../../assets/report/report.html"),
        include_str!("../../assets/report/foot.html"),
    ),
    styles: concat!(
        include_str!("../../assets/uplot/uPlot.min.css"),
        include_str!("../../assets/page/base.css"),
        include_str!("../../assets/report/frame.css"),
        include_str!("../../assets/report/report.css"),
    ),
    // The licence of the library is in the file beside it, and in the page.
    scripts: concat!(
        "/*\n",
        include_str!("../../assets/uplot/LICENSE"),
        "*/\n",
        include_str!("../../assets/uplot/uPlot.iife.min.js"),
        include_str!("../../assets/page/charts.js"),
        include_str!("../../assets/report/frame.js"),
        include_str!("../../assets/report/data.js"),
        include_str!("../../assets/report/panels.js"),
        include_str!("../../assets/report/report.js"),
    ),
};

#[cfg(test)]
mod tests;
