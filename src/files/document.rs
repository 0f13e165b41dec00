//! TOML files that users write: one way to read them, one way to report what is wrong with them.
//!
//! Every refusal names the file, line and column, shows the line with a mark under the place, and gives a remedy. An
//! unknown word is answered with the nearest known one.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::de::DeserializeOwned;
use tiershift_core::policy::Registry;
use tiershift_core::settings::PolicyName;

/// Why a document was refused, ready to print: several lines that show the place.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", refusal.rendered)]
pub struct DocumentError {
    refusal: Box<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    rendered: String,
    title: String,
    position: Position,
    remedy: Option<String>,
}

/// A position in a text file, as editors count.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Position {
    /// The file's name, as it was given.
    pub file: String,
    /// The line, from 1 on.
    pub line: usize,
    /// The character in it, from 1 on; absent for the whole line.
    pub column: Option<usize>,
}

impl DocumentError {
    /// Returns what is wrong, in one line.
    pub fn title(&self) -> &str {
        &self.refusal.title
    }

    /// Returns its position.
    pub fn position(&self) -> &Position {
        &self.refusal.position
    }

    /// Returns the remedy, if known.
    pub fn remedy(&self) -> Option<&str> {
        self.refusal.remedy.as_deref()
    }
}

/// A document's text and its name in errors, usually its path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document<'a> {
    name: &'a str,
    text: &'a str,
}

