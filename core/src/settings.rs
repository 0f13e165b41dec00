//! Everything about a policy that a person may set.
//!
//! [`RawSettings`] is the file (TOML, human units, unknown keys refused); [`Settings`] is the checked form
//! that the deciders are built from. Each field of the raw form documents meaning, default, source and
//! what a wrong value costs. An event log's header carries the raw form, complete.

mod manager;
mod options;
mod pace;

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::MachineClass;
use crate::sample::Resource;
use crate::time::SpanText;
use crate::units::{Bytes, BytesText, Percent, PercentText};

pub use crate::settings::manager::{AtDrainDeadline, CompanionsGo, RawManagerSettings};
pub use crate::settings::options::{Options, OptionsError};
pub use crate::settings::pace::{Lost, Preset, Stabilization};

/// A policy file. Every key is optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawSettings {
    /// Name of the policy that decides. Default `proactive`.
    pub policy: PolicyName,
    /// Time between two measurements of a live or simulated machine; a recorded trace has its own times. Default `2s` (original
    /// specification). A shorter interval uses more processor time; a longer one delays every reaction.
    pub sampling_interval: SpanText,
    /// Age after which a sample is too old: it no longer allows an upgrade, and a new one is taken before a request is
    /// accepted. Default `10s` (five missed readings), or three sampling intervals if a trace is coarser. Too short, and single
    /// missed readings block upgrades; too long, and decisions rely on old data.
    pub stale_after: SpanText,
    /// Resources that constrain decisions: the spaces `memory` and `vram` (video memory), and the rates `cpu`, `gpu` and
    /// `pressure` (memory pressure). Default: all that the machine reports. A resource that is not listed is recorded but never
    /// causes a change.
    pub constrain: Vec<Resource>,
    /// Highest use of a space, in percent of its size, at which a model that is already serving may be replaced by a larger one
    /// that needs more of that space. Default by machine class: 75, 80 or 85 %, and lower if `preventive-line` or
    /// `degrade-line` is lower. Too low, and the larger model is rarely loaded; too high, and it is soon unloaded
    /// again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_line: Option<PercentText>,
    /// Use of a space, in percent of its size, above which a reliable rise towards exhaustion causes a step down before
    /// `degrade-line` is reached. Default by machine class: 80, 85 or 90 %; between the other two lines if those are set. Too
    /// low, and models are unloaded for rises that would have stopped; too high, and the step down comes no earlier than at
    /// `degrade-line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preventive_line: Option<PercentText>,
    /// Use of a space or rate, in percent, above which the policy steps down to a smaller model. Default `90%` (original
    /// specification). Too low, and memory stays unused; too high, and the machine swaps before the model is gone.
    pub degrade_line: PercentText,
    /// Free memory below which the policy steps down, whatever `degrade-line` says. Default `1GiB` (original specification).
    /// Too low, and large machines are protected by `degrade-line` alone; too high, and small machines load nothing (see
    /// `free-floor-share`).
    pub free_floor: BytesText,
    /// Upper bound of `free-floor`, in percent of the space. Default `10%` (chosen: on a machine with less than 10 GiB, 1 GiB
    /// would otherwise outrank `degrade-line` and leave the machine idle). `0%` disables the floor.
    pub free_floor_share: PercentText,
    /// How long a larger model must fit without interruption, and how long the last change must be past, before it replaces one
    /// that serves. Default `5m` (original specification; Kubernetes' HPA uses the same 300 s). `"auto"` shortens it to a
    /// quarter of the time in which the change earns its price, and never exceeds five minutes. Too short, and models
    /// alternate; too long, and a larger model comes back late.
    pub stabilization: Stabilization,
    /// Preset for the cost of changes, used where `price` and `calm` are not set: `eager`, `balanced` or `steady`. Default
    /// `balanced`.
    pub preset: Preset,
    /// Cost of one change, expressed as service time of the largest model, in addition to the quality that is lost during its
    /// load. Decisions, the score of a run and its optimum use the same value. Default by preset; `60s` for `balanced` (chosen:
    /// longer than a load takes, so that a change must also be worth the disturbance). A lower price switches for shorter
    /// gains; zero counts only the load itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<SpanText>,
    /// Additional cost of a change that is undone within `reversal-window`, expressed as service time of the largest model.
    /// Default by preset: `150s`, `450s` or `1h`. Zero switches whenever it pays; `1h` halves the reversals and costs about a
    /// hundredth of the quality.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calm: Option<SpanText>,
    /// Difference between two readings below which memory counts as settled after a switch. Default `256MiB`
    /// (unslothai/unsloth#5693). Too small, and noise delays decisions until `settle-limit`; too large, and decisions use
    /// memory that is still being freed.
    pub settle_tolerance: BytesText,
    /// The same difference in percent of the space; the larger of the two applies. Default `2%` (same source as
    /// `settle-tolerance`).
    pub settle_share: PercentText,
    /// Longest time to wait for memory to settle after a switch. Default `5s` (Ollama's recovery time-out). It doubles each
    /// time that a switch is called off because memory came back later, up to eight times. Too short, and decisions use
    /// memory that is still being freed; longer waits delay a second step down.
    pub settle_limit: SpanText,
    /// A change that is undone sooner than this counts as a reversal. Default `15m` (chosen: users no longer call it flapping
    /// after that time). The behaviour of other programs during the last two windows also predicts how likely space is lost
    /// during the next two. Too short, and flapping is not recognised; too long, and every return counts against an upgrade.
    pub reversal_window: SpanText,
    /// Age at which a reading has half its weight in the trend. Default `2m`. Too short, and the trend follows noise; too long,
    /// and it misses a new rise.
    pub trend_half_life: SpanText,
    /// How long a rate (processor, GPU, memory pressure) must stay above its line before the policy steps down. Default `30s`
    /// (systemd-oomd's pressure duration). Too short, and short peaks unload models; too long, and the machine stays slow.
    pub rate_sustained: SpanText,
    /// A rate below this share of its recent mean counts as falling and causes no step down. Default `85%` (oomd's
    /// `fast_fall_ratio`). A higher share recognises the end of a peak earlier, but also waits in noise.
    pub rate_fall_share: PercentText,
    /// Share of time in which some task waits for memory, above which the policy steps down if it lasts for `rate-sustained`.
    /// Default `60%` (systemd-oomd's `DefaultMemoryPressureLimit`). Too low, and short swapping unloads models; too high, and
    /// the machine stays slow.
    pub pressure_degrade_line: PercentText,
    /// Memory pressure, as a share of time in which some task waits for memory, from which on no larger model is loaded.
    /// Default `10%` (chosen: a healthy machine has none, and a load causes some). Too low, and every load by another program
    /// delays an upgrade; too high, and an upgrade adds to the swapping.
    pub pressure_upgrade_line: PercentText,
    /// Longest acceptable 95th percentile of the time from arrival to last token; beyond it, the policy steps down. Requests
    /// that are running late or waiting count before they end. Default: no limit. Too low, and large models never stay loaded;
    /// too high, and it never takes effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_limit: Option<SpanText>,
    /// Longest acceptable 95th percentile of the time from arrival to first token; beyond it, the policy steps down. Default:
    /// no limit. Too low, and large models never stay loaded; too high, and it never takes effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_limit: Option<SpanText>,
    /// Time over which replies count towards `latency-limit` and `first-token-limit`. Default `5m`. Too short, and few replies
    /// decide; too long, and slow service is noticed late.
    pub performance_window: SpanText,
    /// Smallest number of replies in the window for which a limit is judged. Default 10. Too few, and single slow replies cause
    /// a step down; too many, and slow service with little traffic is not noticed.
    pub performance_minimum: u32,
    /// Number of failed requests in a row after which the policy steps down; the same number within four times `rate-sustained`
    /// also counts if half of the requests failed. Default 3 (original specification). Too low, and a bad request unloads a
    /// model; too high, and users see more failures.
    pub failure_limit: u32,
    /// Time on the smallest tier after which the daemon reports what blocks the next one. Default `24h` (original
    /// specification).
    pub suggestion_after: SpanText,
    /// Settings of the manager, which loads and unloads models and queues requests.
    pub manager: RawManagerSettings,
    /// Obsolete; ignored with a warning.
    #[serde(skip_serializing)]
    pub hysteresis_margin: Lost,
    /// Obsolete; ignored with a warning.
    #[serde(skip_serializing)]
    pub backoff_limit: Lost,
    /// Obsolete; ignored with a warning.
    #[serde(skip_serializing)]
    pub mistake_window: Lost,
    /// Obsolete; ignored with a warning.
    #[serde(skip_serializing)]
    pub forecast_horizon: Lost,
    /// Options of a policy of your own. The built-in policies have none.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub options: Options,
}

