//! What every reader must do, on small invented files.

use std::fmt::Write as _;
use std::io::{Cursor, Read, Write as _};
use std::path::Path;
use std::time::Duration;

use tiershift_core::machine::Machine;
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::trace::{
    Format, Kind, Mapping, ReadOptions, RequestReader, ResourceReader, ThreadedReader, Told,
    TraceError, convert, recognise,
};

fn open(text: impl Into<Vec<u8>>, options: &ReadOptions) -> Result<ResourceReader, TraceError> {
    ResourceReader::from_reader(Cursor::new(text.into()), "file", options)
}

/// Reads a trace to its end and writes down everything that results.
pub(super) fn render(text: &[u8], options: &ReadOptions) -> String {
    let mut out = String::new();
    let mut body = || -> Result<(), TraceError> {
        let format = options.format.clone().or_else(|| recognise(text).ok());
        let defects = if format.is_none_or(|format| format.kind() == Kind::Resource) {
            let mut reader = open(text, options)?;
            while let Some((at, sample)) = reader.next()? {
                let sample = serde_json::to_string(&sample).unwrap().replace('"', "");
                writeln!(out, "{:>9.3} {sample}", at.as_secs_f64()).unwrap();
            }
            let header = reader.header();
            let began = header.clock.started_at().map(|began| began.to_string());
            writeln!(out, "{} {}", header.format, began.unwrap_or_default()).unwrap();
            for note in &header.notes {
                writeln!(out, "note: {note}").unwrap();
            }
            reader.defects().clone()
        } else {
            let input = Cursor::new(text.to_vec());
            let mut reader = RequestReader::from_reader(input, "file", options)?;
            while let Some((at, request)) = reader.next()? {
                let request = serde_json::to_string(&request).unwrap().replace('"', "");
                writeln!(out, "{:>9.3} {request}", at.as_secs_f64()).unwrap();
            }
            let (format, unsorted) = (&reader.header().format, reader.out_of_order());
            writeln!(out, "{format}, {unsorted} out of order").unwrap();
            reader.defects().clone()
        };
        for defect in defects.first() {
            writeln!(out, "{} {}", defect.kind, defects.describe(defect)).unwrap();
        }
        Ok(())
    };
    if let Err(error) = body() {
        writeln!(out, "error: {error}").unwrap();
    }
    out
}

/// Returns a sample of each format, with its name: the seeds of the fuzz targets.
pub(super) fn formats() -> Vec<(String, Vec<u8>)> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/cases");
    let mut all = Vec::new();
    for folder in ["resource_trace", "request_trace"] {
        let files = std::fs::read_dir(cases.join(folder)).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        all.extend(paths.into_iter().map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(&path).unwrap())
        }));
    }
    all
}

/// Returns options that state what a sample does not state itself.
pub(super) fn options_for(text: &[u8]) -> ReadOptions {
    let told = Told {
        interval: Some(Duration::from_secs(10)),
        metric: Some("cpu".to_owned()),
        ..Told::default()
    };
    let needs_telling = render(text, &ReadOptions::default()).contains("error: ");
    if needs_telling {
        ReadOptions { told, ..ReadOptions::default() }
    } else {
        ReadOptions::default()
    }
}

/// Returns the sample of that name.
pub(super) fn sample(name: &str) -> Vec<u8> {
    formats().into_iter().find(|(known, _)| known == name).unwrap().1
}

#[test]
fn every_format_is_recognised_and_read() {
    let mut out = String::new();
    let mut found = Vec::new();
    for (name, text) in formats() {
        writeln!(out, "== {name}\n{}", render(&text, &options_for(&text))).unwrap();
        found.push(recognise(&text[..text.len().min(32 << 10)]).unwrap().name().to_owned());
    }
    insta::assert_snapshot!(out);
    for format in Format::known() {
        assert!(found.iter().any(|name| name == format.name()), "{} has no sample", format.name());
    }
}

