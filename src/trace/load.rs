//! A whole trace in memory, for uses that play it more than once.

use std::path::Path;

use tiershift_core::request::Request;
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::trace::defects::Defects;
use crate::trace::request::RequestReader;
use crate::trace::resource::ResourceReader;
use crate::trace::{ReadOptions, TraceError};
use crate::wall::WallClock;

/// The rows of a trace, the digest of its bytes, and notes about it.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// In order of time.
    pub rows: Vec<(Timestamp, T)>,
    /// Of the uncompressed bytes.
    pub digest: blake3::Hash,
    /// Its defects.
    pub defects: Defects,
    /// What its header notes.
    pub notes: Vec<String>,
    /// The wall clock, if the trace states it.
    pub clock: WallClock,
}

/// Reads a resource trace.
///
/// # Errors
/// When the reader refuses it, or it has more than a million samples.
pub fn load_samples(path: &Path, options: &ReadOptions) -> Result<Loaded<Sample>, TraceError> {
    let mut reader = ResourceReader::open(path, options)?;
    let rows = collect(path, MOST_SAMPLES, "samples", || reader.next())?;
    let digest = reader.digest().expect("the trace was read to its end");
    let (defects, notes) = (reader.defects().clone(), reader.header().notes.clone());
    Ok(Loaded { rows, digest, defects, notes, clock: reader.header().clock.clone() })
}

/// Reads a request trace.
///
/// # Errors
/// When the reader refuses it, or it has more than ten million requests.
pub fn load_requests(path: &Path, options: &ReadOptions) -> Result<Loaded<Request>, TraceError> {
    let mut reader = RequestReader::open(path, options)?;
    let rows = collect(path, MOST_REQUESTS, "requests", || reader.next())?;
    let digest = reader.digest().expect("the trace was read to its end");
    let (defects, notes) = (reader.defects().clone(), reader.header().notes.clone());
    Ok(Loaded { rows, digest, defects, notes, clock: reader.header().clock.clone() })
}

fn collect<T>(
    path: &Path,
    limit: usize,
    what: &'static str,
    mut next: impl FnMut() -> Result<Option<T>, TraceError>,
) -> Result<Vec<T>, TraceError> {
    let mut rows = Vec::new();
    while let Some(row) = next()? {
        if rows.len() == limit {
            return Err(TraceError::TooLong { name: path.display().to_string(), limit, what });
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Ten days at one sample a second; a sample takes up to 400 bytes.
const MOST_SAMPLES: usize = 1_000_000;
/// Four months at one request a second; a request takes some 80 bytes.
const MOST_REQUESTS: usize = 10_000_000;