/// The name of a policy: small letters, digits and dashes, at most 64. Only a [`Registry`](crate::policy::Registry)
/// knows whether a policy of this name exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyName(Cow<'static, str>);

impl Default for RawSettings {
    fn default() -> Self {
        Self {
            policy: PolicyName::default(),
            sampling_interval: SpanText(Duration::from_secs(2)),
            stale_after: SpanText(Duration::from_secs(10)),
            constrain: Resource::ALL.to_vec(),
            upgrade_line: None,
            preventive_line: None,
            degrade_line: PercentText(Percent::new(90)),
            free_floor: BytesText(Bytes::from_gib(1)),
            free_floor_share: PercentText(Percent::new(10)),
            stabilization: Stabilization::default(),
            preset: Preset::default(),
            price: None,
            calm: None,
            settle_tolerance: BytesText(Bytes::from_mib(256)),
            settle_share: PercentText(Percent::new(2)),
            settle_limit: SpanText(Duration::from_secs(5)),
            reversal_window: SpanText(Duration::from_mins(15)),
            trend_half_life: SpanText(Duration::from_mins(2)),
            rate_sustained: SpanText(Duration::from_secs(30)),
            rate_fall_share: PercentText(Percent::new(85)),
            pressure_degrade_line: PercentText(Percent::new(60)),
            pressure_upgrade_line: PercentText(Percent::new(10)),
            latency_limit: None,
            first_token_limit: None,
            performance_window: SpanText(Duration::from_mins(5)),
            performance_minimum: 10,
            failure_limit: 3,
            suggestion_after: SpanText(Duration::from_hours(24)),
            manager: RawManagerSettings::default(),
            hysteresis_margin: Lost::default(),
            backoff_limit: Lost::default(),
            mistake_window: Lost::default(),
            forecast_horizon: Lost::default(),
            options: Options::default(),
        }
    }
}

