//! Cuts a file into records: rows of a table, lines of a text, values of JSON.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::trace::TraceError;
use crate::trace::defects::{DefectKind, Defects, Place, quoted};
use crate::trace::import::Mapping;
use crate::trace::import::raw::Shape;
use crate::trace::import::record::{Found, Header, Presence, Records};
use crate::trace::import::table::{self, Cell};
use crate::trace::import::template::Template;
use crate::trace::source::Source;

impl Records {
    pub(super) fn next_row(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Place>, TraceError> {
        let mapping = Arc::clone(&self.mapping);
        let layout = &mapping.layout;
        while let Some(line) = source.line()? {
            let number = line.number;
            let here = Place { line: number, column: 1 };
            let Some(text) = table::decode(line.bytes, layout.encoding.as_deref()) else {
                defects.note(DefectKind::UnreadableRow, here, || NOT_UTF_8.to_owned())?;
                continue;
            };
            let text = text.trim_start_matches('\u{feff}');
            // A run of NUL is a hole: the machine stopped before the file system wrote what was there.
            let (text, hole) = match text.split_once('\0') {
                Some((before, _)) => (before, true),
                None => (text, false),
            };
            if hole {
                let place = Place { line: number, column: text.len() as u64 + 1 };
                defects.note(DefectKind::UnreadableRow, place, || {
                    "NUL bytes: what stood here and in the rest of the line is lost".to_owned()
                })?;
                // The part of a row before a hole may end inside a number; a header's names are still good.
                if self.header.is_some() {
                    continue;
                }
            }
            if layout.comment.as_ref().is_some_and(|mark| text.starts_with(mark.as_str())) {
                continue;
            }
            let mut cells = Vec::new();
            let width = table::cells(text, layout.separator, &mut cells);
            let Some(first) = cells.first() else {
                defects.note(DefectKind::BlankRow, here, || "an empty line".to_owned())?;
                continue;
            };
            let is_header = match &layout.tag {
                Some(tag) if layout_ignores(&tag.ignore, first.text) => continue,
                Some(tag) if first.text == tag.header => true,
                Some(tag) if tag.sample.as_ref().is_none_or(|sample| first.text == sample) => false,
                Some(_) => {
                    defects.note(DefectKind::UnreadableRow, here, || {
                        format!("a line of an unknown sort, \"{}\"", quoted(first.text))
                    })?;
                    continue;
                }
                None => self.header.as_ref().is_none_or(|header| header.is_repeated_by(&cells)),
            };
            if is_header {
                // A tagged header may come again: the tool was started again.
                if self.header.is_some() && layout.tag.is_none() {
                    defects.note(DefectKind::RepeatedHeader, here, || {
                        "the header once more".to_owned()
                    })?;
                }
                let header = self.place_columns(&cells, width);
                if let Some(missing) = header.lacks(&mapping) {
                    let reason = format!(
                        "the header has no column `{missing}`, which {} needs",
                        mapping.name
                    );
                    return Err(source.malformed(number, 1, reason));
                }
                self.header = Some(header);
                continue;
            }
            let Some(header) = &self.header else {
                defects.note(DefectKind::UnreadableRow, here, || {
                    "a row before the header that would explain it".to_owned()
                })?;
                continue;
            };
            if width < header.names.len() || cells.len() > header.width {
                defects.note(DefectKind::UnreadableRow, here, || {
                    format!("the row has {width} cells, the header has {}", header.names.len())
                })?;
                continue;
            }
            let mut column = 1;
            for (found, position) in self.cells.iter_mut().zip(&header.positions) {
                found.set(
                    position.map(|at| cells.get(at).map_or(("", 1), |c| (c.text, c.column))),
                    &layout.missing,
                );
            }
            if !self.counts() {
                continue;
            }
            if let Some(&time) = mapping.time.columns.first() {
                column = self.cells[time].column.max(column);
            }
            return Ok(Some(Place { line: number, column }));
        }
        Ok(None)
    }

    /// Whether the present row is one of those that the mapping wants.
    fn counts(&self) -> bool {
        self.mapping.only.iter().all(|(at, wanted)| {
            let cell = &self.cells[*at];
            cell.presence == Presence::NoColumn || wanted.contains(&cell.text)
        })
    }

    pub(super) fn next_text(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Place>, TraceError> {
        let mapping = Arc::clone(&self.mapping);
        let lines = &mapping.text;
        while let Some(line) = source.line()? {
            let place = Place { line: line.number, column: 1 };
            let Some(text) = table::decode(line.bytes, mapping.layout.encoding.as_deref()) else {
                defects.note(DefectKind::UnreadableRow, place, || NOT_UTF_8.to_owned())?;
                continue;
            };
            let text = text.trim_start_matches('\u{feff}');
            if lines.skip.iter().any(|template| template.cut(text, |_, _| {}))
                || self.take_text(&lines.told, text)
            {
                continue;
            }
            // What another sort of row has said is no part of this one.
            for name in lines.rows.iter().flat_map(Template::names) {
                self.cells[mapping.column(name)].set(None, &[]);
            }
            if self.take_text(&lines.rows, text) {
                if self.counts() {
                    return Ok(Some(place));
                }
            } else if text.trim().is_empty() {
                defects.note(DefectKind::BlankRow, place, || "an empty line".to_owned())?;
            } else {
                defects.note(DefectKind::UnreadableRow, place, || {
                    format!("\"{}\" is no line that {} has", quoted(text), mapping.name)
                })?;
            }
        }
        Ok(None)
    }

    /// Takes the cells of a line that fits one of the templates. What an earlier line told stays.
    fn take_text(&mut self, templates: &[Template], text: &str) -> bool {
        let Self { mapping, cells, .. } = self;
        templates.iter().any(|template| {
            template.cut(text, |name, cell| {
                let cell = Some((cell.text, cell.column));
                cells[mapping.column(name)].set(cell, &mapping.layout.missing);
            })
        })
    }

    pub(super) fn next_value(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Place>, TraceError> {
        let mapping = Arc::clone(&self.mapping);
        loop {
            let place = if mapping.layout.shape == Shape::JsonLines {
                let Some(line) = source.line()? else { return Ok(None) };
                self.buffer.clear();
                self.buffer.extend_from_slice(line.bytes);
                Place { line: line.number, column: 1 }
            } else {
                let Some(start) = self.scanner.next(source, &mut self.buffer)? else {
                    return Ok(None);
                };
                Place { line: start.line, column: start.column }
            };
            if self.buffer.trim_ascii().is_empty() {
                defects.note(DefectKind::BlankRow, place, || "an empty line".to_owned())?;
                continue;
            }
            match serde_json::from_slice::<Json>(&self.buffer) {
                Ok(json @ Json::Object(_)) => {
                    for (found, name) in self.cells.iter_mut().zip(&mapping.columns) {
                        let value = match name.starts_with('/') {
                            true => json.pointer(name),
                            false => json.get(name),
                        };
                        let text = value.map(|value| match value {
                            Json::Null => String::new(),
                            Json::String(text) => text.clone(),
                            other => other.to_string(),
                        });
                        let text = text.as_ref().map(|text| (text.as_str(), place.column));
                        found.set(text, &mapping.layout.missing);
                    }
                    return Ok(Some(place));
                }
                Ok(_) => {
                    defects.note(DefectKind::UnreadableRow, place, || {
                        "a record that is no JSON object".to_owned()
                    })?;
                }
                Err(error) => {
                    let within = error.line().saturating_sub(1) as u64;
                    let column = match within {
                        0 => place.column + error.column().saturating_sub(1) as u64,
                        _ => error.column() as u64,
                    };
                    let place = Place { line: place.line + within, column };
                    defects.note(DefectKind::UnreadableRow, place, || {
                        format!("a record that is no JSON: {error}")
                    })?;
                }
            }
        }
    }

    pub(super) fn place_columns(&self, cells: &[Cell<'_>], width: usize) -> Header {
        let positions: Vec<_> =
            self.mapping.columns.iter().map(|name| table::find(cells, name)).collect();
        let units = positions.iter().zip(&self.mapping.columns).map(|(position, name)| {
            let header = cells.get((*position)?)?.text;
            // Where the mapping names the column with its brackets, it has also said what they mean.
            table::unit_of(header).filter(|_| header != name)?.parse().ok()
        });
        Header {
            names: cells.iter().map(|cell| cell.text.to_owned()).collect(),
            width,
            units: units.collect(),
            positions,
        }
    }
}

impl Header {
    fn is_repeated_by(&self, cells: &[Cell<'_>]) -> bool {
        self.names.iter().map(String::as_str).eq(cells.iter().map(|cell| cell.text))
    }

    /// Returns a column of the time that is not there.
    fn lacks<'a>(&self, mapping: &'a Mapping) -> Option<&'a str> {
        let needed = mapping.time.columns.iter().chain(&mapping.time.minus);
        let missing = needed.copied().find(|&at| self.positions[at].is_none());
        missing.map(|at| mapping.columns[at].as_str())
    }
}

impl Found {
    fn set(&mut self, cell: Option<(&str, u64)>, missing: &[String]) {
        self.text.clear();
        let Some((text, column)) = cell else {
            self.presence = Presence::NoColumn;
            return;
        };
        self.column = column;
        if text.is_empty() || missing.iter().any(|mark| mark == text) {
            self.presence = Presence::Missing;
        } else {
            self.presence = Presence::Text;
            self.text.push_str(text);
        }
    }
}

const NOT_UTF_8: &str = "not UTF-8";

fn layout_ignores(ignored: &[String], tag: &str) -> bool {
    ignored.iter().any(|known| known == tag)
}
