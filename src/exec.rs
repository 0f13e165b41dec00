//! A policy that is another program. It reads and writes lines of JSON: the first line that it reads describes the
//! machine and the tiers, each later one is a reading of the machine, and it answers each of those with the tier that
//! should serve. `tiershift schema policy-protocol` has every field.
//!
//! Its answers become inputs of the run's log, so that the log can be verified without it. The same readings must get
//! the same answers, or a run cannot be repeated.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiershift_core::catalog::Rung;
use tiershift_core::event::Consult;
use tiershift_core::policy::ExternalOptions;
use tiershift_core::sample::Sample;
use tiershift_core::setup::Setup;
use tiershift_core::time::{SpanText, Timestamp, nanos, span_text};

use crate::files::document::suggestion;
use crate::files::schema;

/// A program that was started, and waits for a reading.
#[derive(Debug)]
pub struct Program {
    /// Its command line.
    command: String,
    child: Child,
    /// Closed at the end: to the program, that is the end of its input.
    input: Option<ChildStdin>,
    answers: Receiver<io::Result<String>>,
    time_limit: Duration,
    /// The name of each rung, from none up.
    tiers: Vec<String>,
    asked: u64,
}

impl Program {
    /// Starts the program that the policy's options name, and sends it the machine and the tiers.
    ///
    /// # Errors
    /// When no program is named, or it cannot be started.
    pub fn start(setup: &Setup) -> Result<Self, ExecError> {
        let options: ExternalOptions = setup
            .settings
            .options
            .read()
            .map_err(|error| ExecError::Options { why: error.to_string() })?;
        let command = options.command.ok_or(ExecError::NoCommand)?;
        let words = shlex::split(&command).unwrap_or_default();
        let [program, arguments @ ..] = &words[..] else {
            return Err(ExecError::NoWords { command });
        };
        let cannot_start = |error| ExecError::Start { command: command.clone(), error };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot_start)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = BufReader::new(output.expect("it was asked for"));
        let (sender, answers) = sync_channel(1);
        std::thread::spawn(move || {
            for line in output.lines() {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let rungs = (0..=setup.catalog.top().0).map(Rung);
        let mut program = Self {
            child,
            input,
            answers,
            time_limit: options.time_limit.map_or(TIME_LIMIT, SpanText::into),
            tiers: rungs.map(|rung| setup.catalog.tier_name(rung).to_owned()).collect(),
            asked: 0,
            command,
        };
        program.say(&to_line(&Line::Setup(Opening::of(setup))))?;
        Ok(program)
    }

    /// Sends it a reading and returns the rung that it wants to serve; `None` to leave everything as it is.
    ///
    /// # Errors
    /// When it has ended, takes too long, or writes something that is not an answer.
    pub fn ask(
        &mut self,
        at: Timestamp,
        sample: &Sample,
        consult: &Consult,
    ) -> Result<Option<Rung>, ExecError> {
        self.asked += 1;
        let Consult { rung, switching, running, waiting, refused, .. } = *consult;
        let at_ns = nanos(at.since(Timestamp::ZERO));
        let tier = &*self.tiers[usize::from(rung.0)];
        let line = to_line(&Line::Reading(Reading {
            at_ns,
            tier,
            switching,
            running,
            waiting,
            refused,
            sample,
        }));
        if let Ok(Ok(line)) = self.answers.try_recv() {
            return Err(self.wrong("it is one line more than there were readings", &line));
        }
        self.say(&line)?;
        match self.answers.recv_timeout(self.time_limit) {
            Ok(Ok(line)) => self.read(&line),
            Ok(Err(error)) => Err(self.wrong(&error.to_string(), "")),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
            Err(RecvTimeoutError::Timeout) => Err(ExecError::Late {
                command: self.command.clone(),
                reading: self.asked,
                limit: span_text(self.time_limit),
            }),
        }
    }

    fn read(&self, line: &str) -> Result<Option<Rung>, ExecError> {
        let answer: Answer =
            serde_json::from_str(line).map_err(|error| self.wrong(&not_an_answer(&error), line))?;
        let Some(tier) = answer.tier else { return Ok(None) };
        let rung = self.tiers.iter().position(|name| *name == tier);
        let rung = rung.and_then(|rung| u8::try_from(rung).ok()).map(Rung);
        rung.map(Some).ok_or_else(|| {
            let known = suggestion(&tier, self.tiers.iter().map(String::as_str));
            self.wrong(&format!("unknown tier `{tier}`: {known}"), line)
        })
    }

    fn say(&mut self, line: &[u8]) -> Result<(), ExecError> {
        let input = self.input.as_mut().expect("it may be closed only at the end");
        if input.write_all(line).is_err() {
            return Err(self.ended());
        }
        Ok(())
    }

    fn wrong(&self, why: &str, line: &str) -> ExecError {
        ExecError::Answer {
            command: self.command.clone(),
            line: self.asked,
            why: why.to_owned(),
            text: line.chars().take(MOST_QUOTED).collect(),
        }
    }

    fn ended(&mut self) -> ExecError {
        self.input = None;
        // It closed a pipe: it has ended, or is about to.
        let status = self.child.wait().map_or_else(|error| error.to_string(), |it| it.to_string());
        ExecError::Ended { command: self.command.clone(), status, reading: self.asked }
    }
}

impl Drop for Program {
    /// Closes its input, and ends it if it does not end on its own.
    fn drop(&mut self) {
        self.input = None;
        while self.answers.recv_timeout(GRACE).is_ok() {}
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line that it reads.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    /// The first line.
    Setup(Opening),
    /// Every later line; one answer is expected to each.
    Reading(Reading<'a>),
}

/// The machine and the tiers.
#[derive(Debug, Serialize, JsonSchema)]
struct Opening {
    /// The version of this protocol: 1.
    version: u32,
    /// Main memory of the machine, in bytes.
    memory_bytes: u64,
    /// Video memory of each GPU, in bytes.
    vram_bytes: Vec<u64>,
    /// The share of a space above which the policy should step down, from 0 to 1.
    degrade_line: f64,
    /// The tiers, from the smallest up. Below them is `none`: nothing is loaded.
    tiers: Vec<Tier>,
}

/// A tier, by the model that serves it first.
#[derive(Debug, Serialize, JsonSchema)]
struct Tier {
    /// Its name.
    tier: String,
    /// From 0 to 1.
    quality: f64,
    /// Main memory that the model takes, in bytes.
    ram_bytes: u64,
    /// Video memory that the model takes, in bytes, on one GPU.
    vram_bytes: u64,
    /// How long it takes to load with its file in the page cache, in nanoseconds.
    load_ns: u64,
}

/// One reading of the machine, and the state of the models.
#[derive(Debug, Serialize, JsonSchema)]
struct Reading<'a> {
    /// Time since the start of the run, in nanoseconds.
    at_ns: u64,
    /// The tier that serves, or that the switch in progress leads to.
    tier: &'a str,
    /// Whether a switch is in progress.
    switching: bool,
    /// Requests that run on the serving model.
    running: u32,
    /// Requests that wait because every slot of the serving model is taken.
    waiting: u32,
    /// Requests refused since the last reading because every slot was taken.
    refused: u32,
    /// The machine, as in an event log: sizes in bytes, rates in thousandths of a per cent; each space and rate is
    /// divided into the use of `others` and our `own`. What was not read is absent.
    #[schemars(with = "serde_json::Value")]
    sample: &'a Sample,
}

/// A line that it writes: one for each reading, at once (a buffered output must be flushed).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Answer {
    /// The tier that should serve, or `none`. Absent or null: all stays as it is.
    tier: Option<String>,
}

/// Both directions of the protocol, for its schema.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is of use")]
struct Protocol {
    reads: Line<'static>,
    writes: Answer,
}

/// Returns the JSON Schema of the protocol.
pub fn protocol_schema() -> String {
    schema::text::<Protocol>()
}

impl Opening {
    fn of(setup: &Setup) -> Self {
        let Setup { machine, catalog, settings, .. } = setup;
        let primaries = (1..=catalog.top().0).map(Rung);
        let tiers = primaries.filter_map(|rung| Some((rung, catalog.primary(rung)?)));
        Self {
            version: 1,
            memory_bytes: machine.memory.get(),
            vram_bytes: machine.gpus.iter().map(|vram| vram.get()).collect(),
            degrade_line: settings.degrade_line.0.fraction(),
            tiers: tiers
                .map(|(rung, model)| Tier {
                    tier: catalog.tier_name(rung).to_owned(),
                    quality: model.quality.fraction(),
                    ram_bytes: model.footprint().ram.get(),
                    vram_bytes: model.footprint().vram.get(),
                    load_ns: nanos(model.load_warm),
                })
                .collect(),
        }
    }
}

/// Returns a line as the program reads it.
fn to_line(line: &Line<'_>) -> Vec<u8> {
    let mut text = serde_json::to_vec(line).expect("plain data is always JSON");
    text.push(b'\n');
    text
}

fn not_an_answer(error: &serde_json::Error) -> String {
    format!("it must be like {{\"tier\": \"small\"}} or {{\"tier\": null}} ({error})")
}

/// Why a program cannot be asked.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum ExecError {
    #[error("the policy `exec` asks a program: name it, as in --policy exec:\"python3 mine.py\"")]
    NoCommand,
    #[error("`{command}` is not a valid command line: check its quotes")]
    NoWords { command: String },
    #[error("options of the policy `exec`: {why}")]
    Options { why: String },
    #[error("cannot start the policy `{command}`: {error}")]
    Start { command: String, error: io::Error },
    #[error("the policy `{command}` ended ({status}) before it answered reading {reading}")]
    Ended { command: String, status: String, reading: u64 },
    #[error(
        "the policy `{command}` did not answer reading {reading} within {limit}: does it flush its output? \
         --set options.time-limit=1m gives it longer"
    )]
    Late { command: String, reading: u64, limit: String },
    #[error("line {line} of the policy `{command}` is not an answer: {why}: {text}")]
    Answer { command: String, line: u64, why: String, text: String },
}

/// The policy whose answers come from a program.
pub const POLICY: &str = "exec";

/// How long a program may take for an answer, unless its options state more. Chosen: ample for a script, and short
/// enough that a hang is noticed while someone is watching.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How long a program may take to end once its input is closed.
const GRACE: Duration = Duration::from_secs(1);

/// The most characters of a wrong answer that are quoted.
const MOST_QUOTED: usize = 200;
