//! How the simulated machine behaves without faults: the constants that a catalog does not contain.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::time::SpanText;
use tiershift_core::units::{Percent, PercentText, is_default};

/// The `[physics]` table. Every key is optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawPhysics {
    /// Shortest time from "unloaded" until the memory is free. Default `500ms` (0.5 to 1.5 s typical for
    /// video memory, a comment in Ollama's scheduler).
    pub release_lag_min: SpanText,
    /// Longest time from "unloaded" until the memory is free. Default `1500ms` (same source).
    pub release_lag_max: SpanText,
    /// Shape of the log-normal factor, of median one, on load times. Default 0.05 (17.0 and 16.1 s, 54.2 and 51.1 s for
    /// the same loads twice, gpumod's benchmark report of 2026-02-07). Zero: none.
    pub load_jitter: f64,
    /// The same for the speed of each request. Default 0.05 (chosen: as for loads).
    pub speed_jitter: f64,
    /// Whether model files are in the page cache at the start. Default false: the first load is cold.
    pub page_cache_warm: bool,
    /// Share of the free memory that keeps model files cached; a file that no longer fits is cold again. Default `80%`
    /// (chosen: the kernel reclaims cached pages last, but other files need their part).
    pub page_cache_share: PercentText,
    /// How much others' processor use slows tokens: at `100%`, a processor that is half busy with something else
    /// decodes at half the speed. Default `100%` (fair shares).
    pub cpu_contention: PercentText,
    /// The same for a GPU. Default `100%` (time slices).
    pub gpu_contention: PercentText,
    /// What each further request on a model adds to the throughput of one. Default `50%` (chosen: between none, a
    /// processor that is busy with one request, and all, a GPU that reads its weights once for all; `tiershift
    /// calibrate` measures it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_gain: Option<PercentText>,
    /// Speed that is left to a model in main memory when 28 % of the memory in use is in swap. A token takes longer in
    /// proportion to what is swapped; see [`Physics::memory_speed`]. Default `18%` (9.58 to 1.73 tokens/s with 24.4 GB
    /// swapped on a machine of 64 GB, Hermes #108783).
    pub swapping_speed: PercentText,
    /// What happens to use beyond the size of a GPU's memory. Default `fail`.
    #[serde(skip_serializing_if = "is_default")]
    pub vram_overcommit: VramOvercommit,
    /// With `vram-overcommit = "spill"`: the speed that would be left to a model whose video memory was entirely in
    /// main memory. A token takes longer in proportion to what is spilled; see [`Physics::memory_speed`]. Default `14%`
    /// (2.3, 3.0 and 4.0 times as long for a token with 21, 33 and 41 % of the video memory in use spilled, on an RTX
    /// 3070 of 8 GB under Windows, jsboige/CoursIA#17366).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spilled_speed: Option<PercentText>,
    /// What is killed when memory and swap are both exhausted. Default `off`: it is counted, but nothing is killed.
    #[serde(skip_serializing_if = "is_default")]
    pub oom_killer: OomKiller,
}

/// What happens to use beyond the size of a GPU's memory: the driver's rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VramOvercommit {
    /// An allocation fails, as with CUDA and ROCm on Linux: a load that does not fit fails at once, and on a GPU that
    /// is over its size the models that are working die, because they allocate. Others cannot be stopped: if they grow
    /// over a model of ours, it dies at its next request.
    #[default]
    Fail,
    /// The excess is in main memory, behind the bus, as under Windows (WDDM): nothing fails, and models on that GPU are
    /// slower. It does not count in main memory. A GPU that uses main memory spills nothing: there, the machine swaps.
    Spill,
}

/// What is killed when memory and swap are both exhausted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OomKiller {
    /// Nothing.
    #[default]
    Off,
    /// The model that holds the most main memory dies, with its requests.
    LargestOfOurs,
    /// The `[[background]]` table that uses the most main memory uses none for a minute, then follows its shape again.
    /// A trace that has several resources is never the victim.
    LargestOfOthers,
}

