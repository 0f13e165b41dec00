//! Native CSV: the beginning of its files. Rows of resources are read and written below, requests in
//! [`request`](crate::trace::request).

use crate::trace::TraceError;
use crate::trace::source::Source;

pub(crate) mod rows;
pub(crate) mod writer;

/// First line of a native resource trace, before the version.
pub(crate) const RESOURCE_MAGIC: &str = "# tiershift resource trace ";
/// First line of a native request trace, before the version.
pub(crate) const REQUEST_MAGIC: &str = "# tiershift request trace ";
/// The version that is written, and the newest that is read. 1: the first.
pub(crate) const VERSION: u32 = 1;

/// What comes before the rows of a native file.
pub(crate) struct Preamble {
    /// The `# key: value` lines, in order.
    pub about: Vec<(String, String)>,
    pub columns: Vec<String>,
}

/// Reads the magic line, the `#` lines and the header.
pub(crate) fn read_preamble(source: &mut Source, magic: &str) -> Result<Preamble, TraceError> {
    let name = source.name().to_owned();
    let mut about = Vec::new();
    while let Some(line) = source.line()? {
        let number = line.number;
        let Ok(text) = std::str::from_utf8(line.bytes) else {
            return Err(source.malformed(number, 1, "the preamble is not UTF-8"));
        };
        if number == 1 && text.trim_start_matches('\u{feff}').starts_with(magic) {
            let version = text.trim_start_matches('\u{feff}')[magic.len()..].trim();
            match version.parse::<u32>() {
                Ok(1..=VERSION) => {}
                Ok(version) if version > VERSION => {
                    return Err(TraceError::NewerVersion { name, version, newest: VERSION });
                }
                _ => {
                    let reason =
                        format!("\"{version}\" is not a version number: write `{magic}{VERSION}`");
                    return Err(source.malformed(1, magic.len() as u64 + 1, reason));
                }
            }
        } else if let Some(comment) = text.strip_prefix('#') {
            if let Some((key, value)) = comment.split_once(':') {
                about.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        } else if !text.trim().is_empty() {
            let columns = text.trim_start_matches('\u{feff}');
            let columns = columns.split(',').map(|c| c.trim().to_owned()).collect();
            return Ok(Preamble { about, columns });
        }
    }
    Err(TraceError::NoRows { name, rejected: "it has no header line".to_owned() })
}