#[test]
fn every_defect_is_counted_with_its_place() {
    const HEAD: &str = "# tiershift resource trace 1\nat_ns,memory_total_bytes,memory_others_bytes,cpu_others_milli_percent\n";
    let mut out = String::new();
    for (title, rows) in [
        ("width", "0,9,5,1\n1,9,5\n2,9,5,1,1\n3,9,5,1\n"),
        (
            "time",
            "0,9,5,1\nx,9,5,1\n,9,5,1\n-1,9,5,1\n99999999999999999999,9,5,1\n1,9,5,1\n2,9,5,1\n3,9,5,1\n",
        ),
        ("order", "5,9,5,1\n3,9,5,1\n5,9,5,1\n6,9,5,1\n"),
        ("jump", "5,9,5,1\n99999999999999999,9,5,1\n6,9,5,1\n"),
        ("blank", "0,,,\n1,9,5,1\n\n2,9,,\n3,9,5,1\n"),
        ("words", "0,9,NaN,1\n1,9,five,1\n2,9,inf,1\n3,9,\"5\",1\n4,9,5.5,1\n5,9, 5 ,1\n"),
        ("impossible", "0,9,-5,1\n1,9,5,-1\n2,9,5,100501\n3,0,0,1\n4,99999999999999999999,1,1\n"),
        ("over", "0,9,10,100500\n"),
        ("gap", "0,9,5,1\n1,9,5,1\n2,9,5,1\n5,9,5,1\n9,9,5,1\n"),
        ("cut off", "0,9,5,1\n1,9,5,1"),
        ("carriage returns", "0,9,5,1\r\n1,9,5,1\r\n"),
        ("not UTF-8", "0,9,\u{fffd},1\n"),
        ("nothing usable", "0,,,\n"),
        ("nothing", ""),
    ] {
        let text = format!("{HEAD}{rows}");
        writeln!(out, "== {title}\n{}", render(text.as_bytes(), &ReadOptions::default())).unwrap();
        let strict = ReadOptions { strict: true, ..ReadOptions::default() };
        if let Some(refused) =
            render(text.as_bytes(), &strict).lines().find(|l| l.starts_with("error"))
        {
            writeln!(out, "strict {refused}\n").unwrap();
        }
    }
    insta::assert_snapshot!(out);
}

#[test]
fn bad_files_are_refused_with_place_and_remedy() {
    let long = "x".repeat(3 << 20);
    let native = "# tiershift resource trace 1\n";
    let mut out = String::new();
    for (title, text) in [
        ("empty", ""),
        ("unknown", "hello, world\n"),
        ("binary", "\u{7f}ELF\0\0\0"),
        ("zip", "PK\u{3}\u{4}"),
        ("newer", "# tiershift resource trace 2\nat_ns\n0\n"),
        ("no version", "# tiershift resource trace one\nat_ns\n0\n"),
        ("no header", native),
        ("no time", &format!("{native}memory_total_bytes\n1\n")),
        ("unknown column", &format!("{native}at_ns,memory_totel_bytes\n0,1\n")),
        ("column twice", &format!("{native}at_ns,load_milli,load_milli\n0,1,1\n")),
        ("too many GPUs", &format!("{native}at_ns,gpu64_vram_own_bytes\n0,1\n")),
        ("one endless line", &format!("{native}at_ns,load_milli\n0,1\n{long}")),
        ("missing columns", "TIMESTAMP,ContextTokens,GeneratedTokensX\n1,2,3\n"),
        (
            "no processor use",
            "timestamp,value\n2014-04-10 00:04:00,94.0\n2014-04-10 00:09:00,187.0\n",
        ),
        ("json cut off", "{\"0\": {\"monitor_id\": 0, \"record_time\": 1, \"GPU_used_mem\""),
    ] {
        writeln!(out, "== {title}\n{}", render(text.as_bytes(), &ReadOptions::default())).unwrap();
    }
    let wrong = RequestReader::from_reader(Cursor::new(native), "file", &ReadOptions::default());
    writeln!(out, "== wrong kind\nerror: {}", wrong.err().unwrap()).unwrap();
    writeln!(out, "== unknown name\nerror: {}", Format::named("pmreb").unwrap_err()).unwrap();
    let sysstat = render(b"\x96\xd5\x75\x21\x0c\0", &ReadOptions::default());
    writeln!(out, "== sysstat's own data\n{sysstat}").unwrap();
    insta::assert_snapshot!(out);
}

