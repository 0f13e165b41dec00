//! Turns a recording into a situation that can be simulated: others' use from the recording, own use from the simulated
//! backend. A recording is a resource trace or an event log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::iter::Take;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tiershift_core::catalog::CatalogError;
use tiershift_core::event::{Event, Input, Outcome, Record};
use tiershift_core::machine::Machine;
use tiershift_core::sample::Sample;
use tiershift_core::setup::Setup;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::log::{LogEnd, LogError, LogReader};
use crate::sim::action::{Action, ActionKind};
use crate::sim::workload::{Recorded, Workload};
use crate::sim::{Ground, ReadError, Situation};
use crate::trace::{
    Defects, Progress, ReadOptions, ResourceReader, ThreadedReader, TraceError, load_requests,
    survey,
};
use crate::wall::{Part, WallClock};

/// A recording that is being replayed. Its defects are known completely when the run is over.
#[derive(Clone)]
pub struct Recording {
    reader: Rc<RefCell<Reader>>,
    first: Option<(Timestamp, Sample)>,
    machine: Machine,
    notes: Vec<String>,
    clock: WallClock,
    progress: Option<Progress>,
    origin: Option<Origin>,
    /// For a log; the digest of a trace is known at its end.
    digest: Option<blake3::Hash>,
}

/// The reader of a recording.
enum Reader {
    /// A trace, read in order by its own thread.
    Trace(ThreadedReader),
    /// A part of an event log, up to its end when its requests were read: it may still be growing.
    Log(Box<Take<LogReader>>, Part),
}

/// The run that an event log is of: a replay takes these over unless an option states otherwise.
#[derive(Clone)]
pub struct Origin {
    /// The log's machine, models, policy and seed.
    pub setup: Setup,
    /// The log's requests.
    pub requests: Requests,
    /// The orders that users gave: the tiers of the log's switches.
    pub actions: Vec<Action>,
}

impl Reader {
    /// Reads the next sample into `sample`, whose memory may be reused for a later one.
    fn next_into(&mut self, sample: &mut Sample) -> Result<Option<Timestamp>, ReadError> {
        match self {
            Self::Trace(reader) => Ok(reader.next_into(sample)?),
            Self::Log(reader, part) => Ok(next_of_log(reader, *part)?.map(|(at, next)| {
                *sample = next;
                at
            })),
        }
    }
}

