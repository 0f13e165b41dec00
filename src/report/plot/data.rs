//! What a plot needs of a run besides its timeline: the samples, in bounded memory.

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::{Decision, Measure, Reason};
use tiershift_core::event::{EventRef, Input, Observe, Output};
use tiershift_core::request::End;
use tiershift_core::sample::{Rate, Resource, Sample, Space};
use tiershift_core::settings::Settings;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

use crate::report::timeline::columns::Columns;
use crate::report::timeline::gaps::Gaps;
use crate::report::timeline::{Timeline, close_shares, shares_of};
use crate::wall::{Part, WallClock};

/// Collects the data for a plot while records pass. At most some megabytes, however long the run.
#[derive(Clone, Debug)]
pub struct PlotData {
    pub(super) timeline: Timeline,
    pub(super) settings: Settings,
    /// The rung that serves in the best schedule; empty if none was computed.
    pub(super) optimum: Columns,
    last_of_optimum: Rung,
    /// By rung, the share of time in which the best schedule serves it, in thousandths.
    pub(super) optimum_shares: Vec<Columns>,
    pub(super) memory: SpaceSeries,
    pub(super) cpu: RateSeries,
    /// Pressure has no owner: `others` stays empty.
    pub(super) pressure: RateSeries,
    pub(super) gpus: Vec<GpuSeries>,
    /// Times without samples.
    pub(super) gaps: Gaps,
    /// Requests that were refused, and requests whose model or server broke: each counts one.
    pub(super) refused: Columns,
    pub(super) failed: Columns,
}

/// A value that seldom changes, such as a line for decisions.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    pub(super) columns: Columns,
    last: Option<u64>,
}

impl Moving {
    fn new(begin: Timestamp) -> Self {
        Self { columns: Columns::new(begin), last: None }
    }

    fn set(&mut self, now: Timestamp, value: u64) {
        if self.last != Some(value) {
            self.columns.add(now, value);
            self.last = Some(value);
        }
    }

    /// Returns the last value; zero before there was one.
    pub(super) fn now(&self) -> u64 {
        self.last.unwrap_or(0)
    }
}

/// A space resource over time, in bytes.
#[derive(Clone, Debug)]
pub(super) struct SpaceSeries {
    pub(super) others: Columns,
    pub(super) used: Columns,
    /// Its size.
    pub(super) total: Moving,
    /// The use after upgrades, as projected.
    pub(super) projected: Columns,
    pub(super) degrade: Moving,
    pub(super) preventive: Moving,
    pub(super) upgrade: Moving,
    /// A limit in the reasons of changes that is none of these lines.
    pub(super) named: Moving,
}

/// A rate resource over time, in thousandths of a percent.
#[derive(Clone, Debug)]
pub(super) struct RateSeries {
    pub(super) others: Columns,
    pub(super) used: Columns,
    pub(super) degrade: Moving,
    pub(super) upgrade: Moving,
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
            EventRef::Input(Input::Settings(raw)) => {
                // Settings that the controller refuses do not apply here either.
                if let Ok(settings) = self.settings.with((**raw).clone()) {
                    self.settings = settings;
                }
            }
            EventRef::Output(Output::Ended { end, .. }) if now >= self.timeline.part.from => {
                match end {
                    End::Rejected { .. } => self.refused.add(now, 1),
                    End::Failed { .. } => self.failed.add(now, 1),
                    End::Done { .. } | End::Cancelled { .. } => {}
                }
            }
            EventRef::Input(_) | EventRef::Output(_) => {}
        }
    }
}

impl PlotData {
    /// Begins at zero with nothing loaded.
    pub fn new(catalog: &Catalog, settings: &Settings) -> Self {
        Self::of_part(Part::WHOLE, catalog, settings)
    }

    /// As [`PlotData::new`], for a part of a run.
    pub fn of_part(part: Part, catalog: &Catalog, settings: &Settings) -> Self {
        let begin = part.from;
        Self {
            timeline: Timeline::of_part(part, catalog, settings.reversal_window),
            settings: settings.clone(),
            optimum: Columns::new(begin),
            last_of_optimum: Rung::NONE,
            optimum_shares: Vec::new(),
            memory: SpaceSeries::new(begin),
            cpu: RateSeries::new(begin),
            pressure: RateSeries::new(begin),
            gpus: Vec::new(),
            gaps: Gaps::new(begin),
            refused: Columns::new(begin),
            failed: Columns::new(begin),
        }
    }

    /// Returns the timeline of the run.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Sets the wall clock.
    pub fn set_clock(&mut self, clock: &WallClock) {
        self.timeline.clock = clock.clone();
    }

    /// Sets the schedule of the optimum: what serves from when on, in order.
    pub fn set_optimum(&mut self, schedule: &[(Timestamp, Rung)]) {
        let part = schedule.iter().filter(|(at, _)| *at <= self.timeline.part.to).copied();
        for (at, rung) in part.clone() {
            self.optimum.add(at, u64::from(rung.0));
            self.last_of_optimum = rung;
        }
        if !schedule.is_empty() {
            self.optimum_shares = shares_of(&self.timeline.catalog, self.timeline.part.from, part);
        }
    }

    /// Closes what is still open. The run lasted at least until `end`.
    pub fn finish(&mut self, end: Timestamp) {
        self.timeline.finish(end);
        self.gaps.finish(self.timeline.end);
        close_shares(&mut self.optimum_shares, self.timeline.end, self.last_of_optimum);
    }

