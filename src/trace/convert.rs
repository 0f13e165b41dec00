//! Any trace, rewritten as a native one.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use tiershift_core::machine::Machine;
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::files::packed::Packer;
use crate::files::progress::Progress;
use crate::files::whole_file::WholeFile;
use crate::trace::defects::Defects;
use crate::trace::import::Kind;
use crate::trace::native::writer::NativeWriter;
use crate::trace::request::RequestReader;
use crate::trace::request::writer::RequestWriter;
use crate::trace::resource::ResourceReader;
use crate::trace::source::Source;
use crate::trace::{CLOCK_AT, Header, ReadOptions, STARTED_AT, TraceError};
use crate::wall::WallClock;

/// The result of a conversion.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// Samples or requests written.
    pub rows: u64,
    /// What the trace states about itself.
    pub header: Header,
    /// Its defects.
    pub defects: Defects,
}

/// Converts the trace `from` into a native one at `to`, compressed if that name ends in `.gz` or `.zst`. The result is
/// written under a temporary name and then renamed, so that `to` is complete or absent. `started` is given the progress
/// of each pass over `from`.
///
/// # Errors
/// When `from` cannot be read or `to` cannot be written.
pub fn convert(
    from: &Path,
    to: &Path,
    options: &ReadOptions,
    started: impl FnMut(Progress),
) -> Result<Conversion, TraceError> {
    let refuse = |source: io::Error| TraceError::Write { name: to.display().to_string(), source };
    let file = WholeFile::create(to).and_then(|file| Packer::named(to, file));
    let mut file = file.map_err(refuse)?;
    let done = convert_to(from, &mut file, options, started).map_err(|error| match error {
        TraceError::Write { source, .. } => refuse(source),
        other => other,
    })?;
    file.finish().and_then(WholeFile::finish).map_err(refuse)?;
    Ok(done)
}

/// Converts the trace `from` and writes it to `output`.
///
/// # Errors
/// As [`convert`].
pub fn convert_to(
    from: &Path,
    output: impl Write,
    options: &ReadOptions,
    mut started: impl FnMut(Progress),
) -> Result<Conversion, TraceError> {
    let refuse = |source| TraceError::Write { name: "the output".to_owned(), source };
    let mut output = BufWriter::new(output);
    let mut options = options.clone();
    let format = match options.format.take() {
        Some(format) => format,
        None => {
            // The head decides which reader is used; the reader then refuses an empty or binary file.
            options.any_format_of(&mut Source::open(from)?)?
        }
    };
    let kind = format.kind();
    options.format = Some(format);
    match kind {
        Kind::Resource => {
            // The number of GPUs is known only at the end, and so may be a total: the file is read twice, and never
            // held.
            let first = ResourceReader::open(from, &options)?;
            started(first.progress());
            let (machine, counted) = survey_with(first)?;
            options.machine = Some(machine.clone());
            let about = about(&counted);
            let mut sample = Sample::default();
            let mut reader = ResourceReader::open(from, &options)?;
            started(reader.progress());
            let mut writer =
                NativeWriter::new(Unflushed(&mut output), &machine, &about).map_err(refuse)?;
            while let Some(at) = reader.next_into(&mut sample)? {
                writer.write(at, &sample).map_err(refuse)?;
            }
            output.flush().map_err(refuse)?;
            let (header, defects) = (reader.header().clone(), reader.defects().clone());
            Ok(Conversion { rows: reader.samples(), header, defects })
        }
        Kind::Request => {
            let mut reader = RequestReader::open(from, &options)?;
            started(reader.progress());
            let mut next = reader.next()?;
            let about = about(reader.header());
            let mut writer = RequestWriter::new(&mut output, &about).map_err(refuse)?;
            while let Some((at, request)) = next {
                writer.write(at, &request).map_err(refuse)?;
                next = reader.next()?;
            }
            output.flush().map_err(refuse)?;
            let (header, defects) = (reader.header().clone(), reader.defects().clone());
            Ok(Conversion { rows: reader.requests(), header, defects })
        }
    }
}

/// Reads a resource trace to its end for what is known only there: the machine, and what the file states about itself.
///
/// # Errors
/// When it cannot be read.
pub fn survey(path: &Path, options: &ReadOptions) -> Result<(Machine, Header), TraceError> {
    survey_with(ResourceReader::open(path, options)?)
}

fn survey_with(mut reader: ResourceReader) -> Result<(Machine, Header), TraceError> {
    let mut sample = Sample::default();
    while reader.next_into(&mut sample)?.is_some() {}
    Ok((reader.machine().clone(), reader.header().clone()))
}

/// Reads a trace to its end for what is known only there: the wall clock, and its last moment.
///
/// # Errors
/// When it cannot be read.
pub fn extent(path: &Path, options: &ReadOptions) -> Result<(WallClock, Timestamp), TraceError> {
    let mut end = Timestamp::ZERO;
    let clock = match options.any_format_of(&mut Source::open(path)?)?.kind() {
        Kind::Resource => {
            let mut reader = ResourceReader::open(path, options)?;
            let mut sample = Sample::default();
            while let Some(at) = reader.next_into(&mut sample)? {
                end = at;
            }
            reader.header().clock.clone()
        }
        Kind::Request => {
            let mut reader = RequestReader::open(path, options)?;
            while let Some((at, _)) = reader.next()? {
                end = at;
            }
            reader.header().clock.clone()
        }
    };
    Ok((clock, end))
}

/// The lines about a trace: a native one keeps its own, except those about the clock.
fn about(header: &Header) -> Vec<(String, String)> {
    let mut about = match header.about.as_slice() {
        [] => vec![("made_by".to_owned(), format!("imported from {}", header.format))],
        own => own.to_vec(),
    };
    let is_clock = |(key, _): &(String, String)| key == STARTED_AT || key == CLOCK_AT;
    let place = about.iter().position(is_clock).unwrap_or(about.len());
    about.retain(|line| !is_clock(line));
    let start = header.clock.started_at().map(|at| (STARTED_AT.to_owned(), at.to_string()));
    let marks = header.clock.later_marks().iter();
    let marks = marks
        .map(|mark| (CLOCK_AT.to_owned(), format!("{} {}", mark.at.as_nanos(), mark.wall_time)));
    about.splice(place..place, start.into_iter().chain(marks));
    if header.about.is_empty() {
        about.extend(header.notes.iter().map(|note| ("note".to_owned(), note.clone())));
    }
    about
}

/// The line that marks a native trace as imported.
pub const MADE_BY_IMPORT: &str = "# made_by: imported from ";

/// A recording flushes each row; a conversion is renamed when it is complete, and need not.
struct Unflushed<W>(W);

impl<W: Write> Write for Unflushed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
