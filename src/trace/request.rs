//! Request traces of any format, read in order of arrival.

use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tiershift_core::request::{Request, RequestId};
use tiershift_core::time::Timestamp;

use crate::files::progress::Progress;
use crate::trace::cut::Cut;
use crate::trace::dates::Dates;
use crate::trace::defects::{DefectKind, Defects, Place};
use crate::trace::import::record::Records;
use crate::trace::import::{Format, Kind};
use crate::trace::native::{Preamble, REQUEST_MAGIC, read_preamble};
use crate::trace::pace::{Pace, Step};
use crate::trace::request::rows::{Arrival, NativeRequests, check, no_tokens};
use crate::trace::resource::clock_set;
use crate::trace::source::Source;
use crate::trace::{Header, ReadOptions, TraceError};

mod rows;
pub(crate) mod writer;

/// Reads a request trace, arrival by arrival. Ids count from zero in order of arrival.
pub struct RequestReader {
    source: Source,
    rows: Rows,
    header: Header,
    dates: Dates,
    /// Arrivals of a format that is not in order, once they are sorted.
    sorted: Option<VecDeque<Arrival>>,
    out_of_order: u64,
    /// An arrival that was read ahead.
    ahead: Option<Arrival>,
    pace: Pace,
    cut: Cut,
    defects: Defects,
    /// The number in the whole file.
    requests: u64,
}

enum Rows {
    Native(NativeRequests),
    Mapped { records: Box<Records>, sorted: bool },
}

