//! Which policies there are, by name.

use std::collections::BTreeMap;

use crate::catalog::Catalog;
use crate::policy::Policy;
use crate::policy::baseline::{Fixed, Original, Projecting};
use crate::policy::proactive::Proactive;
use crate::settings::{Options, OptionsError, PolicyName, Settings};

/// Builds a policy from the settings that all policies share, the models, and options of its own.
pub type Constructor = fn(&Settings, &Catalog, &Options) -> Result<Box<dyn Policy>, PolicyError>;

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
/// assert_eq!(names, ["fixed", "lazy", "original", "proactive", "projecting"]);
/// ```
#[derive(Clone, Debug)]
pub struct Registry {
    constructors: BTreeMap<PolicyName, Constructor>,
}

impl Registry {
    /// Returns the policies of this crate.
    pub fn built_in() -> Self {
        let mut policies = Self { constructors: BTreeMap::new() };
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
        policies
    }

    /// Adds a policy.
    ///
    /// # Panics
    /// When the name is not one (see [`PolicyName`]) or is taken: both are errors of the program.
    pub fn register(&mut self, name: &'static str, constructor: Constructor) {
        let checked: PolicyName = name.parse().expect("a policy's name is well formed");
        let before = self.constructors.insert(checked, constructor);
        assert!(before.is_none(), "two policies are called `{name}`");
    }

    /// Returns the names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.constructors.keys().map(PolicyName::name)
    }

    /// Returns whether there is a policy of this name.
    pub fn knows(&self, name: &PolicyName) -> bool {
        self.constructors.contains_key(name)
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
        let Settings { policy, options, .. } = settings;
        let Some(constructor) = self.constructors.get(policy) else {
            let known = self.names().map(str::to_owned).collect();
            return Err(PolicyError::Unknown { policy: policy.clone(), known });
        };
        constructor(settings, catalog, options)
    }
}

/// Why a policy could not be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
#[non_exhaustive]
pub enum PolicyError {
    #[error("unknown policy `{}`; known: {}", policy.name(), known.join(", "))]
    Unknown { policy: PolicyName, known: Vec<String> },
    #[error("the policy's options are not valid: {0}")]
    Options(#[from] OptionsError),
    /// The policy's own words.
    #[error("{0}")]
    Refused(String),
}
