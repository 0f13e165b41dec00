//! Reduces a scenario: to as little of it as still shows the same failure, for the same reason.
//!
//! Parts of the document are removed in turns until nothing more can be removed: whole tables (delta debugging over
//! backgrounds, faults, workloads, actions and models), then keys; then times are shortened and numbers rounded. Each
//! try is one run; if the result cannot be read, or shows something else, the part is restored. The order is fixed, so
//! that the same scenario always becomes the same small one.

mod document;
mod round;

use std::cmp::Ordering;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;

use tiershift_core::controller::Detail;
use tiershift_core::event::Observe;
use tiershift_core::policy::Registry;
use tiershift_core::time::SpanText;
use toml::{Table, Value};

use crate::exec::ExecError;
use crate::scenario::{self, Scenario, Unmet};
use crate::sim::adviser::Adviser;
use crate::sim::{SimulationError, Situation, simulate};
use crate::study::minimise::document::{Step, find, find_mut, paths, remove};
use crate::study::minimise::round::rounder;

pub use crate::study::minimise::document::text;

/// What the scenario must still show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// This rule of the simulation's checker is broken: `L3`.
    Invariant(String),
    /// This key of `[expect]` is not met: `switches`.
    Expect(String),
    /// The run ends with an error.
    Error,
    /// The run panics.
    Panic,
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["invariant", rule] => Ok(Self::Invariant((*rule).to_owned())),
            ["expect", key] => Ok(Self::Expect((*key).to_owned())),
            ["error"] => Ok(Self::Error),
            ["panic"] => Ok(Self::Panic),
            _ => Err("give \"invariant L3\", \"expect switches\", error or panic".to_owned()),
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invariant(rule) => write!(out, "invariant {rule}"),
            Self::Expect(key) => write!(out, "expect {key}"),
            Self::Error => out.write_str("error"),
            Self::Panic => out.write_str("panic"),
        }
    }
}

/// A failure that a run shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its kind.
    pub keep: Keep,
    /// Its full text, with its moment and figures.
    pub text: String,
    /// For an expectation with a bound: the side of it that the run is on.
    pub side: Option<Ordering>,
}

impl Shown {
    pub(super) fn error(error: &impl fmt::Display) -> Self {
        Self { keep: Keep::Error, text: error.to_string(), side: None }
    }

    /// Returns the text without names and numbers: if two runs have the same, they show the same for the same reason.
    pub fn shape(&self) -> String {
        let side = match self.side {
            Some(Ordering::Less) => "too little of ",
            Some(Ordering::Greater) => "too much of ",
            Some(Ordering::Equal) | None => "",
        };
        format!("{side}{}", self.words())
    }

    fn words(&self) -> String {
        let mut words = Vec::new();
        for word in self.text.split_whitespace() {
            // Names of models and tiers, sizes, spans: words with digits, quoted words, and units.
            let is_figure =
                word.chars().any(|c| c.is_ascii_digit()) || word.starts_with(['"', '`']);
            let is_unit = UNITS.contains(&word.trim_end_matches([',', ';', ':', '.']));
            match is_figure || is_unit {
                true if words.last() == Some(&"#") => {}
                true => words.push("#"),
                false => words.push(word),
            }
        }
        words.join(" ")
    }
}

/// Plays a scenario's text, and returns what it shows: a panic or an error; otherwise broken invariants, then
/// expectations that are not met. A text that is refused shows nothing.
pub fn shown(text: &str, base_dir: &Path, policies: &Registry) -> Vec<Shown> {
    scenario::parse(text, "minimised.toml", base_dir, policies)
        .map_or_else(|_| Vec::new(), |scenario| shown_by(&scenario, policies))
}

/// As [`shown`], for a scenario that was read.
pub(super) fn shown_by(scenario: &Scenario, policies: &Registry) -> Vec<Shown> {
    shown_beside(scenario, None, policies, None).unwrap_or_else(|error| vec![Shown::error(&error)])
}

/// As [`shown_by`], with the program that its policy asks, and with another observer of the run.
///
/// # Errors
/// When the program can no longer be asked: that says nothing about the scenario.
pub(super) fn shown_beside(
    scenario: &Scenario,
    adviser: Option<Box<dyn Adviser>>,
    policies: &Registry,
    observer: Option<&mut dyn Observe>,
) -> Result<Vec<Shown>, ExecError> {
    let run = || {
        let mut checker = scenario.expect.checker(&scenario.setup.catalog);
        let situation = Situation { adviser, ..scenario.situation() };
        let summary = match observer {
            Some(observer) => {
                simulate(situation, policies, Detail::Full, &mut [&mut checker, observer])
            }
            None => simulate(situation, policies, Detail::Full, &mut [&mut checker]),
        };
        summary.map(|summary| (checker.finish(&summary), summary.violations))
    };
    Ok(match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok((unmet, violations))) => {
            let broken = violations.into_iter().map(|text| {
                let rule = text.split(' ').next().unwrap_or_default().to_owned();
                Shown { keep: Keep::Invariant(rule), text, side: None }
            });
            let is_own = |unmet: &&Unmet| unmet.expectation != "violations";
            let unmet = unmet.iter().filter(is_own).map(|unmet| Shown {
                keep: Keep::Expect(unmet.expectation.to_owned()),
                text: unmet.to_string(),
                side: side(unmet),
            });
            broken.chain(unmet).collect()
        }
        Ok(Err(SimulationError::Exec(error))) => return Err(error),
        Ok(Err(error)) => vec![Shown::error(&error)],
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            vec![Shown { keep: Keep::Panic, text: text.unwrap_or_default(), side: None }]
        }
    })
}

