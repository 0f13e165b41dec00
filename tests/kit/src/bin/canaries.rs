//! Hunts for seeded defects: `canaries [--seeds FROM..TO] [NAME..]`.
//!
//! Puts each defect into the worlds of `tiershift hunt`, one after the other, and prints after how many worlds its rule caught it.
//! Without names: every canary; without `--seeds`: at most 1000 worlds each. Exit: 0 all were caught; 1 one was not; 2 cannot run.

use std::ops::Range;
use std::process::ExitCode;

use tiershift::study::hunt;
use tiershift_testkit::canary::{self, Canary};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match read(&words) {
        Ok((seeds, canaries)) => {
            match canaries.iter().filter(|it| !is_caught(it, &seeds)).count() {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("error: {error}\nusage: canaries [--seeds FROM..TO] [NAME..]");
            ExitCode::from(2)
        }
    }
}

/// Reads the worlds and the canaries from the command line.
fn read(words: &[String]) -> Result<(Range<u64>, Vec<&'static Canary>), String> {
    let (mut seeds, mut canaries) = (0..1000, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--seeds" {
            let range = words.next().and_then(|value| value.split_once(".."));
            let range = range.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
            seeds = range.ok_or("--seeds: give FROM..TO, such as 0..1000")?;
            continue;
        }
        let known = || canary::ALL.iter().map(|canary| canary.name).collect::<Vec<_>>().join(", ");
        canaries.push(
            canary::find(word)
                .ok_or_else(|| format!("no canary is called \"{word}\"; there are {}", known()))?,
        );
    }
    if canaries.is_empty() {
        canaries = canary::ALL.iter().collect();
    }
    Ok((seeds, canaries))
}

/// Plays worlds until the rule of a canary catches it.
fn is_caught(canary: &Canary, seeds: &Range<u64>) -> bool {
    let caught = seeds.clone().find_map(|seed| {
        let found = canary.play(seed);
        let is_its = |violation: &&String| hunt::rule(violation) == canary.rule;
        let violation = found.violations.iter().find(is_its).cloned()?;
        Some((seed, violation))
    });
    match &caught {
        Some((seed, violation)) => {
            println!(
                "{}: caught after {} worlds: {violation}",
                canary.name,
                seed - seeds.start + 1
            );
        }
        None => println!("{}: not caught", canary.name),
    }
    caught.is_some()
}