#[test]
fn a_wrong_mapping_is_refused_by_name() {
    let good = "name = \"mine\"\nabout = \"x\"\nkind = \"resource\"\n[layout]\nshape = \"table\"\n[time]\ncolumns = [\"t\"]\n\
                forms = [\"seconds\"]\n[[field]]\nto = \"load_milli\"\nunit = \"1\"\nplus = [\"l\"]\n";
    assert!(Mapping::parse("good.toml", good).is_ok());
    let mut out = String::new();
    for (from, to) in [
        ("shape = \"table\"", "shape = \"tabel\""),
        ("shape = \"table\"", "shape = \"json\""),
        ("shape = \"table\"", "shape = \"table\"\nencoding = \"klingon\""),
        ("about = \"x\"", "abut = \"x\""),
        ("\"seconds\"", "\"fortnights\""),
        ("\"load_milli\"", "\"load\""),
        ("unit = \"1\"", "unit = \"GiB\""),
        ("unit = \"1\"", "unit = \"parsec\""),
        ("plus = [\"l\"]", "plus = []"),
        ("plus = [\"l\"]", "plus = [\"l\"]\nscale = inf"),
        ("shape = \"table\"", "shape = \"text\""),
        ("shape = \"table\"", "shape = \"text\"\nrows = [\"{t} {l\"]"),
        ("shape = \"table\"", "shape = \"text\"\nrows = [\"{t}{l}\"]"),
        ("shape = \"table\"", "shape = \"text\"\nrows = [\"{t} {load}\"]"),
        ("columns = [\"t\"]", "columns = []"),
        ("columns = [\"t\"]", "columns = [\"t\"]\ninterval = \"0s\""),
        ("plus = [\"l\"]", "plus = [\"=l\"]"),
        ("shape = \"table\"", "shape = \"table\"\narrays = true"),
    ] {
        let error = Mapping::parse("bad.toml", &good.replacen(from, to, 1)).unwrap_err();
        writeln!(out, "{}\n", error.to_string().trim_end()).unwrap();
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_users_own_mapping_reads_a_file_that_nobody_knows() {
    let mapping = "name = \"cpu-stats\"\nabout = \"time and processor use\"\nkind = \"resource\"\n\
                   [layout]\nshape = \"table\"\ncolumns = [\"time\", \"cpu\"]\nseparator = \";\"\ncomment = \"//\"\n\
                   [time]\ncolumns = [\"time\"]\nforms = [\"%d.%m.%Y %H:%M\"]\nshortest-gap-seconds = 3600\n\
                   [[field]]\nto = \"cpu_others_milli_percent\"\nunit = \"fraction\"\nplus = [\"cpu\"]\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cpu-stats.toml");
    std::fs::write(&path, mapping).unwrap();
    let format = Format::named(path.to_str().unwrap()).unwrap();
    let options = ReadOptions { format: Some(format), ..ReadOptions::default() };
    let text = "// mine\n08.09.2025 14:14;0.25\n08.09.2025 14:15;0.5\n08.09.2025 14:50;0.75\n";
    let mut reader = open(text, &options).unwrap();
    let mut seen = Vec::new();
    while let Some((at, sample)) = reader.next().unwrap() {
        seen.push((at.as_secs_f64(), sample.cpu.unwrap().others.milli()));
    }
    assert_eq!(seen, [(0.0, 25_000), (60.0, 50_000), (2160.0, 75_000)]);
    assert_eq!(reader.defects().total(), 0, "{:?}", reader.defects());
}

#[test]
fn totals_that_the_file_lacks_are_taken_from_the_options() {
    let text = sample("gpu-z");
    let machine = Machine {
        memory: Bytes::from_gib(16),
        gpus: vec![Bytes::from_gib(8)],
        ..Machine::default()
    };
    let options = ReadOptions { machine: Some(machine.clone()), ..ReadOptions::default() };
    let mut reader = open(text, &options).unwrap();
    let (_, sample) = reader.next().unwrap().unwrap();
    assert_eq!(sample.memory.unwrap().total, Bytes::from_gib(16));
    assert_eq!(sample.gpus[0].vram.unwrap().total, Bytes::from_gib(8));
    assert_eq!(reader.machine(), &machine);
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text).unwrap();
    packer.finish().unwrap()
}

