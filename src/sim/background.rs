//! Others' use over time: shapes and traces that add up.
//!
//! A layer that [reacts](Reaction) has more or less than its shape, depending on the free room. Every shape is a closed
//! form in time: its value at a moment does not depend on when, or how often, it was evaluated before. Random values
//! are drawn from a separate stream for each cell of time.

mod reaction;
mod series;
mod shape;
mod sums;

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::machine::Machine;
use tiershift_core::sample::Sample;
use tiershift_core::time::{SpanText, Timestamp};
use tiershift_core::units::Bytes;

use crate::sim::background::reaction::{Bounds, kept_free};
use crate::sim::background::sums::Sums;
use crate::sim::rng::Seed;

pub use reaction::{OthersState, Reaction, ReactionKind};
pub use series::Series;
pub use shape::{Amount, RawShape};

/// Others' use over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Background {
    machine: Machine,
    /// Whether the GPUs use main memory.
    is_unified: bool,
    seed: Seed,
    layers: Vec<Layer>,
}

/// One `[[background]]` table, checked: what it adds, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// What it adds to; `None`: every resource that the trace has.
    pub resource: Option<OthersUse>,
    /// The GPU, for video memory and GPU time.
    pub gpu: u8,
    /// Begins here.
    pub at: Timestamp,
    /// It ends just before this.
    pub until: Timestamp,
    /// What it adds over time.
    pub shape: RawShape,
    /// The samples of a trace shape.
    pub series: Option<Arc<Series>>,
    /// How it reacts to the free room, if it does.
    pub reaction: Option<Reaction>,
}

/// One `[[background]]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
// Serde refuses unknown keys in the flattened part; the schema must state that for editors.
#[schemars(extend("unevaluatedProperties" = false))]
pub struct RawBackground {
    /// What is used. Required, except for a trace, which brings all that it has if this is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<OthersUse>,
    /// The GPU, for `vram` and `gpu`. Default 0. Not for a trace, whose GPUs are the machine's, one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u8>,
    /// When it begins. Default: at the start. Before it the shape adds nothing; a step and a ramp add `from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<SpanText>,
    /// When it ends. Default: with the run. After it the shape adds nothing; a step adds `from` again, a ramp
    /// stays at `to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<SpanText>,
    /// Give way: if less than a 64th of its space would be free, it shrinks down to this, and grows again when there is
    /// room. This is how a ZFS cache behaves, which no kernel counts as available; a page cache that counts as
    /// available is not use of memory. For `memory` and `vram`, not for a trace. Default: it never gives way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gives_way_to: Option<Amount>,
    /// Whether it takes only free memory, up to its shape, and keeps it: a game that fills the video memory that we
    /// free when we unload. For `memory` and `vram`, not for a trace. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub takes_free: Option<bool>,
    /// With `gives-way-to` or `takes-free`: the time to release or take the whole amount of its shape. Default `0s`: at
    /// once. At the start it already has what its shape and the free memory allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<SpanText>,
    /// What it adds over time.
    #[serde(flatten)]
    pub shape: RawShape,
}

impl RawBackground {
    /// Returns how it reacts to the free room, if it does.
    pub(crate) fn reaction(&self) -> Option<Reaction> {
        let kind = match (self.gives_way_to, self.takes_free) {
            (Some(floor), _) => ReactionKind::GivesWay { floor },
            (None, Some(true)) => ReactionKind::TakesFree,
            (None, Some(false) | None) => return None,
        };
        Some(Reaction { kind, lag: self.lag.map_or(Duration::ZERO, |lag| lag.0) })
    }

