//! A TOML document as a tree of values, and as a file in few lines.

use std::fmt::Write as _;

use toml::{Table, Value};

/// A step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Place(usize),
}

/// Returns the path of every value, tables before their contents, the last of a list first: dropping one moves none
/// that comes later.
pub(super) fn paths(document: &Table) -> Vec<Vec<Step>> {
    let mut all = Vec::new();
    add_table(document, &[], &mut all);
    all
}

fn add_table(table: &Table, path: &[Step], all: &mut Vec<Vec<Step>>) {
    for (key, value) in table {
        let path = [path, &[Step::Key(key.clone())]].concat();
        all.push(path.clone());
        add_value(value, &path, all);
    }
}

fn add_value(value: &Value, path: &[Step], all: &mut Vec<Vec<Step>>) {
    match value {
        Value::Table(table) => add_table(table, path, all),
        Value::Array(list) => {
            for (place, value) in list.iter().enumerate().rev() {
                let path = [path, &[Step::Place(place)]].concat();
                all.push(path.clone());
                add_value(value, &path, all);
            }
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => {}
    }
}

/// Returns the value at a path.
pub(super) fn find<'d>(document: &'d Table, path: &[Step]) -> Option<&'d Value> {
    let (Step::Key(first), rest) = path.split_first()? else { return None };
    rest.iter().try_fold(document.get(first)?, |value, step| match step {
        Step::Key(key) => value.as_table()?.get(key),
        Step::Place(place) => value.as_array()?.get(*place),
    })
}

/// Returns the value at a path, to be changed.
pub(super) fn find_mut<'d>(document: &'d mut Table, path: &[Step]) -> Option<&'d mut Value> {
    let (Step::Key(first), rest) = path.split_first()? else { return None };
    rest.iter().try_fold(document.get_mut(first)?, |value, step| match step {
        Step::Key(key) => value.as_table_mut()?.get_mut(key),
        Step::Place(place) => value.as_array_mut()?.get_mut(*place),
    })
}

/// Removes the value at a path, and returns whether it was there.
pub(super) fn remove(document: &mut Table, path: &[Step]) -> bool {
    match path.split_last() {
        Some((Step::Key(key), [])) => document.remove(key).is_some(),
        Some((Step::Key(key), above)) => find_mut(document, above)
            .and_then(Value::as_table_mut)
            .is_some_and(|table| table.remove(key).is_some()),
        Some((Step::Place(place), above)) => find_mut(document, above)
            .and_then(Value::as_array_mut)
            .filter(|list| *place < list.len())
            .is_some_and(|list| {
                list.remove(*place);
                true
            }),
        None => false,
    }
}

/// Returns a document as a short file: one line for each key, and for each table of a list.
pub fn text(document: &Table) -> String {
    let place = |key: &str| ORDER.iter().position(|known| *known == key).unwrap_or(ORDER.len());
    let mut entries: Vec<(&String, &Value)> = document.iter().collect();
    entries.sort_by_key(|(key, _)| (place(key), *key));
    let mut out = String::new();
    for (key, value) in entries {
        let _ = match value {
            Value::Array(list) if list.len() > 1 && list.iter().all(Value::is_table) => {
                let lines: String = list.iter().map(|value| format!("  {value},\n")).collect();
                write!(out, "{key} = [\n{lines}]\n")
            }
            _ => writeln!(out, "{key} = {value}"),
        };
    }
    out
}

/// The keys of a scenario in reading order.
const ORDER: [&str; 14] = [
    "description",
    "incident",
    "seed",
    "duration",
    "machine",
    "physics",
    "policy",
    "catalog",
    "model",
    "background",
    "workload",
    "fault",
    "action",
    "expect",
];