#[test]
fn packed_traces_are_the_same_traces_and_cut_ones_are_refused() {
    let text = long_trace();
    let plain = read_all(text.clone()).unwrap();
    for (packed, name) in [(gzip(&text), "gzip"), (zstd::encode_all(&text[..], 1).unwrap(), "zstd")]
    {
        assert_eq!(read_all(packed.clone()).unwrap(), plain, "{name}");
        for keep in [packed.len() / 2, packed.len() - 1, 5] {
            let error = read_all(packed[..keep].to_vec()).unwrap_err();
            assert!(error.contains("cut off: fetch or record"), "{name}: {error}");
        }
    }
    let two_members = [gzip(&text[..500]), gzip(&text[500..])].concat();
    assert_eq!(read_all(two_members).unwrap(), plain);
}

fn long_trace() -> Vec<u8> {
    let mut text = "# tiershift resource trace 1\nat_ns,load_milli\n".to_owned();
    for row in 0..5000_u64 {
        writeln!(text, "{},{}", row * 1000, row * row % 977).unwrap();
    }
    text.into_bytes()
}

pub(super) type Everything = (Vec<(Timestamp, Sample)>, String);

pub(super) fn read_all(bytes: Vec<u8>) -> Result<Everything, String> {
    let mut reader = open(bytes, &ReadOptions::default()).map_err(|error| error.to_string())?;
    let mut samples = Vec::new();
    while let Some(next) = reader.next().map_err(|error| error.to_string())? {
        samples.push(next);
    }
    Ok((samples, reader.digest().unwrap().to_string()))
}

#[test]
fn reading_on_a_thread_gives_the_same_samples_in_the_same_order() {
    let (want, digest) = read_all(long_trace()).unwrap();
    let mut reader = ThreadedReader::start(open(long_trace(), &ReadOptions::default()).unwrap());
    let mut got = Vec::new();
    let mut sample = Sample::default();
    while let Some(at) = reader.next_into(&mut sample).unwrap() {
        got.push((at, sample.clone()));
    }
    assert_eq!(got, want);
    assert_eq!(reader.reader().unwrap().digest().unwrap().to_string(), digest);
    assert_eq!(reader.next_into(&mut sample).unwrap(), None);
}

