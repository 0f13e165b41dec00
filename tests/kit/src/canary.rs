//! Canaries: seeded defects, each of which one invariant must catch.
//!
//! A canary is our policy or our whole controller with one flaw. It is played in a scenario that triggers the flaw, and by
//! the hunt in random worlds. A rule that no canary breaks may be one that nothing can break.

mod controller;
mod policy;

use std::collections::BTreeMap;

use tiershift::study::hunt::{self, Found};
use tiershift_core::policy::{PolicyError, Registry};
use tiershift_core::settings::{Options, Settings};

use crate::canary::controller::Flawed;
use crate::canary::policy::FlawedPolicy;

/// A seeded defect.
#[derive(Clone, Copy, Debug)]
pub struct Canary {
    /// Its name.
    pub name: &'static str,
    /// The rule that must catch it.
    pub rule: &'static str,
    /// Rules that consequences of the defect may also break.
    pub also: &'static [&'static str],
    /// Whether it is in the policy, or in the controller.
    pub place: Place,
    /// The additions to the common base that trigger the flaw, or a complete scenario.
    pub scenario: &'static str,
}

/// The place of a canary's flaw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the policy.
    Policy,
    /// In the controller around it.
    Controller,
}

impl Canary {
    /// Plays it in the scenario that triggers it.
    pub fn play_its_scenario(&self) -> Vec<String> {
        hunt::violations(&self.scenario(), &registry())
    }

    /// Returns the scenario that triggers it.
    pub fn scenario(&self) -> String {
        let Self { name, scenario, .. } = self;
        let policy = self.place.policy();
        let base = if scenario.contains(POLICY) { "" } else { BASE };
        let flawed = format!("policy = \"{policy}\"\noptions = {{ flaw = \"{name}\" }}");
        format!("{base}{scenario}").replace(POLICY, &flawed)
    }

    /// Plays it in the world of a seed.
    pub fn play(&self, seed: u64) -> Found {
        let options = format!("flaw = \"{}\"", self.name);
        hunt::play(seed, self.place.policy(), &options, &registry())
    }
}

impl Place {
    fn policy(self) -> &'static str {
        match self {
            Self::Policy => "flawed-policy",
            Self::Controller => "flawed",
        }
    }
}

/// Returns the canary of this name.
pub fn find(name: &str) -> Option<&'static Canary> {
    ALL.iter().find(|canary| canary.name == name)
}

/// Returns the policies of tiershift, with the flawed ones among them.
pub fn registry() -> Registry {
    let mut policies = Registry::built_in();
    policies.register("flawed-policy", |settings, catalog, options| {
        let inner = Registry::built_in().build(&sound(settings)?, catalog)?;
        Ok(Box::new(FlawedPolicy::new(inner, flaw(options)?, settings, catalog)))
    });
    policies.register_control("flawed", |settings, catalog, options| {
        Ok(Box::new(Flawed::new(&sound(settings)?, catalog, flaw(options)?)?))
    });
    policies
}

/// Returns the settings of the flawed policy or controller.
fn sound(settings: &Settings) -> Result<Settings, PolicyError> {
    let mut sound = settings.clone();
    sound.policy = "proactive".parse().expect("it is the name of a policy");
    sound.options = Options::default();
    Ok(sound)
}

fn flaw(options: &Options) -> Result<&'static str, PolicyError> {
    let options: BTreeMap<String, String> = options.read()?;
    let name = options.get("flaw").map_or("", String::as_str);
    let refuse = || PolicyError::Refused(format!("no flaw is called \"{name}\""));
    Ok(find(name).ok_or_else(refuse)?.name)
}

/// Placeholder for the policy in a scenario.
const POLICY: &str = "POLICY";

/// Half an hour of a machine of 16 GiB with models of 2, 5 and 9 GiB, and requests.
const BASE: &str = r#"
duration = "30m"
[machine]
memory = "16GiB"
[policy]
POLICY
[[workload]]
kind = "poisson"
rate = "4/min"
prompt-tokens = 100
output-tokens = 50
"#;

/// Others take the room of the large model, then free it.
const SQUEEZE: &str = r#"
[[background]]
resource = "memory"
shape = "step"
from = "2GiB"
to = "7GiB"
at = "5m"
until = "15m"
"#;

/// Others leave room for the medium model only.
const TIGHT: &str = r#"
[[background]]
resource = "memory"
shape = "constant"
level = "8GiB"
"#;

/// As [`TIGHT`], but the machine cannot be read for five minutes.
const BLIND: &str = r#"
[[background]]
resource = "memory"
shape = "constant"
level = "8GiB"
[[fault]]
kind = "probe-gap"
at = "5m"
until = "10m"
"#;

/// As [`SQUEEZE`], for two minutes.
const SHORT_SQUEEZE: &str = r#"
[[background]]
resource = "memory"
shape = "step"
from = "2GiB"
to = "7GiB"
at = "5m"
until = "7m"
"#;

