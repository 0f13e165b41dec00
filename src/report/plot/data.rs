//! What a plot needs of a run beside its timeline: the readings, gathered in bounded memory.

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Decision, Reason};
use tiershift_core::event::{EventRef, Input, Observe, Output};
use tiershift_core::sample::{Rate, Resource, Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::report::timeline::Timeline;
use crate::report::timeline::columns::Columns;
use crate::report::timeline::gaps::Gaps;
use crate::wall::{Part, WallClock};

/// Gathers what a plot shows while records go by. Some megabytes at most, however long the run.
#[derive(Clone, Debug)]
pub struct PlotData {
    pub(super) timeline: Timeline,
    pub(super) settings: Settings,
    /// The rung that serves in the best schedule; empty where none was computed.
    pub(super) optimum: Columns,
    pub(super) memory: SpaceSeries,
    pub(super) cpu: RateSeries,
    pub(super) pressure: Columns,
    pub(super) gpus: Vec<GpuSeries>,
    /// Times without samples.
    pub(super) gaps: Gaps,
}

/// A space resource over time, in bytes.
#[derive(Clone, Debug)]
pub(super) struct SpaceSeries {
    pub(super) others: Columns,
    pub(super) used: Columns,
    /// The most that there was.
    pub(super) total: Bytes,
    /// What upgrades would have brought it to.
    pub(super) projected: Columns,
}

/// A rate resource over time, in thousandths of a percent.
#[derive(Clone, Debug)]
pub(super) struct RateSeries {
    pub(super) others: Columns,
    pub(super) used: Columns,
}

#[derive(Clone, Debug)]
pub(super) struct GpuSeries {
    pub(super) vram: SpaceSeries,
    pub(super) utilization: RateSeries,
}

impl Observe for PlotData {
    #[inline]
    fn observe(&mut self, now: Timestamp, event: EventRef<'_>) {
        if now > self.timeline.part.to {
            return;
        }
        self.timeline.observe(now, event);
        match event {
            EventRef::Input(Input::Sample(sample)) => self.sample(now, sample),
            EventRef::Input(Input::SampleMissing { .. }) => self.gaps.missing(now),
            EventRef::Output(Output::Decision(decision)) => self.decision(now, decision),
            EventRef::Input(_) | EventRef::Output(_) => {}
        }
    }
}

impl PlotData {
    /// Begins at zero with nothing loaded.
    pub fn new(catalog: &Catalog, settings: &Settings) -> Self {
        Self::of_part(Part::WHOLE, catalog, settings)
    }

    /// As [`PlotData::new`], of a part of a run.
    pub fn of_part(part: Part, catalog: &Catalog, settings: &Settings) -> Self {
        let begin = part.from;
        Self {
            timeline: Timeline::of_part(part, catalog, settings.reversal_window),
            settings: settings.clone(),
            optimum: Columns::new(begin),
            memory: SpaceSeries::new(begin),
            cpu: RateSeries::new(begin),
            pressure: Columns::new(begin),
            gpus: Vec::new(),
            gaps: Gaps::new(begin),
        }
    }

    /// Returns what came of the run.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Shows what the wall clock showed.
    pub fn set_clock(&mut self, clock: &WallClock) {
        self.timeline.clock = clock.clone();
    }

    /// Shows a schedule as the optimum: what serves from when on, in order.
    pub fn set_optimum(&mut self, schedule: &[(Timestamp, Rung)]) {
        for &(at, rung) in schedule.iter().filter(|(at, _)| *at <= self.timeline.part.to) {
            self.optimum.add(at, u64::from(rung.0));
        }
    }

    /// Closes what is still open. The run lasted until `end` at least.
    pub fn finish(&mut self, end: Timestamp) {
        self.timeline.finish(end);
        self.gaps.finish(self.timeline.end);
    }

    fn sample(&mut self, now: Timestamp, sample: &Sample) {
        self.gaps.sample(now);
        self.memory.add(now, sample.memory.as_ref());
        self.cpu.add(now, sample.cpu.as_ref());
        if let Some(pressure) = &sample.pressure {
            self.pressure.add(now, u64::from(pressure.memory_some.milli()));
        }
        let shown = sample.gpus.len().min(MOST_GPUS);
        if self.gpus.len() < shown {
            self.gpus.resize(shown, GpuSeries::new(self.timeline.part.from));
        }
        for (series, gpu) in self.gpus.iter_mut().zip(&sample.gpus) {
            series.vram.add(now, gpu.vram.as_ref());
            series.utilization.add(now, gpu.utilization.as_ref());
        }
    }

    fn decision(&mut self, now: Timestamp, decision: &Decision) {
        let (Reason::Room { resource, gpu, projected, .. }
        | Reason::WouldNotFit { resource, gpu, projected, .. }) = decision.reason
        else {
            return;
        };
        let series = match resource {
            Resource::Memory => Some(&mut self.memory),
            // A log of version 1 does not say which.
            Resource::Vram => {
                gpu.and_then(|gpu| self.gpus.get_mut(usize::from(gpu))).map(|gpu| &mut gpu.vram)
            }
            Resource::Cpu | Resource::Gpu | Resource::Pressure => None,
        };
        if let Some(series) = series {
            series.projected.add(now, projected.get());
        }
    }
}

impl GpuSeries {
    fn new(begin: Timestamp) -> Self {
        Self { vram: SpaceSeries::new(begin), utilization: RateSeries::new(begin) }
    }
}

impl SpaceSeries {
    fn new(begin: Timestamp) -> Self {
        let [others, used, projected] = [(); 3].map(|()| Columns::new(begin));
        Self { others, used, total: Bytes::ZERO, projected }
    }

    fn add(&mut self, now: Timestamp, space: Option<&Space>) {
        if let Some(space) = space {
            self.others.add(now, space.others.get());
            self.used.add(now, space.used().get());
            self.total = self.total.max(space.total);
        }
    }
}

impl RateSeries {
    fn new(begin: Timestamp) -> Self {
        Self { others: Columns::new(begin), used: Columns::new(begin) }
    }

    fn add(&mut self, now: Timestamp, rate: Option<&Rate>) {
        if let Some(rate) = rate {
            self.others.add(now, u64::from(rate.others.milli()));
            self.used.add(now, u64::from(rate.used().milli()));
        }
    }
}

/// Plots show the first GPUs of a machine; more would make a picture that nobody can read.
const MOST_GPUS: usize = 4;