fn next_of_log(
    reader: &mut Take<LogReader>,
    part: Part,
) -> Result<Option<(Timestamp, Sample)>, LogError> {
    let mut samples = reader.filter_map(|record| match record {
        Ok(Record { at, event: Event::Input(Input::Sample(sample)), .. }) => {
            part.place(at).map(|at| Ok((at, sample)))
        }
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    samples.next().transpose()
}

impl Recording {
    /// Opens a trace or an event log and reads its first sample. Its first bytes show which of them it is.
    ///
    /// # Errors
    /// When the reader refuses it.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self, RecordingError> {
        match LogReader::open(path) {
            Ok(log) => Self::of_log(path, log, options.part),
            // No log can begin with this line: the reader of traces decides whether it is one, and what is wrong with
            // it.
            Err(
                LogError::NotALog { .. }
                | LogError::Empty { .. }
                | LogError::LongLine { .. }
                | LogError::Open { .. }
                | LogError::Read { .. },
            ) => Self::of_trace(path, options),
            Err(error) => Err(error.into()),
        }
    }

    fn of_trace(path: &Path, options: &ReadOptions) -> Result<Self, RecordingError> {
        let mut reader = ResourceReader::open(path, options)?;
        let mut first = reader.next()?;
        let mut machine = reader.machine().clone();
        // A total from the options may be of something that is only recorded further down.
        let adds = |given: &Machine| {
            let is_new = |given, so_far| so_far == Bytes::ZERO && given > Bytes::ZERO;
            let of = |gpu| machine.gpus.get(gpu).copied().unwrap_or_default();
            let mut gpus = given.gpus.iter().enumerate();
            is_new(given.memory, machine.memory) || gpus.any(|(gpu, &vram)| is_new(vram, of(gpu)))
        };
        if reader.lacks_a_total() || options.machine.as_ref().is_some_and(adds) {
            // The size of the machine may be stated further down, and applies from the beginning.
            (machine, _) = survey(path, options)?;
            reader = ResourceReader::open(
                path,
                &ReadOptions { machine: Some(machine.clone()), ..options.clone() },
            )?;
            first = reader.next()?;
        }
        Ok(Self {
            first,
            machine,
            notes: reader.header().notes.clone(),
            clock: reader.header().clock.clone(),
            progress: Some(reader.progress()),
            origin: None,
            digest: None,
            reader: Rc::new(RefCell::new(Reader::Trace(ThreadedReader::start(reader)))),
        })
    }

    fn of_log(path: &Path, log: LogReader, part: Part) -> Result<Self, RecordingError> {
        let header = log.header().clone();
        let mut whole = LogReader::open(path)?;
        let mut end = Timestamp::ZERO;
        let records = whole.by_ref().inspect(|record| {
            end = record.as_ref().map_or(end, |record| record.at);
        });
        let (requests, actions) = Requests::of_log(records, part)?;
        let origin =
            Origin { setup: header.setup().map_err(RecordingError::Catalog)?, requests, actions };
        let mut notes = Vec::new();
        if !header.level.has_every_input() {
            notes
                .push("the log contains only changes: samples between them are missing".to_owned());
        }
        if let Some(LogEnd::Torn { records, .. }) = whole.end() {
            notes.push(format!("the log was not closed: its {records} whole records are replayed"));
        }
        if let Some(segment) = &header.segment {
            let first = segment.first_seq;
            notes.push(format!("the log begins at record {first}: what was before it is missing"));
        }
        let records = usize::try_from(whole.records()).unwrap_or(usize::MAX);
        let mut log = log.take(records);
        let first = next_of_log(&mut log, part)?;
        if first.is_none() && !part.is_whole() {
            let (name, reason) = (path.display().to_string(), part.nothing(whole.clock(), end));
            return Err(TraceError::Ask { name, reason }.into());
        }
        let reader = Reader::Log(Box::new(log), part);
        Ok(Self {
            first,
            machine: header.machine,
            notes,
            clock: whole.clock().from_moment(part.from),
            progress: None,
            origin: Some(origin),
            digest: Some(whole.digest()),
            reader: Rc::new(RefCell::new(reader)),
        })
    }

    /// Returns the run that it is a log of; `None` for a trace.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Returns what the trace states about the machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the wall clock, as far as the recording states it; complete when the run is over.
    pub fn clock(&self) -> WallClock {
        match &*self.reader.borrow() {
            Reader::Trace(reader) => reader.reader().map(|reader| reader.header().clock.clone()),
            Reader::Log(..) => None,
        }
        .unwrap_or_else(|| self.clock.clone())
    }

    /// Reads the recording to its end, and returns its last moment; [`Recording::clock`] is complete then.
    ///
    /// # Errors
    /// When its reader refuses it.
    pub fn read_to_end(&self) -> Result<Timestamp, ReadError> {
        let mut end = self.first.as_ref().map_or(Timestamp::ZERO, |(at, _)| *at);
        let (mut reader, mut sample) = (self.reader.borrow_mut(), Sample::default());
        while let Some(at) = reader.next_into(&mut sample)? {
            end = at;
        }
        Ok(end)
    }

    /// Returns notes on how the trace is read; complete when the run is over.
    pub fn notes(&self) -> Vec<String> {
        match &*self.reader.borrow() {
            Reader::Trace(reader) => reader.reader().map(|reader| reader.header().notes.clone()),
            Reader::Log(..) => None,
        }
        .unwrap_or_else(|| self.notes.clone())
    }

    /// Returns whether the trace records the use of memory or video memory, without which nothing is loaded.
    pub fn tells_space(&self) -> bool {
        self.first.as_ref().is_some_and(|(_, sample)| sample.spaces().next().is_some())
    }

    /// Returns its first sample.
    pub fn first_sample(&self) -> Option<&Sample> {
        self.first.as_ref().map(|(_, sample)| sample)
    }

    /// Returns a view of how far a trace has been read.
    pub fn progress(&self) -> Option<Progress> {
        self.progress.clone()
    }

    /// Returns the digest of the recording's uncompressed bytes; for a trace, `None` before the run is over.
    pub fn digest(&self) -> Option<blake3::Hash> {
        match &*self.reader.borrow() {
            Reader::Trace(reader) => reader.reader().and_then(ResourceReader::digest),
            Reader::Log(..) => self.digest,
        }
    }

    /// Returns the defects of a trace; `None` before the run is over. A log with a defect is refused.
    pub fn defects(&self) -> Option<Defects> {
        match &*self.reader.borrow() {
            Reader::Trace(reader) => reader.reader().map(|reader| reader.defects().clone()),
            Reader::Log(..) => None,
        }
    }

    /// Returns the situation in which a setup meets the recorded others. `watch` is called now and then while the trace
    /// is read.
    pub fn situation(
        &self,
        setup: Setup,
        workloads: Vec<Workload>,
        mut watch: impl FnMut() + 'static,
    ) -> Situation {
        let reader = Rc::clone(&self.reader);
        let mut first = self.first.clone();
        let mut read = 0_u64;
        let read_next = move |sample: &mut Sample| {
            if let Some((at, reading)) = first.take() {
                *sample = reading;
                return Ok(Some(at));
            }
            read += 1;
            if read.is_multiple_of(WATCH_EVERY) {
                watch();
            }
            reader.borrow_mut().next_into(sample)
        };
        let ground = Ground::recorded_in_place(Box::new(read_next));
        let actions = self.origin.iter().flat_map(|origin| origin.actions.clone()).collect();
        let recorded = Situation::of_recording(setup, ground);
        Situation { actions, workloads, ..recorded }
    }
}

/// A request trace in memory.
#[derive(Clone, Debug)]
pub struct Requests {
    recorded: Arc<[Recorded]>,
    /// For a log, the server's counts.
    counts: Vec<Count>,
    warnings: Vec<String>,
    rejected_rows: u64,
    clock: WallClock,
    /// Of a request trace's bytes.
    digest: Option<blake3::Hash>,
}

/// The counted length of a request.
#[derive(Clone, Copy, Debug)]
struct Count {
    /// Its index among the recorded requests.
    place: usize,
    prompt_tokens: Option<u32>,
    output_tokens: u32,
}

impl Requests {
    /// Reads a request trace.
    ///
    /// # Errors
    /// When the reader refuses it.
    pub fn read(path: &Path, options: &ReadOptions) -> Result<Self, TraceError> {
        let loaded = load_requests(path, options)?;
        let warnings = loaded.notes.into_iter().chain(loaded.defects.warnings()).collect();
        Ok(Self {
            recorded: Recorded::all(loaded.rows),
            counts: Vec::new(),
            warnings,
            clock: loaded.clock,
            rejected_rows: loaded.defects.rejected_rows(),
            digest: Some(loaded.digest),
        })
    }

    /// Collects the requests of an event log, and the tiers that were ordered. Clients that hung up are treated as
    /// patient ones.
    fn of_log(
        log: impl Iterator<Item = Result<Record, LogError>>,
        part: Part,
    ) -> Result<(Self, Vec<Action>), LogError> {
        let (mut recorded, mut counts) = (Vec::new(), Vec::new());
        let mut places = BTreeMap::new();
        let mut actions = Vec::new();
        let (mut hung_up, mut reloads) = (0, 0);
        for record in log {
            let record = record?;
            // A request of the part may be answered after it.
            let at = match (&record.event, part.place(record.at)) {
                (_, Some(at)) => at,
                (Event::Input(Input::Outcome(_)), None) => Timestamp::MAX,
                (_, None) => continue,
            };
            match record.event {
                Event::Input(Input::Request(request)) => {
                    places.insert(request.id, recorded.len());
                    recorded.push(Recorded { at, request });
                }
                Event::Input(Input::Outcome(Outcome::Done {
                    request,
                    prompt_tokens,
                    output_tokens,
                    ..
                })) => {
                    if let Some(place) = places.remove(&request) {
                        counts.push(Count { place, prompt_tokens, output_tokens });
                    }
                }
                Event::Input(Input::Switch { tier, for_ }) => {
                    actions.push(Action { at, kind: ActionKind::Switch { tier, for_ } });
                }
                Event::Input(Input::Cancel { .. }) => hung_up += 1,
                Event::Input(Input::Settings(_)) => reloads += 1,
                _ => {}
            }
        }
        let mut warnings = Vec::new();
        if hung_up > 0 {
            warnings.push(format!("{hung_up} clients hung up in the log; in the replay they wait"));
        }
        if reloads > 0 {
            let kept = "the replay keeps to one";
            warnings.push(format!("the log's settings were changed {reloads} times; {kept}"));
        }
        let recorded = recorded.into();
        let clock = WallClock::default();
        let requests = Self { recorded, counts, warnings, rejected_rows: 0, clock, digest: None };
        Ok((requests, actions))
    }

    /// Returns the same with prompts and replies as long as the log's server counted them, if it did. As requested, a
    /// prompt is an estimate and a reply the most that was wanted.
    #[must_use]
    pub fn as_counted(&self) -> Self {
        let mut recorded = self.recorded.to_vec();
        for Count { place, prompt_tokens, output_tokens } in &self.counts {
            let request = &mut recorded[*place].request;
            if let Some(prompt_tokens) = prompt_tokens {
                (request.prompt_tokens, request.prompt_estimated) = (*prompt_tokens, false);
            }
            request.output_tokens = *output_tokens;
        }
        Self { recorded: recorded.into(), ..self.clone() }
    }

    /// Returns those that arrived while a machine was recorded, at the moments when its clock showed their times, and
    /// the number of the others. `end` is the recording's last moment.
    #[must_use]
    pub fn at_wall_time(&self, machine: &WallClock, end: Timestamp) -> (Self, u64) {
        let mut recorded: Vec<Recorded> = Vec::with_capacity(self.recorded.len());
        for Recorded { at, request } in self.recorded.iter() {
            let moments = self.clock.at(*at).map(|time| machine.moments_of(time, end));
            // A clock that was set back shows a time twice: the first is taken.
            if let Some(&at) = moments.iter().flatten().next() {
                recorded.push(Recorded { at, request: request.clone() });
            }
        }
        recorded.sort_by_key(|recorded| recorded.at);
        let left_out = (self.recorded.len() - recorded.len()) as u64;
        (Self { recorded: recorded.into(), ..self.clone() }, left_out)
    }

    /// Returns warnings about the file.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the digest of a request trace's uncompressed bytes; `None` for the requests of a log.
    pub fn digest(&self) -> Option<blake3::Hash> {
        self.digest
    }

    /// Returns the wall clock of their arrival, if a request trace states it.
    pub fn clock(&self) -> &WallClock {
        &self.clock
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.recorded.is_empty()
    }

    /// Returns the rows that were refused.
    pub fn rejected_rows(&self) -> u64 {
        self.rejected_rows
    }

    /// Returns the workload that plays them, once or again and again.
    pub fn workload(&self, repeat: bool) -> Workload {
        Workload::of_recorded(Arc::clone(&self.recorded), repeat)
    }
}

/// Why a recording was refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum RecordingError {
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the log's catalog is not valid: {0}")]
    Catalog(CatalogError),
}

