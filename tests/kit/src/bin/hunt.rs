//! Hunts for broken invariants in random worlds: `hunt [--seeds FROM..TO] [--jobs N] [--out FOLDER] [--canary NAME]`.
//!
//! Prints each violation with its seed, and writes the scenario as a file for `tiershift run`. Without `--seeds`, 1000. With
//! `--canary`, a defect is let into every world, and the hunt ends with the first seed that catches it; `--canary all` does
//! so for each that there is. Exit: 0 nothing found, or the canary was; 1 otherwise; 2 cannot run.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use tiershift_core::policy::Registry;
use tiershift_testkit::canary::{self, Canary};
use tiershift_testkit::hunt::{self, Found};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match Flags::read(&words) {
        Ok(flags) => match flags.run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => fail(&error),
        },
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!(
        "error: {error}\nusage: hunt [--seeds FROM..TO] [--jobs N] [--out FOLDER] [--canary NAME]"
    );
    ExitCode::from(2)
}

/// What was asked for.
struct Flags {
    seeds: Range<u64>,
    jobs: usize,
    out: PathBuf,
    canaries: Vec<&'static Canary>,
}

impl Flags {
    fn read(words: &[String]) -> Result<Self, String> {
        let mut flags =
            Self { seeds: 0..1000, jobs: 1, out: PathBuf::from("out/hunt"), canaries: Vec::new() };
        let mut words = words.iter();
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let number = |text: &str| {
                text.parse().map_err(|_| format!("{flag}: \"{text}\" is not a whole number"))
            };
            match flag.as_str() {
                "--seeds" => {
                    let (from, to) =
                        value.split_once("..").ok_or("--seeds: give FROM..TO, such as 0..1000")?;
                    flags.seeds = number(from)?..number(to)?;
                }
                "--jobs" => flags.jobs = number(value)?.clamp(1, 64) as usize,
                "--out" => flags.out = PathBuf::from(value),
                "--canary" if value == "all" => flags.canaries = canary::ALL.iter().collect(),
                "--canary" => flags.canaries.push(canary::find(value).ok_or_else(|| {
                    let known: Vec<&str> = canary::ALL.iter().map(|canary| canary.name).collect();
                    format!("no canary is called \"{value}\"; there are {}", known.join(", "))
                })?),
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        Ok(flags)
    }

    fn run(&self) -> Result<bool, String> {
        if self.canaries.is_empty() {
            return self.hunt();
        }
        let mut all_caught = true;
        for canary in &self.canaries {
            let caught = self.seeds.clone().find_map(|seed| {
                let found = canary.play(seed);
                let is_its = |violation: &&String| hunt::rule(violation) == canary.rule;
                let violation = found.violations.iter().find(is_its).cloned()?;
                Some((seed, violation))
            });
            match &caught {
                Some((seed, violation)) => {
                    let seeds = seed - self.seeds.start + 1;
                    println!("{}: caught after {seeds} seeds: {violation}", canary.name);
                }
                None => println!("{}: not caught", canary.name),
            }
            all_caught &= caught.is_some();
        }
        Ok(all_caught)
    }

    fn hunt(&self) -> Result<bool, String> {
        let next = AtomicU64::new(self.seeds.start);
        let (send, receive) = mpsc::channel::<Found>();
        let mut broken = 0_u64;
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                let (next, send, end) = (&next, send.clone(), self.seeds.end);
                scope.spawn(move || {
                    let policies = Registry::built_in();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            break;
                        }
                        let found = hunt::play(seed, hunt::policy_of(seed), "", &policies);
                        if !found.violations.is_empty() && send.send(found).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(send);
            for found in receive {
                broken += 1;
                self.report(&found)?;
            }
            Ok::<(), String>(())
        })?;
        let Range { start, end } = self.seeds;
        println!("{} seeds ({start}..{end}): {broken} with broken invariants", end - start);
        Ok(broken == 0)
    }

    fn report(&self, found: &Found) -> Result<(), String> {
        let Found { seed, violations, scenario } = found;
        let refuse = |error| format!("cannot write to `{}`: {error}", self.out.display());
        fs::create_dir_all(&self.out).map_err(refuse)?;
        let path = self.out.join(format!("{seed}.toml"));
        fs::write(&path, scenario).map_err(refuse)?;
        for violation in violations {
            println!("{seed}: {violation}");
        }
        println!("  tiershift run {}", path.display());
        Ok(())
    }
}
