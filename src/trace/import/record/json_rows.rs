//! Rows from JSON: objects, elements of an array in a record, or arrays that are columns.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::trace::TraceError;
use crate::trace::defects::{DefectKind, Defects, Place};
use crate::trace::import::raw::Shape;
use crate::trace::import::record::Records;
use crate::trace::source::Source;

impl Records {
    pub(super) fn next_value(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Place>, TraceError> {
        let mapping = Arc::clone(&self.mapping);
        let layout = &mapping.layout;
        loop {
            if let Some(row) = self.queue.pop_front() {
                self.take_json(&row);
                if self.counts() {
                    return Ok(Some(self.parent.1));
                }
                continue;
            }
            let Some(place) = self.next_json(source)? else { return Ok(None) };
            if self.buffer.trim_ascii().is_empty() {
                defects.note(DefectKind::BlankRow, place, || "an empty line".to_owned())?;
                continue;
            }
            let json = match serde_json::from_slice::<Json>(&self.buffer) {
                Ok(json) => json,
                Err(error) => {
                    let within = error.line().saturating_sub(1) as u64;
                    let column = match within {
                        0 => place.column + error.column().saturating_sub(1) as u64,
                        _ => error.column() as u64,
                    };
                    let place = Place { line: place.line + within, column };
                    defects.note(DefectKind::UnreadableRow, place, || {
                        format!("invalid JSON record: {error}")
                    })?;
                    continue;
                }
            };
            if !json.is_object() && !json.is_array() {
                defects.note(DefectKind::UnreadableRow, place, || {
                    "a record that is neither a JSON object nor an array".to_owned()
                })?;
                continue;
            }
            if let Some(each) = &layout.each {
                let rows = json.pointer(each).and_then(Json::as_array).cloned();
                let Some(rows) = rows else {
                    defects.note(DefectKind::UnreadableRow, place, || {
                        format!("a record without an array at \"{each}\"")
                    })?;
                    continue;
                };
                self.queue.extend(rows);
            } else if layout.arrays {
                match self.rows_of_arrays(&json) {
                    Ok(rows) => self.queue.extend(rows),
                    Err(reason) => defects.note(DefectKind::UnreadableRow, place, || reason)?,
                }
            } else {
                self.queue.push_back(json);
                self.parent = (Json::Null, place);
                continue;
            }
            self.parent = (json, place);
        }
    }

    fn next_json(&mut self, source: &mut Source) -> Result<Option<Place>, TraceError> {
        if self.mapping.layout.shape == Shape::JsonLines {
            let Some(line) = source.line()? else { return Ok(None) };
            self.buffer.clear();
            self.buffer.extend_from_slice(line.bytes);
            return Ok(Some(Place { line: line.number, column: 1 }));
        }
        let start = self.scanner.next(source, &mut self.buffer)?;
        Ok(start.map(|start| Place { line: start.line, column: start.column }))
    }

    /// Returns a row for each element of the arrays that are a record's columns.
    fn rows_of_arrays(&self, record: &Json) -> Result<Vec<Json>, String> {
        let columns = self.mapping.columns.iter().filter(|name| !name.starts_with('^'));
        let arrays = columns.filter_map(|name| {
            let array = find(record, &Json::Null, name)?.as_array()?;
            Some((name, array))
        });
        let arrays: Vec<_> = arrays.collect();
        let Some((first, rows)) = arrays.first().map(|(name, array)| (name, array.len())) else {
            return Err("a record without arrays for columns".to_owned());
        };
        if let Some((other, array)) = arrays.iter().find(|(_, array)| array.len() != rows) {
            return Err(format!("`{first}` has {rows} elements and `{other}` has {}", array.len()));
        }
        let row = |at: usize| {
            let cells = arrays.iter().map(|(name, array)| ((*name).clone(), array[at].clone()));
            Json::Object(cells.collect())
        };
        Ok((0..rows).map(row).collect())
    }

    fn take_json(&mut self, row: &Json) {
        let Self { mapping, cells, parent: (parent, place), .. } = self;
        for (found, name) in cells.iter_mut().zip(&mapping.columns) {
            // The row of arrays has the columns' full names as its keys.
            let value = match mapping.layout.arrays {
                true if !name.starts_with('^') => row.get(name),
                _ => find(row, parent, name),
            };
            let text = value.map(|value| match value {
                Json::Null => String::new(),
                Json::String(text) => text.clone(),
                other => other.to_string(),
            });
            let text = text.as_ref().map(|text| (text.as_str(), place.column));
            found.set(text, &mapping.layout.missing);
        }
    }
}

/// Finds a column: a key or a pointer in the row or, after `^`, in the record of the row.
fn find<'a>(row: &'a Json, record: &'a Json, name: &str) -> Option<&'a Json> {
    let (json, name) = match name.strip_prefix('^') {
        Some(name) => (record, name),
        None => (row, name),
    };
    if name.starts_with('/') { json.pointer(name) } else { json.get(name) }
}
