//! The order in which the driver passes inputs and outputs, seen by a world that follows a script and keeps a record.

use std::collections::VecDeque;
use std::time::Duration;

use tiershift_core::backend::Backend;
use tiershift_core::catalog::Catalog;
use tiershift_core::controller::{Controller, Detail};
use tiershift_core::driver::{self, World};
use tiershift_core::event::{Adopted, Command, Input, Outcome, Record};
use tiershift_core::probe::{Probe, ProbeError};
use tiershift_core::request::{End, Request, RequestId};
use tiershift_core::sample::{Sample, Space};
use tiershift_core::time::{Clock, Timestamp};
use tiershift_core::units::Bytes;

use crate::rig::{self, seconds};

/// A world that follows a script, and records in order what it delivers and which requests it gets.
#[derive(Default)]
struct Scripted {
    now: Timestamp,
    outcomes: VecDeque<(Timestamp, Outcome)>,
    inputs: VecDeque<(Timestamp, Input)>,
    /// The times of samples. A late sample replaces all that are overdue.
    samples: VecDeque<Timestamp>,
    /// The delay at the end of every wait.
    late: Duration,
    /// The reading of the probe [GiB], if it works.
    others: u64,
    own: u64,
    blind: bool,
    /// Answers each load as soon as it is submitted.
    eager: bool,
    seen: Vec<String>,
}

impl Scripted {
    fn see(&mut self, what: impl std::fmt::Display) {
        let line = format!("{} {what}", self.now.as_secs_f64());
        self.seen.push(line);
    }

    /// Runs a controller in this world until a second of the run, and returns the record.
    #[track_caller]
    fn run(&mut self, settings: &str, until: u64) -> Vec<String> {
        let mut controller = controller(settings);
        driver::run(&mut controller, self, Timestamp::from_secs(until), &mut None::<Vec<Record>>)
            .unwrap();
        std::mem::take(&mut self.seen)
    }
}

fn controller(settings: &str) -> Controller {
    let catalog = Catalog::relative_to(Bytes::from_gib(16));
    rig::controller(settings, &catalog, Detail::Changes)
}

impl Clock for Scripted {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn wait_until(&mut self, deadline: Timestamp) -> Timestamp {
        self.now = deadline + self.late;
        self.now
    }
}

impl Probe for Scripted {
    fn sample(&mut self, now: Timestamp) -> Result<Sample, ProbeError> {
        while self.samples.front().is_some_and(|&due| due <= now) {
            self.samples.pop_front();
        }
        self.see("sample");
        if self.blind {
            return Err(ProbeError("no".to_owned()));
        }
        let [total, others, own] = [16, self.others, self.own].map(Bytes::from_gib);
        Ok(Sample { memory: Some(Space { total, others, own }), ..Sample::default() })
    }
}

impl Backend for Scripted {
    fn submit(&mut self, now: Timestamp, command: &Command) {
        match command {
            Command::Load { model, .. } => {
                self.see(format_args!("load {model}"));
                if self.eager {
                    self.outcomes.push_back((now, Outcome::Loaded { model: model.clone() }));
                }
            }
            Command::Unload { model } => self.see(format_args!("unload {model}")),
            Command::Start { request, .. } => self.see(format_args!("start {request}")),
            Command::Cancel { request } => self.see(format_args!("cancel {request}")),
            Command::Try { .. } => {}
        }
    }

    fn poll(&mut self, now: Timestamp) -> Option<Outcome> {
        let (_, outcome) = self.outcomes.pop_front_if(|(at, _)| *at <= now)?;
        self.see("outcome");
        Some(outcome)
    }

    fn next_wakeup(&self) -> Option<Timestamp> {
        self.outcomes.front().map(|&(at, _)| at)
    }
}

impl World for Scripted {
    fn next_sample(&self) -> Option<Timestamp> {
        self.samples.front().copied()
    }

    fn next_input(&self) -> Option<Timestamp> {
        self.inputs.front().map(|&(at, _)| at)
    }

    fn poll_input(&mut self, now: Timestamp) -> Option<Input> {
        let (_, input) = self.inputs.pop_front_if(|(at, _)| *at <= now)?;
        self.see("input");
        Some(input)
    }

    fn ended(&mut self, _: Timestamp, request: RequestId, _: &End) {
        self.see(format_args!("end {request}"));
    }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_secs(second)
}

fn adopted() -> Input {
    Input::Adopt { models: vec![Adopted { model: "large".into(), gpu: None }] }
}

fn request(id: u64) -> Input {
    Input::Request(Request::chat(id, 10, 10))
}

fn done(id: u64) -> Outcome {
    Outcome::Done {
        request: RequestId(id),
        first_token: Duration::ZERO,
        prompt_tokens: None,
        output_tokens: 1,
    }
}

#[test]
fn at_one_moment_come_outcomes_then_the_sample_then_inputs_then_the_time_out() {
    let mut world = Scripted {
        // Nothing fits: the request of 0 s waits, and its patience is over at 10 s.
        inputs: [(at(0), request(1)), (at(10), request(2)), (at(10), request(3))].into(),
        outcomes: [(at(10), done(98)), (at(10), done(99))].into(),
        samples: [at(0), at(10)].into(),
        others: 16,
        ..Scripted::default()
    };
    let settings = "stale-after = '20s'\nmanager.patience = '10s'\nmanager.queue-limit = 2";
    assert_eq!(
        world.run(settings, 15),
        [
            "0 sample",
            "0 input",
            "10 outcome",
            "10 outcome",
            "10 sample",
            "10 input",
            "10 input",
            // The third finds the queue full: the first leaves it only now.
            "10 end #3",
            "10 end #1",
        ]
    );
}