    /// Returns the key about its reaction whose value is not valid, and what it must be.
    pub(crate) fn reaction_mistake(&self) -> Option<(&'static str, &'static str)> {
        let Some(Reaction { kind, .. }) = self.reaction() else {
            let alone =
                "left out without `gives-way-to` or `takes-free`: there is no reaction to delay";
            return self.lag.map(|_| ("lag", alone));
        };
        let key = match kind {
            ReactionKind::GivesWay { .. } => "gives-way-to",
            ReactionKind::TakesFree => "takes-free",
        };
        if self.gives_way_to.is_some() && self.takes_free == Some(true) {
            return Some(("takes-free", "left out if `gives-way-to` is given"));
        }
        if matches!(self.shape, RawShape::Trace(_)) {
            return Some((key, "left out: a recording reacts to nothing"));
        }
        if !matches!(self.resource, Some(OthersUse::Memory | OthersUse::Vram)) {
            return Some((key, "left out: it applies only to `memory` and `vram`"));
        }
        None
    }
}

/// The keys of [`RawBackground`] itself.
pub(crate) const COMMON_KEYS: &[&str] =
    &["resource", "gpu", "at", "until", "gives-way-to", "takes-free", "lag", "shape"];

/// What others can use.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OthersUse {
    /// Main memory: an amount, or a share of the machine's.
    Memory,
    /// Swap space: an amount, or a share of the machine's.
    Swap,
    /// Video memory: an amount, or a share of the GPU's.
    Vram,
    /// Processor time: a share.
    Cpu,
    /// GPU time: a share.
    Gpu,
    /// Time in which some task waited for memory: a share.
    Pressure,
}

impl Background {
    /// Returns the use that the layers add up to on this machine, whose GPUs have memory of their own.
    pub fn new(machine: Machine, layers: Vec<Layer>, seed: Seed) -> Self {
        Self { machine, is_unified: false, seed, layers }
    }

    /// Returns the same for a machine whose GPUs use main memory.
    #[must_use]
    pub fn unified(mut self) -> Self {
        self.is_unified = true;
        self
    }

    pub(super) fn is_unified(&self) -> bool {
        self.is_unified
    }

    /// Returns whether any layer reacts to the free room.
    pub(super) fn reacts(&self) -> bool {
        self.layers.iter().any(|layer| layer.reaction.is_some())
    }

    /// Draws random values from another seed.
    pub fn set_seed(&mut self, seed: Seed) {
        self.seed = seed;
    }

    /// Returns the layers, in the order of the file.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Returns since when no layer changes; `None` if one reacts to us, or is a recording.
    pub(super) fn settled_at(&self) -> Option<Timestamp> {
        self.layers
            .iter()
            .try_fold(Timestamp::ZERO, |last, layer| Some(last.max(layer.settled_at()?)))
    }

    /// Returns a sample of the machine without the managed models: own use is zero.
    ///
    /// Memory, swap and video memory are reported if the machine has them. Processor, GPU time and pressure are
    /// reported only if a layer adds to them: a scenario that does not mention them does not constrain on them.
    ///
    /// Layers that react do so as if we never used anything, and none has been killed.
    pub fn sample(&self, now: Timestamp) -> Sample {
        self.sample_beside(now, |_, _| Bytes::ZERO, &mut self.begin())
    }

    /// Returns the state of the layers at the start of a run.
    pub(super) fn begin(&self) -> OthersState {
        OthersState::new(self.layers.len())
    }

    /// Returns a sample beside our use, like [`Background::sample`], and advances the layers that react.
    pub(super) fn sample_beside(
        &self,
        now: Timestamp,
        own: impl Fn(OthersUse, u8) -> Bytes,
        state: &mut OthersState,
    ) -> Sample {
        let mut sums = Sums::new(self.machine.gpus.len());
        for (place, layer) in self.layers.iter().enumerate() {
            if layer.reaction.is_none() && !state.is_dead(place, now) {
                layer.add(&mut sums, &self.machine, self.seed, place, now);
            }
        }
        // Layers that give way also do so for those that take.
        for kind in [is_taker, is_giver] {
            for (place, layer) in self.layers.iter().enumerate() {
                if let (Some(reaction), Some(resource)) = (layer.reaction, layer.resource)
                    && kind(reaction)
                    && !state.is_dead(place, now)
                {
                    let bounds = self.bounds(place, resource, now, &own, &sums);
                    let held = state.advance(place, reaction, now, bounds);
                    sums.add(resource, usize::from(layer.gpu), held);
                }
            }
        }
        state.arrive(now);
        sums.into_sample(&self.machine, self.is_unified)
    }

