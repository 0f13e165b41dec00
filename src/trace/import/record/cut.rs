//! Cuts a file into records: rows of a table, lines of a text.

use std::sync::Arc;

use crate::trace::TraceError;
use crate::trace::defects::{DefectKind, Defects, Place, quoted};
use crate::trace::import::clock;
use crate::trace::import::mapping::{LineSort, Mapping};
use crate::trace::import::number;
use crate::trace::import::record::{Found, Header, Period, Presence, Records};
use crate::trace::import::table::{self, Cell};
use crate::trace::source::{Line, Source};

impl Records {
    pub(super) fn next_row(
        &mut self,
        source: &mut Source,
        defects: &mut Defects,
    ) -> Result<Option<Place>, TraceError> {
        let mapping = Arc::clone(&self.mapping);
        let layout = &mapping.layout;
        loop {
            let early = self.early.pop_front_if(|_| self.header.is_some());
            let line = match &early {
                Some((number, bytes)) => Line { bytes, number: *number, ended: true },
                None => match source.row(|line| table::is_open(line, layout.separator))? {
                    Some(line) => line,
                    None => break,
                },
            };
            let number = line.number;
            let here = Place { line: number, column: 1 };
            self.is_cut = !line.ended && ends_in_number(line.bytes);
            let Some(text) = table::decode(line.bytes, layout.encoding.as_deref()) else {
                defects.note(DefectKind::UnreadableRow, here, || NOT_UTF_8.to_owned())?;
                continue;
            };
            let text = text.trim_start_matches('\u{feff}');
            // A run of NUL bytes is a hole: the machine stopped before the file system wrote the content.
            let (text, hole) = match text.split_once('\0') {
                Some((before, _)) => (before, true),
                None => (text, false),
            };
            if hole {
                let place = Place { line: number, column: text.len() as u64 + 1 };
                defects.note(DefectKind::UnreadableRow, place, || {
                    "NUL bytes: the content of this line is lost".to_owned()
                })?;
                // The part of a row before a hole may end inside a number; a header's names are still valid.
                if self.header.is_some() {
                    continue;
                }
            }
            let mark = layout
                .header_marks
                .iter()
                .find(|mark| text.trim_start().starts_with(mark.as_str()));
            if mark.is_none()
                && layout.comment.as_ref().is_some_and(|mark| text.starts_with(mark.as_str()))
            {
                continue;
            }
            let text =
                if mark.is_some() { text.trim_start().trim_start_matches('#') } else { text };
            let mut cells = Vec::new();
            let width = table::cells(text, layout.separator, &mut cells);
            let Some(first) = cells.first() else {
                defects.note(DefectKind::BlankRow, here, || "an empty line".to_owned())?;
                continue;
            };
            let is_header = match &layout.tag {
                _ if is_one_of(first.text, &layout.ignore) => continue,
                _ if layout.period.as_ref().is_some_and(|period| period.mark == first.text) => {
                    self.begin_period(&cells, here, defects)?;
                    continue;
                }
                _ if mark.is_some() => true,
                None if !layout.header_marks.is_empty() => false,
                Some(tag) if is_one_of(first.text, &tag.ignore) => continue,
                Some(tag) if first.text == tag.header => true,
                Some(tag) if tag.sample.as_ref().is_none_or(|sample| first.text == sample) => false,
                Some(_) => {
                    defects.note(DefectKind::UnreadableRow, here, || {
                        format!("a line of an unknown kind: \"{}\"", quoted(first.text))
                    })?;
                    continue;
                }
                None if layout.word_header => names_columns(&cells),
                None => self
                    .header
                    .as_ref()
                    .is_none_or(|header| header.is_repeated_by(&cells, &mapping)),
            };
            if is_header {
                let names = match self.group_names(number, &cells) {
                    // The line below it names the columns.
                    None => continue,
                    Some(names) => names,
                };
                let named = cells.iter().zip(&names);
                let cells: Vec<_> = named.map(|(cell, text)| Cell { text, ..*cell }).collect();
                let header = self.place_columns(&cells, width);
                let is_other =
                    self.header.as_ref().is_some_and(|known| known.names != header.names);
                // A header that is known by its sign may occur again: the tool was restarted.
                let is_marked = layout.tag.is_some() || layout.word_header || mark.is_some();
                let lacks = header.lacks(&mapping);
                if self.header.is_none()
                    && !is_marked
                    && header.positions.iter().all(Option::is_none)
                {
                    let (line, reason) =
                        self.no_header.get_or_insert((number, lacks.unwrap_or_default())).clone();
                    if self.lines_above == MOST_ABOVE {
                        return Err(source.malformed(line, 1, reason));
                    }
                    self.lines_above += 1;
                    defects.note(DefectKind::UnreadableRow, here, || {
                        "a line above the header: no column is in it".to_owned()
                    })?;
                    continue;
                }
                if self.header.is_some() && !is_marked {
                    defects.note(DefectKind::RepeatedHeader, here, || match is_other {
                        true => "another header: it applies to the rows after it".to_owned(),
                        false => "the header again".to_owned(),
                    })?;
                }
                // Groups of columns are from runs that follow one another.
                if !layout.groups {
                    self.clock.turn_to(header.without_times(&mapping));
                }
                self.left_out = 0;
                self.note_unread(&header);
                if let Some(reason) = lacks {
                    return Err(source.malformed(number, 1, reason));
                }
                self.header = Some(header);
                continue;
            }
            let Some(header) = &self.header else {
                // The header may come later: the beginning of a log is lost, or it was reversed.
                if self.early.len() < MOST_EARLY {
                    self.early.push_back((number, line.bytes.to_vec()));
                    continue;
                }
                defects.note(DefectKind::UnreadableRow, here, || {
                    "a row before any header".to_owned()
                })?;
                continue;
            };
            // `CPU*` in a header stands for as many columns as there are.
            let is_open = header.names.last().is_some_and(|name| name.ends_with('*'));
            let is_askew = width < header.names.len() || (cells.len() > header.width && !is_open);
            // Its columns were named as unread: the names of devices have blanks, or are missing.
            if is_askew && !header.gives_fields {
                continue;
            }
            if is_askew {
                defects.note(DefectKind::UnreadableRow, here, || match header.is_of_file {
                    true => format!("the row has {width} cells, the header has {}", header.names.len()),
                    false => format!(
                        "the row has {width} cells and the file no header, of which {} were expected: name them all, \
                         `--columns NAME,..`",
                        header.names.len()
                    ),
                })?;
                continue;
            }
            for (found, position) in self.cells.iter_mut().zip(&header.positions) {
                found.set(
                    position.map(|at| cells.get(at).map_or(("", 1), |c| (c.text, c.column))),
                    &layout.missing,
                );
            }
            if !self.counts() {
                continue;
            }
            let column =
                mapping.time.columns.first().map_or(1, |&time| self.cells[time].column.max(1));
            return Ok(Some(Place { line: number, column }));
        }
        Ok(None)
    }