/// Keys that a table accepts besides those that the parser lists. For a table that is read in two steps (common keys,
/// then those of its kind), the parser lists only the second.
pub(crate) type CommonKeys<'a> = &'a [(&'a str, &'a [&'a str])];

impl<'a> Document<'a> {
    pub(crate) fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text }
    }

    /// Reads the document as a `T`.
    ///
    /// # Errors
    /// When it is not TOML, or not a `T`; with the position.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        common: CommonKeys<'_>,
    ) -> Result<T, DocumentError> {
        toml::from_str(self.text).map_err(|error| self.explain(&error, common))
    }

    /// Refuses what parses but is not valid. The mark is under `key` of the table at `table`, or under the table's head
    /// if the key is not written.
    pub(crate) fn refuse(
        &self,
        table: Range<usize>,
        key: &str,
        title: &str,
        remedy: &str,
    ) -> DocumentError {
        let extent = self.extent(&table);
        let place = self.key_place(&extent, key).unwrap_or_else(|| self.first_line(&extent));
        self.render(title, place, None, Some(remedy))
    }

    /// Refuses the document as a whole, or a top-level key of it.
    pub(crate) fn refuse_key(&self, key: &str, title: &str, remedy: &str) -> DocumentError {
        let head = 0..self.text.find("\n[").unwrap_or(self.text.len());
        let place = self
            .key_place(&head, key)
            .or_else(|| self.table_place(key))
            .unwrap_or_else(|| self.first_line(&(0..self.text.len())));
        self.render(title, place, None, Some(remedy))
    }

    /// Refuses a key of the table of this name.
    pub(crate) fn refuse_in(
        &self,
        table: &str,
        key: &str,
        title: &str,
        remedy: &str,
    ) -> DocumentError {
        match self.table_place(table) {
            Some(place) => self.refuse(place, key, title, remedy),
            None => self.refuse_key(table, title, remedy),
        }
    }

    /// Refuses a key of the table of this name whose `id` key has this value; its `id` if it has no such key. The title
    /// is the complete message.
    pub(crate) fn refuse_entry(
        &self,
        table: &str,
        (id, value): (&str, &str),
        key: &str,
        title: &str,
    ) -> DocumentError {
        let header = format!("[[{table}]]");
        let quoted = format!("\"{value}\"");
        let tables = self.text.match_indices(header.as_str());
        let places = tables.filter_map(|(start, _)| {
            let extent = self.extent(&(start..start + header.len()));
            let id_place = self.key_place(&extent, id)?;
            let line = self.first_line(&(id_place.start..extent.end));
            let is_it = self.text[line].contains(&quoted);
            is_it.then(|| self.key_place(&extent, key).unwrap_or(id_place))
        });
        let place = places.last().or_else(|| self.table_place(table));
        self.render(
            title,
            place.unwrap_or_else(|| self.first_line(&(0..self.text.len()))),
            None,
            None,
        )
    }

    /// Refuses the table of this name, at the first of its keys that the title mentions.
    pub(crate) fn refuse_table(&self, table: &str, title: &str, remedy: &str) -> DocumentError {
        let extent = self.table_place(table).map_or(0..0, |place| self.extent(&place));
        let mut words = title.split([' ', ',', ':']);
        let key = words.find(|word| self.key_place(&extent, word).is_some()).unwrap_or(table);
        self.refuse_in(table, key, title, remedy)
    }

    /// Refuses a table that belongs to another: its head, or the key that contains it if it has none.
    pub(crate) fn refuse_part(
        &self,
        (table, part): (&str, &str),
        title: &str,
        remedy: &str,
    ) -> DocumentError {
        match self.table_place(&format!("{table}.{part}")) {
            Some(place) => self.render(title, place, None, Some(remedy)),
            None => self.refuse_in(table, part, title, remedy),
        }
    }

    /// Refuses an unknown policy, named in the table of this name or anywhere.
    ///
    /// # Errors
    /// With the nearest known name.
    pub(crate) fn check_policy(
        &self,
        table: Option<&str>,
        policy: &PolicyName,
        policies: &Registry,
    ) -> Result<(), DocumentError> {
        if policies.knows(policy) {
            return Ok(());
        }
        let table = table.and_then(|table| self.table_place(table));
        let extent = table.map_or(0..self.text.len(), |place| self.extent(&place));
        let place = self.word_place(&extent, policy.name());
        let place = place.unwrap_or_else(|| self.first_line(&extent));
        Err(self.unknown("policy", policy.name(), place, policies.names().collect()))
    }

    fn explain(&self, error: &toml::de::Error, common: CommonKeys<'_>) -> DocumentError {
        let message = error.message().trim_end();
        let span = error.span().unwrap_or(0..0);
        let extent = self.extent(&span);
        if let Some((word, rest)) = backticked_after(message, "unknown field ") {
            let mut known = backticked(rest);
            known.extend(common_keys(common, self.section(span.start)));
            let place = self.key_place(&extent, word).unwrap_or(span);
            return self.unknown("key", word, place, known);
        }
        if let Some((word, rest)) = backticked_after(message, "unknown variant ") {
            let place = self.word_place(&extent, word).unwrap_or(span);
            return self.unknown("value", word, place, backticked(rest));
        }
        if let Some((word, _)) = backticked_after(message, "missing field ") {
            let title = format!("key `{word}` is missing");
            let place = self.first_line(&extent);
            return self.render(&title, place, None, Some(&format!("add `{word} = ...` here")));
        }
        let place = quoted(message)
            .and_then(|word| self.word_place(&extent, word))
            .unwrap_or_else(|| self.first_line(&span));
        self.render(&lower_first(message), place, None, None)
    }

    fn unknown(
        &self,
        what: &str,
        word: &str,
        place: Range<usize>,
        mut known: Vec<&str>,
    ) -> DocumentError {
        known.sort_unstable();
        known.dedup();
        let title = format!("unknown {what} `{word}`");
        let label = nearest(word, &known).map(|near| format!("did you mean `{near}`?"));
        let remedy = match known.is_empty() {
            true => format!("nothing may stand here: remove `{word}`"),
            false => format!("known here: {}", known.join(", ")),
        };
        self.render(&title, place, label.as_deref(), Some(&remedy))
    }

    fn render(
        &self,
        title: &str,
        place: Range<usize>,
        label: Option<&str>,
        remedy: Option<&str>,
    ) -> DocumentError {
        let end = place.end.min(self.text.len());
        let mut mark = AnnotationKind::Primary.span(place.start.min(end)..end);
        if let Some(label) = label {
            mark = mark.label(label);
        }
        let mut group = Level::ERROR
            .primary_title(title)
            .element(Snippet::source(self.text).path(self.name).annotation(mark));
        if let Some(remedy) = remedy {
            group = group.element(Level::HELP.message(remedy));
        }
        let rendered = Renderer::plain().render(&[group]).trim_end().to_owned();
        let before = &self.text[..place.start.min(end)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let position = Position {
            file: self.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: Some(before[line_start..].chars().count() + 1),
        };
        let remedy = match (label, remedy) {
            (Some(label), Some(remedy)) => Some(format!("{label} {remedy}")),
            (label, remedy) => label.or(remedy).map(str::to_owned),
        };
        let refusal = Refusal { rendered, title: title.to_owned(), position, remedy };
        DocumentError { refusal: Box::new(refusal) }
    }

    /// Returns the text that belongs to a span: if the span is a table's header, including the table's body.
    fn extent(&self, span: &Range<usize>) -> Range<usize> {
        let start = span.start.min(self.text.len());
        let is_header = self.text[start..].starts_with('[')
            && self.text[..start]
                .lines()
                .next_back()
                .is_none_or(|line| line.trim().is_empty() || self.text[..start].ends_with('\n'));
        if !is_header {
            return start..span.end.clamp(start, self.text.len());
        }
        let body = start + self.text[start..].find('\n').unwrap_or(self.text.len() - start);
        let end = self.text[body..].find("\n[").map_or(self.text.len(), |next| body + next);
        start..end.max(span.end.min(self.text.len()))
    }

    /// Returns the name of the table whose header is the last one before `at`.
    fn section(&self, at: usize) -> &'a str {
        let at = at.min(self.text.len());
        let line_end = self.text[at..].find('\n').map_or(self.text.len(), |next| at + next);
        self.text[..line_end]
            .lines()
            .rev()
            .find(|line| line.starts_with('['))
            .map_or("", |line| line.split(']').next().unwrap_or("").trim_start_matches('[').trim())
    }

    fn table_place(&self, name: &str) -> Option<Range<usize>> {
        [format!("[[{name}]]"), format!("[{name}]")].iter().find_map(|header| {
            let at_line_start =
                |&(start, _): &(usize, &str)| start == 0 || self.text[..start].ends_with('\n');
            let (start, _) = self.text.match_indices(header.as_str()).find(at_line_start)?;
            Some(start..start + header.len())
        })
    }

    /// Returns the position of `key` before an equals sign.
    fn key_place(&self, extent: &Range<usize>, key: &str) -> Option<Range<usize>> {
        self.places(extent, key)
            .find(|place| self.text[place.end..].trim_start_matches([' ', '"']).starts_with('='))
    }

    /// Returns the position of `word`, as a value if there is one.
    fn word_place(&self, extent: &Range<usize>, word: &str) -> Option<Range<usize>> {
        let is_key = |place: &Range<usize>| self.text[place.end..].trim_start().starts_with('=');
        self.places(extent, word)
            .find(|place| !is_key(place))
            .or_else(|| self.places(extent, word).next())
    }

    fn places(&self, extent: &Range<usize>, word: &str) -> impl Iterator<Item = Range<usize>> {
        let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        let text = &self.text[extent.clone()];
        let word_is_part = word.chars().all(is_part);
        let found: Vec<_> = text
            .match_indices(word)
            .filter(|(start, _)| {
                let before = text[..*start].chars().next_back();
                let after = text[start + word.len()..].chars().next();
                let comment =
                    text[..*start].rfind('\n').map_or(&text[..*start], |nl| &text[nl..*start]);
                let whole =
                    !word_is_part || !(before.is_some_and(is_part) || after.is_some_and(is_part));
                !word.is_empty() && whole && !comment.contains('#')
            })
            .map(|(start, _)| extent.start + start..extent.start + start + word.len())
            .collect();
        found.into_iter()
    }

    /// Returns the part of a span on its first line, so that a mark never covers a page.
    fn first_line(&self, span: &Range<usize>) -> Range<usize> {
        let start = span.start.min(self.text.len());
        let end = span.end.clamp(start, self.text.len());
        start..self.text[start..end].find('\n').map_or(end, |nl| start + nl)
    }
}