    /// Returns the bounds of a layer that reacts, beside the sums so far.
    fn bounds(
        &self,
        place: usize,
        resource: OthersUse,
        now: Timestamp,
        own: impl Fn(OthersUse, u8) -> Bytes,
        sums: &Sums,
    ) -> Bounds {
        let layer = &self.layers[place];
        let total = layer.total(&self.machine);
        let whole = total.unwrap_or_default();
        let floor_of = |layer: &Layer| match layer.reaction.map(|reaction| reaction.kind) {
            Some(ReactionKind::GivesWay { floor }) => floor.of(total),
            Some(ReactionKind::TakesFree) | None => 0.0,
        };
        let others = sums.of(resource, usize::from(layer.gpu), self.is_unified);
        let left = whole.get() as f64 - others - own(resource, layer.gpu).get() as f64;
        let wanted = layer.value(&self.machine, self.seed, place, now).max(0.0);
        let room = match layer.reaction.map(|reaction| reaction.kind) {
            Some(ReactionKind::TakesFree) | None => {
                let givers = self
                    .layers
                    .iter()
                    .filter(|other| other.resource == layer.resource && other.gpu == layer.gpu);
                left - givers.map(floor_of).sum::<f64>()
            }
            Some(ReactionKind::GivesWay { .. }) => left - kept_free(whole),
        };
        Bounds { wanted, floor: floor_of(layer), room }
    }

    /// Kills the layer that uses the most main memory, and returns whether any used some.
    pub(super) fn kill_largest(&self, now: Timestamp, state: &mut OthersState) -> bool {
        let used = |&place: &usize| {
            let layer = &self.layers[place];
            match layer.reaction {
                Some(_) => state.held(place),
                None => layer.value(&self.machine, self.seed, place, now),
            }
        };
        let largest = (0..self.layers.len())
            .filter(|&place| self.layers[place].resource == Some(OthersUse::Memory))
            .filter(|&place| !state.is_dead(place, now))
            .filter(|place| used(place) > 0.0)
            .max_by(|one, other| used(one).total_cmp(&used(other)).then(other.cmp(one)));
        if let Some(place) = largest {
            state.kill(place, now);
        }
        largest.is_some()
    }
}

impl Layer {
    fn add(&self, sums: &mut Sums, machine: &Machine, seed: Seed, place: usize, now: Timestamp) {
        if let (RawShape::Trace(play), Some(series)) = (&self.shape, &self.series) {
            // A trace has a rate as long as the run lasts, even before it begins.
            let reading = (self.at..self.until)
                .contains(&now)
                .then(|| play.reading(series, now.since(self.at)))
                .flatten();
            let told = reading.unwrap_or_else(|| series.first());
            let weight = if reading.is_some() { play.scale.0.fraction() } else { 0.0 };
            sums.add_reading(told, machine, self.resource, play.relative, weight);
            return;
        }
        if let Some(resource) = self.resource {
            let value = self.value(machine, seed, place, now);
            sums.add(resource, usize::from(self.gpu), value);
        }
    }

    fn settled_at(&self) -> Option<Timestamp> {
        if self.reaction.is_some() || matches!(self.shape, RawShape::Trace(_)) {
            return None;
        }
        let is_level = matches!(self.shape, RawShape::Constant { .. } | RawShape::Step { .. });
        Some(if is_level && self.until == Timestamp::MAX { self.at } else { self.until })
    }

