//! The known policies, by name.

use std::collections::BTreeMap;

use crate::catalog::Catalog;
use crate::control::Control;
use crate::policy::baseline::{Fixed, Original, Projecting};
use crate::policy::proactive::Proactive;
use crate::policy::{External, Policy};
use crate::settings::{Options, OptionsError, PolicyName, Settings};

/// Builds a policy from the settings that all policies share, the models, and options of its own.
pub type Constructor = fn(&Settings, &Catalog, &Options) -> Result<Box<dyn Policy>, PolicyError>;

/// Builds, in the same way, a replacement for the whole controller in a simulation.
pub type ControlConstructor =
    fn(&Settings, &Catalog, &Options) -> Result<Box<dyn Control>, PolicyError>;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Policy(Constructor),
    Control(ControlConstructor),
}

/// The description of a policy, for users who choose one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What it does, in a sentence without a full stop; may be empty.
    pub summary: &'static str,
    /// The keys of a policy file that it uses, besides those of the manager that apply to every policy. `None`: all.
    pub settings: Option<&'static [&'static str]>,
    /// Its own keys, under `options`.
    pub options: &'static [&'static str],
}

/// The policies that a program knows, by name.
///
/// # Examples
/// ```
/// use tiershift_core::decision::{Decision, Reason};
/// use tiershift_core::policy::{Observation, Policy, Registry};
/// use tiershift_core::time::Timestamp;
///
/// #[derive(Debug)]
/// struct Lazy;
///
/// impl Policy for Lazy {
///     fn observe(&mut self, _now: Timestamp, seen: &Observation<'_>) -> Decision {
///         seen.standing.hold(Reason::Fixed)
///     }
/// }
///
/// let mut policies = Registry::built_in();
/// policies.register("lazy", |_settings, _catalog, options| {
///     options.refuse_any()?;
///     Ok(Box::new(Lazy))
/// });
/// let names: Vec<&str> = policies.names().collect();
/// assert_eq!(names, ["exec", "fixed", "lazy", "original", "proactive", "projecting"]);
/// ```
#[derive(Clone, Debug)]
pub struct Registry {
    entries: BTreeMap<PolicyName, (Entry, About)>,
}

impl Registry {
    /// Returns the policies of this crate.
    pub fn built_in() -> Self {
        let mut policies = Self { entries: BTreeMap::new() };
        policies.register("proactive", |settings, catalog, options| {
            options.refuse_any()?;
            Ok(Box::new(Proactive::new(settings, catalog)))
        });
        policies.register("projecting", |settings, catalog, options| {
            options.refuse_any()?;
            Ok(Box::new(Projecting::new(settings, catalog)))
        });
        policies.register("original", |settings, catalog, options| {
            options.refuse_any()?;
            Ok(Box::new(Original::new(settings, catalog)))
        });
        policies.register("fixed", |settings, catalog, options| {
            options.refuse_any()?;
            Ok(Box::new(Fixed::new(settings, catalog)))
        });
        policies.register("exec", External::build);
        for (name, about) in BUILT_IN {
            policies.describe(name, about);
        }
        policies
    }

    /// Describes a policy.
    ///
    /// # Panics
    /// When there is none of this name: an error of the program.
    pub fn describe(&mut self, name: &'static str, about: About) {
        let known = self.entries.iter_mut().find(|(known, _)| known.name() == name);
        let (_, (_, place)) = known.unwrap_or_else(|| panic!("no policy is called `{name}`"));
        *place = about;
    }

    /// Returns the description of each policy, in order of name.
    pub fn described(&self) -> impl Iterator<Item = (&PolicyName, About)> {
        self.entries.iter().map(|(name, &(_, about))| (name, about))
    }

    /// Adds a policy.
    ///
    /// # Panics
    /// When the name is not valid (see [`PolicyName`]) or is taken: both are errors of the program.
    pub fn register(&mut self, name: &'static str, constructor: Constructor) {
        self.enter(name, Entry::Policy(constructor));
    }

