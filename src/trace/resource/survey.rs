//! A look at the beginning of a file, before its rows are read: how its GPUs are identified.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;

use crate::trace::TraceError;
use crate::trace::column::{self, MAX_GPUS};
use crate::trace::defects::Defects;
use crate::trace::import::Told;
use crate::trace::import::mapping::{GpuRule, Mapping};
use crate::trace::import::raw::Shape;
use crate::trace::import::record::Records;
use crate::trace::source::{HEAD_BYTES, Source};

/// How the GPUs of a file are identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gpus {
    /// Each row is of the same GPU.
    One,
    /// By a column of the mapping.
    By(usize),
    /// By whichever of the mapping's columns a row has.
    Labelled,
    /// By their order in a reading, whose rows are at most this many nanoseconds apart.
    Counted { gpus: usize, within: i64 },
}

/// The beginning of a file: one of its rows.
#[derive(Clone, Debug, Default)]
struct Glance {
    at: i64,
    /// The values of the columns that may identify GPUs: `by`, then `names`.
    labels: Vec<Option<String>>,
    total: Option<i64>,
}

/// Decides how GPUs are identified, by the first rows of a file or by what the user states.
///
/// # Errors
/// When rows of one moment may be several GPUs or several readings of one.
pub(super) fn gpus(
    mapping: &Arc<Mapping>,
    told: &Told,
    head: &[u8],
    name: &str,
) -> Result<Gpus, TraceError> {
    let Some(rule) = &mapping.gpu else { return Ok(Gpus::One) };
    // One number per row: if the first rows do not mention GPUs, that means nothing.
    if mapping.layout.shape == Shape::Prometheus || mapping.layout.each.is_some() {
        return Ok(Gpus::Labelled);
    }
    if let Some(gpus) = told.gpus {
        return Ok(match gpus {
            0 | 1 => Gpus::One,
            gpus => Gpus::Counted { gpus: gpus.min(MAX_GPUS), within: rule.sweep_ns },
        });
    }
    let rows = glance(mapping, rule, head);
    let has = |label: &usize| rows.iter().any(|row| row.labels[*label].is_some());
    // A host's index 0 is on each of several hosts: the column with the most values tells most.
    let values = |label: &usize| distinct(&rows, *label).len();
    if let Some(label) = (0..rule.by.len()).rev().filter(has).max_by_key(values) {
        return Ok(Gpus::By(rule.by[label]));
    }
    let pattern = pattern(&rows, rule.sweep_ns);
    let tells = |label: &usize| has(label) && tells_apart(&rows, *label, pattern);
    let names = rule.by.len()..rule.by.len() + rule.names.len();
    if let Some(label) = names.into_iter().find(tells) {
        return Ok(Gpus::By(rule.names[label - rule.by.len()]));
    }
    match pattern {
        Pattern::Even => Ok(Gpus::One),
        Pattern::Sweeps { rows: gpus, within } => Ok(Gpus::Counted { gpus, within }),
        Pattern::Stamps { rows: gpus } if totals_differ(&rows, gpus) => {
            Ok(Gpus::Counted { gpus, within: 0 })
        }
        Pattern::Stamps { rows: gpus } => Err(TraceError::Ask {
            name: name.to_owned(),
            reason: format!(
                "each moment has {gpus} rows, which may be {gpus} GPUs or {gpus} readings of one GPU: give \
                 `--gpus {gpus}` or `--gpus 1`"
            ),
        }),
    }
}

/// How rows follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    /// One reading after the other.
    Even,
    /// This many rows at once, a pause, and so on: one GPU is not read like that.
    Sweeps { rows: usize, within: i64 },
    /// This many rows with each stamp of whole seconds: GPUs, or readings within the second.
    Stamps { rows: usize },
}

fn pattern(rows: &[Glance], sweep_ns: i64) -> Pattern {
    let steps: Vec<i64> = rows.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    if steps.is_empty() || steps.iter().any(|&step| step < 0) {
        return Pattern::Even;
    }
    let mut sorted = steps.clone();
    sorted.sort_unstable();
    // Steps within a reading and those between readings differ widely; even steps have no such edge.
    let is_edge = |pair: &[i64]| pair[0] <= sweep_ns && pair[1] >= EDGE * pair[0].max(MILLISECOND);
    let edge = sorted.windows(2).find(|pair| is_edge(pair)).map(|pair| pair[0]);
    let all_at_once = rows.len() <= MAX_GPUS && sorted.last().is_some_and(|&step| step <= AT_ONCE);
    let Some(within) = edge.or(all_at_once.then_some(AT_ONCE)) else { return Pattern::Even };
    let mut groups = vec![1_usize];
    for step in steps {
        match groups.last_mut() {
            Some(last) if step <= within => *last += 1,
            _ => groups.push(1),
        }
    }
    // The last one may continue beyond what was examined.
    if groups.len() > 1 && groups.last() != groups.first() {
        groups.pop();
    }
    if groups.len() == 1 && within > AT_ONCE {
        return Pattern::Even;
    }
    let most = groups.iter().copied().max().unwrap_or(1);
    let whole = groups.iter().filter(|&&rows| rows == most).count();
    if most == 1 || most > MAX_GPUS || whole * 5 < groups.len() * 4 {
        return Pattern::Even;
    }
    let is_coarse = rows.iter().all(|row| row.at % (1000 * MILLISECOND) == 0);
    if is_coarse { Pattern::Stamps { rows: most } } else { Pattern::Sweeps { rows: most, within } }
}