    /// Returns the value of its shape, in bytes or thousandths of a percent; zero for a trace.
    fn value(&self, machine: &Machine, seed: Seed, place: usize, now: Timestamp) -> f64 {
        self.shape.value(self.at, self.until, now, self.total(machine), seed, place)
    }

    /// Returns the size of its resource, if that is a space.
    fn total(&self, machine: &Machine) -> Option<Bytes> {
        match self.resource? {
            OthersUse::Memory => Some(machine.memory),
            OthersUse::Swap => Some(machine.swap),
            OthersUse::Vram => machine.gpus.get(usize::from(self.gpu)).copied(),
            OthersUse::Cpu | OthersUse::Gpu | OthersUse::Pressure => None,
        }
    }
}

fn is_taker(reaction: Reaction) -> bool {
    reaction.kind == ReactionKind::TakesFree
}

fn is_giver(reaction: Reaction) -> bool {
    !is_taker(reaction)
}

#[cfg(test)]
mod tests {
    use tiershift_core::policy::Registry;
    use tiershift_core::sample::Space;
    use tiershift_core::units::Percent;

    use super::*;

    fn background(tables: &str) -> Background {
        background_in(tables, Path::new(""))
    }

    use std::path::Path;

    fn background_in(tables: &str, folder: &Path) -> Background {
        let text = format!(
            "duration = \"2h\"\n[machine]\nmemory = \"16GiB\"\nswap = \"4GiB\"\ngpus = [\"8GiB\"]\n{tables}"
        );
        crate::scenario::parse(&text, "shapes.toml", folder, &Registry::built_in())
            .unwrap_or_else(|error| panic!("{error}"))
            .background
    }

    /// Checks a shape's memory use, in MiB, at moments given in seconds.
    #[track_caller]
    fn check(shape: &str, want: &[(u64, u64)]) {
        let others = background(&format!("[[background]]\nresource = \"memory\"\n{shape}"));
        for &(second, mib) in want {
            let got = others.sample(Timestamp::from_secs(second)).memory.unwrap().others;
            assert_eq!(got, Bytes::from_mib(mib), "{shape} at {second} s");
        }
    }

    #[test]
    fn shapes_have_the_values_of_their_closed_forms() {
        check("shape = \"constant\"\nlevel = \"25%\"", &[(0, 4096), (7200, 4096), (9999, 4096)]);
        check(
            "shape = \"constant\"\nlevel = \"1GiB\"\nat = \"10s\"\nuntil = \"20s\"",
            &[(9, 0), (10, 1024), (19, 1024), (20, 0)],
        );
        check(
            "shape = \"step\"\nfrom = \"1GiB\"\nto = \"2GiB\"\nat = \"10s\"\nuntil = \"20s\"",
            &[(0, 1024), (9, 1024), (10, 2048), (20, 1024)],
        );
        check(
            "shape = \"ramp\"\nfrom = \"1GiB\"\nto = \"2GiB\"\nat = \"100s\"\nuntil = \"200s\"",
            &[(0, 1024), (100, 1024), (150, 1536), (200, 2048), (300, 2048)],
        );
        // Without an end, it is the run's end: two hours.
        check("shape = \"ramp\"\nto = \"2GiB\"", &[(0, 0), (3600, 1024), (7200, 2048)]);
        check(
            "shape = \"saw\"\nto = \"1GiB\"\nperiod = \"100s\"",
            &[(0, 0), (50, 512), (75, 768), (100, 0), (150, 512)],
        );
        check(
            "shape = \"sine\"\nfrom = \"3GiB\"\nto = \"6GiB\"\nperiod = \"1h\"",
            &[(0, 3072), (900, 4608), (1800, 6144), (2700, 4608), (3600, 3072)],
        );
        check(
            "shape = \"leak\"\nper-minute = \"60MiB\"\nto = \"1GiB\"\nat = \"60s\"\nuntil = \"2000s\"",
            &[(59, 0), (60, 0), (61, 1), (120, 60), (1999, 1024), (2000, 0)],
        );
    }

