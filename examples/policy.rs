//! Your own policy beside the built-in ones: `cargo run --example policy`.
//!
//! It keeps a reserve of free memory, and upgrades only when the last change is some minutes past.

use std::error::Error;
use std::time::Duration;

use tiershift::core::catalog::Rung;
use tiershift::core::controller::Detail;
use tiershift::core::decision::{Code, Decision, Measure, Reason, Urgency};
use tiershift::core::machine::Machine;
use tiershift::core::place::Ladder;
use tiershift::core::policy::{Observation, Policy, Promises, Registry};
use tiershift::core::sample::{Sample, Space};
use tiershift::core::settings::Settings;
use tiershift::core::setup::Setup;
use tiershift::core::time::{SpanText, Timestamp};
use tiershift::core::units::{Bytes, BytesText};
use tiershift::files::policy;
use tiershift::sim::{Ground, Situation, simulate};

/// The policy, ready to decide.
#[derive(Debug)]
struct Reserve {
    settings: Settings,
    ladder: Ladder,
    options: ReserveOptions,
}

/// The keys of `[policy.options]`.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ReserveOptions {
    /// Memory that stays free.
    reserve: BytesText,
    /// Shortest time between a change and the next upgrade.
    patience: SpanText,
}

impl Policy for Reserve {
    fn observe(&mut self, now: Timestamp, seen: &Observation<'_>) -> Decision {
        let Observation { sample, standing, .. } = *seen;
        let limit = |total| self.settings.degrade_limit(total) - self.options.reserve.0;
        let fits = |rung: &Rung| self.ladder.place_under(sample, *rung, limit).is_there();
        let best = (1..=self.ladder.top().0).rev().map(Rung).find(fits).unwrap_or(Rung::NONE);
        let used = sample.memory.map(|memory| Measure::Bytes(memory.used()));
        let reason = Reason::Own {
            code: RESERVE,
            resource: None,
            value: used,
            limit: Some(Measure::Bytes(self.options.reserve.0)),
            lasted: None,
        };
        let rested = standing
            .last_change
            .is_none_or(|change| now.since(change.at) >= self.options.patience.0);
        if standing.switching {
            standing.hold(Reason::Switching)
        } else if best < standing.rung {
            standing.down(best, Urgency::Immediate, reason)
        } else if best > standing.rung && rested {
            standing.up(best, reason)
        } else {
            standing.hold(reason)
        }
    }

    fn codes(&self) -> &'static [Code] {
        &[RESERVE]
    }

    /// The simulation checks that the policy keeps these promises.
    fn promises(&self) -> Promises {
        let mut promises = Promises::default();
        promises.window = Some(self.options.patience.0);
        promises
    }
}

const RESERVE: Code = Code::new("reserve");

fn main() -> Result<(), Box<dyn Error>> {
    let mut policies = Registry::built_in();
    policies.register("reserve", |settings, catalog, options| {
        Ok(Box::new(Reserve {
            settings: settings.clone(),
            ladder: Ladder::new(settings, catalog),
            options: options.read()?,
        }))
    });
    println!("{:<12}{:>10}{:>11}{:>9}", "policy", "switches", "reversals", "quality");
    for policy_file in [
        "policy = \"proactive\"",
        "policy = \"projecting\"",
        "policy = \"reserve\"\noptions = { reserve = \"512MiB\", patience = \"10m\" }",
    ] {
        let mut situation = two_hours();
        situation.setup.settings = policy::parse(policy_file, "policy", &policies)?;
        let summary = simulate(situation, &policies, Detail::Silent, &mut [])?;
        assert!(summary.violations.is_empty(), "{:?}", summary.violations);
        let quality = summary.quality_served_fraction;
        let (switches, reversals) = (summary.switches, summary.reversals);
        println!("{:<12}{switches:>10}{reversals:>11}{quality:>9.3}", summary.policy);
    }
    Ok(())
}

/// Returns two hours of a machine with 16 GiB, of which others take 4 GiB and, for ten minutes of each half hour, 8.
fn two_hours() -> Situation {
    let total = Bytes::from_gib(16);
    let samples = (0..3600).map(move |index| {
        let at = Timestamp::from_secs(2 * index);
        let is_busy = index % 900 >= 600;
        let others = Bytes::from_gib(if is_busy { 8 } else { 4 });
        let memory = Some(Space { total, others, own: Bytes::ZERO });
        Ok((at, Sample { memory, ..Sample::default() }))
    });
    let setup = Setup::of_machine(Machine { memory: total, cpus: 8, ..Machine::default() });
    Situation {
        duration: Some(Duration::from_hours(2)),
        ..Situation::of_recording(setup, Ground::recorded(samples))
    }
}
