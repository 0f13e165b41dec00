//! The random hunt: worlds by number, each played once, and every broken invariant with the number that broke it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tiershift::scenario;
use tiershift::sim::simulate;
use tiershift_core::controller::Detail;
use tiershift_core::policy::Registry;

use crate::world;

/// What became of one world.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number.
    pub seed: u64,
    /// What was broken, in order; a panic and a refused scenario too.
    pub violations: Vec<String>,
    /// The scenario file that repeats it.
    pub scenario: String,
}

/// Plays the world of a seed under a policy of `policies`.
pub fn play(seed: u64, policy: &str, options: &str, policies: &Registry) -> Found {
    let scenario = world::scenario(seed, policy, options);
    let violations = violations(&scenario, policies);
    Found { seed, violations, scenario }
}

/// Returns what a scenario breaks.
pub fn violations(scenario: &str, policies: &Registry) -> Vec<String> {
    let run = || {
        let scenario = scenario::parse(scenario, "hunted.toml", Path::new(""), policies)
            .map_err(|error| error.to_string())?;
        simulate(scenario.situation(), policies, Detail::Full, &mut [])
            .map_err(|error| error.to_string())
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(summary)) => summary.violations,
        Ok(Err(error)) => vec![format!("error: {error}")],
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            vec![format!("panic: {}", text.unwrap_or_default())]
        }
    }
}

/// Returns the rule that a violation names.
pub fn rule(violation: &str) -> &str {
    violation.split(' ').next().unwrap_or_default()
}

/// Returns the policy of a seed: ours for most, to which every rule applies, and the baselines under our manager.
pub fn policy_of(seed: u64) -> &'static str {
    match seed % 10 {
        7 => "projecting",
        8 => "original",
        9 => "fixed",
        _ => "proactive",
    }
}
