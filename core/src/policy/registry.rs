//! Which policies there are, by name.

use std::collections::BTreeMap;

use crate::catalog::Catalog;
use crate::control::Control;
use crate::policy::baseline::{Fixed, Original, Projecting};
use crate::policy::proactive::Proactive;
use crate::policy::{External, Policy};
use crate::settings::{Options, OptionsError, PolicyName, Settings};

/// Builds a policy from the settings that all policies share, the models, and options of its own.
pub type Constructor = fn(&Settings, &Catalog, &Options) -> Result<Box<dyn Policy>, PolicyError>;

/// Builds, in the same way, what stands in the whole controller's place in a simulation.
pub type ControlConstructor =
    fn(&Settings, &Catalog, &Options) -> Result<Box<dyn Control>, PolicyError>;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Policy(Constructor),
    Control(ControlConstructor),
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
    entries: BTreeMap<PolicyName, Entry>,
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
        policies
    }

    /// Adds a policy.
    ///
    /// # Panics
    /// When the name is not one (see [`PolicyName`]) or is taken: both are errors of the program.
    pub fn register(&mut self, name: &'static str, constructor: Constructor) {
        self.enter(name, Entry::Policy(constructor));
    }

    /// Adds what decides and manages in a way of its own, for simulations.
    ///
    /// # Panics
    /// As [`Registry::register`].
    pub fn register_control(&mut self, name: &'static str, constructor: ControlConstructor) {
        self.enter(name, Entry::Control(constructor));
    }

    fn enter(&mut self, name: &'static str, entry: Entry) {
        let checked: PolicyName = name.parse().expect("a policy's name is well formed");
        let before = self.entries.insert(checked, entry);
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

    /// Builds what stands in the controller's place, if the settings name such a thing.
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
        self.entries.get(policy).copied().ok_or_else(|| {
            let known = self.names().map(str::to_owned).collect();
            PolicyError::Unknown { policy: policy.clone(), known }
        })
    }
}

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
    /// The policy's own words.
    #[error("{0}")]
    Refused(String),
}
