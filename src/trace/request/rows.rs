//! Rows of native request CSV.

use std::time::Duration;

use tiershift_core::model::{ModelId, Task};
use tiershift_core::request::{Request, Target};

use crate::trace::TraceError;
use crate::trace::defects::{DefectKind, Defects, Place, quoted};
use crate::trace::import::table::{self, Cell};
use crate::trace::source::Source;

/// A row of the file, on the file's own scale of time.
pub(super) struct Arrival {
    pub(super) at: i64,
    pub(super) place: Place,
    pub(super) request: Request,
}

/// Reads native request rows.
pub(super) struct NativeRequests {
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    At,
    PromptTokens,
    OutputTokens,
    Task,
    Target,
    Priority,
    Patience,
}

impl Column {
    pub(super) const ALL: [(&str, Self); 7] = [
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
    pub(super) fn new(source: &Source, names: &[String]) -> Result<Self, TraceError> {
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

    pub(super) fn next(
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
                            format!(
                                "`at_ns` is \"{}\": it must be an integer of nanoseconds",
                                quoted(text)
                            )
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
                    format!("\"{}\" is not a value of `{name}`", quoted(text))
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

pub(super) fn check(
    tokens: i64,
    place: Place,
    defects: &mut Defects,
) -> Result<Option<u32>, TraceError> {
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

/// Returns whether a name can be in a cell without quotes.
pub(super) fn fits_a_cell(text: &str) -> bool {
    !text.contains([',', '"', '\n', '\r']) && text.trim() == text
}

fn parse_target(text: &str) -> Option<Target> {
    // A name that the writer could not write is a damaged row.
    if !fits_a_cell(text) {
        return None;
    }
    let (sort, name) = text.split_once(':')?;
    match sort {
        "tier" if !name.is_empty() => Some(Target::Tier(name.to_owned())),
        "model" if !name.is_empty() => Some(Target::Model(ModelId::from(name))),
        _ => None,
    }
}

pub(super) fn no_tokens() -> String {
    "the row does not give the tokens of prompt and reply".to_owned()
}

pub(super) const TASKS: [(&str, Task); 4] = [
    ("chat", Task::Chat),
    ("code", Task::Code),
    ("vision", Task::Vision),
    ("embedding", Task::Embedding),
];
/// Chosen: sixteen times the longest context that is offered (1 Mi tokens).
const MOST_TOKENS: u32 = 1 << 24;
