//! Lines cut into cells.

use std::borrow::Cow;

/// A cell: where it begins in its line (a byte, from one) and its text, without quotes and blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell<'a> {
    pub column: u64,
    pub text: &'a str,
}

/// Returns the text of a line; a line that is not UTF-8 is decoded by `encoding`, or refused without one.
pub(crate) fn decode<'a>(bytes: &'a [u8], encoding: Option<&str>) -> Option<Cow<'a, str>> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Some(Cow::Borrowed(text));
    }
    let encoding = encoding_rs::Encoding::for_label(encoding?.as_bytes())?;
    Some(encoding.decode_without_bom_handling(bytes).0)
}

/// Cuts a line at `separator` and returns the number of cells; with a blank, at each run of blanks. A cell that begins
/// with a double quote extends to its closing quote: separators and line ends within do not cut. Trailing empty cells
/// are left out: some tools end each line with a separator.
///
/// A CSV library would take any quote across lines, so that one stray quote swallows the file, and reports no column.
pub(crate) fn cells<'a>(line: &'a str, separator: char, into: &mut Vec<Cell<'a>>) -> usize {
    into.clear();
    let mut begin = 0;
    loop {
        let raw_end = match quoted_end(&line[begin..]) {
            Some(end) => begin + end + next_separator(&line[begin + end..], separator),
            None => begin + next_separator(&line[begin..], separator),
        };
        let raw = &line[begin..raw_end];
        let text = raw.trim();
        let blanks = raw.len() - raw.trim_start().len();
        let text =
            text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map_or(text, str::trim);
        if separator != ' ' || !raw.is_empty() {
            into.push(Cell { column: (begin + blanks) as u64 + 1, text });
        }
        if raw_end == line.len() {
            break;
        }
        begin = raw_end + separator.len_utf8();
    }
    let count = into.len();
    while into.last().is_some_and(|cell| cell.text.is_empty()) {
        into.pop();
    }
    count
}

/// Returns the end of the cell that `rest` begins with: `rest`'s length, or the next separator.
fn next_separator(rest: &str, separator: char) -> usize {
    match separator {
        // Tables that are aligned by blanks have tabs too.
        ' ' => rest.find([' ', '\t']).unwrap_or(rest.len()),
        separator => rest.find(separator).unwrap_or(rest.len()),
    }
}

/// Returns the end of the quoted cell that `rest` begins with; `None` if there is none, or the quote is not closed.
fn quoted_end(rest: &str) -> Option<usize> {
    let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    let inside = rest[blanks..].strip_prefix('"')?;
    let mut from = 0;
    loop {
        let quote = from + inside[from..].find('"')?;
        // Two quotes stand for one.
        if !inside[quote + 1..].starts_with('"') {
            return Some(blanks + quote + 2);
        }
        from = quote + 2;
    }
}

/// Returns whether a line ends within a quoted cell, so that the next line belongs to it.
pub(crate) fn is_open(line: &[u8], separator: char) -> bool {
    if !line.contains(&b'"') {
        return false;
    }
    let line = String::from_utf8_lossy(line);
    let mut rest = &*line;
    loop {
        match quoted_end(rest) {
            Some(end) => rest = &rest[end..],
            None if rest.trim_start_matches([' ', '\t']).starts_with('"') => return true,
            None => {}
        }
        let end = next_separator(rest, separator);
        if end == rest.len() {
            return false;
        }
        rest = &rest[end + separator.len_utf8()..];
    }
}

/// Finds a mapping's column in a header: `#3` is the third; otherwise the full name, then the name without a unit in
/// brackets; `*name` is one with this ending. The first of several counts. `one|other` is whichever exists.
pub(crate) fn find(header: &[Cell<'_>], name: &str) -> Option<usize> {
    if let Some(position) = name.strip_prefix('#').and_then(|digits| digits.parse::<usize>().ok()) {
        return position.checked_sub(1);
    }
    if let Some(end) = name.strip_prefix('*') {
        return header.iter().position(|cell| cell.text.ends_with(end));
    }
    let exact = header.iter().position(|cell| cell.text == name);
    exact.or_else(|| header.iter().position(|cell| bare(cell.text) == name)).or_else(|| {
        let (first, others) = name.split_once('|')?;
        find(header, first).or_else(|| find(header, others))
    })
}

/// Returns the unit in brackets after a column's name.
pub(crate) fn unit_of(name: &str) -> Option<&str> {
    let square = name.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
    let round = || name.strip_suffix(')').and_then(|rest| rest.rsplit_once('('));
    square.or_else(round).map(|(_, unit)| unit)
}

/// Returns a column's name without the unit in brackets after it.
pub(crate) fn bare(name: &str) -> &str {
    unit_of(name).map_or(name, |unit| name[..name.len() - unit.len() - 2].trim_end())
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
        check("\"open,b", ',', &[(1, "\"open"), (7, "b")]);
        check("5\" disk,b\"c,d", ',', &[(1, "5\" disk"), (9, "b\"c"), (13, "d")]);
        check("\"two\nlines, one\",b", ',', &[(1, "two\nlines, one"), (18, "b")]);
        check("\"a \"\"b\"\", c\",d", ',', &[(1, "a \"\"b\"\", c"), (14, "d")]);
        check(" 1   2.5\tx ", ' ', &[(2, "1"), (6, "2.5"), (10, "x")]);
        check("", ',', &[]);
    }

    #[test]
    fn a_line_is_open_only_within_a_cell_that_begins_with_a_quote() {
        for (line, open) in [
            ("1,\"two", true),
            ("1,\"two\",3", false),
            ("1,5\" disk,3", false),
            ("1,\"a \"\"b", true),
            ("1, \"a", true),
            ("1,2", false),
        ] {
            assert_eq!(is_open(line.as_bytes(), ','), open, "{line}");
        }
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
        assert_eq!(find(&header, "none|time"), Some(0));
        assert_eq!(find(&header, "none|nowhere"), None);
        assert_eq!(unit_of("use [MiB]"), Some("MiB"));
        assert_eq!((unit_of("use (Mi)"), bare("use (Mi)")), (Some("Mi"), "use"));
    }
}
