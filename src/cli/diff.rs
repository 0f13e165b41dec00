//! `tiershift diff`: where two logs part, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::Value;
use tiershift_core::catalog::RawCatalog;
use tiershift_core::event::{Event, Observe, Output, Record};
use tiershift_core::policy::Registry;
use tiershift_core::text;

use crate::cli::input::Inputs;
use crate::cli::{Verdict, common};
use crate::log::{Header, LogReader};
use crate::report::timeline::Timeline;
use crate::study::retold::Retold;

/// Find where two logs begin to differ, and why
#[derive(Debug, Args)]
#[command(after_help = "Exits with 1 when the logs differ.\n\nExamples:\n  \
tiershift diff out/first out/second")]
pub(super) struct Arguments {
    /// One log, or the `--out` folder of a run; - is standard input
    #[arg(value_name = "LOG")]
    left: PathBuf,
    /// The other
    #[arg(value_name = "LOG")]
    right: PathBuf,
}

/// The result of a comparison.
#[derive(serde::Serialize)]
struct Difference {
    /// The differences between the headers.
    header: Vec<String>,
    /// Records that are the same before the logs part.
    same_records: u64,
    left: Option<Record>,
    right: Option<Record>,
    why: Option<&'static str>,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    let inputs = Inputs::default();
    let paths = [inputs.path(&arguments.left)?, inputs.path(&arguments.right)?];
    paths.iter().for_each(|path| common::note_newest(path));
    let left = LogReader::open(&paths[0])?;
    let right = LogReader::open(&paths[1])?;
    let catalog = left.header().checked_catalog()?;
    let mut difference = Difference {
        header: compare_headers(left.header(), right.header())?,
        same_records: 0,
        left: None,
        right: None,
        why: None,
    };
    let window = left.header().checked_settings()?.reversal_window;
    let mut timeline = Timeline::new(&catalog, window);
    let following = common::Following::new("comparing", left.progress());
    // What one of them leaves out because it follows from the rest is not a difference.
    let [mut left, mut right] = [left, right].map(|log| Retold::new(log, policies));
    loop {
        let pair = (left.next().transpose()?, right.next().transpose()?);
        match pair {
            (None, None) => break,
            (Some(a), Some(b)) if a.at == b.at && a.event == b.event => {
                timeline.observe(a.at, a.event.as_ref());
                difference.same_records += 1;
            }
            (a, b) => {
                difference.why = Some(why(a.as_ref(), b.as_ref()));
                (difference.left, difference.right) = (a, b);
                break;
            }
        }
    }
    drop(following);
    common::note_end(&paths[0], left.log());
    common::note_end(&paths[1], right.log());
    let differs = difference.why.is_some();
    if json {
        common::print_json(&difference)?;
    } else {
        for line in &difference.header {
            common::print(line)?;
        }
        let Some(why) = difference.why else {
            common::print(&format!(
                "the same: {}",
                text::count(difference.same_records, "record")
            ))?;
            return Ok(Verdict::Done);
        };
        common::print(&format!(
            "the same for {}, {} serving, then {why}",
            text::count(difference.same_records, "record"),
            catalog.tier_name(timeline.serving())
        ))?;
        let sides = [
            ("left ", &difference.left, left.log().clock()),
            ("right", &difference.right, right.log().clock()),
        ];
        for (side, record, clock) in sides {
            let told = record.as_ref().map_or_else(
                || "(the log ends)".to_owned(),
                |record| {
                    let at = common::moment(record.at, clock);
                    let what = match &record.event {
                        Event::Output(Output::Decision(decision)) => text::decision(
                            decision.action,
                            decision.rung,
                            &decision.reason,
                            &catalog,
                        ),
                        event => serde_json::to_string(event).unwrap_or_default(),
                    };
                    format!("{at}  {what}")
                },
            );
            common::print(&format!("{side}  {told}"))?;
        }
    }
    Ok(if differs { Verdict::Failed } else { Verdict::Done })
}

