//! Times without samples.

use tiershift_core::time::{Rhythm, Timestamp};

use crate::log::SAMPLE_SPACING;

/// Times without samples, collected while samples pass.
#[derive(Clone, Debug)]
pub(in crate::report) struct Gaps {
    /// The beginning of the part of the run that is shown.
    begin: Timestamp,
    /// In order of time.
    pub(in crate::report) list: Vec<(Timestamp, Timestamp)>,
    rhythm: Rhythm,
    /// Since when samples were due and did not come.
    missing_since: Option<Timestamp>,
}

impl Gaps {
    /// Collects those that end after a moment.
    pub(in crate::report) fn new(begin: Timestamp) -> Self {
        Self { begin, list: Vec::new(), rhythm: Rhythm::of_mean(), missing_since: None }
    }

    /// A sample was read.
    pub(in crate::report) fn sample(&mut self, now: Timestamp) {
        // A thinned-out log has a sample a minute, and more of them where decisions change.
        let silence = self.rhythm.gap_before(now, GAP_FACTOR, SAMPLE_SPACING * 2);
        let since = self.missing_since.take().or(silence.map(|silence| now - silence));
        if let Some(since) = since
            && now >= self.begin
            && self.list.len() < MOST_GAPS
        {
            self.list.push((since, now));
        }
    }

    /// A sample was due, and was not read.
    pub(in crate::report) fn missing(&mut self, now: Timestamp) {
        self.missing_since = self.missing_since.or(Some(now));
    }

    /// Closes what is still open.
    pub(in crate::report) fn finish(&mut self, end: Timestamp) {
        if let Some(since) = self.missing_since.take() {
            self.list.push((since, end));
        }
    }
}

/// A silence of this many usual intervals is shown. Chosen: it is wider than the line between two samples.
const GAP_FACTOR: u64 = 10;
const MOST_GAPS: usize = 512;
