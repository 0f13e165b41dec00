//! Options that only one policy knows.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A policy's own settings: `[policy.options]` in a scenario, `[options]` in a policy file. The policy defines what
/// they may contain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Options(serde_json::Map<String, serde_json::Value>);

impl Options {
    /// Reads the options as a policy's own type; with `deny_unknown_fields` it refuses unknown ones.
    ///
    /// # Errors
    /// When the type refuses them.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, OptionsError> {
        let options = serde_json::Value::Object(self.0.clone());
        serde_json::from_value(options).map_err(|error| OptionsError(error.to_string()))
    }

    /// Refuses any option, for a policy without options.
    ///
    /// # Errors
    /// When there is one.
    pub fn refuse_any(&self) -> Result<(), OptionsError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(key) => Err(OptionsError(format!("`{key}`: this policy has no options"))),
        }
    }

    /// Sets an option.
    pub fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), serde_json::Value::String(value));
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a policy's own options were refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct OptionsError(String);