    fn sample(&mut self, now: Timestamp, sample: &Sample) {
        self.gaps.sample(now);
        let settings = &self.settings;
        let usual = Lines { degrade: settings.degrade_line, upgrade: settings.upgrade_line };
        self.memory.add(now, sample.memory.as_ref(), settings);
        self.cpu.add(now, sample.cpu.as_ref(), usual);
        if let Some(pressure) = &sample.pressure {
            let lines = Lines {
                degrade: settings.pressure_degrade_line,
                upgrade: settings.pressure_upgrade_line,
            };
            self.pressure.used.add(now, u64::from(pressure.memory_some.milli()));
            self.pressure.set_lines(now, lines);
        }
        let shown = sample.gpus.len().min(MOST_GPUS);
        if self.gpus.len() < shown {
            self.gpus.resize(shown, GpuSeries::new(self.timeline.part.from));
        }
        for (series, gpu) in self.gpus.iter_mut().zip(&sample.gpus) {
            series.vram.add(now, gpu.vram.as_ref(), settings);
            series.utilization.add(now, gpu.utilization.as_ref(), usual);
        }
    }

    fn decision(&mut self, now: Timestamp, decision: &Decision) {
        let (resource, gpu, projected, limit) = match decision.reason {
            Reason::Room { resource, gpu, projected, limit, .. }
            | Reason::WouldNotFit { resource, gpu, projected, limit, .. } => {
                (resource, gpu, Some(projected), Some(Measure::Bytes(limit)))
            }
            Reason::AboveDegradeLine { resource, gpu, limit, .. } => {
                (resource, gpu, None, Some(Measure::Bytes(limit)))
            }
            Reason::Own { resource: Some(resource), limit, .. } => (resource, None, None, limit),
            _ => return,
        };
        let series = match resource {
            Resource::Memory => Some(&mut self.memory),
            Resource::Vram => {
                // A log of version 1 does not state which, and neither do a policy's own reasons.
                let only = (self.gpus.len() == 1).then_some(0);
                gpu.or(only.filter(|_| projected.is_none()))
                    .and_then(|gpu| self.gpus.get_mut(usize::from(gpu)))
                    .map(|gpu| &mut gpu.vram)
            }
            Resource::Cpu | Resource::Gpu | Resource::Pressure => None,
        };
        let Some(series) = series else { return };
        if let Some(projected) = projected {
            series.projected.add(now, projected.get());
        }
        let total = Bytes::new(series.total.now());
        let limit = match limit {
            Some(Measure::Bytes(limit)) => limit,
            Some(Measure::MilliPercent(share)) => total.share(share),
            Some(Measure::Nanos(_) | Measure::Count(_)) | None => return,
        };
        // Within half a percent of the machine's size it is a line that is drawn anyway.
        let apart = limit.get().abs_diff(series.degrade.now());
        if apart > total.get() / 200 {
            series.named.set(now, limit.get());
        }
    }
}

/// The lines of a rate.
#[derive(Clone, Copy)]
struct Lines {
    degrade: Percent,
    upgrade: Percent,
}

impl GpuSeries {
    fn new(begin: Timestamp) -> Self {
        Self { vram: SpaceSeries::new(begin), utilization: RateSeries::new(begin) }
    }
}

impl SpaceSeries {
    fn new(begin: Timestamp) -> Self {
        let [others, used, projected] = [(); 3].map(|()| Columns::new(begin));
        let [total, degrade, preventive, upgrade, named] = [(); 5].map(|()| Moving::new(begin));
        Self { others, used, total, projected, degrade, preventive, upgrade, named }
    }

    fn add(&mut self, now: Timestamp, space: Option<&Space>, settings: &Settings) {
        if let Some(space) = space {
            let Space { total, others, .. } = *space;
            self.others.add(now, others.get());
            self.used.add(now, space.used().get());
            self.total.set(now, total.get());
            self.degrade.set(now, settings.degrade_limit(total).get());
            self.preventive.set(now, total.share(settings.preventive_line).get());
            self.upgrade.set(now, total.share(settings.upgrade_line).get());
        }
    }

    /// Returns where its axis ends: its size, or its use if that is larger. What is only projected does not stretch the
    /// axis.
    pub(super) fn most(&self) -> u64 {
        self.used.max().max(self.total.columns.max())
    }
}

impl RateSeries {
    fn new(begin: Timestamp) -> Self {
        let [others, used] = [(); 2].map(|()| Columns::new(begin));
        let [degrade, upgrade] = [(); 2].map(|()| Moving::new(begin));
        Self { others, used, degrade, upgrade }
    }

    fn add(&mut self, now: Timestamp, rate: Option<&Rate>, lines: Lines) {
        if let Some(rate) = rate {
            self.others.add(now, u64::from(rate.others.milli()));
            self.used.add(now, u64::from(rate.used().milli()));
            self.set_lines(now, lines);
        }
    }

    fn set_lines(&mut self, now: Timestamp, lines: Lines) {
        self.degrade.set(now, u64::from(lines.degrade.milli()));
        self.upgrade.set(now, u64::from(lines.upgrade.milli()));
    }
}

/// Each GPU has a panel, up to the number in the largest machines that one program sees today.
const MOST_GPUS: usize = 16;
