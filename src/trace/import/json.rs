//! Records from one large JSON value, one at a time: the file is never held as a whole.

use crate::trace::TraceError;
use crate::trace::source::Source;

/// Walks a JSON file and stops at each value whose path fits a pattern.
#[derive(Clone, Debug)]
pub(crate) struct Scanner {
    /// One part for each level: a key, or `*` for every key or index.
    pattern: Vec<String>,
    /// The open containers, outermost first, and whether the path to them fits.
    open: Vec<Container>,
    expect: Expect,
    /// Whether the next value fits the pattern so far.
    fits: bool,
    pushed_back: Option<u8>,
    column: u64,
}

#[derive(Clone, Copy, Debug)]
struct Container {
    is_object: bool,
    fits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrClose,
    Key,
    KeyOrClose,
    Colon,
    CommaOrClose,
}

/// The beginning of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub line: u64,
    pub column: u64,
}

impl Scanner {
    /// Looks for records at `path`, such as `/sysstat/hosts/*/statistics/*`.
    pub(crate) fn new(path: &str) -> Self {
        let parts = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned);
        Self {
            pattern: parts.collect(),
            open: Vec::new(),
            expect: Expect::Value,
            fits: true,
            pushed_back: None,
            column: 0,
        }
    }

    /// Copies the next record's text into `record` and returns where it began; `None` at the end.
    pub(crate) fn next(
        &mut self,
        source: &mut Source,
        record: &mut Vec<u8>,
    ) -> Result<Option<Start>, TraceError> {
        loop {
            let Some(byte) = self.solid_byte(source)? else {
                if self.open.is_empty() {
                    return Ok(None);
                }
                return Err(self.refuse(source, CUT_OFF));
            };
            match (self.expect, byte) {
                (Expect::ValueOrClose | Expect::CommaOrClose, b']') => self.close(source, false)?,
                (Expect::KeyOrClose | Expect::CommaOrClose, b'}') => self.close(source, true)?,
                (Expect::Value | Expect::ValueOrClose, _) => {
                    if self.fits && self.open.len() == self.pattern.len() {
                        let start = Start { line: source.line_number(), column: self.column };
                        self.capture(source, byte, record)?;
                        self.after_value();
                        return Ok(Some(start));
                    }
                    self.enter(source, byte)?;
                }
                (Expect::Key | Expect::KeyOrClose, b'"') => {
                    let mut key = Vec::new();
                    self.string(source, &mut key)?;
                    self.fits = self.child_fits(Some(&key));
                    self.expect = Expect::Colon;
                }
                (Expect::Colon, b':') => self.expect = Expect::Value,
                (Expect::CommaOrClose, b',') => {
                    let in_object = self.open.last().is_some_and(|open| open.is_object);
                    self.expect = if in_object { Expect::Key } else { Expect::Value };
                    self.fits = self.child_fits(None);
                }
                _ => {
                    let what = format!("unexpected `{}` in JSON", byte.escape_ascii());
                    return Err(self.refuse(source, &what));
                }
            }
        }
    }

    fn enter(&mut self, source: &mut Source, byte: u8) -> Result<(), TraceError> {
        if byte == b'{' || byte == b'[' {
            if self.open.len() == DEEPEST {
                return Err(self.refuse(source, "JSON nested deeper than 64 levels"));
            }
            let is_object = byte == b'{';
            self.open.push(Container { is_object, fits: self.fits });
            self.fits = self.child_fits(None);
            self.expect = if is_object { Expect::KeyOrClose } else { Expect::ValueOrClose };
            return Ok(());
        }
        if !matches!(byte, b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') {
            let what = format!("unexpected `{}` in JSON", byte.escape_ascii());
            return Err(self.refuse(source, &what));
        }
        let mut skipped = Vec::new();
        self.capture(source, byte, &mut skipped)?;
        self.after_value();
        Ok(())
    }

    /// Returns whether a child of the innermost container fits the pattern.
    fn child_fits(&self, key: Option<&[u8]>) -> bool {
        let Some(parent) = self.open.last() else { return true };
        let Some(part) = self.pattern.get(self.open.len() - 1) else { return false };
        parent.fits && (part == "*" || key == Some(part.as_bytes()))
    }

    fn close(&mut self, source: &Source, object: bool) -> Result<(), TraceError> {
        match self.open.pop() {
            Some(open) if open.is_object == object => {
                self.after_value();
                Ok(())
            }
            _ => Err(self.refuse(source, "a bracket in JSON that closes nothing")),
        }
    }

    fn after_value(&mut self) {
        self.expect = if self.open.is_empty() { Expect::Value } else { Expect::CommaOrClose };
        self.fits = self.open.is_empty();
    }

    /// Copies one value, balanced by its brackets; the parser checks whether it is well-formed inside.
    fn capture(
        &mut self,
        source: &mut Source,
        first: u8,
        into: &mut Vec<u8>,
    ) -> Result<(), TraceError> {
        into.clear();
        let mut depth = 0_usize;
        let mut byte = first;
        loop {
            match byte {
                b'"' => {
                    into.push(b'"');
                    self.string(source, into)?;
                    into.push(b'"');
                }
                b'{' | b'[' => {
                    depth += 1;
                    into.push(byte);
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    into.push(byte);
                }
                _ => into.push(byte),
            }
            if into.len() > RECORD_LIMIT {
                return Err(self.refuse(source, "a JSON record longer than 16 MiB"));
            }
            let simple = !matches!(byte, b'"' | b'}' | b']');
            if depth == 0 && !simple {
                return Ok(());
            }
            let Some(next) = self.any_byte(source)? else {
                return Err(self.refuse(source, CUT_OFF));
            };
            if depth == 0 && (next.is_ascii_whitespace() || b",]}".contains(&next)) {
                self.pushed_back = Some(next);
                return Ok(());
            }
            byte = next;
        }
    }

    /// Copies the content of a string up to its closing quote.
    fn string(&mut self, source: &mut Source, into: &mut Vec<u8>) -> Result<(), TraceError> {
        loop {
            match self.any_byte(source)? {
                None => return Err(self.refuse(source, CUT_OFF)),
                Some(b'"') => return Ok(()),
                Some(b'\\') => {
                    into.push(b'\\');
                    into.extend(self.any_byte(source)?);
                }
                Some(byte) => into.push(byte),
            }
            if into.len() > RECORD_LIMIT {
                return Err(self.refuse(source, "a JSON string longer than 16 MiB"));
            }
        }
    }

    fn solid_byte(&mut self, source: &mut Source) -> Result<Option<u8>, TraceError> {
        loop {
            match self.any_byte(source)? {
                Some(byte) if byte.is_ascii_whitespace() => {}
                other => return Ok(other),
            }
        }
    }

    fn any_byte(&mut self, source: &mut Source) -> Result<Option<u8>, TraceError> {
        if let Some(byte) = self.pushed_back.take() {
            return Ok(Some(byte));
        }
        let byte = source.byte()?;
        self.column = if byte == Some(b'\n') { 0 } else { self.column + 1 };
        Ok(byte)
    }

    fn refuse(&self, source: &Source, reason: &str) -> TraceError {
        source.malformed(source.line_number(), self.column.max(1), reason)
    }
}

