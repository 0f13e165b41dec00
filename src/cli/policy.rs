//! What `--policy` and `--shadow` name, the same on every verb.

use std::path::Path;

use anyhow::{Context, Result};
use tiershift_core::policy::Registry;
use tiershift_core::sample::Resource;
use tiershift_core::settings::{PolicyName, RawSettings};

use crate::files::document::suggestion;
use crate::files::policy;
use crate::files::whole_file::read_small_text;

/// A policy that was chosen on the command line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum PolicyChoice {
    /// Another policy, under the settings that are there.
    Named(PolicyName),
    /// The proactive policy, which looks at memory alone, under the settings that are there otherwise.
    MemoryOnly,
    /// A policy file, which replaces all settings.
    File(Box<RawSettings>),
}

impl PolicyChoice {
    /// Reads a policy's name or, where the text has a dot or a slash, a policy file.
    pub(super) fn read(text: &str, policies: &Registry) -> Result<Self> {
        if text.contains(['.', '/', '\\']) {
            let file = read_small_text(Path::new(text))
                .with_context(|| format!("cannot read `{text}`"))?;
            return Ok(Self::File(Box::new(policy::parse(&file, text, policies)?)));
        }
        match text.parse() {
            Ok(name) if policies.knows(&name) => Ok(Self::Named(name)),
            _ if text == MEMORY_ONLY => Ok(Self::MemoryOnly),
            _ => {
                let suggestion = suggestion(text, policies.names().chain([MEMORY_ONLY]));
                anyhow::bail!("unknown policy `{text}`: {suggestion}, or give a policy file")
            }
        }
    }

    /// Changes settings to what was chosen.
    pub(super) fn apply(&self, settings: &mut RawSettings) {
        match self {
            Self::Named(policy) => settings.set_policy(policy.clone()),
            Self::MemoryOnly => {
                settings.set_policy(PolicyName::default());
                settings.constrain = vec![Resource::Memory];
            }
            Self::File(file) => settings.clone_from(file),
        }
    }
}

/// A choice that is a name and a setting.
const MEMORY_ONLY: &str = "memory-only";

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(text: &str) -> RawSettings {
        let mut settings = RawSettings { performance_minimum: 3, ..RawSettings::default() };
        PolicyChoice::read(text, &Registry::built_in()).unwrap().apply(&mut settings);
        settings
    }

    #[test]
    fn a_name_keeps_the_settings_and_changes_the_policy() {
        let settings = chosen("original");
        assert_eq!((settings.policy.name(), settings.performance_minimum), ("original", 3));
        let settings = chosen("memory-only");
        assert_eq!((settings.policy.name(), settings.performance_minimum), ("proactive", 3));
        assert_eq!(settings.constrain, [Resource::Memory]);
    }

    #[test]
    fn a_slash_makes_it_a_file_which_replaces_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine");
        std::fs::write(&file, "policy = \"projecting\"\nstabilization = \"1m\"\n").unwrap();
        let settings = chosen(file.to_str().unwrap());
        assert_eq!((settings.policy.name(), settings.performance_minimum), ("projecting", 10));
        assert_eq!(settings.stabilization.longest().as_secs(), 60);
    }

    #[test]
    fn what_is_unknown_is_answered_with_what_is_near() {
        let read = |text| PolicyChoice::read(text, &Registry::built_in()).unwrap_err().to_string();
        assert_eq!(
            read("orignal"),
            "unknown policy `orignal`: did you mean `original`? known: fixed, memory-only, original, proactive, \
             projecting, or give a policy file"
        );
        assert!(read("Not A Name").starts_with("unknown policy `Not A Name`: known: fixed"));
    }
}
