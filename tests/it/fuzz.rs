//! What the fuzz targets found, and what they begin with, run again: `fuzz/README.md` tells how to go on.

use std::fs;

use tiershift_testkit::fuzz::TARGETS;
use tiershift_testkit::fuzz::mutation::Mutations;

use crate::support::{files, root, short};

/// Every finding was a panic, a hang or a wrong answer once.
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

/// A file that ends anywhere, and one with any byte changed, is a file that a reader will meet.
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

/// Each seed is a sample of some format, changed in some way. `cargo run -p tiershift-testkit --bin mutations` goes on to 10 million.
#[test]
fn no_reader_breaks_on_a_changed_sample() {
    let mut read = 0;
    Mutations::of(&root().join("tests/fuzz/cases")).run(0..SEEDS, |_| read += 1);
    assert_eq!(read, SEEDS);
}

/// Chosen: some seconds.
const SEEDS: u64 = 20_000;
