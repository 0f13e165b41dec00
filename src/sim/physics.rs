//! How the simulated machine behaves when nothing is wrong: the constants that a catalog does not hold.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::time::SpanText;
use tiershift_core::units::{Percent, PercentText};

/// The `[physics]` table. Every key is optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawPhysics {
    /// Shortest time from "unloaded" until the memory is free. Default `500ms` (0.5 to 1.5 s typical for
    /// video memory, a comment in Ollama's scheduler).
    pub release_lag_min: SpanText,
    /// The longest. Default `1500ms` (same source).
    pub release_lag_max: SpanText,
    /// Shape of the log-normal factor, of median one, on load times. Default 0.05 (17.0 and 16.1 s, 54.2 and
    /// 51.1 s for the same loads twice, gpumod's benchmark report of 2026-02-07). Zero: none.
    pub load_jitter: f64,
    /// The same on the speed of each request. Default 0.05 (chosen: as for loads).
    pub speed_jitter: f64,
    /// Whether model files are in the page cache at the start. Default false: the first load is cold.
    pub page_cache_warm: bool,
    /// Part of the free memory that keeps model files cached; a file that no longer fits is cold again.
    /// Default `80%` (chosen: the kernel gives cached pages up last, but other files want their part).
    pub page_cache_share: PercentText,
    /// How much of others' processor use is taken from tokens: at `100%`, a processor that is half busy with
    /// something else decodes at half the speed. Default `100%` (fair shares).
    pub cpu_contention: PercentText,
    /// The same for a GPU. Default `100%` (time slices).
    pub gpu_contention: PercentText,
    /// What each further request on a model adds to the throughput of one. Default `50%` (chosen: between none, a
    /// processor that is busy with one request, and all, a GPU that reads its weights once for all; `tiershift calibrate`
    /// measures it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_gain: Option<PercentText>,
    /// Speed that is left once memory is full and the machine swaps. Default `18%` (9.58 to 1.73 tokens/s,
    /// Hermes #108783).
    pub swapping_speed: PercentText,
}

/// How the simulated machine behaves, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Physics {
    /// Shortest time from "unloaded" until the memory is free.
    pub release_lag_min: Duration,
    /// The longest.
    pub release_lag_max: Duration,
    /// Shape of the log-normal factor on load times; zero is none.
    pub load_jitter: f64,
    /// Shape of the log-normal factor on each request's speed; zero is none.
    pub speed_jitter: f64,
    /// Whether model files are in the page cache at the start.
    pub page_cache_warm: bool,
    /// Part of the free memory that keeps model files cached.
    pub page_cache_share: Percent,
    /// Part of others' processor use that is taken from tokens.
    pub cpu_contention: Percent,
    /// Part of others' GPU use that is taken from tokens.
    pub gpu_contention: Percent,
    /// What each further request on a model adds to the throughput of one.
    pub batch_gain: Percent,
    /// Speed that is left once memory is full.
    pub swapping_speed: Percent,
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
    /// The key that cannot be meant, and what it must be.
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
        ];
        for (key, share) in shares {
            if share.0 > Percent::ONE_HUNDRED {
                return Err((key, "at most 100%"));
            }
        }
        if self.swapping_speed.0 == Percent::ZERO {
            return Err(("swapping-speed", "more than nothing, or no request ever ends"));
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
        })
    }

    fn batch_gain(&self) -> PercentText {
        self.batch_gain.unwrap_or(USUAL_BATCH_GAIN)
    }
}

/// See [`RawPhysics::batch_gain`].
const USUAL_BATCH_GAIN: PercentText = PercentText(Percent::new(50));

/// A log-normal factor of shape 2 is above 50 in one draw of forty: beyond it nothing is a machine any more.
const LARGEST_JITTER: f64 = 2.0;
