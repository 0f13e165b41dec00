//! Lines cut into cells.

use std::borrow::Cow;

/// A cell: where it begins in its line (a byte, from one) and what it says, without quotes and blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell<'a> {
    pub column: u64,
    pub text: &'a str,
}

/// Returns the text of a line; what is not UTF-8 is decoded by `encoding`, or refused without one.
pub(crate) fn decode<'a>(bytes: &'a [u8], encoding: Option<&str>) -> Option<Cow<'a, str>> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Some(Cow::Borrowed(text));
    }
    let encoding = encoding_rs::Encoding::for_label(encoding?.as_bytes())?;
    Some(encoding.decode_without_bom_handling(bytes).0)
}

/// Cuts a line at `separator` and returns how many cells there were. A separator between double quotes does
/// not cut. Trailing empty cells are left out: some tools end each line with a separator.
///
/// A CSV library would take quotes across lines, so that one stray quote swallows the file, and tells no
/// column; no public trace has line ends inside a cell.
pub(crate) fn cells<'a>(line: &'a str, separator: char, into: &mut Vec<Cell<'a>>) -> usize {
    into.clear();
    let mut begin = 0;
    let mut quoted = false;
    let bytes = line.as_bytes();
    let mut push = |begin: usize, end: usize| {
        let raw = &line[begin..end];
        let text = raw.trim();
        let blanks = raw.len() - raw.trim_start().len();
        let text =
            text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map_or(text, str::trim);
        into.push(Cell { column: (begin + blanks) as u64 + 1, text });
    };
    let mut width = [0; 4];
    let separator = separator.encode_utf8(&mut width).as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'"' {
            quoted = !quoted;
        } else if !quoted && bytes[at..].starts_with(separator) {
            push(begin, at);
            at += separator.len();
            begin = at;
            continue;
        }
        at += 1;
    }
    push(begin, bytes.len());
    let count = into.len();
    while into.last().is_some_and(|cell| cell.text.is_empty()) {
        into.pop();
    }
    count
}

/// Finds a mapping's column in a header: `#3` is the third; else the whole name, then the name without a
/// unit in brackets, and `*name` is one that ends so. The first of several counts.
pub(crate) fn find(header: &[Cell<'_>], name: &str) -> Option<usize> {
    if let Some(position) = name.strip_prefix('#').and_then(|digits| digits.parse::<usize>().ok()) {
        return position.checked_sub(1);
    }
    if let Some(end) = name.strip_prefix('*') {
        return header.iter().position(|cell| cell.text.ends_with(end));
    }
    let exact = header.iter().position(|cell| cell.text == name);
    exact.or_else(|| header.iter().position(|cell| bare(cell.text) == name))
}

/// Returns the unit in brackets after a column's name.
pub(crate) fn unit_of(name: &str) -> Option<&str> {
    name.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')).map(|(_, unit)| unit)
}

fn bare(name: &str) -> &str {
    name.rsplit_once('[').map_or(name, |(bare, _)| bare.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, separator: char, want: &[(u64, &str)]) {
        let mut got = Vec::new();
        cells(line, separator, &mut got);
        let got: Vec<_> = got.iter().map(|cell| (cell.column, cell.text)).collect();
        assert_eq!(got, want, "{line:?}");
    }

    #[test]
    fn lines_are_cut_at_separators_outside_quotes() {
        check("a,b", ',', &[(1, "a"), (3, "b")]);
        check("a;\tb;\tc", ';', &[(1, "a"), (4, "b"), (7, "c")]);
        check("Time,\"x,y\",z", ',', &[(1, "Time"), (6, "x,y"), (12, "z")]);
        check(" a ,  -  , ", ',', &[(2, "a"), (7, "-")]);
        check("a,,b", ',', &[(1, "a"), (3, ""), (4, "b")]);
        check("\"open,b", ',', &[(1, "\"open,b")]);
        check("", ',', &[]);
    }

    #[test]
    fn columns_are_found_by_place_name_and_bare_name() {
        let mut header = Vec::new();
        cells("time, use [%], use [MiB], use", ',', &mut header);
        assert_eq!(find(&header, "use [MiB]"), Some(2));
        assert_eq!(find(&header, "use"), Some(3));
        assert_eq!(find(&header[..3], "use"), Some(1));
        assert_eq!(find(&header, "#2"), Some(1));
        assert_eq!(find(&header, "*e [MiB]"), Some(2));
        assert_eq!(find(&header, "*e"), Some(0));
        assert_eq!(find(&header, "none"), None);
        assert_eq!(unit_of("use [MiB]"), Some("MiB"));
    }
}