/// A person orders the small tier, twice.
const ORDERS: &str = r#"
[[action]]
at = "5m"
switch = "small"
[[action]]
at = "12m"
switch = "small"
"#;

/// Others take the room of the large model, and it is never idle.
const BUSY_SQUEEZE: &str = r#"
[[background]]
resource = "memory"
shape = "step"
from = "2GiB"
to = "7GiB"
at = "5m"
[[workload]]
kind = "closed-loop"
users = 4
think = "1s"
prompt-tokens = 100
output-tokens = 200
"#;

/// At first there is no room for any model.
const FULL_AT_FIRST: &str = r#"
[[background]]
resource = "memory"
shape = "step"
from = "14GiB"
to = "2GiB"
at = "5m"
"#;

/// More requests than the small model can serve within their patience.
const STORM: &str = r#"
[[workload]]
kind = "burst"
count = 30
every = "5m"
prompt-tokens = 500
output-tokens = 300
"#;

/// No reply may take more than five minutes.
const SHORT_REPLIES: &str = r#"
[policy.manager]
reply-limit = "5m"
"#;

/// Others leave room for the small model and a companion, then for neither.
const COMPANION: &str = r#"
[[background]]
resource = "memory"
shape = "constant"
level = "9GiB"
[[background]]
resource = "memory"
shape = "step"
to = "5GiB"
at = "10m"
[[model]]
id = "small"
tier = "small"
quality = "100%"
ram = "2GiB"
load-warm = "1s"
load-cold = "1s"
prefill-tokens-per-second = 100.0
decode-tokens-per-second = 10.0
[[model]]
id = "companion"
companion = true
tasks = ["embedding"]
ram = "1GiB"
load-warm = "1s"
load-cold = "1s"
prefill-tokens-per-second = 100.0
decode-tokens-per-second = 10.0
"#;

/// Requests for ten minutes, then five hours in which nothing happens.
const QUIET: &str = r#"
duration = "310m"
[machine]
memory = "16GiB"
[policy]
POLICY
[[workload]]
kind = "poisson"
rate = "4/min"
prompt-tokens = 100
output-tokens = 50
until = "10m"
"#;

const fn in_policy(
    name: &'static str,
    rule: &'static str,
    also: &'static [&'static str],
    scenario: &'static str,
) -> Canary {
    Canary { name, rule, also, place: Place::Policy, scenario }
}

const fn in_controller(
    name: &'static str,
    rule: &'static str,
    also: &'static [&'static str],
    scenario: &'static str,
) -> Canary {
    Canary { name, rule, also, place: Place::Controller, scenario }
}

/// All canaries, by rule. S7 and S8 are tested beside the checker and `verify`: no controller sets the
/// clock, and a single run cannot show that another would differ.
pub static ALL: &[Canary] = &[
    in_controller("starts-before-it-is-ready", "S1", &["S2"], STORM),
    in_controller("ends-twice", "S2", &[], ""),
    in_controller("loads-two-at-once", "S3", &["S4", "L2"], TIGHT),
    in_controller("loads-twice", "S3", &["S4"], ""),
    in_controller("loads-without-room", "S4", &["L2"], TIGHT),
    in_controller("loads-unread", "S4", &["S3", "L2"], BLIND),
    in_policy("goes-up-too-soon", "S5", &[], SHORT_SQUEEZE),
    in_controller("goes-up-unread", "S5", &[], BLIND),
    in_controller("unloads-under-requests", "S6", &["S1"], BUSY_SQUEEZE),
    in_controller("cuts-at-once", "S6", &[], BUSY_SQUEEZE),
    in_controller("leaves-for-no-place", "S9", &[], TIGHT),
    in_controller("drops-an-order", "S10", &[], ORDERS),
    in_controller("forgets-an-order", "S10", &[], ORDERS),
    in_controller("goes-against-an-order", "S10", &[], ORDERS),
    in_policy("never-done-cooling", "S11", &["L3"], SQUEEZE),
    in_controller("promises-a-retry", "S11", &[], ORDERS),
    in_controller("keeps-its-companion", "S12", &["L2", "S4"], COMPANION),
    in_controller("forgets-its-companions", "L3", &[], COMPANION),
    in_controller("never-refuses", "L1", &[], STORM),
    in_controller("forgets-a-reply", "L1", &[], SHORT_REPLIES),
    in_policy("ignores-a-shortage", "L2", &[], BUSY_SQUEEZE),
    in_policy("never-rescues", "L3", &[], FULL_AT_FIRST),
    in_controller("drops-a-decision", "L3", &["L4"], ""),
    in_controller("decides-for-nothing", "L4", &["L3"], ""),
    in_controller("wakes-for-nothing", "L4", &[], ""),
    in_policy("never-content", "L5", &[], QUIET),
];
