//! Handling of hostile bytes: the fuzz targets (`fuzz/`) run it on generated inputs, `tests/it/fuzz.rs` on those that once
//! failed.
//!
//! Nothing may panic, hang or take unbounded memory. Data that is accepted must also be consistent: moments in order, and
//! unchanged after it is written and read again.

use std::io::Cursor;
use std::path::Path;

use tiershift::files::{catalog, policy};
use tiershift::log::LogReader;
use tiershift::scenario;
use tiershift::study::verify::verify;
use tiershift::trace::{
    Mapping, NativeWriter, ReadOptions, RequestReader, RequestWriter, ResourceReader,
};
use tiershift_core::policy::Registry;
use tiershift_core::sample::{GpuSample, Sample};
use tiershift_core::time::Timestamp;

pub mod mutation;

/// A target: its name, which is also its folder of cases, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("resource_trace", resource_trace),
    ("request_trace", request_trace),
    ("event_log", event_log),
    ("documents", documents),
    #[cfg(feature = "serve")]
    ("server_answers", server_answers),
];

/// Reads a resource trace of any format, writes it as a native one and reads that.
pub fn resource_trace(bytes: &[u8]) {
    resource_trace_as(bytes, &ReadOptions::default());
}

/// Reads a resource trace with a person's options, writes it as a native one and reads that.
pub fn resource_trace_as(bytes: &[u8], options: &ReadOptions) {
    let Ok(mut reader) = ResourceReader::from_reader(Cursor::new(bytes.to_vec()), "fuzz", options)
    else {
        return;
    };
    let mut read: Vec<(Timestamp, Sample)> = Vec::new();
    while let Ok(Some((at, sample))) = reader.next() {
        assert!(read.last().is_none_or(|(before, _)| *before < at), "moments are in order");
        read.push((at, sample));
        assert!(read.len() <= bytes.len(), "a sample takes a byte at least");
    }
    if read.is_empty() {
        return;
    }
    // The first samples contain nothing about a GPU that appears later.
    let gpus = reader.machine().gpus.len();
    for (_, sample) in &mut read {
        sample.gpus.resize(gpus.max(sample.gpus.len()), GpuSample::default());
    }
    let mut written =
        NativeWriter::new(Vec::new(), reader.machine(), &[]).expect("memory takes all");
    for (at, sample) in &read {
        written.write(*at, sample).expect("memory takes all");
    }
    let written = Cursor::new(written.into_inner());
    let plain = ReadOptions::default();
    let mut again = ResourceReader::from_reader(written, "again", &plain).expect("what we write");
    for (at, sample) in &read {
        let (at_again, sample_again) = again.next().expect("what we write").expect("every row");
        assert_eq!((at_again, &sample_again), (*at, sample));
    }
}

/// Reads a request trace of any format, writes it as a native one and reads that.
pub fn request_trace(bytes: &[u8]) {
    request_trace_as(bytes, &ReadOptions::default());
}

/// Reads a request trace with a person's options, writes it as a native one and reads that.
pub fn request_trace_as(bytes: &[u8], options: &ReadOptions) {
    let Ok(mut reader) = RequestReader::from_reader(Cursor::new(bytes.to_vec()), "fuzz", options)
    else {
        return;
    };
    let mut written = RequestWriter::new(Vec::new(), &[]).expect("memory takes all");
    let mut read = Vec::new();
    while let Ok(Some((at, request))) = reader.next() {
        assert!(read.last().is_none_or(|(before, _)| *before <= at), "moments are in order");
        written.write(at, &request).expect("memory takes all");
        read.push((at, request));
        assert!(read.len() <= bytes.len(), "a request takes a byte at least");
    }
    if read.is_empty() {
        return;
    }
    let written = Cursor::new(written.into_inner());
    let plain = ReadOptions::default();
    let mut again = RequestReader::from_reader(written, "again", &plain).expect("what we write");
    for (at, request) in &read {
        let (at_again, request_again) = again.next().expect("what we write").expect("every row");
        assert_eq!((at_again, request_again.prompt_tokens), (*at, request.prompt_tokens));
        assert_eq!(request_again.output_tokens, request.output_tokens);
    }
}

/// Reads an event log, and feeds its inputs to a controller as `verify` does.
pub fn event_log(bytes: &[u8]) {
    let open = || LogReader::new("fuzz", Cursor::new(bytes.to_vec()));
    let Ok(reader) = open() else { return };
    let mut seq = 0;
    for record in reader.take_while(Result::is_ok).flatten() {
        assert!(seq == 0 || record.seq == seq, "records are in order");
        seq = record.seq + 1;
    }
    if let Ok(reader) = open() {
        // A forged log may differ from the controller's answers, but must not break the controller.
        let _ = verify(reader, &Registry::built_in());
    }
}

/// Reads documents that people write: scenarios, catalogs, policies and mappings.
pub fn documents(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = scenario::parse(text, "fuzz", Path::new("nowhere"), &Registry::built_in());
    let _ = catalog::parse(text, "fuzz");
    let _ = policy::parse(text, "fuzz", &Registry::built_in());
    let _ = Mapping::parse("fuzz", text);
}

/// Reads answers of model servers, for each kind of server: a list of models, a zero byte, and the loaded models.
#[cfg(feature = "serve")]
pub fn server_answers(bytes: &[u8]) {
    use tiershift::backend::remote::server::Kind;

    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (list, loaded) = text.split_once('\0').unwrap_or((text, text));
    for kind in Kind::IN_ORDER {
        let _ = kind.entries(list, loaded);
    }
}
