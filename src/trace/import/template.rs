//! Lines of plain text, cut by a template: `{time}: MA={available}={} MF={}`.
//!
//! Words stand for themselves, a blank for any run of blanks, `{ }` for blanks that may be missing, `{name}` for a cell
//! and `{}` for one that is ignored. `{#name}` and `{#}` are cells that must be numbers: a line with a column more does
//! not fit then, where its numbers would be taken for one another. A cell ends where the text after it is first found.
//! There are no alternatives: no log that we have met needs the further power of regular expressions.

use crate::trace::import::number;
use crate::trace::import::table::Cell;

/// A template, ready to cut lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Words(String),
    /// A cell's name, empty if it is skipped, and whether it must be a number.
    Cell(String, bool),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When a brace is unmatched, or two cells touch: the end of the first one would be unknown.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut words = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let Some((name, after)) = behind.split_once('}') else {
                return Err(format!("a brace of the template \"{text}\" is not closed"));
            };
            words.push_str(before);
            rest = after;
            if name == " " {
                words.push(MAYBE);
                continue;
            }
            let is_solid = words.chars().any(|c| c != MAYBE);
            if !is_solid && matches!(parts.last(), Some(Part::Cell(..))) {
                return Err(format!(
                    "two cells of the template \"{text}\" touch: put what is between them"
                ));
            }
            if !words.is_empty() {
                parts.push(Part::Words(std::mem::take(&mut words)));
            }
            let is_number = name.starts_with('#');
            parts.push(Part::Cell(name.trim_start_matches('#').to_owned(), is_number));
        }
        if rest.contains('}') {
            return Err(format!("a brace of the template \"{text}\" is not opened"));
        }
        words.push_str(rest);
        if !words.is_empty() {
            parts.push(Part::Words(words));
        }
        Ok(Self(parts))
    }

    /// Returns the names of its cells.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Cell(name, _) if !name.is_empty() => Some(name.as_str()),
            Part::Cell(..) | Part::Words(_) => None,
        })
    }

    /// Returns how many letters, digits and marks the line must have: how specific it is.
    pub(crate) fn letters(&self) -> usize {
        let words = self.0.iter().map(|part| match part {
            Part::Words(words) => {
                words.chars().filter(|&c| !c.is_whitespace() && c != MAYBE).count()
            }
            Part::Cell(..) => 0,
        });
        words.sum()
    }

    /// Cuts a line, and passes on each cell that has a name. Returns whether the line fits; if not, nothing is passed
    /// on.
    pub(crate) fn cut<'a>(&self, line: &'a str, mut set: impl FnMut(&str, Cell<'a>)) -> bool {
        let line = line.trim_end();
        let mut found = Vec::with_capacity(self.0.len());
        let mut at = 0;
        let mut open: Option<(&str, bool)> = None;
        for part in &self.0 {
            match part {
                Part::Cell(name, is_number) => open = Some((name, *is_number)),
                Part::Words(words) => {
                    let place = match open {
                        None => starts_at(line, at, words).map(|end| (at, end)),
                        Some(_) => find(line, at, words),
                    };
                    let Some((begin, end)) = place else { return false };
                    if let Some(cell) = open.take() {
                        found.push((cell, at, begin));
                    }
                    at = end;
                }
            }
        }
        match open {
            Some(cell) => found.push((cell, at, line.len())),
            None if at < line.len() => return false,
            None => {}
        }
        let is_right = |&((_, is_number), begin, end): &((&str, bool), usize, usize)| {
            !is_number || number::decimal(line[begin..end].trim(), None).is_some()
        };
        if !found.iter().all(is_right) {
            return false;
        }
        for ((name, _), begin, end) in found {
            if !name.is_empty() {
                let raw = &line[begin..end];
                let blanks = raw.len() - raw.trim_start().len();
                set(name, Cell { column: (begin + blanks) as u64 + 1, text: raw.trim() });
            }
        }
        true
    }
}

/// Finds the first position from `from` on at which `words` occur, and returns its beginning and end.
fn find(line: &str, from: usize, words: &str) -> Option<(usize, usize)> {
    let places = line[from..].char_indices().map(|(at, _)| from + at);
    places.into_iter().find_map(|at| Some((at, starts_at(line, at, words)?)))
}

/// Returns the end of `words` if they occur at `at`.
fn starts_at(line: &str, at: usize, words: &str) -> Option<usize> {
    let mut rest = &line[at..];
    for word in words.chars() {
        match word {
            MAYBE => rest = rest.trim_start(),
            ' ' => {
                let behind = rest.trim_start();
                // A line's trailing blanks were cut off: the blanks of the template count as present there.
                // Neighbouring blanks are one run.
                let is_run = rest.len() < line.len() - at
                    && line[..line.len() - rest.len()].ends_with(char::is_whitespace);
                if behind.len() == rest.len() && !rest.is_empty() && !is_run {
                    return None;
                }
                rest = behind;
            }
            word => rest = rest.strip_prefix(word)?,
        }
    }
    Some(line.len() - rest.len())
}

/// In a template's words: blanks that may be missing.
const MAYBE: char = '\0';

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, line: &str, want: Option<&[(&str, u64, &str)]>) {
        let mut got = Vec::new();
        let fits = Template::parse(template)
            .unwrap()
            .cut(line, |name, cell| got.push((name.to_owned(), cell.column, cell.text)));
        let got: Vec<_> =
            got.iter().map(|(n, column, text)| (n.as_str(), *column, *text)).collect();
        assert_eq!(fits.then_some(got.as_slice()), want, "{template:?} over {line:?}");
    }

    #[test]
    fn a_line_is_cut_where_the_words_of_the_template_stand() {
        check(
            "{t}: MA={a}={} SU={s}",
            "9,5: MA=7=76% MF=1 SU=0 ",
            Some(&[("t", 1, "9,5"), ("a", 9, "7"), ("s", 23, "0")]),
        );
        check(
            "{t}: {a} | {b} {}",
            "1:   2.5 |   3   4 | 5",
            Some(&[("t", 1, "1"), ("a", 6, "2.5"), ("b", 14, "3")]),
        );
        check("{}--{}", "1: -- | --", Some(&[]));
        check("Exit.", "Exit.", Some(&[]));
        check("{a}{ }MiB /{ }{b}", "3MiB /  4", Some(&[("a", 1, "3"), ("b", 9, "4")]));
        check("{a}{ }MiB /{ }{b}", "3 MiB /4", Some(&[("a", 1, "3"), ("b", 8, "4")]));
        check("{ }{#a} {#}", " 1   2.5", Some(&[("a", 2, "1")]));
        check("{t}: é{a}", "1: é°2", Some(&[("t", 1, "1"), ("a", 6, "°2")]));
    }

    #[test]
    fn a_line_that_does_not_fit_gives_nothing() {
        check("{t}: MA={a} SU={s}", "9: MA=7 MF=1", None);
        check("Exit.", "Exit. 1", None);
        check("{t} end", "1 end of it", None);
        check("a b", "ab", None);
        check("a", "", None);
        check("{#a} {b}", "08:00 2", None);
        check("{#a} {#}", "1 2 3", None);
    }

    #[test]
    fn a_template_that_could_not_be_cut_is_refused() {
        for wrong in ["{a", "a}", "{a}{b}", "{a}{}", "{a}{ }{b}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
        let template = Template::parse("{a} {} {b}").unwrap();
        assert_eq!(template.names().collect::<Vec<_>>(), ["a", "b"]);
    }
}