/// Returns the differences between the headers, key by key.
fn compare_headers(left: &Header, right: &Header) -> Result<Vec<String>> {
    let is_retold = left.level.has_every_input() && right.level.has_every_input();
    let level = if is_retold { left.level } else { right.level };
    let right = Header { level, ..right.clone() };
    let catalogs = compare_catalogs(&left.catalog, &right.catalog)?;
    let (left, right) = (serde_json::to_value(left)?, serde_json::to_value(right)?);
    let mut lines = Vec::new();
    compare("", &left, &right, &mut lines);
    lines.extend(catalogs);
    Ok(lines)
}

fn compare(path: &str, left: &Value, right: &Value, lines: &mut Vec<String>) {
    match (left, right) {
        _ if left == right || path == "setup_digest" || path == "catalog" => {}
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let missing = Value::Null;
                compare(
                    &path,
                    a.get(key).unwrap_or(&missing),
                    b.get(key).unwrap_or(&missing),
                    lines,
                );
            }
        }
        _ => lines.push(format!("header {path}: left {left}, right {right}")),
    }
}

/// Returns in what the catalogs differ: the models that only one has, and the fields of those that both have. Their text
/// would fill a screen.
fn compare_catalogs(left: &RawCatalog, right: &RawCatalog) -> Result<Option<String>> {
    let models = |catalog: &RawCatalog| -> Result<BTreeMap<String, Value>> {
        let all = catalog.models.iter();
        all.map(|model| Ok((model.id.clone(), serde_json::to_value(model)?))).collect()
    };
    let [left, right] = [models(left)?, models(right)?];
    let only = |side: &str, these: &BTreeMap<String, Value>, those: &BTreeMap<String, Value>| {
        let ids = these.keys().filter(|id| !those.contains_key(*id));
        let ids: Vec<String> = ids.map(|id| format!("`{id}`")).collect();
        (!ids.is_empty()).then(|| format!("only {side} has {}", ids.join(", ")))
    };
    let fields = left.iter().filter_map(|(id, a)| {
        let (a, b) = (a.as_object()?, right.get(id)?.as_object()?);
        let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        let keys = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
        let keys: Vec<&str> = keys.map(String::as_str).collect();
        (!keys.is_empty()).then(|| format!("`{id}` differs in {}", keys.join(", ")))
    });
    let only = [only("left", &left, &right), only("right", &right, &left)];
    let clauses: Vec<String> = only.into_iter().flatten().chain(fields).collect();
    Ok((!clauses.is_empty()).then(|| format!("header catalog: {}", clauses.join("; "))))
}

/// Returns why two logs part, by the kind of the records that differ.
fn why(left: Option<&Record>, right: Option<&Record>) -> &'static str {
    match (left.map(|record| &record.event), right.map(|record| &record.event)) {
        (None, _) | (_, None) => "one of them ends",
        (Some(Event::Input(_)), Some(Event::Input(_))) => {
            "their inputs differ: the controller received different readings or requests"
        }
        (Some(Event::Output(Output::Decision(_))), Some(Event::Output(Output::Decision(_)))) => {
            "the controller decided differently on the same inputs: another policy, setting or version"
        }
        (Some(Event::Output(_)), Some(Event::Output(_))) => {
            "the controller answered differently on the same inputs"
        }
        (Some(_), Some(_)) => "one of them answers where the other receives an input",
    }
}

#[cfg(test)]
mod tests {
    use tiershift_core::catalog::Catalog;
    use tiershift_core::units::Bytes;

    use super::*;

    #[test]
    fn of_two_catalogs_only_the_names_of_what_differs_are_shown() {
        let left = RawCatalog::from(&Catalog::relative_to(Bytes::from_gib(16)));
        assert_eq!(compare_catalogs(&left, &left).unwrap(), None);
        let mut right = left.clone();
        right.models[0].slots += 1;
        right.models[0].companion = true;
        right.models[2].id = "huge".to_owned();
        let line = compare_catalogs(&left, &right).unwrap().unwrap();
        let want = "header catalog: only left has `large`; only right has `huge`; `small` differs in companion, slots";
        assert_eq!(line, want);
    }
}