    #[test]
    fn shapes_add_up_and_never_below_nothing() {
        let others = background(
            "[[background]]\nresource = \"memory\"\nshape = \"constant\"\nlevel = \"1GiB\"\n\
             [[background]]\nresource = \"memory\"\nshape = \"constant\"\nlevel = \"2GiB\"\n\
             [[background]]\nresource = \"swap\"\nshape = \"constant\"\nlevel = \"50%\"\n\
             [[background]]\nresource = \"vram\"\nshape = \"noise\"\namplitude = \"1GiB\"\n\
             [[background]]\nresource = \"gpu\"\nshape = \"constant\"\nlevel = \"70%\"\n\
             [[background]]\nresource = \"gpu\"\nshape = \"constant\"\nlevel = \"70%\"",
        );
        let mut least = Bytes::MAX;
        for second in 0..1000 {
            let sample = others.sample(Timestamp::from_secs(second));
            assert_eq!(sample.memory.unwrap().others, Bytes::from_gib(3));
            assert_eq!(sample.swap.unwrap().others, Bytes::from_gib(2));
            assert_eq!(sample.gpus[0].utilization.unwrap().others, Percent::ONE_HUNDRED);
            assert_eq!(sample.cpu, None, "nothing speaks of the processor");
            least = least.min(sample.gpus[0].vram.unwrap().others);
        }
        assert_eq!(least, Bytes::ZERO, "half of the noise is below nothing");
    }

    #[test]
    fn what_is_random_does_not_depend_on_when_it_is_asked() {
        let tables = "[[background]]\nresource = \"memory\"\nshape = \"burst\"\nfrom = \"1GiB\"\nto = \"2GiB\"\n\
             period = \"1m\"\nlength = \"5s\"\nchance = \"50%\"\n\
             [[background]]\nresource = \"memory\"\nshape = \"noise\"\namplitude = \"500MiB\"";
        let at = |others: &Background, second| others.sample(Timestamp::from_secs(second));
        let forwards = background(tables);
        let every: Vec<Sample> = (0..7200).map(|second| at(&forwards, second)).collect();
        let mut backwards = background(tables);
        for second in (0..7200).rev().step_by(7) {
            assert_eq!(at(&backwards, second), every[second as usize], "at {second} s");
        }
        backwards.set_seed(Seed(2));
        assert_ne!(at(&backwards, 100), every[100], "another seed is other luck");
    }

    #[test]
    fn a_burst_comes_once_in_each_period_with_its_chance() {
        let seconds_high = |chance: &str| {
            let others = background(&format!(
                "[[background]]\nresource = \"cpu\"\nshape = \"burst\"\nto = \"80%\"\nperiod = \"1m\"\n\
                 length = \"5s\"\nchance = \"{chance}\""
            ));
            let high = |second: &u64| {
                let cpu = others.sample(Timestamp::from_secs(*second)).cpu.unwrap().others;
                assert!([Percent::ZERO, Percent::new(80)].contains(&cpu));
                cpu > Percent::ZERO
            };
            (0..7200).filter(high).count()
        };
        assert_eq!(seconds_high("100%"), 120 * 5);
        let half = seconds_high("50%");
        assert!((200..400).contains(&half), "{half} of 600 seconds");
        assert_eq!(seconds_high("0%"), 0);
    }

    #[test]
    fn a_burst_with_an_offset_is_regular() {
        let others = background(
            "[[background]]\nresource = \"cpu\"\nshape = \"burst\"\nto = \"80%\"\nperiod = \"1m\"\n\
             length = \"5s\"\noffset = \"20s\"",
        );
        for second in 0..7200 {
            let cpu = others.sample(Timestamp::from_secs(second)).cpu.unwrap().others;
            assert_eq!(cpu > Percent::ZERO, (20..25).contains(&(second % 60)), "at {second} s");
        }
    }