impl RawSettings {
    /// Changes the policy. The options of the old one are dropped.
    pub fn set_policy(&mut self, policy: PolicyName) {
        if policy != self.policy {
            self.options = Options::default();
        }
        self.policy = policy;
    }

    /// Returns the obsolete keys that were given.
    pub fn lost_keys(&self) -> Vec<&'static str> {
        let keys = [
            ("hysteresis-margin", self.hysteresis_margin),
            ("backoff-limit", self.backoff_limit),
            ("mistake-window", self.mistake_window),
            ("forecast-horizon", self.forecast_horizon),
        ];
        keys.into_iter().filter_map(|(key, lost)| lost.is_given().then_some(key)).collect()
    }
}

impl PolicyName {
    /// Returns the name as files, flags and reports spell it.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Default for PolicyName {
    fn default() -> Self {
        Self(Cow::Borrowed("proactive"))
    }
}

impl FromStr for PolicyName {
    type Err = PolicyNameError;

    fn from_str(text: &str) -> Result<Self, PolicyNameError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for PolicyName {
    type Error = PolicyNameError;

    fn try_from(text: String) -> Result<Self, PolicyNameError> {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_name = (1..=64).contains(&text.len()) && text.chars().all(is_allowed);
        if is_name { Ok(Self(Cow::Owned(text))) } else { Err(PolicyNameError { text }) }
    }
}

impl From<PolicyName> for String {
    fn from(name: PolicyName) -> Self {
        name.0.into_owned()
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for PolicyName {
    fn schema_name() -> Cow<'static, str> {
        "PolicyName".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A policy by name.",
            "pattern": "^[a-z0-9-]{1,64}$",
            "examples": ["proactive", "projecting", "original", "fixed"]
        })
    }
}

