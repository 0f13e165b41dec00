//! Request traces of any format, read in order of arrival.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tiershift_core::model::{ModelId, Task};
use tiershift_core::request::{Request, RequestId, Target};
use tiershift_core::time::{Timestamp, nanos};

use crate::trace::defects::{DefectKind, Defects, Place};
use crate::trace::import::record::{Records, quoted};
use crate::trace::import::table::{self, Cell};
use crate::trace::import::{Format, Kind};
use crate::trace::native::{Preamble, REQUEST_MAGIC, VERSION, read_preamble};
use crate::trace::pace::{Pace, Step};
use crate::trace::source::{Progress, Source};
use crate::trace::{Header, ReadOptions, TraceError};

/// Reads a request trace, arrival by arrival. Ids count from zero in order of arrival.
pub struct RequestReader {
    source: Source,
    rows: Rows,
    header: Header,
    wall_clock: bool,
    /// Arrivals of a format that is not in order, once they are sorted.
    sorted: Option<VecDeque<Arrival>>,
    out_of_order: u64,
    pace: Pace,
    defects: Defects,
    requests: u64,
}

enum Rows {
    Native(NativeRequests),
    Mapped { records: Box<Records>, sorted: bool },
}

/// A row of the file, at its own scale of time.
struct Arrival {
    at: i64,
    place: Place,
    request: Request,
}