    #[test]
    fn noise_fills_its_amplitude_evenly() {
        let others = background(
            "[[background]]\nresource = \"memory\"\nshape = \"constant\"\nlevel = \"8GiB\"\n\
             [[background]]\nresource = \"memory\"\nshape = \"noise\"\namplitude = \"1GiB\"",
        );
        // At the nodes, where the value is drawn rather than interpolated.
        let drawn: Vec<f64> = (0..720)
            .map(|cell| others.sample(Timestamp::from_secs(cell * 10)).memory.unwrap().others)
            .map(|use_| use_.as_gib() - 8.0)
            .collect();
        assert!(drawn.iter().all(|value| (-1.0..=1.0).contains(value)));
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let variance = drawn.iter().map(|value| value * value).sum::<f64>() / drawn.len() as f64;
        assert!(mean.abs() < 0.07, "mean {mean}");
        assert!((variance - 1.0 / 3.0).abs() < 0.04, "variance {variance}, want a third");
    }

    #[test]
    fn a_trace_is_held_between_readings_scaled_and_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let reading = |second, gib| {
            let memory = Space {
                total: Bytes::from_gib(8),
                others: Bytes::from_gib(gib),
                own: Bytes::from_gib(1),
            };
            (Timestamp::from_secs(second), Sample { memory: Some(memory), ..Sample::default() })
        };
        let readings = vec![reading(0, 1), reading(10, 2), reading(20, 3)];
        let machine = Machine { memory: Bytes::from_gib(8), ..Machine::default() };
        let path = folder.path().join("short.csv");
        write_trace(&path, &machine, &readings);
        let check = |options: &str, want: &[(u64, u64)]| {
            let tables =
                format!("[[background]]\nshape = \"trace\"\nfile = \"short.csv\"\n{options}");
            let others = background_in(&tables, folder.path());
            for &(second, gib) in want {
                let got = others.sample(Timestamp::from_secs(second)).memory.unwrap();
                assert_eq!(got.others, Bytes::from_gib(gib), "{options} at {second} s");
                assert_eq!(got.own, Bytes::ZERO, "their own models were not ours");
            }
        };
        check("", &[(0, 1), (9, 1), (10, 2), (19, 2), (20, 3), (7000, 3)]);
        check("loop = true", &[(29, 3), (30, 1), (40, 2), (62, 1)]);
        check("offset = \"12s\"", &[(0, 2), (8, 3)]);
        check("scale = \"200%\"", &[(0, 2), (10, 4)]);
        check("relative = true", &[(0, 2), (10, 4)]);
        check("at = \"5s\"\nuntil = \"20s\"", &[(4, 0), (5, 1), (15, 2), (20, 0)]);
        let tables =
            "[[background]]\nshape = \"trace\"\nfile = \"short.csv\"\nresource = \"cpu\"\n";
        let text = format!("duration = \"1m\"\n[machine]\nmemory = \"16GiB\"\n{tables}");
        let error = crate::scenario::parse(&text, "x.toml", folder.path(), &Registry::built_in())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`resource` must be a resource whose use by others is in the trace"),
            "{error}"
        );
    }

    fn write_trace(path: &Path, machine: &Machine, readings: &[(Timestamp, Sample)]) {
        let file = std::fs::File::create(path).unwrap();
        let mut writer = crate::trace::NativeWriter::new(file, machine, &[]).unwrap();
        for (at, sample) in readings {
            writer.write(*at, sample).unwrap();
        }
        drop(writer.into_inner());
    }

    #[test]
    fn a_trace_that_is_not_there_is_refused_with_its_place() {
        let text = "duration = \"1m\"\n[machine]\nmemory = \"16GiB\"\n[[background]]\nshape = \"trace\"\nfile = \"no.csv\"";
        let error = crate::scenario::parse(text, "x.toml", Path::new(""), &Registry::built_in())
            .unwrap_err()
            .to_string();
        assert!(error.contains("x.toml:6:1") && error.contains("cannot open no.csv"), "{error}");
    }
}
