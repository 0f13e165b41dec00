//! How a recording is opened and what it is played with: the same for every verb that replays.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tiershift_core::catalog::Catalog;
use tiershift_core::machine::Machine;
use tiershift_core::model::Model;
use tiershift_core::settings::RawSettings;
use tiershift_core::text;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

use crate::cli::common::{self, MEMORY, VRAM};
use crate::cli::input::Inputs;
use crate::cli::offered::Offered;
use crate::cli::requests::{Laid, NamedRequests, RequestsAt};
use crate::cli::say;
use crate::log::{Played, Source};
use crate::scenario::is_scenario;
use crate::sim::SimulationError;
use crate::sim::workload::Workload;
use crate::study::folder::RecordingFile;
use crate::study::replay::{Recording, RecordingError, Requests};
use crate::summary::Summary;
use crate::trace::{Format, Kind, ReadOptions, TraceError};
use crate::wall::{Part, WallClock};

/// How recordings are read, which requests arrive, and which models there are.
#[derive(Debug, clap::Args)]
pub(super) struct RecordedOptions {
    /// Request trace to serve during the replay
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// Format of the request trace: the name of a preset, or a mapping file [default: detected]
    #[arg(long, requires = "requests", value_name = "FORMAT", value_parser = Offered::FORMATS, hide_possible_values = true)]
    requests_format: Option<String>,
    /// When requests arrive: at their wall-clock times, if both files have them (the default), or counted from the start
    /// of the recording
    #[arg(long, requires = "requests", value_enum, value_name = "WHEN")]
    requests_at: Option<RequestsAt>,
    /// Repeat the request trace from the recording's start for as long as the resource trace lasts
    #[arg(long, requires = "requests")]
    loop_requests: bool,
    /// Use the token counts that the server of a log measured, instead of those that were requested
    #[arg(long, conflicts_with = "requests")]
    counted: bool,
    /// Catalog of models [default: three models of 12.5, 31.25 and 56.25 % of the largest GPU's memory, or of main memory if the
    /// trace has no video memory]
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Where to place the default models when no catalog is given
    #[arg(long, value_enum, conflicts_with = "catalog")]
    ladder: Option<Ladder>,
    /// Format of the traces: the name of a preset, or a mapping file [default: detected]
    #[arg(long, value_name = "FORMAT", value_parser = Offered::FORMATS, hide_possible_values = true)]
    format: Option<String>,
    #[command(flatten)]
    totals: common::Totals,
    #[command(flatten)]
    says: common::Says,
    #[command(flatten)]
    part: common::PartOption,
    /// Refuse a trace that has any defect
    #[arg(long)]
    strict: bool,
}

/// Where default models are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Ladder {
    /// In main memory
    Memory,
    /// On the GPU with the most video memory
    Vram,
}

/// The options, read.
pub(super) struct Recorded<'a> {
    options: &'a RecordedOptions,
    read: ReadOptions,
    catalog: Option<Catalog>,
    requests: Option<NamedRequests>,
}

/// A recording that is open, with the models and requests that it is played with.
pub(super) struct Opened {
    pub(super) recording: Recording,
    pub(super) catalog: Catalog,
    /// What to report about default models.
    pub(super) made_up: Option<String>,
    /// The files that the run is made from: the recording first.
    pub(super) sources: Vec<Source>,
    pub(super) workloads: Vec<Workload>,
    source: Reopen,
    laid: Option<Laid>,
    /// The digest of a request trace.
    requests_digest: Option<blake3::Hash>,
}

impl RecordedOptions {
    /// Reads the files that the options name.
    pub(super) fn read(&self, inputs: &Inputs) -> Result<Recorded<'_>> {
        let format = self.format.as_deref().map(Format::named).transpose()?;
        let requests_format = self.requests_format.as_deref().map(Format::named).transpose()?;
        // A format that describes requests does not apply to the machine's recording.
        let (format, of_requests) = match format {
            Some(format) if format.kind() == Kind::Request => (None, Some(format)),
            format => (format, None),
        };
        let read = ReadOptions {
            format,
            strict: self.strict,
            machine: self.totals.machine(),
            told: self.says.told(),
            cut_silences: true,
            ..ReadOptions::default()
        };
        let requests = match &self.requests {
            None => None,
            Some(path) => {
                let format = requests_format.or(of_requests);
                let read = ReadOptions { format, strict: self.strict, ..ReadOptions::default() };
                let path = &inputs.path(path)?;
                let requests = Requests::read(path, &read)?;
                let played = self.loop_requests.then_some(Played::Repeated);
                let source = Source { name: file_name(path), played, part: None };
                Some(NamedRequests { content: requests, source })
            }
        };
        let catalog = self.catalog.as_deref().map(common::catalog).transpose()?;
        Ok(Recorded { options: self, read, catalog, requests })
    }
}