    /// Returns whether the present row is one that the mapping wants.
    pub(super) fn counts(&self) -> bool {
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
        while let Some(line) = source.line()? {
            let place = Place { line: line.number, column: 1 };
            self.is_cut = !line.ended && ends_in_number(line.bytes);
            let Some(text) = table::decode(line.bytes, mapping.layout.encoding.as_deref()) else {
                defects.note(DefectKind::UnreadableRow, place, || NOT_UTF_8.to_owned())?;
                continue;
            };
            let text = text.trim_start_matches('\u{feff}');
            let fitting = mapping.text.0.iter().position(|line| line.template.cut(text, |_, _| {}));
            let Some(fitting) = fitting else {
                if text.trim().is_empty() {
                    defects.note(DefectKind::BlankRow, place, || "an empty line".to_owned())?;
                } else {
                    defects.note(DefectKind::UnreadableRow, place, || {
                        format!("\"{}\" does not match any line of {}", quoted(text), mapping.name)
                    })?;
                }
                continue;
            };
            self.taken[fitting] += 1;
            if std::mem::take(&mut self.are_parts_used) {
                let parts = mapping.text.0.iter().filter(|line| line.sort == LineSort::Next);
                for name in parts.flat_map(|line| line.template.names()) {
                    self.cells[mapping.column(name)].set(None, &[]);
                }
            }
            match mapping.text.0[fitting].sort {
                LineSort::Skip => {}
                LineSort::Next => self.take_text(&mapping, fitting, text),
                LineSort::Told => {
                    let mut names = mapping.text.0[fitting].template.names();
                    let is_time = |name| mapping.time.columns.contains(&mapping.column(name));
                    if mapping.layout.leave_out_again && names.any(is_time) {
                        self.left_out = 0;
                    }
                    self.take_text(&mapping, fitting, text);
                }
                LineSort::Row => {
                    self.are_parts_used = true;
                    // Cells of another kind of row are not part of this one; cells of lines before it are.
                    let names = |sort| {
                        let lines = mapping.text.0.iter().filter(move |line| line.sort == sort);
                        lines.flat_map(|line| line.template.names())
                    };
                    for name in names(LineSort::Row) {
                        if !names(LineSort::Next).any(|part| part == name) {
                            self.cells[mapping.column(name)].set(None, &[]);
                        }
                    }
                    self.take_text(&mapping, fitting, text);
                    if self.counts() {
                        return Ok(Some(place));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Reads from the beginning of a file what applies to all its records, for those that come before it. A date is not
    /// included: it applies to what is below it.
    pub(crate) fn foretell(&mut self, head: &str) {
        let mapping = Arc::clone(&self.mapping);
        for line in head.lines() {
            let fitting = mapping.text.0.iter().find(|known| known.template.cut(line, |_, _| {}));
            let Some(told) = fitting.filter(|known| known.sort == LineSort::Told) else { continue };
            told.template.cut(line, |name, cell| {
                let column = mapping.column(name);
                let is_time = mapping.time.columns.contains(&column);
                if !is_time && self.cells[column].presence == Presence::NoColumn {
                    let cell = Some((cell.text, cell.column));
                    self.cells[column].set(cell, &mapping.layout.missing);
                }
            });
        }
    }

    /// Takes the cells of a line that fits a template. Cells of earlier lines stay.
    fn take_text(&mut self, mapping: &Mapping, template: usize, text: &str) {
        mapping.text.0[template].template.cut(text, |name, cell| {
            let cell = Some((cell.text, cell.column));
            self.cells[mapping.column(name)].set(cell, &mapping.layout.missing);
        });
    }

    /// Returns the names of a header's columns; `None` for a line that only names their groups.
    fn group_names(&mut self, line: u64, cells: &[Cell<'_>]) -> Option<Vec<String>> {
        let own = cells.iter().map(|cell| cell.text.to_owned());
        if !self.mapping.layout.groups {
            return Some(own.collect());
        }
        let Some((_, groups)) = self.groups.take_if(|(above, _)| *above + 1 == line) else {
            self.groups = Some((line, own.collect()));
            // Rows below this line do not belong to the header before it.
            if let Some(header) = &mut self.header {
                header.positions.fill(None);
            }
            return None;
        };
        let mut group = String::new();
        let named = own.enumerate().map(|(at, name)| {
            if let Some(begins) = groups.get(at).filter(|text| !text.is_empty()) {
                group.clone_from(begins);
            }
            format!("{group}/{name}")
        });
        Some(named.collect())
    }

    /// Begins with the times of the first day again, or with those of the day whose date a line names.
    fn begin_period(
        &mut self,
        cells: &[Cell<'_>],
        place: Place,
        defects: &Defects,
    ) -> Result<(), TraceError> {
        let text = |at: usize| cells.get(at).map_or("", |cell| cell.text).to_owned();
        let at = self.mapping.layout.period.as_ref().and_then(|period| period.machine);
        let machine = at.map(|at| text(at.saturating_sub(1))).unwrap_or_default();
        let date = cells.iter().map(|cell| cell.text).find(|text| clock::is_date(text));
        let date = date.unwrap_or_default().to_owned();
        let Some(first) = &self.first_period else {
            self.first_period = Some(Period { machine, date: date.clone() });
            self.last_period = Some((date, 0));
            return Ok(());
        };
        if machine != first.machine {
            let reason = format!(
                "reports of several machines, \"{}\" and \"{}\": keep those of one",
                quoted(&first.machine),
                quoted(&machine)
            );
            return Err(defects.refuse(place, reason));
        }
        // Reports of one day may be of parts of it: each table goes on where it was.
        let is_same_day = self.last_period.as_ref().is_some_and(|(last, _)| *last == date);
        if !is_same_day && let Some(days) = clock::days_between(&first.date, &date) {
            self.clock.begin_period(days);
            self.last_period = Some((date, days));
        }
        Ok(())
    }

    /// Remembers the columns of a header that are not read.
    fn note_unread(&mut self, header: &Header) {
        for (at, name) in header.names.iter().enumerate() {
            // The sign of a header is not a column.
            let is_sign = at == 0 && self.mapping.layout.tag.is_some();
            let is_read = is_sign || name.is_empty() || header.positions.contains(&Some(at));
            if !is_read && self.unread.len() < MOST_UNREAD && !self.unread.contains(name) {
                self.unread.push(name.clone());
            }
        }
    }

    pub(super) fn place_columns(&self, cells: &[Cell<'_>], width: usize) -> Header {
        let positions: Vec<_> =
            self.mapping.columns.iter().map(|name| table::find(cells, name)).collect();
        let units = positions.iter().zip(&self.mapping.columns).map(|(position, name)| {
            let header = cells.get((*position)?)?.text;
            // If the mapping names the column with its brackets, it has also defined their meaning.
            table::unit_of(header).filter(|_| header != name)?.parse().ok()
        });
        let gives_fields = self.mapping.fields.iter().any(|field| {
            let columns = field.columns().chain(field.only.iter().map(|(at, _)| *at));
            columns.into_iter().any(|at| positions[at].is_some())
        });
        Header {
            gives_fields,
            names: cells.iter().map(|cell| cell.text.to_owned()).collect(),
            width,
            units: units.collect(),
            positions,
            is_of_file: true,
            is_of_person: false,
        }
    }
}

impl Header {
    /// Returns whether a row repeats the column names: the cell of its time contains the name of the time's column,
    /// here or in the row itself.
    fn is_repeated_by(&self, cells: &[Cell<'_>], mapping: &Mapping) -> bool {
        let times = &mapping.time.columns;
        let is_name = |&at: &usize| {
            let here = self.positions[at]
                .and_then(|position| Some(self.names.get(position)? == cells.get(position)?.text));
            let name = &mapping.columns[at];
            here == Some(true)
                || !name.starts_with(['#', '*']) && table::find(cells, name).is_some()
        };
        if times.iter().all(|&at| self.positions[at].is_none()) {
            return self.names.iter().map(String::as_str).eq(cells.iter().map(|cell| cell.text));
        }
        self.is_of_file && times.iter().all(is_name)
    }

    /// Returns the names of its columns but those of the time, which may be times themselves.
    fn without_times(&self, mapping: &Mapping) -> Vec<String> {
        let is_time = |at: usize| {
            mapping.time.columns.iter().any(|&column| self.positions[column] == Some(at))
        };
        let names = self.names.iter().enumerate().filter(|(at, _)| !is_time(*at));
        names.map(|(_, name)| name.clone()).collect()
    }

    /// Returns which column is missing: one of the time, or every one if rows have no time.
    fn lacks(&self, mapping: &Mapping) -> Option<String> {
        let time = &mapping.time;
        if time.interval_ns.is_some() {
            let is_known = self.positions.iter().any(Option::is_some);
            return (!is_known)
                .then(|| format!("the header has no column that {} reads", mapping.name));
        }
        let mut needed = time.columns.iter().chain(&time.minus).copied();
        let missing = &mapping.columns[needed.find(|&at| self.positions[at].is_none())?];
        let remedy = time.remedy.as_ref().map_or_else(String::new, |remedy| format!(": {remedy}"));
        Some(format!(
            "the header has no column `{}`, which {} needs{remedy}",
            missing.replace('|', "` or `"),
            mapping.name,
        ))
    }
}

impl Found {
    pub(super) fn set(&mut self, cell: Option<(&str, u64)>, missing: &[String]) {
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

/// Returns whether a row consists of words: it contains no number except that of its time.
fn names_columns(cells: &[Cell<'_>]) -> bool {
    let is_number =
        |cell: &Cell<'_>| number::decimal(cell.text.trim_end_matches('%'), None).is_some();
    cells.len() > 1 && !cells.iter().any(is_number)
}

/// Returns whether a line ends in a digit, after which there may have been more.
fn ends_in_number(line: &[u8]) -> bool {
    line.last().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.')
}

pub(super) const NOT_UTF_8: &str = "not UTF-8";
/// The most columns that are remembered as unread. Chosen: more than a user looks through.
const MOST_UNREAD: usize = 256;
/// The most lines above a header. Chosen: a banner, or a command with its options.
const MOST_ABOVE: u32 = 64;
/// The most rows that are held until a header comes. Chosen: a day at one per second, some 20 MB.
const MOST_EARLY: usize = 86_400;

fn is_one_of(text: &str, words: &[String]) -> bool {
    words.iter().any(|word| match word.strip_suffix('*') {
        Some(beginning) => text.starts_with(beginning),
        None => word == text,
    })
}
