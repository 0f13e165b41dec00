//! Loads the traces that a scenario names: a resource trace for its background, a request trace for its workload.
//!
//! They are read when the scenario is: a run then fails on nothing but itself, and its two runs see the same.

use std::path::Path;
use std::sync::Arc;

use tiershift_core::machine::Machine;

use crate::sim::background::Series;
use crate::sim::workload::Recorded;
use crate::trace::{Defects, ReadOptions, RequestReader, ResourceReader, TraceError};

/// A trace in memory, the digest of its bytes, and what a reader should know about it.
pub(super) struct Loaded<T> {
    pub content: T,
    pub digest: blake3::Hash,
    pub warnings: Vec<String>,
}

pub(super) fn resource_trace(path: &Path, machine: &Machine) -> Result<Loaded<Series>, String> {
    let options = ReadOptions { machine: Some(machine.clone()), ..ReadOptions::default() };
    let mut reader = ResourceReader::open(path, &options).map_err(|error| told(&error))?;
    let mut readings = Vec::new();
    while let Some(reading) = reader.next().map_err(|error| told(&error))? {
        if readings.len() == MOST_READINGS {
            return Err(format!(
                "{} has more than {MOST_READINGS} readings: cut it",
                path.display()
            ));
        }
        readings.push(reading);
    }
    let digest = reader.digest().expect("the trace was read to its end");
    let warnings = warnings(path, reader.defects(), &reader.header().notes);
    Ok(Loaded { content: Series::new(readings), digest, warnings })
}

pub(super) fn request_trace(path: &Path) -> Result<Loaded<Arc<[Recorded]>>, String> {
    let mut reader =
        RequestReader::open(path, &ReadOptions::default()).map_err(|error| told(&error))?;
    let mut recorded = Vec::new();
    while let Some((at, request)) = reader.next().map_err(|error| told(&error))? {
        if recorded.len() == MOST_REQUESTS {
            return Err(format!(
                "{} has more than {MOST_REQUESTS} requests: cut it",
                path.display()
            ));
        }
        recorded.push(Recorded { at, request });
    }
    let digest = reader.digest().expect("the trace was read to its end");
    let warnings = warnings(path, reader.defects(), &reader.header().notes);
    Ok(Loaded { content: recorded.into(), digest, warnings })
}

/// Returns what happened and why, in one line.
fn told(error: &TraceError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn warnings(path: &Path, defects: &Defects, notes: &[String]) -> Vec<String> {
    let name =
        path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let all = defects.warnings().into_iter().chain(notes.iter().cloned());
    all.map(|warning| format!("{name}: {warning}")).collect()
}

/// Ten days at one reading a second; a reading takes up to 400 bytes.
const MOST_READINGS: usize = 1_000_000;

/// Half a year at one request a second; a request takes some 80 bytes.
const MOST_REQUESTS: usize = 10_000_000;