impl Recorded<'_> {
    /// Returns the part of a recording that the options select, without what lies beyond its end.
    pub(super) fn extent(&self, file: &RecordingFile) -> Result<Part> {
        let part = self.part(file)?;
        let (_, end) = extent(&file.path, &self.read)?;
        Ok(Part { to: part.to.min(end), ..part })
    }

    fn part(&self, file: &RecordingFile) -> Result<Part> {
        let part = self.options.part.part(|| extent(&file.path, &self.read));
        part.with_context(|| file.path.display().to_string())
    }

    /// Notes which totals have no effect on a recording.
    pub(super) fn note_without_effect(&self, machine: &Machine, name: &str) {
        for (option, what) in self.options.totals.without_effect(machine) {
            say::note(&format!("{name} does not record {what}: {option} has no effect on it"));
        }
    }

    /// Opens a recording. One that was found in a folder is skipped if nothing can be loaded in it.
    pub(super) fn open(&self, file: &RecordingFile) -> Result<Opened> {
        self.open_part(file, self.part(file)?)
    }

    /// As [`Recorded::open`], for a part of it.
    pub(super) fn open_part(&self, file: &RecordingFile, part: Part) -> Result<Opened> {
        let trace = &file.path;
        let read = ReadOptions { part, ..self.read.clone() };
        let recording = open(trace, &read)?;
        anyhow::ensure!(!file.is_found || recording.tells_space(), NO_SPACE);
        let origin = recording.origin();
        anyhow::ensure!(
            origin.is_some() || !self.options.counted,
            "{}: --counted needs an event log: a trace has no token counts of a server",
            trace.display()
        );
        let mut made_up = None;
        let catalog = match self.catalog.as_ref().or(origin.map(|origin| &origin.setup.catalog)) {
            Some(catalog) => catalog.clone(),
            None => {
                let catalog = ladder(recording.machine(), self.options, trace)?;
                made_up = Some(ladder_text(&catalog));
                catalog
            }
        };
        let repeat = self.options.loop_requests;
        let reopen = || Recording::open(trace, &read);
        let at = self.options.requests_at;
        let lay = |requests| Laid::new(requests, at, repeat, &recording, reopen);
        let laid = self.requests.as_ref().map(lay).transpose()?;
        // A log contains its own requests; a request trace that was named overrides them.
        let of_log = origin.map(|origin| match self.options.counted {
            true => origin.requests.as_counted(),
            false => origin.requests.clone(),
        });
        let requests = laid.as_ref().map(|laid| &laid.requests.content).or(of_log.as_ref());
        let workloads = requests.iter().map(|requests| requests.workload(repeat)).collect();
        let played = self.options.counted.then_some(Played::AsCounted);
        let part = (!part.is_whole()).then_some(part);
        let sources = std::iter::once(Source { name: file_name(trace), played, part })
            .chain(laid.as_ref().map(|laid| laid.requests.source.clone()))
            .collect();
        Ok(Opened {
            source: Reopen { trace: trace.clone(), read },
            requests_digest: self.requests.as_ref().and_then(|it| it.content.digest()),
            recording,
            catalog,
            made_up,
            sources,
            workloads,
            laid,
        })
    }
}

impl Opened {
    /// Returns the recording's settings: those of a log's run, or else the defaults.
    pub(super) fn settings(&self) -> RawSettings {
        let origin = self.recording.origin();
        origin.map_or_else(RawSettings::default, |origin| origin.setup.settings.clone())
    }

    /// Returns what opens the same recording again, in any thread.
    pub(super) fn reopen(&self) -> &Reopen {
        &self.source
    }

    /// Returns only that, when the rest is no longer needed.
    pub(super) fn into_reopen(self) -> Reopen {
        self.source
    }

    /// Returns the digests of the files, once they have been read to the end.
    pub(super) fn digests(&self) -> impl Iterator<Item = blake3::Hash> {
        self.recording.digest().into_iter().chain(self.requests_digest)
    }

    /// Adds what only the readers know, once they have read to the end.
    pub(super) fn complete(&self, summary: &mut Summary) {
        let recording = &self.recording;
        summary.started_at = recording.clock().started_at();
        summary.warnings.extend(recording.notes());
        if let Some(defects) = recording.defects() {
            summary.rejected_rows = defects.rejected_rows();
            summary.warnings.extend(defects.warnings());
        }
        let requests = self.laid.as_ref().map(|laid| &laid.requests.content);
        if let Some(requests) = requests.or(recording.origin().map(|origin| &origin.requests)) {
            summary.rejected_rows += requests.rejected_rows();
            summary.warnings.extend(requests.warnings().iter().cloned());
        }
        if !recording.tells_space() {
            summary.warnings.push(format!("{NO_SPACE}: nothing can be loaded"));
        }
        if let Some(laid) = &self.laid {
            summary.requests_left_out = laid.left_out;
            summary.warnings.extend(laid.notes.iter().cloned());
        }
    }

