//! The speed figures of the README, each compared with a peer that is measured in the same run: `cargo bench`.
//!
//! Times are the best of a few rounds in which our figure and the peer alternate, because noise on a shared machine only adds
//! time. Nothing here passes or fails: a limit is printed beside its figure, for people to compare.
//! `cargo bench -- memory requests` measures only these two sections.

mod csv_file;
mod inputs;
mod requests;
mod samples;
mod seam;
mod suite;
mod table;

use table::Table;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this without `--bench`: then there is nothing to do.
    if !words.iter().any(|word| word == "--bench") {
        println!("measured by `cargo bench`");
        return;
    }
    let wanted: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let mut table = Table::default();
    for (name, measure) in SECTIONS {
        if wanted.is_empty() || wanted.contains(&name) {
            eprintln!("measuring {name}");
            measure(&mut table);
        }
    }
    print!("{}", table.to_markdown());
}

/// The sections, by the names that arguments may give.
const SECTIONS: [(&str, Section); 7] = [
    ("csv", csv_file::measure),
    ("packed", csv_file::measure_log),
    ("memory", samples::measure),
    ("trait", seam::measure),
    ("log", samples::measure_logs),
    ("requests", requests::measure),
    ("check", suite::measure),
];

type Section = fn(&mut Table);
