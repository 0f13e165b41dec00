//! Policy files: the settings of the policy and the manager.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tiershift_core::policy::Registry;
use tiershift_core::settings::RawSettings;
use toml::{Table, Value};

use crate::files::document::{Document, DocumentError};
use crate::files::schema;

/// Reads a policy file's text. Whether its lines suit a machine is checked by
/// [`Settings::new`](tiershift_core::settings::Settings::new).
///
/// # Errors
/// When it is not TOML or does not name an existing policy; with its position and a remedy.
pub fn parse(text: &str, name: &str, policies: &Registry) -> Result<RawSettings, DocumentError> {
    let document = Document::new(name, text);
    let settings: RawSettings = document.read(&[])?;
    document.check_policy(None, &settings.policy, policies)?;
    Ok(settings)
}

/// Returns the policy file that a choice of a policy names: one with a dot or a slash that is not a program.
pub fn file_of(choice: &str) -> Option<&Path> {
    let is_file = !choice.starts_with(PROGRAM) && choice.contains(['.', '/', '\\']);
    is_file.then(|| Path::new(choice))
}

/// The beginning of a choice of a policy that is a program's command line.
pub const PROGRAM: &str = "exec:";

/// Changed settings, by their keys in a policy file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Changes(Table);

impl Changes {
    /// Returns the change of several keys, which were checked: invalid ones are left out.
    pub fn of(settings: &[(String, Value)]) -> Self {
        let mut changes = Self::default();
        for (key, value) in settings {
            changes.set(key, value.clone());
        }
        changes
    }

    /// Returns whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a key, with dots if it is in a table; returns whether it is a possible key.
    pub fn set(&mut self, key: &str, value: Value) -> bool {
        let is_name = |part: &str| {
            let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !part.is_empty() && part.chars().all(is_letter)
        };
        if !key.split('.').all(is_name) {
            return false;
        }
        let (tables, name) = key.rsplit_once('.').map_or((None, key), |(t, n)| (Some(t), n));
        let mut place = &mut self.0;
        for part in tables.into_iter().flat_map(|tables| tables.split('.')) {
            match place.entry(part).or_insert_with(|| Table::new().into()) {
                Value::Table(inner) => place = inner,
                _ => return false,
            }
        }
        place.insert(name.to_owned(), value);
        true
    }

    /// Adds the changes of another.
    pub fn merge(&mut self, others: &Self) {
        merge(&mut self.0, &others.0);
    }

    /// Applies the changes to settings. `name` is used in errors.
    ///
    /// # Errors
    /// When it is not a setting, or not a value of it; with a remedy.
    pub fn apply(
        &self,
        settings: &mut RawSettings,
        name: &str,
        policies: &Registry,
    ) -> Result<(), DocumentError> {
        if self.is_empty() {
            return Ok(());
        }
        let sunk = "settings are a table of TOML";
        let mut table = Table::try_from(&*settings).expect(sunk);
        merge(&mut table, &self.0);
        *settings = parse(&toml::to_string(&table).expect(sunk), name, policies)?;
        Ok(())
    }
}

/// Copies every value of one table into another, table by table.
fn merge(into: &mut Table, from: &Table) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Returns the text as a TOML value or, if it is none, as a string.
pub fn value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let parsed = parsed.filter(|table| table.len() == 1);
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| text.into())
}

/// Returns the JSON Schema of a policy file.
pub fn schema() -> String {
    schema::text::<RawSettings>()
}