#[test]
fn an_error_on_the_thread_arrives_after_the_samples_before_it() {
    let packed = gzip(&long_trace());
    let cut = packed[..packed.len() / 2].to_vec();
    let mut reader = ThreadedReader::start(open(cut, &ReadOptions::default()).unwrap());
    let mut count = 0;
    let error = loop {
        match reader.next_into(&mut Sample::default()) {
            Ok(Some(_)) => count += 1,
            Ok(None) => panic!("a cut file has no end"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(count > 1000, "{count}");
    assert!(error.contains("cut off"), "{error}");
}

#[test]
fn a_reader_that_is_dropped_early_leaves_no_thread_waiting() {
    let mut reader = ThreadedReader::start(open(Endless::text(), &ReadOptions::default()).unwrap());
    assert!(reader.next_into(&mut Sample::default()).unwrap().is_some());
    drop(reader);
}

/// A trace of many times the read-ahead.
struct Endless;

impl Endless {
    fn text() -> Vec<u8> {
        let head = b"# tiershift resource trace 1\nat_ns,load_milli\n";
        let rows = (0..200_000_u64).flat_map(|row| format!("{row},1\n").into_bytes());
        head.iter().copied().chain(rows).collect()
    }
}

#[test]
fn a_stream_without_line_ends_is_refused_in_bounded_memory() {
    let head = Cursor::new("# tiershift resource trace 1\nat_ns\n").chain(std::io::repeat(b'1'));
    let mut reader = ResourceReader::from_reader(head, "pipe", &ReadOptions::default()).unwrap();
    let error = reader.next().unwrap_err().to_string();
    assert!(error.starts_with("pipe:3:1: this line is longer than 1 MiB"), "{error}");
}

#[test]
fn a_conversion_reads_back_as_the_same_samples_and_is_whole_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    for (title, text) in formats() {
        let from = folder.path().join("from");
        let (to, again) = (folder.path().join("to.csv"), folder.path().join("again.csv"));
        std::fs::write(&from, &text).unwrap();
        let options = options_for(&text);
        let done = convert(&from, &to, &options, |_| {}).unwrap();
        assert!(done.rows > 0, "{title}");
        let lines = |text: &[u8]| -> Vec<String> {
            // A native trace has a place for each GPU, even if a reading lacks the last of them.
            let rendered = render(text, &options).replace(",{}]", "]");
            rendered.lines().filter(|line| line.starts_with(' ')).map(str::to_owned).collect()
        };
        let written = std::fs::read_to_string(&to).unwrap();
        assert_eq!(lines(written.as_bytes()), lines(&text), "{title}");
        convert(&to, &again, &options, |_| {}).unwrap();
        assert_eq!(std::fs::read_to_string(&again).unwrap(), written, "{title}");
    }
    std::fs::write(folder.path().join("from"), "no trace").unwrap();
    let to = folder.path().join("never.csv");
    assert!(convert(&folder.path().join("from"), &to, &ReadOptions::default(), |_| {}).is_err());
    // A file is not a folder, and is not replaced by one.
    let absent = folder.path().join("again.csv").join("to.csv");
    std::fs::write(folder.path().join("from"), sample("native-resource")).unwrap();
    let error =
        convert(&folder.path().join("from"), &absent, &ReadOptions::default(), |_| {}).unwrap_err();
    assert!(matches!(error, TraceError::Write { .. }), "{error}");
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["again.csv", "from", "to.csv"]);
}

#[test]
fn the_presets_have_distinct_names_that_find_them() {
    for format in Format::known() {
        assert_eq!(Format::named(format.name()).unwrap(), format);
    }
}

#[test]
fn a_total_of_what_the_file_does_not_record_is_not_of_its_machine() {
    let told = Machine {
        memory: Bytes::from_gib(16),
        gpus: vec![Bytes::from_gib(8)],
        ..Machine::default()
    };
    let options = ReadOptions { machine: Some(told), ..ReadOptions::default() };
    let text = "# tiershift resource trace 1\nat_ns,memory_total_bytes,memory_others_bytes\n\
                0,,1\n1000000000,,2\n";
    let mut reader = open(text, &options).unwrap();
    let (_, first) = reader.next().unwrap().unwrap();
    assert_eq!(first.memory.unwrap().total, Bytes::from_gib(16));
    let machine = reader.machine();
    assert_eq!((machine.memory, machine.gpus.as_slice()), (Bytes::from_gib(16), [].as_slice()));
}

#[test]
fn what_the_file_says_of_the_machine_goes_before_what_was_told() {
    let told = Machine { memory: Bytes::from_gib(16), ..Machine::default() };
    let options = ReadOptions { machine: Some(told), ..ReadOptions::default() };
    let text = "# tiershift resource trace 1\nat_ns,memory_total_bytes,memory_others_bytes\n\
                0,8589934592,1\n1000000000,8589934592,2\n";
    let mut reader = open(text, &options).unwrap();
    reader.next().unwrap();
    assert_eq!(reader.machine().memory, Bytes::from_gib(8));
}