impl RequestReader {
    /// Opens a trace. Its format is recognised unless the options name it.
    ///
    /// # Errors
    /// When the file cannot be opened, is empty or binary, or is of no known or of the wrong format.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self, TraceError> {
        Self::new(Source::open(path)?, options)
    }

    /// Reads a trace from anywhere; `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`RequestReader::open`].
    pub fn from_reader(
        input: impl Read + Send + 'static,
        name: &str,
        options: &ReadOptions,
    ) -> Result<Self, TraceError> {
        Self::new(Source::new(input, name, None)?, options)
    }

    fn new(mut source: Source, options: &ReadOptions) -> Result<Self, TraceError> {
        let format = options.format_of(&mut source, Kind::Request)?;
        let mut header = Header { format: format.name().to_owned(), ..Header::default() };
        let mut shortest_gap = SHORTEST_GAP;
        let dates;
        let rows = match format {
            Format::Mapped(mapping) => {
                let mapping = mapping.with(&options.told, source.name())?;
                shortest_gap = shortest_gap.max(mapping.time.shortest_gap_ns);
                dates = Dates::of_times(&mapping.time);
                header.notes.clone_from(&mapping.notes);
                let sorted = mapping.time.sorted;
                let records = Box::new(Records::new(Arc::clone(&mapping)));
                Rows::Mapped { records, sorted }
            }
            Format::NativeResource | Format::NativeRequest => {
                let Preamble { about, columns } = read_preamble(&mut source, REQUEST_MAGIC)?;
                header.read_about(about);
                dates = Dates::of_preamble(header.read_clock(), options.told.starts_at);
                Rows::Native(NativeRequests::new(&source, &columns)?)
            }
        };
        let defects = Defects::new(source.name(), options.strict);
        Ok(Self {
            source,
            rows,
            header,
            dates,
            sorted: None,
            out_of_order: 0,
            ahead: None,
            pace: Pace::new(shortest_gap, false),
            cut: Cut::new(options.part),
            defects,
            requests: 0,
        })
    }

    /// Returns the next request of the selected part and its time since the first of it; `None` at the end of the file.
    ///
    /// # Errors
    /// When the file cannot be read further, or contains no request at all; with `strict`, at the first defect.
    #[expect(clippy::should_implement_trait, reason = "the same shape as the resource reader")]
    pub fn next(&mut self) -> Result<Option<(Timestamp, Request)>, TraceError> {
        loop {
            let arrival = match self.ahead.take() {
                None => self.next_arrival()?,
                ahead => ahead,
            };
            let Some(Arrival { at, place, mut request }) = arrival else {
                if self.requests == 0
                    && let Rows::Mapped { records, .. } = &self.rows
                    && let Some(remedy) = records.remedy_for_times()
                {
                    let name = self.source.name().to_owned();
                    let reason = format!("nothing in it has a time: {remedy}");
                    return Err(TraceError::Ask { name, reason });
                }
                if self.requests == 0 {
                    let rejected = match self.defects.warnings() {
                        empty if empty.is_empty() => "it has no rows".to_owned(),
                        warnings => warnings.join("; "),
                    };
                    return Err(TraceError::NoRows {
                        name: self.source.name().to_owned(),
                        rejected,
                    });
                }
                self.cut.check(self.source.name())?;
                self.finish()?;
                return Ok(None);
            };
            let mut after = None;
            if self.pace.leaps(at) {
                if self.ahead.is_none() {
                    self.ahead = self.next_arrival()?;
                }
                after = self.ahead.as_ref().map(|arrival| arrival.at);
                if self.pace.leads_astray(at, after) {
                    self.defects.note(DefectKind::UnreadableTime, place, || {
                        "far ahead of the rows before and after it: the clock is wrong".to_owned()
                    })?;
                    continue;
                }
            }
            let shows = at;
            let at = match self.pace.step(at, after) {
                Step::Forward(at) | Step::Same(at) => at,
                Step::ClockSet(at, by) => {
                    self.defects.note(DefectKind::ClockSet, place, || clock_set(by))?;
                    self.mark(at, shows);
                    at
                }
                Step::ForwardAfterGap(at, silence) | Step::ForwardAfterCut(at, silence) => {
                    self.defects.note(DefectKind::Gap, place, || {
                        format!("nothing for {} s before this row", silence as f64 / 1e9)
                    })?;
                    at
                }
                Step::Backward(by) => {
                    self.defects.note(DefectKind::BackwardTime, place, || {
                        format!("{} s earlier than the row before", by as f64 / 1e9)
                    })?;
                    continue;
                }
            };
            if self.requests == 0 || shows >= self.dates.next {
                self.mark(at, shows);
            }
            self.requests += 1;
            request.id = RequestId(self.cut.rows());
            if let Some(at) = self.cut.place(at) {
                if self.cut.rows() == 1 {
                    self.header.clock = self.cut.clock();
                }
                return Ok(Some((at, request)));
            }
        }
    }

    /// Notes what the wall clock shows at a row.
    fn mark(&mut self, moment: Timestamp, at: i64) {
        let records = match &self.rows {
            Rows::Mapped { records, .. } => Some(&**records),
            Rows::Native(_) => None,
        };
        self.dates.mark(&mut self.cut.whole_clock, moment, at, records);
        self.header.clock = self.cut.clock();
        if let Some(note) = self.dates.take_note() {
            self.header.note(note);
        }
    }

    /// Judges the file as a whole, at its end.
    fn finish(&mut self) -> Result<(), TraceError> {
        if self.defects.misplaced(true) > self.requests {
            let name = self.source.name().to_owned();
            let rejected = self.defects.why_most_are_rejected();
            return Err(TraceError::MostlyRejected { name, rejected });
        }
        if let Rows::Mapped { records, .. } = &self.rows {
            self.header.notes.extend(records.notes());
        }
        Ok(())
    }

    fn next_arrival(&mut self) -> Result<Option<Arrival>, TraceError> {
        if matches!(self.rows, Rows::Native(_) | Rows::Mapped { sorted: true, .. }) {
            return self.read_arrival();
        }
        if self.sorted.is_none() {
            let mut all = Vec::new();
            while let Some(arrival) = self.read_arrival()? {
                if all.len() == MOST_TO_SORT {
                    let name = self.source.name().to_owned();
                    return Err(TraceError::TooManyToSort { name, limit: MOST_TO_SORT });
                }
                all.push(arrival);
            }
            self.out_of_order =
                all.windows(2).filter(|pair| pair[1].at < pair[0].at).count() as u64;
            // Stable: equal times stay in the order of the file.
            all.sort_by_key(|arrival| arrival.at);
            self.sorted = Some(all.into());
        }
        Ok(self.sorted.as_mut().and_then(VecDeque::pop_front))
    }

    fn read_arrival(&mut self) -> Result<Option<Arrival>, TraceError> {
        let Self { source, rows, defects, .. } = self;
        match rows {
            Rows::Native(rows) => rows.next(source, defects),
            Rows::Mapped { records, .. } => loop {
                let Some(record) = records.next(source, defects)? else { return Ok(None) };
                let mut tokens = [None; 2];
                let mut columns = [1; 2];
                records.fill(record.place.line, defects, |field, value, column| {
                    let slot = field.slot;
                    (tokens[slot], columns[slot]) = (Some(value), column);
                })?;
                let mut checked = [None; 2];
                for (at, value) in tokens.into_iter().enumerate() {
                    let place = Place { line: record.place.line, column: columns[at] };
                    checked[at] = value.map_or(Ok(None), |value| check(value, place, defects))?;
                }
                let [Some(prompt), Some(output)] = checked else {
                    defects.note(DefectKind::UnreadableRow, record.place, no_tokens)?;
                    continue;
                };
                let request = Request::chat(0, prompt, output);
                return Ok(Some(Arrival { at: record.at, place: record.place, request }));
            },
        }
    }

    /// Returns the defects so far.
    pub fn defects(&self) -> &Defects {
        &self.defects
    }

    /// Returns how many arrivals came after a later one in a file whose format is not in order. They were sorted, and
    /// are not a defect.
    pub fn out_of_order(&self) -> u64 {
        self.out_of_order
    }

    /// Returns what the file states about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the requests that were returned so far.
    pub fn requests(&self) -> u64 {
        self.cut.rows()
    }

    /// Returns the reader's progress.
    pub fn progress(&self) -> Progress {
        self.source.progress()
    }

    /// Returns the digest of the trace's uncompressed bytes; `None` before the end.
    pub fn digest(&self) -> Option<blake3::Hash> {
        self.source.digest()
    }
}

/// The most arrivals that may be held for sorting. Chosen: about 100 bytes each, so that the heap stays below 1 GiB.
const MOST_TO_SORT: usize = 8_000_000;
/// Users fall silent; a minute without an arrival is the shortest gap with a meaning.
const SHORTEST_GAP: u64 = 60 * 1_000_000_000;