const CUT_OFF: &str = "the file ends inside a JSON value: it is cut off, fetch or record it again";
/// The longest record. Chosen: a series of a month at ten seconds takes 8 MiB.
const RECORD_LIMIT: usize = 16 << 20;
/// Chosen: no trace nests deeper than six levels.
const DEEPEST: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, want: &[&str]) {
        let mut source = Source::new(Cursor::new(text.to_owned()), "test", None).unwrap();
        let mut scanner = Scanner::new(path);
        let (mut record, mut got) = (Vec::new(), Vec::new());
        loop {
            match scanner.next(&mut source, &mut record) {
                Ok(Some(_)) => got.push(String::from_utf8(record.clone()).unwrap()),
                Ok(None) => break,
                Err(error) => {
                    got.push(error.to_string());
                    break;
                }
            }
        }
        assert_eq!(got, want, "{path} in {text}");
    }

    #[test]
    fn records_are_found_by_their_path() {
        check("/*", r#"{"0": {"a": 1}, "1": {"a": "}"}}"#, &[r#"{"a": 1}"#, r#"{"a": "}"}"#]);
        check("/*", "[1, [2], \"x\\\"y\"]", &["1", "[2]", "\"x\\\"y\""]);
        check("/a/*/b", r#"{"z": [{"b": 0}], "a": [{"b": 1, "c": 2}, {"b": 3}]}"#, &["1", "3"]);
        check("/a", r#"{"b": {"a": 1}}"#, &[]);
        check("/*", "{}", &[]);
    }

    #[test]
    fn broken_json_is_refused_with_its_place() {
        let cut =
            "test:1:13: the file ends inside a JSON value: it is cut off, fetch or record it again";
        check("/*", r#"[{"a": 1},  "#, &[r#"{"a": 1}"#, cut]);
        check("/*", "{\n]", &["test:2:1: unexpected `]` in JSON"]);
        check("/*", "}", &["test:1:1: unexpected `}` in JSON"]);
    }
}
