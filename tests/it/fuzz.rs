//! Runs the initial inputs of the fuzz targets and those that once failed: see `fuzz/README.md`.

use std::fs;

use tiershift_testkit::fuzz::TARGETS;
use tiershift_testkit::fuzz::mutation::Mutations;

use crate::support::{files, root, short};

/// Every one of these once caused a panic, a hang or a wrong answer.
#[test]
fn what_was_found_is_found_no_more() {
    for (name, target) in TARGETS {
        let found = files(&root().join("tests/fuzz/cases").join(name));
        assert!(!found.is_empty(), "{name} has at least one case");
        for path in found {
            eprintln!("{}", short(&path));
            target(&fs::read(&path).unwrap());
        }
    }
}

/// Readers must handle files that are cut off anywhere and files with any byte changed.
#[test]
fn no_reader_breaks_on_a_torn_or_changed_file() {
    for (name, target) in TARGETS {
        for path in files(&root().join("tests/fuzz/cases").join(name)) {
            let whole = fs::read(&path).unwrap();
            let step = (whole.len() / 64).max(1);
            for end in (0..whole.len()).step_by(step) {
                target(&whole[..end]);
                let mut changed = whole.clone();
                changed[end] ^= 0x11;
                target(&changed);
            }
        }
    }
}

/// Each seed changes a sample of some format in some way. `cargo run -p tiershift-testkit --bin mutations` runs 10 million seeds.
#[test]
fn no_reader_breaks_on_a_changed_sample() {
    let mut read = 0;
    Mutations::of(&root().join("tests/fuzz/cases")).run(0..SEEDS, |_| read += 1);
    assert_eq!(read, SEEDS);
}

/// Chosen: takes some seconds.
const SEEDS: u64 = 20_000;
