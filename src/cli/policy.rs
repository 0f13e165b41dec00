//! `--policy`, `--set` and `--shadow`, the same for every verb.

use anyhow::{Context, Result};
use tiershift_core::policy::Registry;
use tiershift_core::sample::Resource;
use tiershift_core::settings::{PolicyName, RawSettings};
use tiershift_core::setup::Setup;

use crate::cli::offered::{MEMORY_ONLY, Offered};
use crate::exec::{self, ExecError, Program};
use crate::files::document::suggestion;
use crate::files::policy::{self, Changes, PROGRAM};
use crate::files::whole_file::read_small_text;
use crate::sim::adviser::Adviser;

/// The options by which a verb takes a policy.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct PolicyOptions {
    /// Policy to use instead of the one in the file: proactive, memory-only, projecting, original, fixed, a policy file, or a program
    /// that answers each reading, such as `exec:python3 mine.py` (see `tiershift schema policy-protocol`)
    #[arg(long, value_name = "NAME|FILE|exec:COMMAND", value_parser = Offered::POLICIES, hide_possible_values = true)]
    policy: Option<String>,
    /// Change one setting of the policy, by its key in a policy file: `price=10s`, `manager.patience=30s`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    changes: Vec<String>,
}

/// The options by which a verb takes several policies.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct PoliciesOptions {
    /// Policies to compare, each with the first one. Names, policy files, or programs that answer
    /// each reading (see `tiershift schema policy-protocol`). Everything after `exec:` is one command; repeat the option to
    /// name another policy after it
    #[arg(long, value_name = "NAME|FILE|exec:COMMAND,..", value_parser = Offered::POLICIES, hide_possible_values = true)]
    policies: Vec<String>,
    /// Change one setting of every policy, by its key in a policy file: `price=10s`, `manager.patience=30s`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    changes: Vec<String>,
}

impl PoliciesOptions {
    /// Returns whether none was named.
    pub(super) fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Reads the options: each policy with its name.
    pub(super) fn read(&self, policies: &Registry) -> Result<Vec<(String, PolicyChange)>> {
        let one = |name: &str| {
            let changes = self.changes.clone();
            let options = PolicyOptions { policy: Some(name.to_owned()), changes };
            Ok((name.to_owned(), options.read(policies)?))
        };
        self.policies.iter().flat_map(|list| names(list)).map(one).collect()
    }
}

/// Returns the policies of a list.
fn names(list: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let end = if rest.starts_with(PROGRAM) { None } else { rest.find(',') };
        let (name, others) = match end {
            Some(comma) => (&rest[..comma], &rest[comma + 1..]),
            None => (rest, ""),
        };
        names.push(name.trim());
        rest = others.trim_start();
    }
    names
}

/// The result of these options.
#[derive(Clone, Debug, Default)]
pub(super) struct PolicyChange {
    choice: Option<PolicyChoice>,
    changes: Changes,
}

impl PolicyOptions {
    /// Returns the options that name a policy.
    pub(super) fn named(policy: &str) -> Self {
        Self { policy: Some(policy.to_owned()), changes: Vec::new() }
    }

    /// Returns the options as arguments, each after a space.
    pub(super) fn as_arguments(&self) -> String {
        let policy = self.policy.iter().map(|policy| ("--policy", policy));
        let all = policy.chain(self.changes.iter().map(|change| ("--set", change)));
        let quoted = |text| shlex::try_quote(text).unwrap_or_default();
        all.map(|(option, text)| format!(" {option} {}", quoted(text))).collect()
    }

    /// Reads the options.
    pub(super) fn read(&self, policies: &Registry) -> Result<PolicyChange> {
        let choice =
            self.policy.as_deref().map(|text| PolicyChoice::read(text, policies)).transpose()?;
        let mut changes = Changes::default();
        for change in &self.changes {
            let (key, value) = change
                .split_once('=')
                .with_context(|| format!("`--set {change}` has no value: write --set KEY=VALUE"))?;
            let is_set = changes.set(key.trim(), policy::value(value.trim()));
            anyhow::ensure!(
                is_set,
                "`--set {change}` names no setting: `tiershift schema policy` lists them"
            );
        }
        let change = PolicyChange { choice, changes };
        // So that a mistake is found before anything is read.
        change.apply(&mut RawSettings::default(), policies)?;
        Ok(change)
    }
}

impl PolicyChange {
    /// Returns the change to these settings, whatever they were.
    pub(super) fn to(settings: RawSettings) -> Self {
        let choice = Some(PolicyChoice::File(Box::new(settings)));
        Self { choice, changes: Changes::default() }
    }

    /// Returns it with more settings on top.
    #[must_use]
    pub(super) fn with(mut self, changes: &Changes) -> Self {
        self.changes.merge(changes);
        self
    }

    /// Returns whether nothing was chosen.
    pub(super) fn is_none(&self) -> bool {
        self.choice.is_none() && self.changes.is_empty()
    }