impl RequestReader {
    /// Opens a trace. Its format is recognised unless the options name it.
    ///
    /// # Errors
    /// Where the file cannot be opened, is empty or binary, or is of no known or of the wrong format.
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
        let mut wall_clock = false;
        let mut shortest_gap = SHORTEST_GAP;
        let rows = match format {
            Format::Mapped(mapping) => {
                shortest_gap = shortest_gap.max(mapping.time.shortest_gap_ns);
                wall_clock = mapping.time.wall_clock;
                header.notes.clone_from(&mapping.notes);
                let sorted = mapping.time.sorted;
                let records = Box::new(Records::new(Arc::clone(&mapping)));
                Rows::Mapped { records, sorted }
            }
            Format::NativeResource | Format::NativeRequest => {
                let Preamble { about, columns } = read_preamble(&mut source, REQUEST_MAGIC)?;
                header.read_about(about);
                Rows::Native(NativeRequests::new(&source, &columns)?)
            }
        };
        let defects = Defects::new(source.name(), options.strict);
        Ok(Self {
            source,
            rows,
            header,
            wall_clock,
            sorted: None,
            out_of_order: 0,
            pace: Pace::new(shortest_gap),
            defects,
            requests: 0,
        })
    }

    /// Returns the next request and its time since the first; `None` at the end.
    ///
    /// # Errors
    /// Where the file cannot be read on, or holds no request at all; with `strict`, at the first defect.
    #[expect(clippy::should_implement_trait, reason = "the same shape as the resource reader")]
    pub fn next(&mut self) -> Result<Option<(Timestamp, Request)>, TraceError> {
        loop {
            let Some(Arrival { at, place, mut request }) = self.next_arrival()? else {
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
                return Ok(None);
            };
            let at = match self.pace.step(at) {
                Step::Forward(at) | Step::Same(at) => at,
                Step::ForwardAfterGap(at, silence) => {
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
                Step::TooFar(by) => {
                    self.defects.note(DefectKind::UnreadableTime, place, || {
                        format!("{} s after the row before: the clock is wrong", by as f64 / 1e9)
                    })?;
                    continue;
                }
            };
            if self.requests == 0 && self.wall_clock {
                let first = self.pace.first().map(i128::from);
                self.header.started_at =
                    first.and_then(|at| jiff::Timestamp::from_nanosecond(at).ok());
            }
            request.id = RequestId(self.requests);
            self.requests += 1;
            return Ok(Some((at, request)));
        }
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
                records.fill(record.place.line, defects, |slot, value, column| {
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

    /// Returns what was wrong so far.
    pub fn defects(&self) -> &Defects {
        &self.defects
    }

    /// Returns how many arrivals stood after a later one in a file whose format is not in order. They were
    /// sorted, and are no defect.
    pub fn out_of_order(&self) -> u64 {
        self.out_of_order
    }

    /// Returns what the file says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the requests that were read so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Returns how far the reader has come.
    pub fn progress(&self) -> Progress {
        self.source.progress()
    }

    /// Returns the digest of the trace's bytes, unpacked; `None` before the end.
    pub fn digest(&self) -> Option<blake3::Hash> {
        self.source.digest()
    }
}

/// Reads native request rows.
struct NativeRequests {
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    At,
    PromptTokens,
    OutputTokens,
    Task,
    Target,
    Priority,
    Patience,
}

impl Column {
    const ALL: [(&str, Self); 7] = [
        ("at_ns", Self::At),
        ("prompt_tokens", Self::PromptTokens),
        ("output_tokens", Self::OutputTokens),
        ("task", Self::Task),
        ("target", Self::Target),
        ("priority", Self::Priority),
        ("patience_ns", Self::Patience),
    ];
}

impl NativeRequests {
    fn new(source: &Source, names: &[String]) -> Result<Self, TraceError> {
        let line = source.line_number();
        let mut columns = Vec::new();
        let mut byte = 1;
        for name in names {
            let Some((_, column)) = Column::ALL.iter().find(|(known, _)| known == name) else {
                let known = Column::ALL.map(|(name, _)| name).join(", ");
                let reason = format!("unknown column `{name}`: a request trace has {known}");
                return Err(source.malformed(line, byte, reason));
            };
            if columns.contains(column) {
                let reason = format!("the column `{name}` is given twice: remove one");
                return Err(source.malformed(line, byte, reason));
            }
            columns.push(*column);
            byte += name.len() as u64 + 1;
        }
        for (name, column) in &Column::ALL[..3] {
            if !columns.contains(column) {
                return Err(source.malformed(
                    line,
                    1,
                    format!("the header has no column `{name}`"),
                ));
            }
        }
        Ok(Self { columns })
    }

    fn next(
        &self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Arrival>, TraceError> {
        while let Some(line) = source.line()? {
            let here = Place { line: line.number, column: 1 };
            let Ok(text) = std::str::from_utf8(line.bytes) else {
                defects.note(DefectKind::UnreadableRow, here, || "not UTF-8".to_owned())?;
                continue;
            };
            if !line.ended {
                defects.note(DefectKind::UnreadableRow, here, || {
                    "the last line is cut off: a row ends with a line end".to_owned()
                })?;
                continue;
            }
            let mut cells = Vec::new();
            let width = table::cells(text, ',', &mut cells);
            if cells.is_empty() {
                defects.note(DefectKind::BlankRow, here, || "an empty line".to_owned())?;
                continue;
            }
            if width != self.columns.len() {
                defects.note(DefectKind::UnreadableRow, here, || {
                    format!("the row has {width} cells, the header has {}", self.columns.len())
                })?;
                continue;
            }
            cells.resize(width, Cell { column: text.len() as u64 + 1, text: "" });
            if let Some(arrival) = self.parse(&cells, line.number, defects)? {
                return Ok(Some(arrival));
            }
        }
        Ok(None)
    }

    fn parse(
        &self,
        cells: &[Cell<'_>],
        line: u64,
        defects: &mut Defects,
    ) -> Result<Option<Arrival>, TraceError> {
        let mut at = None;
        let mut tokens = [None; 2];
        let mut request = Request::chat(0, 0, 0);
        for (cell, column) in cells.iter().zip(&self.columns) {
            let place = Place { line, column: cell.column };
            let text = cell.text;
            let read = match column {
                Column::At => {
                    at = text.parse::<i64>().ok().filter(|&at| at >= 0).map(|at| (at, place));
                    if at.is_none() {
                        defects.note(DefectKind::UnreadableTime, place, || {
                            format!("`at_ns` is \"{}\": whole nanoseconds are wanted", quoted(text))
                        })?;
                        return Ok(None);
                    }
                    true
                }
                Column::PromptTokens | Column::OutputTokens => {
                    let slot = usize::from(*column == Column::OutputTokens);
                    let number = text.parse().ok();
                    if let Some(number) = number {
                        tokens[slot] = check(number, place, defects)?;
                    }
                    number.is_some()
                }
                _ if text.is_empty() => true,
                Column::Task => TASKS.iter().find(|(name, _)| *name == text).is_some_and(|found| {
                    request.task = found.1;
                    true
                }),
                Column::Target => parse_target(text).is_some_and(|target| {
                    request.target = target;
                    true
                }),
                Column::Priority => text.parse().is_ok_and(|priority| {
                    request.priority = priority;
                    true
                }),
                Column::Patience => text.parse().is_ok_and(|nanos| {
                    request.patience = Some(Duration::from_nanos(nanos));
                    true
                }),
            };
            if !read {
                defects.note(DefectKind::UnreadableCell, place, || {
                    let name = Column::ALL.iter().find(|(_, known)| known == column);
                    let name = name.map_or("", |(name, _)| name);
                    format!("\"{}\" is no value of `{name}`", quoted(text))
                })?;
            }
        }
        let (Some((at, place)), [Some(prompt), Some(output)]) = (at, tokens) else {
            let place = Place { line, column: 1 };
            defects.note(DefectKind::UnreadableRow, place, no_tokens)?;
            return Ok(None);
        };
        (request.prompt_tokens, request.output_tokens) = (prompt, output);
        Ok(Some(Arrival { at, place, request }))
    }
}

/// Writes native request CSV.
pub struct RequestWriter<W: Write> {
    output: W,
}

impl<W: Write> RequestWriter<W> {
    /// Writes the preamble and the header.
    ///
    /// # Errors
    /// What the output says.
    pub fn new(mut output: W, about: &[(String, String)]) -> std::io::Result<Self> {
        let mut head = format!("{REQUEST_MAGIC}{VERSION}\n");
        for (key, value) in about {
            head.push_str(&format!("# {key}: {value}").replace(['\n', '\r'], " "));
            head.push('\n');
        }
        head.push_str(&Column::ALL.map(|(name, _)| name).join(","));
        head.push('\n');
        output.write_all(head.as_bytes())?;
        Ok(Self { output })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// What the output says; also for a target whose name would break the row.
    pub fn write(&mut self, at: Timestamp, request: &Request) -> std::io::Result<()> {
        let task =
            TASKS.iter().find(|(_, task)| *task == request.task).map_or("", |(name, _)| name);
        let target = match &request.target {
            Target::Auto => String::new(),
            Target::Tier(name) => format!("tier:{name}"),
            Target::Model(id) => format!("model:{id}"),
        };
        if target.contains([',', '"', '\n', '\r']) || target.trim() != target {
            let reason = format!("the name in \"{target}\" cannot stand in a CSV cell");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, reason));
        }
        let patience = request.patience.map(|patience| nanos(patience).to_string());
        writeln!(
            self.output,
            "{},{},{},{task},{target},{},{}",
            at.as_nanos(),
            request.prompt_tokens,
            request.output_tokens,
            request.priority,
            patience.unwrap_or_default()
        )
    }

    /// Returns the output.
    pub fn into_inner(self) -> W {
        self.output
    }
}

fn check(tokens: i64, place: Place, defects: &mut Defects) -> Result<Option<u32>, TraceError> {
    match u32::try_from(tokens) {
        Ok(tokens) if tokens <= MOST_TOKENS => Ok(Some(tokens)),
        _ => {
            defects.note(DefectKind::ImpossibleValue, place, || {
                format!("{tokens} tokens: a request has between 0 and {MOST_TOKENS}")
            })?;
            Ok(None)
        }
    }
}

fn parse_target(text: &str) -> Option<Target> {
    let (sort, name) = text.split_once(':')?;
    match sort {
        "tier" if !name.is_empty() => Some(Target::Tier(name.to_owned())),
        "model" if !name.is_empty() => Some(Target::Model(ModelId::from(name))),
        _ => None,
    }
}

fn no_tokens() -> String {
    "the row does not give the tokens of prompt and reply".to_owned()
}

const TASKS: [(&str, Task); 4] = [
    ("chat", Task::Chat),
    ("code", Task::Code),
    ("vision", Task::Vision),
    ("embedding", Task::Embedding),
];
/// Chosen: sixteen times the longest context that is offered (1 Mi tokens).
const MOST_TOKENS: u32 = 1 << 24;
/// Arrivals that may be held for sorting. Chosen: about 100 bytes each, so that the heap stays below 1 GiB.
const MOST_TO_SORT: usize = 8_000_000;
/// Users fall silent; a minute without an arrival is the shortest gap that says anything.
const SHORTEST_GAP: u64 = 60 * 1_000_000_000;