/// Returns the side of its bound that a run is on, for the first number of the bound. `None` if that is not a number.
fn side(unmet: &Unmet) -> Option<Ordering> {
    let number = |text: &str| {
        let text = &text[text.find(|c: char| c.is_ascii_digit())?..];
        match text.parse::<SpanText>() {
            Ok(span) => Some(span.0.as_secs_f64()),
            Err(_) => {
                let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
                text[..end.unwrap_or(text.len())].parse::<f64>().ok()
            }
        }
    };
    Some(number(&unmet.got)?.total_cmp(&number(&unmet.want)?))
}

/// A reduced scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Minimised {
    /// The scenario file's text, without a comment.
    pub text: String,
    /// What it shows.
    pub shown: Shown,
    /// Runs that it took.
    pub runs: u64,
    /// Whether it stopped because of the bound on runs.
    pub is_cut_off: bool,
}

/// Reduces a scenario's document; `None` if it does not show what must be kept. Files that it names are looked for in
/// `base_dir`.
pub fn minimise(
    document: &Table,
    keep: &Keep,
    most_runs: u64,
    base_dir: &Path,
    policies: &Registry,
) -> Option<Minimised> {
    let find = |text: &str, is_meant: &dyn Fn(&Shown) -> bool| {
        let all = shown(text, base_dir, policies);
        all.into_iter().find(|one| one.keep == *keep && is_meant(one))
    };
    let first = find(&text(document), &|_| true)?;
    let shape = first.shape();
    let mut search = Search {
        document: document.clone(),
        shown: first,
        runs: 1,
        most_runs,
        play: &|text| find(text, &|one| one.shape() == shape),
        bound: match keep {
            Keep::Expect(key) => Some(key),
            Keep::Invariant(_) | Keep::Error | Keep::Panic => None,
        },
    };
    loop {
        let before = search.document.clone();
        search.drop_tables();
        search.drop_keys();
        search.simplify();
        if search.document == before || search.is_over() {
            break;
        }
    }
    Some(Minimised {
        text: text(&search.document),
        is_cut_off: search.is_over(),
        shown: search.shown,
        runs: search.runs,
    })
}

/// The present document, and what it shows.
struct Search<'a> {
    document: Table,
    shown: Shown,
    runs: u64,
    most_runs: u64,
    play: &'a dyn Fn(&str) -> Option<Shown>,
    /// The expectation whose bound must not change.
    bound: Option<&'a str>,
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        self.runs >= self.most_runs
    }

    /// Keeps a changed document if it shows the same.
    fn try_out(&mut self, document: Table) -> bool {
        if self.is_over() || document == self.document {
            return false;
        }
        self.runs += 1;
        let Some(shown) = (self.play)(&text(&document)) else { return false };
        (self.document, self.shown) = (document, shown);
        true
    }

    /// Drops tables from each list, many at once first: Zeller and Hildebrandt's ddmin, by complements.
    fn drop_tables(&mut self) {
        for name in LISTS {
            let count =
                |document: &Table| document.get(name).and_then(Value::as_array).map_or(0, Vec::len);
            let mut parts = 1;
            while count(&self.document) > 0 && !self.is_over() {
                let all = count(&self.document);
                parts = parts.min(all);
                let is_smaller = (0..parts).any(|part| {
                    let mut document = self.document.clone();
                    if let Some(list) = document.get_mut(name).and_then(Value::as_array_mut) {
                        list.drain(all * part / parts..all * (part + 1) / parts);
                    }
                    if count(&document) == 0 {
                        document.remove(name);
                    }
                    self.try_out(document)
                });
                match is_smaller {
                    true => parts = parts.saturating_sub(1).max(1),
                    false if parts == all => break,
                    false => parts *= 2,
                }
            }
        }
    }

    /// Drops keys, whole tables before their contents.
    fn drop_keys(&mut self) {
        for path in paths(&self.document) {
            let mut document = self.document.clone();
            if remove(&mut document, &path) {
                self.try_out(document);
            }
        }
    }

    /// Shortens times and rounds numbers: each value becomes the simplest that shows the same. The bounds of
    /// expectations are not moved so far that anything would miss them.
    fn simplify(&mut self) {
        let is_bound = |path: &[Step]| match (path, self.bound) {
            ([Step::Key(table), Step::Key(key), ..], Some(bound)) => {
                table == "expect" && key == bound
            }
            _ => false,
        };
        let all: Vec<_> = paths(&self.document).into_iter().filter(|it| !is_bound(it)).collect();
        for path in all {
            let Some(value) = find(&self.document, &path).cloned() else { continue };
            for simpler in rounder(&value) {
                let mut document = self.document.clone();
                if let Some(place) = find_mut(&mut document, &path) {
                    *place = simpler;
                }
                if self.try_out(document) {
                    break;
                }
            }
        }
    }
}

/// The lists of tables, those first whose removal makes runs short.
const LISTS: [&str; 5] = ["workload", "fault", "action", "background", "model"];
/// Units that may occur without a number before them.
const UNITS: [&str; 10] = ["s", "ms", "m", "h", "B", "KiB", "MiB", "GiB", "%", "times"];

#[cfg(test)]
mod tests;