/// Declares the checked form of a raw table: the same keys, each in its plain type.
macro_rules! plain_form {
    (
        $(#[$doc:meta])*
        $name:ident of $raw:ident { $($key:ident: $type:ty,)* }
        with { $($(#[$more:meta])* $visible:vis $extra:ident: $extra_type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $(
                #[doc = concat!("See [`", stringify!($raw), "::", stringify!($key), "`].")]
                pub $key: $type,
            )*
            $($(#[$more])* $visible $extra: $extra_type,)*
        }

        impl $name {
            fn of_raw(raw: $raw, ($($extra,)*): ($($extra_type,)*)) -> Self {
                Self { $($key: raw.$key.into(),)* $($extra,)* }
            }
        }
    };
}

plain_form! {
    /// Checked settings, complete: every line is resolved for the machine's class.
    ///
    /// # Examples
    /// ```
    /// use tiershift_core::machine::MachineClass;
    /// use tiershift_core::settings::{RawSettings, Settings};
    /// use tiershift_core::units::{Bytes, Percent};
    ///
    /// let file: RawSettings = toml::from_str("upgrade-line = \"70%\"\nfree-floor = \"4GiB\"")?;
    /// let settings = Settings::new(file, MachineClass::HighEnd)?;
    /// assert_eq!(settings.upgrade_line, Percent::new(70));
    /// // What a file leaves out follows from the class of the machine.
    /// assert_eq!(settings.preventive_line, Percent::new(90));
    ///
    /// let wrong: RawSettings = toml::from_str("upgrade-line = \"95%\"")?;
    /// assert!(Settings::new(wrong, MachineClass::HighEnd).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    Settings of RawSettings {
        policy: PolicyName,
        options: Options,
        sampling_interval: Duration,
        stale_after: Duration,
        degrade_line: Percent,
        free_floor: Bytes,
        free_floor_share: Percent,
        stabilization: Stabilization,
        settle_tolerance: Bytes,
        settle_share: Percent,
        settle_limit: Duration,
        reversal_window: Duration,
        trend_half_life: Duration,
        rate_sustained: Duration,
        rate_fall_share: Percent,
        pressure_degrade_line: Percent,
        pressure_upgrade_line: Percent,
        performance_window: Duration,
        performance_minimum: u32,
        failure_limit: u32,
        suggestion_after: Duration,
    }
    with {
        /// The line below which every constrained resource must be for an upgrade.
        pub upgrade_line: Percent,
        /// The line above which a confident rise steps down early.
        pub preventive_line: Percent,
        /// The cost of one change, in seconds of the largest model's service.
        pub price: Duration,
        /// The additional cost of a change that is undone within the reversal window.
        pub calm: Duration,
        /// See [`RawSettings::latency_limit`].
        pub latency_limit: Option<Duration>,
        /// See [`RawSettings::first_token_limit`].
        pub first_token_limit: Option<Duration>,
        /// What the manager does.
        pub manager: ManagerSettings,
        class: MachineClass,
        /// Which resources constrain decisions, by `Resource::ALL`: needed several times for every sample.
        constrained: [bool; Resource::ALL.len()],
    }
}

plain_form! {
    /// The manager's part of the settings, checked.
    ManagerSettings of RawManagerSettings {
        start: Option<String>,
        pin: Option<String>,
        drain_deadline: Duration,
        critical_drain_deadline: Duration,
        at_drain_deadline: AtDrainDeadline,
        at_critical_drain_deadline: AtDrainDeadline,
        queue_limit: u32,
        patience: Duration,
        load_retry: Duration,
        load_attempts: u32,
        try_out: bool,
        switch_cooldown: Duration,
        named_stays: Duration,
        companions_go: CompanionsGo,
    }
    with {
        /// See [`RawManagerSettings::reply_limit`].
        pub reply_limit: Option<Duration>,
        /// See [`RawManagerSettings::idle_unload`].
        pub idle_unload: Option<Duration>,
    }
}

impl Settings {
    /// Checks settings for a machine of this machine class.
    ///
    /// # Errors
    /// When lines are in the wrong order, a share is above 100 %, or a value is zero that must not be.
    pub fn new(raw: RawSettings, class: MachineClass) -> Result<Self, SettingsError> {
        let degrade_line = raw.degrade_line.0;
        let (upgrade_line, preventive_line) = lower_lines(&raw, class);
        if degrade_line > Percent::ONE_HUNDRED {
            return Err(SettingsError::DegradeLine { degrade_line });
        }
        if !(upgrade_line < preventive_line && preventive_line <= degrade_line) {
            return Err(SettingsError::Lines { upgrade_line, preventive_line, degrade_line });
        }
        let shares = [
            ("free-floor-share", raw.free_floor_share.0),
            ("settle-share", raw.settle_share.0),
            ("rate-fall-share", raw.rate_fall_share.0),
        ];
        for (key, share) in shares {
            if share > Percent::ONE_HUNDRED {
                return Err(SettingsError::Share { key, share });
            }
        }
        let spans = [
            ("sampling-interval", raw.sampling_interval),
            ("stale-after", raw.stale_after),
            ("trend-half-life", raw.trend_half_life),
            ("performance-window", raw.performance_window),
            ("manager.patience", raw.manager.patience),
            ("manager.load-retry", raw.manager.load_retry),
            ("manager.named-stays", raw.manager.named_stays),
        ];
        for (key, span) in spans {
            if span.0.is_zero() {
                return Err(SettingsError::Zero { key });
            }
            if span.0 > LONGEST_SPAN {
                return Err(SettingsError::Long { key });
            }
        }
        if raw.failure_limit == 0 || raw.manager.load_attempts == 0 {
            return Err(SettingsError::Zero { key: "failure-limit or manager.load-attempts" });
        }
        let constrained = Resource::ALL.map(|resource| raw.constrain.contains(&resource));
        let (usual_price, usual_calm) = raw.preset.prices();
        let price = raw.price.map_or(usual_price, Into::into);
        let calm = raw.calm.map_or(usual_calm, Into::into);
        if price > LONGEST_SPAN || calm > LONGEST_SPAN {
            return Err(SettingsError::Long { key: "price or calm" });
        }
        let limits = [raw.latency_limit, raw.first_token_limit].map(|limit| limit.map(Into::into));
        let [latency_limit, first_token_limit] = limits;
        let reply_limit = raw.manager.reply_limit.map(Into::into);
        let idle_unload: Option<Duration> = raw.manager.idle_unload.map(Into::into);
        if idle_unload.is_some_and(|span| span.is_zero()) {
            return Err(SettingsError::Zero { key: "manager.idle-unload" });
        }
        let manager = ManagerSettings::of_raw(raw.manager.clone(), (reply_limit, idle_unload));
        let resolved = (
            upgrade_line,
            preventive_line,
            price,
            calm,
            latency_limit,
            first_token_limit,
            manager,
            class,
            constrained,
        );
        Ok(Self::of_raw(raw, resolved))
    }

    /// Checks other settings for the same machine.
    ///
    /// # Errors
    /// As [`Settings::new`].
    pub fn with(&self, raw: RawSettings) -> Result<Self, SettingsError> {
        Self::new(raw, self.class)
    }

    /// Returns the most of a space that may be used: the degrade line, or less if the free floor requires more room.
    #[inline]
    pub fn degrade_limit(&self, total: Bytes) -> Bytes {
        let floor = self.free_floor.min(total.share(self.free_floor_share));
        total.share(self.degrade_line).min(total - floor)
    }

    /// Returns whether a resource constrains decisions.
    #[inline]
    pub fn constrains(&self, resource: Resource) -> bool {
        self.constrained[resource as usize]
    }
}

/// Returns the upgrade line and the preventive line. One that is not set has its usual place, or less if a line that is
/// set requires it.
fn lower_lines(raw: &RawSettings, class: MachineClass) -> (Percent, Percent) {
    let usual = class.lines();
    let apart = usual.preventive - usual.upgrade;
    let preventive = match (raw.preventive_line, raw.upgrade_line) {
        (Some(preventive), _) => preventive.0,
        (None, Some(upgrade)) => usual.preventive.max(upgrade.0 + apart).min(raw.degrade_line.0),
        (None, None) => usual.preventive.min(raw.degrade_line.0),
    };
    let upgrade = raw.upgrade_line.map_or(usual.upgrade.min(preventive - apart), |line| line.0);
    (upgrade, preventive)
}

/// Why settings were refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum SettingsError {
    #[error("degrade-line is {degrade_line}, more than the whole machine: give at most 100%")]
    DegradeLine { degrade_line: Percent },
    #[error(
        "the lines must rise: upgrade-line {upgrade_line} < preventive-line {preventive_line} <= degrade-line {degrade_line} does not hold: move the others, too"
    )]
    Lines { upgrade_line: Percent, preventive_line: Percent, degrade_line: Percent },
    #[error("{key} is {share}: give at most 100%")]
    Share { key: &'static str, share: Percent },
    #[error("{key} must be more than zero")]
    Zero { key: &'static str },
    #[error("{key} is longer than a year")]
    Long { key: &'static str },
}

/// The text that was given in place of a policy's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{text}\" is not the name of a policy: a name has small letters, digits and dashes")]
pub struct PolicyNameError {
    text: String,
}

/// No setting may exceed a year; anything longer is a mistaken unit.
const LONGEST_SPAN: Duration = Duration::from_hours(366 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut RawSettings), want: Result<(), &str>) {
        let mut raw = RawSettings::default();
        change(&mut raw);
        let got = Settings::new(raw, MachineClass::MidRange).map(drop).map_err(|e| e.to_string());
        assert_eq!(got, want.map_err(str::to_owned));
    }

    #[test]
    fn lines_must_rise() {
        check(|_| {}, Ok(()));
        check(
            |raw| raw.upgrade_line = Some(PercentText(Percent::new(95))),
            Err(
                "the lines must rise: upgrade-line 95% < preventive-line 90% <= degrade-line 90% does not hold: move the others, too",
            ),
        );
        check(
            |raw| raw.sampling_interval = SpanText(Duration::ZERO),
            Err("sampling-interval must be more than zero"),
        );
    }

    #[test]
    fn a_line_that_is_set_alone_moves_those_that_nobody_has_set() {
        #[track_caller]
        fn check(class: MachineClass, set: [Option<u32>; 3], want: [u32; 3]) {
            let [upgrade, preventive, degrade] = set.map(|line| line.map(Percent::new));
            let mut raw = RawSettings {
                upgrade_line: upgrade.map(PercentText),
                preventive_line: preventive.map(PercentText),
                ..RawSettings::default()
            };
            raw.degrade_line = degrade.map_or(raw.degrade_line, PercentText);
            let got = Settings::new(raw, class).unwrap();
            let got = [got.upgrade_line, got.preventive_line, got.degrade_line];
            assert_eq!(got, want.map(Percent::new), "{class:?} {set:?}");
        }
        for (class, usual) in [
            (MachineClass::LowEnd, [75, 80, 90]),
            (MachineClass::MidRange, [80, 85, 90]),
            (MachineClass::HighEnd, [85, 90, 90]),
        ] {
            check(class, [None, None, None], usual);
            check(class, [None, None, Some(60)], [55, 60, 60]);
            check(class, [None, Some(70), None], [65, 70, 90]);
            check(class, [Some(50), None, None], [50, usual[1], 90]);
            check(class, [Some(88), None, None], [88, 90, 90]);
            check(class, [Some(50), None, Some(60)], [50, 60, 60]);
        }
        check(MachineClass::MidRange, [Some(86), None, Some(95)], [86, 91, 95]);
    }

    #[test]
    fn settings_survive_their_file_form() {
        let file = toml::to_string(&RawSettings::default()).unwrap();
        assert_eq!(toml::from_str::<RawSettings>(&file).unwrap(), RawSettings::default(), "{file}");
    }

    #[test]
    fn the_floor_binds_only_where_the_line_leaves_less() {
        let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
        assert_eq!(settings.degrade_limit(Bytes::from_gib(20)), Bytes::from_gib(18));
        assert_eq!(settings.degrade_limit(Bytes::from_mib(1000)), Bytes::from_mib(900));
    }
}