    /// Applies the choice to settings.
    pub(super) fn apply(&self, settings: &mut RawSettings, policies: &Registry) -> Result<()> {
        if let Some(choice) = &self.choice {
            choice.apply(settings);
        }
        Ok(self.changes.apply(settings, "--set", policies)?)
    }

    /// Starts the program that the policy asks, if it is one. A program that a scenario or a log names is not started:
    /// only one that the command line names, or a policy file named there.
    pub(super) fn adviser(&self, setup: &Setup) -> Result<Option<Box<dyn Adviser>>, ExecError> {
        let is_chosen =
            matches!(self.choice, Some(PolicyChoice::Program { .. } | PolicyChoice::File(_)));
        if is_chosen && setup.settings.policy.name() == exec::POLICY {
            Ok(Some(Box::new(Program::start(setup)?)))
        } else {
            Ok(None)
        }
    }
}

/// A policy that was chosen on the command line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum PolicyChoice {
    /// Another policy, with the existing settings.
    Named(PolicyName),
    /// The proactive policy looking at memory alone, with the existing settings otherwise.
    MemoryOnly,
    /// A policy file, which replaces all settings.
    File(Box<RawSettings>),
    /// A program, with the existing settings.
    Program { command: String },
}

impl PolicyChoice {
    /// Reads a policy's name or, if the text has a dot or a slash, a policy file.
    pub(super) fn read(text: &str, policies: &Registry) -> Result<Self> {
        if let Some(command) = text.strip_prefix(PROGRAM) {
            return Ok(Self::Program { command: command.to_owned() });
        }
        if let Some(path) = policy::file_of(text) {
            let file = read_small_text(path).with_context(|| format!("cannot read `{text}`"))?;
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

    /// Applies the choice to settings.
    pub(super) fn apply(&self, settings: &mut RawSettings) {
        match self {
            Self::Named(policy) => settings.set_policy(policy.clone()),
            Self::MemoryOnly => {
                settings.set_policy(PolicyName::default());
                settings.constrain = vec![Resource::Memory];
            }
            Self::File(file) => settings.clone_from(file),
            Self::Program { command } => {
                settings.set_policy(exec::POLICY.parse().expect("it is a name"));
                settings.options.set("command", command.clone());
            }
        }
    }
}

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
    fn a_command_goes_to_the_end_of_a_list_of_policies() {
        assert_eq!(names("proactive, mine.toml"), ["proactive", "mine.toml"]);
        assert_eq!(names("fixed,exec:run --with a,b"), ["fixed", "exec:run --with a,b"]);
    }

    fn set(changes: &[&str]) -> Result<RawSettings, String> {
        let changes = changes.iter().map(|&change| change.to_owned()).collect();
        let options = PolicyOptions { policy: Some("original".to_owned()), changes };
        let policies = Registry::built_in();
        let mut settings = RawSettings { performance_minimum: 3, ..RawSettings::default() };
        let change = options.read(&policies).map_err(|error| format!("{error:#}"))?;
        change.apply(&mut settings, &policies).map_err(|error| format!("{error:#}"))?;
        Ok(settings)
    }

    #[test]
    fn a_setting_is_set_by_its_key_in_a_policy_file() {
        let settings = set(&["price=10s", "manager.patience = 30s", "failure-limit=7"]).unwrap();
        let seconds =
            [settings.price.unwrap().0, settings.manager.patience.0].map(|span| span.as_secs());
        assert_eq!((seconds, settings.failure_limit), ([10, 30], 7));
        assert_eq!((settings.policy.name(), settings.performance_minimum), ("original", 3));
        let settings = set(&["constrain=[\"memory\"]", "latency-limit=\"2s\""]).unwrap();
        assert_eq!(settings.constrain, [Resource::Memory]);
        assert_eq!(settings.latency_limit.map(|limit| limit.0.as_secs()), Some(2));
    }

    #[test]
    fn a_setting_that_there_is_not_is_refused_as_in_a_file() {
        let refused = |change: &str| set(&[change]).unwrap_err();
        let unknown = refused("prise=10s");
        assert!(unknown.contains("did you mean `price`?"), "{unknown}");
        assert!(refused("manager.patiense=1s").contains("did you mean `patience`?"));
        assert!(refused("price=soon").contains("a span such as"));
        assert!(refused("price").contains("write --set KEY=VALUE"));
        assert!(refused("manager.=1").contains("names no setting"));
        assert!(refused("policy=fast").contains("unknown policy `fast`"));
    }

    #[test]
    fn what_is_unknown_is_answered_with_what_is_near() {
        let read = |text| PolicyChoice::read(text, &Registry::built_in()).unwrap_err().to_string();
        assert_eq!(
            read("orignal"),
            "unknown policy `orignal`: did you mean `original`? known: exec, fixed, memory-only, original, proactive, \
             projecting, or give a policy file"
        );
        assert!(read("Not A Name").starts_with("unknown policy `Not A Name`: known: exec"));
    }
}