    /// Adds a replacement for the whole controller, for simulations.
    ///
    /// # Panics
    /// As [`Registry::register`].
    pub fn register_control(&mut self, name: &'static str, constructor: ControlConstructor) {
        self.enter(name, Entry::Control(constructor));
    }

    fn enter(&mut self, name: &'static str, entry: Entry) {
        let checked: PolicyName = name.parse().expect("a policy's name is well formed");
        let before = self.entries.insert(checked, (entry, About::default()));
        assert!(before.is_none(), "two policies are called `{name}`");
    }

    /// Returns the names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(PolicyName::name)
    }

    /// Returns whether there is a policy of this name.
    pub fn knows(&self, name: &PolicyName) -> bool {
        self.entries.contains_key(name)
    }

    /// Builds the policy that the settings name.
    ///
    /// # Errors
    /// When no policy has this name, or it refuses its options or the settings.
    pub fn build(
        &self,
        settings: &Settings,
        catalog: &Catalog,
    ) -> Result<Box<dyn Policy>, PolicyError> {
        match self.entry(settings)? {
            Entry::Policy(constructor) => constructor(settings, catalog, &settings.options),
            Entry::Control(_) => Err(PolicyError::Control { policy: settings.policy.clone() }),
        }
    }

    /// Builds the replacement for the controller, if the settings name one.
    ///
    /// # Errors
    /// As [`Registry::build`].
    pub fn build_control(
        &self,
        settings: &Settings,
        catalog: &Catalog,
    ) -> Result<Option<Box<dyn Control>>, PolicyError> {
        match self.entry(settings)? {
            Entry::Policy(_) => Ok(None),
            Entry::Control(constructor) => {
                constructor(settings, catalog, &settings.options).map(Some)
            }
        }
    }

    fn entry(&self, settings: &Settings) -> Result<Entry, PolicyError> {
        let policy = &settings.policy;
        self.entries.get(policy).map(|&(entry, _)| entry).ok_or_else(|| {
            let known = self.names().map(str::to_owned).collect();
            PolicyError::Unknown { policy: policy.clone(), known }
        })
    }
}

/// The descriptions of this crate's policies.
const BUILT_IN: [(&str, About); 5] = [
    (
        "proactive",
        About {
            summary: "goes down at once to what fits, and up where what a switch earns is worth the risk of losing it soon",
            settings: None,
            options: &[],
        },
    ),
    (
        "projecting",
        About {
            summary: "looks only at what memory will look like after a switch, with a margin of 5%",
            settings: Some(&[
                "constrain",
                "degrade-line",
                "free-floor",
                "free-floor-share",
                "stabilization",
            ]),
            options: &[],
        },
    ),
    (
        "original",
        About {
            summary: "a model of the program that this one grew out of, to compare with: up below 80% of memory and processor, \
                      down above 90%, one tier at a time",
            settings: Some(&["constrain", "stabilization", "manager.start"]),
            options: &[],
        },
    ),
    (
        "fixed",
        About {
            summary: "loads one tier and stays with it, whatever happens",
            settings: Some(&["manager.start"]),
            options: &[],
        },
    ),
    (
        "exec",
        About {
            summary: "asks a program of yours at each reading (--policy exec:COMMAND), and leaves a space that is over its limit \
                      without asking",
            settings: Some(&[
                "constrain",
                "degrade-line",
                "free-floor",
                "free-floor-share",
                "stale-after",
            ]),
            options: &["command", "max-age", "time-limit"],
        },
    ),
];

/// Why a policy could not be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
#[non_exhaustive]
pub enum PolicyError {
    #[error("unknown policy `{}`; known: {}", policy.name(), known.join(", "))]
    Unknown { policy: PolicyName, known: Vec<String> },
    #[error(
        "`{}` is a model of a whole manager, for `run`, `replay` and `check`: choose a policy here",
        policy.name()
    )]
    Control { policy: PolicyName },
    #[error("the policy's options are not valid: {0}")]
    Options(#[from] OptionsError),
    /// The policy's own message.
    #[error("{0}")]
    Refused(String),
}