/// Returns whether a label distinguishes the rows of each reading: there are several values, and none occurs twice in
/// one reading.
fn tells_apart(rows: &[Glance], label: usize, pattern: Pattern) -> bool {
    let distinct = distinct(rows, label);
    let gpus = match pattern {
        Pattern::Even => distinct.len(),
        Pattern::Sweeps { rows, .. } | Pattern::Stamps { rows } => rows,
    };
    distinct.len() > 1
        && distinct.len() == gpus
        && rows.windows(2).all(|pair| pair[0].labels[label] != pair[1].labels[label])
}

/// Returns the values of a label, each once.
fn distinct(rows: &[Glance], label: usize) -> BTreeSet<&str> {
    rows.iter().filter_map(|row| row.labels[label].as_deref()).collect()
}

/// Returns whether the positions in a reading have different totals.
fn totals_differ(rows: &[Glance], gpus: usize) -> bool {
    let of = |place: usize| -> Vec<_> {
        let mut totals: Vec<_> =
            rows.iter().skip(place).step_by(gpus).map(|row| row.total.unwrap_or(-1)).collect();
        totals.dedup();
        totals
    };
    let first = of(0);
    first.len() == 1 && (1..gpus).any(|place| of(place).len() == 1 && of(place) != first)
}

fn glance(mapping: &Arc<Mapping>, rule: &GpuRule, head: &[u8]) -> Vec<Glance> {
    // What is after the last line end continues beyond the head.
    let whole = match head.iter().rposition(|byte| *byte == b'\n') {
        Some(end) if head.len() >= HEAD_BYTES => &head[..=end],
        _ => head,
    };
    let head = Cursor::new(whole.to_vec());
    let Ok(mut source) = Source::new(head, "the beginning", None) else { return Vec::new() };
    let mut defects = Defects::new("the beginning", false);
    let mut records = Records::new(Arc::clone(mapping));
    let total = column::gpu_slot(0);
    let mut rows = Vec::new();
    // Defects of a row are reported when it is read.
    while let Ok(Some(record)) = records.next(&mut source, &mut defects) {
        let labels = rule.by.iter().chain(&rule.names);
        let labels = labels.map(|&column| records.text(column).map(str::to_owned)).collect();
        let mut row = Glance { at: record.at, labels, total: None };
        let filled = records.fill(record.place.line, &mut defects, |field, value, _| {
            if field.slot == total {
                row.total = Some(value);
            }
        });
        if filled.is_ok() {
            rows.push(row);
        }
        if rows.len() == ROWS {
            break;
        }
    }
    rows
}

const MILLISECOND: i64 = 1_000_000;
/// The number of rows that are examined. Chosen: a minute of eight GPUs at one reading per second.
const ROWS: usize = 480;
/// Steps between readings are at least this many times as long as those within.
const EDGE: i64 = 3;
/// Rows this close together are one reading: one GPU is not read so often.
const AT_ONCE: i64 = 5 * MILLISECOND;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(milliseconds: &[i64], want: Pattern) {
        let row = |at: &i64| Glance { at: at * MILLISECOND, ..Glance::default() };
        let rows: Vec<_> = milliseconds.iter().map(row).collect();
        assert_eq!(pattern(&rows, 1000 * MILLISECOND), want, "{milliseconds:?}");
    }

    #[test]
    fn rows_at_once_are_gpus_and_even_steps_are_one_gpu() {
        let two = |within: i64| Pattern::Sweeps { rows: 2, within: within * MILLISECOND };
        check(&[7, 108, 207, 307, 408], Pattern::Even);
        check(&[7, 27, 48, 66, 90, 5000, 5020], Pattern::Even);
        check(&[7, 9, 5007, 5010, 10_007], two(3));
        check(&[7, 8, 5007, 5008, 10_007, 10_008], two(1));
        check(&[7, 8], two(5));
        check(&[7], Pattern::Even);
        // Seconds: the same number of rows in each, or varying numbers.
        check(&[0, 0, 1000, 1000, 2000], Pattern::Stamps { rows: 2 });
        check(&[0, 1000, 1000, 2000, 3000, 3000, 4000], Pattern::Even);
    }
}