/// Samples between two updates of the progress: some milliseconds' work.
const WATCH_EVERY: u64 = 1 << 14;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tiershift_core::request::Request;

    use super::*;

    #[test]
    fn a_request_of_a_log_is_as_long_as_the_server_counted() {
        let done = |request, prompt_tokens, output_tokens| {
            let first_token = Duration::ZERO;
            Input::Outcome(Outcome::Done { request, first_token, prompt_tokens, output_tokens })
        };
        let [counted, uncounted, unserved] = [1, 2, 3].map(|id| Request::chat(id, 100, 256));
        let ids = [counted.id, uncounted.id];
        let mut inputs = [counted, uncounted, unserved].map(Input::Request).to_vec();
        inputs.extend([done(ids[1], None, 9), done(ids[0], Some(40), 7)]);
        // Servers may answer twice; the first answer is the one that ended the request.
        inputs.push(done(ids[0], Some(1), 1));
        let records = (0..).zip(inputs).map(|(seq, input)| {
            Ok(Record { seq, at: Timestamp::ZERO, event: Event::Input(input) })
        });
        let (requests, _) = Requests::of_log(records, Part::WHOLE).unwrap();
        let sizes = |requests: &Requests| {
            let size = |request: &Request| (request.prompt_tokens, request.output_tokens);
            requests.recorded.iter().map(|it| size(&it.request)).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&requests), [(100, 256); 3]);
        assert_eq!(sizes(&requests.as_counted()), [(40, 7), (100, 9), (100, 256)]);
    }
}