    /// Adds to an error which trace it is about. An error of the trace's reader already names the file, with the line.
    pub(super) fn refused(&self, error: SimulationError) -> anyhow::Error {
        self.source.refused(error)
    }
}

/// Opens a recording from its beginning.
pub(super) struct Reopen {
    trace: PathBuf,
    read: ReadOptions,
}

impl Reopen {
    pub(super) fn open(&self) -> Result<Recording, RecordingError> {
        Recording::open(&self.trace, &self.read)
    }

    /// See [`Opened::refused`].
    pub(super) fn refused(&self, error: SimulationError) -> anyhow::Error {
        match error {
            SimulationError::Trace(refused) => anyhow::Error::from_boxed(refused),
            other => anyhow::Error::from(other).context(self.trace.display().to_string()),
        }
    }
}

/// Opens a recording. For a scenario, the error names the verb that takes it.
fn open(trace: &Path, read: &ReadOptions) -> Result<Recording> {
    Recording::open(trace, read).map_err(|error| match is_scenario(trace) {
        true => {
            let path = trace.display();
            anyhow::anyhow!(
                "`{path}` is a scenario, not a recording: play it with `tiershift run {path}`"
            )
        }
        false => error.into(),
    })
}

/// Returns the error of a file that is not a scenario. For a recording, it names the verb that takes it.
pub(super) fn no_scenario(path: &Path, error: impl Into<anyhow::Error>) -> anyhow::Error {
    match Recording::open(path, &ReadOptions::default()) {
        Ok(_) => {
            let path = path.display();
            anyhow::anyhow!(
                "`{path}` is a recording, not a scenario: play it with `tiershift replay {path}`"
            )
        }
        Err(_) => error.into(),
    }
}

/// Returns in short why a file of a folder is skipped.
pub(super) fn reason(error: &anyhow::Error) -> String {
    match error.downcast_ref::<RecordingError>() {
        Some(RecordingError::Trace(TraceError::UnknownFormat { .. })) => {
            "in no known format".to_owned()
        }
        _ => format!("{error:#}"),
    }
}

/// Reads a recording to its end, for its wall clock and its last moment.
fn extent(trace: &Path, options: &ReadOptions) -> Result<(WallClock, Timestamp)> {
    let recording = open(trace, options)?;
    let end = recording.read_to_end().map_err(anyhow::Error::from_boxed)?;
    Ok((recording.clock(), end))
}

/// Returns models for a machine without a catalog: on the largest GPU, if the trace has its memory, or else in main
/// memory.
fn ladder(machine: &Machine, options: &RecordedOptions, trace: &Path) -> Result<Catalog> {
    let trace = trace.display();
    let vram = machine.gpus.iter().copied().max().unwrap_or_default();
    let on_gpu = match options.ladder {
        Some(ladder) => ladder == Ladder::Vram,
        None => vram > Bytes::ZERO,
    };
    match on_gpu {
        true if vram > Bytes::ZERO => {
            let beside = BESIDE_VRAM.min(machine.memory.share(Percent::new(5)));
            return Ok(Catalog::relative_to_vram(vram, beside));
        }
        false if machine.memory > Bytes::ZERO => return Ok(Catalog::relative_to(machine.memory)),
        _ => {}
    }
    // A trace of a GPU alone lacks that GPU's total.
    let (lacks, example, hint) = match on_gpu || !machine.gpus.is_empty() {
        true => (VRAM, "--vram 24GiB", " (`memory.total` in the query of nvidia-smi states it)"),
        false => (MEMORY, "--memory 32GiB", ""),
    };
    let mut without_effect = options.totals.without_effect(machine);
    anyhow::ensure!(
        !without_effect.any(|(_, what)| what == lacks),
        "{trace}: the trace does not record {lacks}, so that no model can be placed there"
    );
    anyhow::bail!(
        "{trace}: the trace does not state how much {lacks} the machine has: give it, as in {example}, or a --catalog{hint}"
    )
}

/// Returns which default models were used, and how large they are.
fn ladder_text(catalog: &Catalog) -> String {
    let of = |model: &Model| match model.vram {
        Bytes::ZERO => format!("{} {} of memory", model.tier, text::bytes(model.ram)),
        vram => format!("{} {} of video memory", model.tier, text::bytes(vram)),
    };
    let models: Vec<_> = catalog.models().iter().map(of).collect();
    format!(
        "no catalog was given, so default models were used: {} (--catalog and --ladder choose others)",
        models.join(", ")
    )
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The most main memory that a model on a GPU takes. Chosen: llama-server with all layers on the GPU takes some hundred
/// MiB.
const BESIDE_VRAM: Bytes = Bytes::from_mib(512);
const NO_SPACE: &str = "the trace records neither memory nor video memory";
