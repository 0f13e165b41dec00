//! Lines of the Prometheus text format: `name{label="value"} number`, with or without a time after it.
//!
//! The crates that parse it (`prometheus-parse`, `openmetrics-parser`, `prom_text_format_parser`) take one whole
//! scrape; a file written by a loop has many, with lines of time between them, and each defect needs its line.

use std::sync::Arc;

use crate::trace::TraceError;
use crate::trace::defects::{DefectKind, Defects, Place, quoted};
use crate::trace::import::clock::{OUR_DAYS, Stamp};
use crate::trace::import::record::Records;
use crate::trace::source::Source;

/// A line, cut into its parts.
#[derive(Debug, PartialEq, Eq)]
struct Series<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
    /// In milliseconds since 1970.
    timestamp: Option<&'a str>,
    /// The name and the labels as they were written.
    written: &'a str,
}

impl Records {
    /// Takes the next line with a series that the mapping wants.
    pub(super) fn next_series(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Place>, TraceError> {
        let mapping = Arc::clone(&self.mapping);
        while let Some(line) = source.line()? {
            let place = Place { line: line.number, column: 1 };
            let Ok(text) = std::str::from_utf8(line.bytes) else {
                defects
                    .note(DefectKind::UnreadableRow, place, || super::cut::NOT_UTF_8.to_owned())?;
                continue;
            };
            let text = text.trim_start_matches('\u{feff}').trim();
            if text.is_empty() || text.starts_with('#') {
                // A date may follow the mark of a comment.
                self.take_date(text.trim_start_matches(['#', ' ']));
                continue;
            }
            if self.take_date(text) {
                continue;
            }
            let Some(series) = cut(text) else {
                defects.note(DefectKind::UnreadableRow, place, || {
                    format!("\"{}\" is neither a metric nor a time", quoted(text))
                })?;
                continue;
            };
            let is_wanted = |name: &str| name == series.name;
            let wanted = mapping.fields.iter().flat_map(|field| &field.only);
            if !wanted.flat_map(|(_, names)| names).any(|name| is_wanted(name)) {
                continue;
            }
            let timestamp = series.timestamp.or(self.date.as_deref()).map(str::to_owned);
            for (found, name) in self.cells.iter_mut().zip(&mapping.columns) {
                let cell = match name.as_str() {
                    "__name__" => Some(series.name),
                    "value" => Some(series.value),
                    "timestamp" => timestamp.as_deref(),
                    label => series
                        .labels
                        .iter()
                        .find(|(known, _)| *known == label)
                        .map(|(_, text)| text.as_str()),
                };
                found.set(cell.map(|text| (text, 1)), &mapping.layout.missing);
            }
            series.written.clone_into(&mut self.series);
            if self.counts() {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Takes a line that is a time: it applies to the lines below it. Returns whether it is one.
    fn take_date(&mut self, text: &str) -> bool {
        let forms = &self.mapping.time.forms;
        let is_date = forms.iter().any(|form| {
            // A bare number may be anything, unless it is in the range of our dates.
            matches!(form.parse(text), Some(Stamp::Moment(at)) if OUR_DAYS.contains(&at))
        });
        if is_date {
            self.date = Some(text.to_owned());
        }
        is_date
    }

    /// Returns the name and labels of the present line.
    pub(super) fn series_name(&self) -> &str {
        &self.series
    }
}

/// Cuts a line; `None` if it is not in the format.
fn cut(line: &str) -> Option<Series<'_>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
    let end = line.find(|c| !is_name(c)).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut labels = Vec::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            inside = inside.trim_start();
            if let Some(behind) = inside.strip_prefix('}') {
                rest = behind;
                break;
            }
            let (label, behind) = inside.split_once('=')?;
            let (text, behind) = quoted_text(behind.trim_start())?;
            labels.push((label.trim(), text));
            inside = behind.trim_start();
            inside = inside.strip_prefix(',').unwrap_or(inside);
        }
    }
    let written = &line[..line.len() - rest.len()];
    // OpenMetrics may have an exemplar after a mark.
    let rest = rest.split_once(" # ").map_or(rest, |(before, _)| before);
    let mut words = rest.split_whitespace();
    let (value, timestamp) = (words.next()?, words.next());
    (words.next().is_none() && value.parse::<f64>().is_ok()).then_some(Series {
        name,
        labels,
        value,
        timestamp,
        written,
    })
}

/// Removes the quotes from the beginning of `text`, and returns what follows them.
fn quoted_text(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut letters = inside.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((out, &inside[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => out.push('\n'),
                other => out.push(other),
            },
            letter => out.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_into_name_labels_value_and_time() {
        let cuts = |line: &str| {
            let series = cut(line)?;
            let labels: Vec<_> =
                series.labels.iter().map(|(name, text)| format!("{name}={text}")).collect();
            Some(format!(
                "{} [{}] {} {:?}",
                series.name,
                labels.join(";"),
                series.value,
                series.timestamp
            ))
        };
        for (line, want) in [
            ("up 1", Some("up [] 1 None")),
            ("a:b{} 2.5e9 1931336400000", Some("a:b [] 2.5e9 Some(\"1931336400000\")")),
            ("a{x=\"1\", y=\"}, \\\"z\"} 3", Some("a [x=1;y=}, \"z] 3 None")),
            ("a_total{x=\"1\"} 3 # {trace=\"q\"} 1", Some("a_total [x=1] 3 None")),
            ("a{x=\"1} 3", None),
            ("a{x=1} 3", None),
            ("a", None),
            ("a three", None),
            ("a 1 2 3", None),
            ("1 a", None),
        ] {
            assert_eq!(cuts(line).as_deref(), want, "{line}");
        }
    }
}