/// Returns the candidate that differs from `word` in the fewest letters, if they are few enough; the first of equals.
/// `candidates` must be sorted.
pub(crate) fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns "did you mean" for an unknown name, and the known ones.
pub(crate) fn suggestion<'c>(word: &str, known: impl IntoIterator<Item = &'c str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    match nearest(word, &known) {
        Some(near) => format!("did you mean `{near}`? known: {}", known.join(", ")),
        None => format!("known: {}", known.join(", ")),
    }
}

fn common_keys<'c>(common: CommonKeys<'c>, section: &str) -> Vec<&'c str> {
    let of_section = common.iter().filter(|(name, _)| *name == section);
    of_section.flat_map(|(_, keys)| keys.iter().copied()).collect()
}

/// Splits "PREFIX`word`REST" into word and rest.
fn backticked_after<'m>(message: &'m str, prefix: &str) -> Option<(&'m str, &'m str)> {
    message.strip_prefix(prefix)?.strip_prefix('`')?.split_once('`')
}

/// Returns every word between backticks.
fn backticked(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Returns the first quoted value in a message.
fn quoted(message: &str) -> Option<&str> {
    let start = message.find(['"', '`'])?;
    let quote = message[start..].chars().next()?;
    message[start + 1..].split(quote).next().filter(|word| !word.is_empty())
}

fn lower_first(message: &str) -> String {
    let mut letters = message.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "this is not what was expected".to_owned(),
    }
}
