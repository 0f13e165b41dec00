//! What verbs write and read: no foreign file is overwritten; packing follows the name; standard input and output.

use std::fs;
use std::io::Read;

use crate::support::{root, run_in, run_with, trace};

#[test]
fn what_others_wrote_is_not_overwritten_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let run = |line: &str| run_in(folder.path(), line);
    fs::write(place("host.csv"), trace(&[4.0, 5.0])).unwrap();
    run("replay host.csv --out run").exits(0);
    run("replay host.csv --out run").exits(0);
    fs::copy(root().join("scenarios/memory-pressure.toml"), place("one.toml")).unwrap();
    for (line, file) in [
        ("replay host.csv --out a", "a/decisions.csv"),
        ("run one.toml --out b", "b/summary.json"),
        ("import host.csv c.csv", "c.csv"),
        ("plot run --out d.svg", "d.svg"),
        #[cfg(feature = "png")]
        ("plot run --out e.png", "e.png"),
        ("check one.toml --junit f.xml", "f.xml"),
        ("replay host.csv --html g.html", "g.html"),
        ("compare host.csv --policies proactive,fixed --html h.html", "h.html"),
        ("check one.toml --html i.html", "i.html"),
    ] {
        fs::create_dir_all(place(file).parent().unwrap()).unwrap();
        fs::write(place(file), "precious\n").unwrap();
        let err = run(line).exits(2).err;
        assert!(err.contains(file) && err.contains("--force"), "{line}: {err}");
        assert_eq!(fs::read(place(file)).unwrap(), b"precious\n", "{line}");
        run(&format!("{line} --force"));
        assert_ne!(fs::read(place(file)).unwrap(), b"precious\n", "{line}");
        // A file of the same verb is overwritten.
        let again = run(line);
        assert_ne!(again.code, 2, "{line}: {}", again.err);
    }
}

#[test]
fn an_import_is_packed_as_its_name_says_and_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let host = "timestamp,memory.used [MiB],memory.total [MiB],utilization.gpu [%]\n\
        2026/01/31 02:13:00.000,1024 MiB,8192 MiB,10 %\n2026/01/31 02:13:01.000,2048 MiB,8192 MiB,20 %\n";
    fs::write(folder.path().join("gpu.csv"), host).unwrap();
    let mut plain = None;
    for name in ["native.csv", "native.csv.gz", "native.csv.zst"] {
        for _ in 0..2 {
            run_in(folder.path(), &format!("import gpu.csv {name}")).exits(0);
        }
        let file = fs::File::open(folder.path().join(name)).unwrap();
        let mut text = String::new();
        match name.rsplit('.').next() {
            Some("gz") => flate2::read::GzDecoder::new(file).read_to_string(&mut text),
            Some("zst") => zstd::Decoder::new(file).unwrap().read_to_string(&mut text),
            _ => {
                let mut file = file;
                file.read_to_string(&mut text)
            }
        }
        .unwrap();
        assert_eq!(plain.get_or_insert(text.clone()), &text, "{name}");
        run_in(folder.path(), &format!("replay {name}")).exits(0);
    }
    let printed = run_with(folder.path(), "import - -", host.as_bytes().to_vec()).exits(0);
    assert_eq!(Some(printed.out), plain);
    assert!(printed.err.contains("written to standard output"), "{}", printed.err);
}

#[test]
fn standard_input_is_read_where_a_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let host = trace(&[4.0, 5.0, 15.0]);
    fs::write(folder.path().join("host.csv"), &host).unwrap();
    let run = |line: &str, input: &[u8]| run_with(folder.path(), line, input.to_vec());
    let named = run("replay host.csv --json --out run", b"").exits(0).json();
    let piped = run("replay - --json", host.as_bytes()).exits(0).json();
    assert_eq!(
        (&named["fingerprint"], &named["samples"]),
        (&piped["fingerprint"], &piped["samples"])
    );
    let log = fs::read(folder.path().join("run/events.jsonl.zst")).unwrap();
    for verb in ["explain", "verify", "diff run", "replay"] {
        run(&format!("{verb} -"), &log).exits(0);
    }
    let plot = run("plot - --out -", &log).exits(0).out;
    assert!(plot.starts_with("<svg role=\"img\""), "{plot}");
    assert!(plot.contains("made by tiershift: policy proactive"), "{plot}");
    let twice = run("diff - -", &log).exits(2).err;
    assert!(twice.contains("can be read only once"), "{twice}");
    let both = run("plot - --out - --json", &log).exits(2).err;
    assert!(both.contains("both be written to standard output"), "{both}");
    assert!(!folder.path().join("-").exists());
}

/// Memory between two samples, and what was swapped out so that the rest fitted, are seen by the simulated machine alone.
#[test]
fn a_log_has_every_figure_of_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let victim = root().join("scenarios/museum/victim-comes-back-to-life.toml");
    fs::copy(victim, folder.path().join("one.toml")).unwrap();
    let run = |line: &str| run_in(folder.path(), line);
    // This idea breaks what the scenario expects: an hour over the memory.
    let mut want = run("run one.toml --policy wait-for-idle --out out --json").exits(1).json();
    assert!(want["seconds_over_memory"].as_f64().unwrap() > 3600.0, "{want}");
    let mut got = run("plot out --out a.svg --json").exits(0).json();
    for own in ["log_digest", "violations", "warnings"] {
        for summary in [&mut want, &mut got] {
            summary.as_object_mut().unwrap().remove(own);
        }
    }
    assert_eq!(got, want);
}

#[test]
fn scenarios_of_one_name_get_folders_and_names_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        let to = folder.path().join(name).join("one.toml");
        fs::copy(root().join("scenarios/memory-pressure.toml"), to).unwrap();
    }
    let rows = run_in(folder.path(), "run a/one.toml b/one.toml --out out --json").exits(0).json();
    assert_eq!(rows[1]["scenario"], "b/one.toml");
    assert_eq!(rows[0]["summary"]["fingerprint"], rows[1]["summary"]["fingerprint"]);
    for name in ["a", "b"] {
        assert!(folder.path().join("out").join(name).join("one/summary.json").exists(), "{name}");
    }
}