#[test]
fn every_output_is_carried_out_in_order_before_the_next_input_is_taken() {
    let requests = [1, 2, 3].map(|id| (at(2), request(id)));
    let mut world = Scripted {
        inputs: [(at(0), adopted())].into_iter().chain(requests).collect(),
        outcomes: [(at(5), done(1)), (at(5), done(2))].into(),
        samples: [at(1)].into(),
        ..Scripted::default()
    };
    assert_eq!(
        world.run("", 9),
        [
            "0 input",
            "1 sample",
            "2 input",
            "2 start #1",
            "2 input",
            "2 start #2",
            "2 input",
            "5 outcome",
            "5 end #1",
            "5 start #3",
            "5 outcome",
            "5 end #2",
        ]
    );
}

#[test]
fn an_answer_that_comes_at_once_is_taken_at_the_same_moment() {
    let mut world = Scripted { samples: [at(0), at(2)].into(), eager: true, ..Scripted::default() };
    assert_eq!(world.run("", 2), ["0 sample", "0 load large", "0 outcome", "2 sample"]);
}

#[test]
fn a_request_on_a_stale_sample_has_one_taken_anew_and_a_fresh_one_is_used_again() {
    let requests = [(11, 1), (12, 2), (12, 3)].map(|(second, id)| (at(second), request(id)));
    let mut world = Scripted {
        inputs: [(at(0), adopted())].into_iter().chain(requests).collect(),
        samples: [at(1)].into(),
        ..Scripted::default()
    };
    assert_eq!(
        world.run("stale-after = '10s'", 20),
        [
            "0 input",
            "1 sample",
            "11 input",
            "11 start #1",
            // Received before the sample, and handled after it: it starts at once.
            "12 input",
            "12 sample",
            "12 start #2",
            "12 input",
        ]
    );
}

#[test]
fn a_request_that_finds_no_sample_starts_on_what_serves() {
    let mut world = Scripted {
        inputs: [(at(0), adopted()), (at(1), request(1))].into(),
        blind: true,
        ..Scripted::default()
    };
    assert_eq!(world.run("", 20), ["0 input", "1 input", "1 sample", "1 start #1"]);
}

#[test]
fn freed_memory_is_sampled_for_between_the_samples() {
    // "small" does not fit beside others' 4 GiB and the 9 GiB of "large" that are not free yet.
    let mut world = Scripted {
        inputs: [
            (at(0), adopted()),
            (at(2), Input::Switch { tier: "small".to_owned(), for_: None }),
        ]
        .into(),
        outcomes: [(at(3), Outcome::Unloaded { model: "large".into() })].into(),
        samples: [at(1), at(60)].into(),
        others: 4,
        own: 9,
        ..Scripted::default()
    };
    assert_eq!(
        world.run("manager.switch-cooldown = '0s'", 4),
        [
            "0 input",
            "1 sample",
            "2 input",
            "2 unload large",
            "3 outcome",
            "3 sample",
            "3.25 sample",
            "3.5 sample",
            "3.75 sample",
            "4 sample",
        ]
    );
}

#[test]
fn a_clock_that_wakes_late_hands_over_what_is_due_in_the_same_order() {
    let mut world = Scripted {
        inputs: [(at(1), request(1))].into(),
        outcomes: [(at(2), done(99))].into(),
        samples: [at(0), at(3)].into(),
        late: seconds(4),
        ..Scripted::default()
    };
    assert_eq!(world.run("", 3), ["4 outcome", "4 sample", "4 load large", "4 input"]);
}

#[test]
fn a_run_ends_when_nothing_is_left_to_happen_or_at_its_end() {
    let end = |until| {
        let mut world =
            Scripted { samples: [at(2), at(4)].into(), blind: true, ..Scripted::default() };
        let end =
            driver::run(&mut controller(""), &mut world, until, &mut None::<Vec<Record>>).unwrap();
        (end, world.seen)
    };
    assert_eq!(end(at(3)), (at(3), vec!["2 sample".to_owned()]));
    assert_eq!(end(Timestamp::MAX), (at(4), ["2 sample", "4 sample"].map(str::to_owned).to_vec()));
}

#[test]
fn a_world_that_never_runs_dry_at_one_moment_is_a_livelock() {
    let cancel = || (at(1), Input::Cancel { request: RequestId(1) });
    let run = |inputs: usize| {
        let inputs = std::iter::repeat_with(cancel).take(inputs).collect();
        let mut world = Scripted { inputs, ..Scripted::default() };
        driver::run(&mut controller(""), &mut world, at(2), &mut None::<Vec<Record>>)
    };
    assert_eq!(run(1_000_000), Ok(at(2)));
    let error = run(1_000_001).unwrap_err().to_string();
    assert!(error.starts_with("more than 1000000 inputs at 1 s"), "{error}");
}