/// How the simulated machine behaves, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Physics {
    /// Shortest time from "unloaded" until the memory is free.
    pub release_lag_min: Duration,
    /// Longest time from "unloaded" until the memory is free.
    pub release_lag_max: Duration,
    /// Shape of the log-normal factor on load times; zero is none.
    pub load_jitter: f64,
    /// Shape of the log-normal factor on each request's speed; zero is none.
    pub speed_jitter: f64,
    /// Whether model files are in the page cache at the start.
    pub page_cache_warm: bool,
    /// Share of the free memory that keeps model files cached.
    pub page_cache_share: Percent,
    /// Part of others' processor use that is taken from tokens.
    pub cpu_contention: Percent,
    /// Part of others' GPU use that is taken from tokens.
    pub gpu_contention: Percent,
    /// What each further request on a model adds to the throughput of one.
    pub batch_gain: Percent,
    /// Speed that is left to a model in main memory when [`SWAPPED_AT_SPEED`] of the memory in use is in swap.
    pub swapping_speed: Percent,
    /// What happens to use beyond the size of a GPU's memory.
    pub vram_overcommit: VramOvercommit,
    /// Speed that would be left to a model whose video memory was entirely in main memory.
    pub spilled_speed: Percent,
    /// What is killed when memory and swap are both exhausted.
    pub oom_killer: OomKiller,
}

impl Physics {
    /// Returns the part of its speed that a model keeps when `swapped` of the main memory in use is beyond its size,
    /// and `spilled` of the video memory in use on its GPU is beyond that GPU's, with `in_memory` of the model in main
    /// memory:
    ///
    /// ```text
    /// speed = 1 / (1 + in_memory * swapped / 28 % * (1 / swapping-speed - 1)
    ///                + (1 - in_memory) * spilled * (1 / spilled-speed - 1))
    /// ```
    ///
    /// A token reads the model once: the part that is elsewhere takes longer to read, and the rest does not.
    ///
    /// # Source
    /// Hermes #108783 for swap and jsboige/CoursIA#17366 for video memory, whose four measurements lie on such a line.
    pub fn memory_speed(&self, in_memory: f64, swapped: Percent, spilled: Percent) -> f64 {
        let slower = |speed: Percent| 1.0 / speed.fraction() - 1.0;
        let swap = in_memory * (swapped.fraction() / SWAPPED_AT_SPEED.fraction());
        let bus = (1.0 - in_memory) * spilled.fraction();
        1.0 / (1.0 + swap * slower(self.swapping_speed) + bus * slower(self.spilled_speed))
    }
}

impl Default for RawPhysics {
    fn default() -> Self {
        Self {
            release_lag_min: SpanText(Duration::from_millis(500)),
            release_lag_max: SpanText(Duration::from_millis(1500)),
            load_jitter: 0.05,
            speed_jitter: 0.05,
            page_cache_warm: false,
            page_cache_share: PercentText(Percent::new(80)),
            cpu_contention: PercentText(Percent::new(100)),
            gpu_contention: PercentText(Percent::new(100)),
            batch_gain: None,
            swapping_speed: PercentText(Percent::new(18)),
            vram_overcommit: VramOvercommit::default(),
            spilled_speed: None,
            oom_killer: OomKiller::default(),
        }
    }
}

impl Default for Physics {
    fn default() -> Self {
        RawPhysics::default().check().expect("the defaults are checked by a test of every scenario")
    }
}

