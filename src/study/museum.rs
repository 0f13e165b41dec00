//! The museum: public incidents of model managers as scenarios, each red for a model of the idea behind it and green
//! for ours.
//!
//! An *idea* replaces the controller (`--policy NAME`, `[baseline] policy`): it decides and manages in its own way, on
//! the same simulated machine. [`with_ideas`] adds them to a registry.

mod exhibit;
mod fleet;
mod idea;

use tiershift_core::catalog::Catalog;
use tiershift_core::control::Control;
use tiershift_core::decision::Code;
use tiershift_core::policy::{About, ControlConstructor, PolicyError, Registry};
use tiershift_core::settings::{Options, PolicyName, Settings};

use crate::study::museum::fleet::Fleet;
use crate::study::museum::idea::all_or_nothing::AllOrNothing;
use crate::study::museum::idea::first_reading::FirstReading;
use crate::study::museum::idea::headroom_and_cooldown::HeadroomAndCooldown;
use crate::study::museum::idea::keep_alive::KeepAlive;
use crate::study::museum::idea::latest_request_wins::LatestRequestWins;
use crate::study::museum::idea::load_on_request::LoadOnRequest;
use crate::study::museum::idea::lru_by_count::LruByCount;
use crate::study::museum::idea::missing_is_zero::MissingIsZero;
use crate::study::museum::idea::no_credit::NoCredit;
use crate::study::museum::idea::ratchet::Ratchet;
use crate::study::museum::idea::restart_always::RestartAlways;
use crate::study::museum::idea::restarting_debounce::RestartingDebounce;
use crate::study::museum::idea::single_line::SingleLine;
use crate::study::museum::idea::stacked_margins::StackedMargins;
use crate::study::museum::idea::wait_for_idle::WaitForIdle;
use crate::study::museum::idea::{Idea, Played};

pub use crate::study::museum::exhibit::{Exhibit, exhibit};

/// The ideas by name, in order.
const IDEAS: &[(&str, &str, ControlConstructor)] = &[
    of::<AllOrNothing>(),
    of::<FirstReading>(),
    of::<HeadroomAndCooldown>(),
    of::<KeepAlive>(),
    of::<LatestRequestWins>(),
    of::<LoadOnRequest>(),
    of::<LruByCount>(),
    of::<MissingIsZero>(),
    of::<NoCredit>(),
    of::<Ratchet>(),
    of::<RestartAlways>(),
    of::<RestartingDebounce>(),
    of::<SingleLine>(),
    of::<StackedMargins>(),
    of::<WaitForIdle>(),
];

/// The settings that ideas use. Their constants are those of the programs that they model.
const IDEA_SETTINGS: &[&str] =
    &["degrade-line", "manager.patience", "manager.queue-limit", "manager.start"];

/// Returns the policies together with the museum's ideas, except those whose name is taken.
pub fn with_ideas(policies: &Registry) -> Registry {
    let mut all = policies.clone();
    for &(name, summary, constructor) in IDEAS {
        let known: PolicyName = name.parse().expect("an idea's name is well formed");
        if !all.knows(&known) {
            all.register_control(name, constructor);
            all.describe(name, About { summary, settings: Some(IDEA_SETTINGS), options: &[] });
        }
    }
    all
}

/// Returns the names of the ideas, in order.
pub fn ideas() -> impl Iterator<Item = &'static str> {
    IDEAS.iter().map(|&(name, ..)| name)
}

/// Returns an idea with its name and description.
const fn of<I: Idea + Default + 'static>() -> (&'static str, &'static str, ControlConstructor) {
    (I::NAME, I::ABOUT, play::<I>)
}

fn play<I: Idea + Default + 'static>(
    settings: &Settings,
    catalog: &Catalog,
    options: &Options,
) -> Result<Box<dyn Control>, PolicyError> {
    options.refuse_any()?;
    let fleet = Fleet::new(settings, catalog, I::ROUTE, const { Code::new(I::NAME) });
    Ok(Box::new(Played { idea: I::default(), fleet }))
}
