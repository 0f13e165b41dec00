//! Words that completion scripts offer for an option that accepts other words too.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error};
use tiershift_core::policy::Registry;

use crate::study::museum;
use crate::trace::Format;

/// A choice of a policy that is a name and a setting.
pub(super) const MEMORY_ONLY: &str = "memory-only";

/// Accepts any text.
#[derive(Clone, Copy)]
pub(super) struct Offered(fn() -> Vec<String>);

impl Offered {
    /// The built-in policies.
    pub(super) const POLICIES: Self = Self(|| {
        let all = museum::with_ideas(&Registry::built_in());
        all.names().chain([MEMORY_ONLY]).map(str::to_owned).collect()
    });
    /// The built-in formats.
    pub(super) const FORMATS: Self =
        Self(|| Format::known().iter().map(|format| format.name().to_owned()).collect());
}

impl TypedValueParser for Offered {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.0)().into_iter().map(PossibleValue::new)))
    }
}