impl RawPhysics {
    /// Returns the checked form.
    ///
    /// # Errors
    /// The key whose value is not valid, and what it must be.
    pub fn check(&self) -> Result<Physics, (&'static str, &'static str)> {
        if self.release_lag_min > self.release_lag_max {
            return Err(("release-lag-max", "no shorter than `release-lag-min`"));
        }
        for (key, shape) in [("load-jitter", self.load_jitter), ("speed-jitter", self.speed_jitter)]
        {
            if !(0.0..=LARGEST_JITTER).contains(&shape) {
                return Err((key, "a number from 0 to 2"));
            }
        }
        let shares = [
            ("page-cache-share", self.page_cache_share),
            ("cpu-contention", self.cpu_contention),
            ("gpu-contention", self.gpu_contention),
            ("batch-gain", self.batch_gain()),
            ("swapping-speed", self.swapping_speed),
            ("spilled-speed", self.spilled_speed()),
        ];
        for (key, share) in shares {
            if share.0 > Percent::ONE_HUNDRED {
                return Err((key, "at most 100%"));
            }
        }
        for (key, speed) in
            [("swapping-speed", self.swapping_speed), ("spilled-speed", self.spilled_speed())]
        {
            if speed.0 == Percent::ZERO {
                return Err((key, "above zero, or no request ever ends"));
            }
        }
        if self.spilled_speed.is_some() && self.vram_overcommit != VramOvercommit::Spill {
            return Err(("spilled-speed", "left out, unless `vram-overcommit` is `spill`"));
        }
        Ok(Physics {
            release_lag_min: self.release_lag_min.0,
            release_lag_max: self.release_lag_max.0,
            load_jitter: self.load_jitter,
            speed_jitter: self.speed_jitter,
            page_cache_warm: self.page_cache_warm,
            page_cache_share: self.page_cache_share.0,
            cpu_contention: self.cpu_contention.0,
            gpu_contention: self.gpu_contention.0,
            batch_gain: self.batch_gain().0,
            swapping_speed: self.swapping_speed.0,
            vram_overcommit: self.vram_overcommit,
            spilled_speed: self.spilled_speed().0,
            oom_killer: self.oom_killer,
        })
    }

    fn spilled_speed(&self) -> PercentText {
        self.spilled_speed.unwrap_or(USUAL_SPILLED_SPEED)
    }

    fn batch_gain(&self) -> PercentText {
        self.batch_gain.unwrap_or(USUAL_BATCH_GAIN)
    }
}

/// See [`RawPhysics::batch_gain`].
const USUAL_BATCH_GAIN: PercentText = PercentText(Percent::new(50));

/// See [`RawPhysics::spilled_speed`].
const USUAL_SPILLED_SPEED: PercentText = PercentText(Percent::new(14));

/// The part of the memory in use that was swapped when [`RawPhysics::swapping_speed`] was measured: 24.4 GB beyond 64.
pub const SWAPPED_AT_SPEED: Percent = Percent::new(28);

/// A log-normal factor of shape 2 is above 50 in one draw of forty: no machine is beyond that.
const LARGEST_JITTER: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(in_memory: f64, swapped: u32, spilled: u32, want: f64) {
        let [swapped, spilled] = [swapped, spilled].map(Percent::new);
        let got = Physics::default().memory_speed(in_memory, swapped, spilled);
        assert!((got - want).abs() < 0.005, "{in_memory} {swapped} {spilled}: {got}, want {want}");
    }

    #[test]
    fn a_model_slows_down_with_what_is_swapped_and_spilled_of_the_memory_that_it_uses() {
        check(1.0, 0, 0, 1.0);
        // As measured: 9.58 to 1.73 tokens/s.
        check(1.0, 28, 0, 0.18);
        check(1.0, 14, 0, 0.305);
        // 2.3, 3.0 and 4.0 times as long were measured.
        check(0.0, 0, 21, 1.0 / 2.29);
        check(0.0, 0, 33, 1.0 / 3.03);
        check(0.0, 0, 41, 1.0 / 3.52);
        check(0.0, 0, 100, 0.14);
        // A shortage elsewhere does not affect it.
        check(1.0, 0, 50, 1.0);
        check(0.0, 50, 0, 1.0);
    }
}
