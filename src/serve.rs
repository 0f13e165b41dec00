//! The daemon: the same controller and the same driver as in a simulation, on the real machine with real models.
//!
//! ```text
//! clients --HTTP--> http --Message--> world --Input--> controller --Command--> world --> llama-server processes
//!     ^                                                    |                     |               ^
//!     |                                                    +--> recorder, board  +-- Started --> |
//!     +---------------------- completions <-------- bytes of the reply ---------------------------+
//! ```
//!
//! One thread owns the controller. All other threads send it messages, and the moment at which it receives one is the
//! message's time, so that the log of a live run is a total order and `verify` can replay it. It waits only for the
//! probe's thread, and for that not long.

mod board;
mod client;
mod config;
mod hooks;
mod http;
mod journal;
mod load_steps;
mod message;
mod notice;
mod own_rates;
mod preread;
mod recorder;
mod release_lag;
mod sampler;
mod shadow;
mod signals;
mod source;
mod status;
mod supervisor;
mod token_length;
mod waiting;
mod world;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use tiershift_core::catalog::Catalog;
use tiershift_core::controller::{Controller, ControllerError, Detail};
use tiershift_core::driver::{self, Livelock};
use tiershift_core::event::{Adopted, Observe};
use tiershift_core::machine::Machine;
use tiershift_core::policy::Registry;
use tiershift_core::settings::{RawSettings, Settings, SettingsError};
use tiershift_core::setup::Setup;
use tiershift_core::time::Clock;
use tiershift_core::units::Bytes;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::backend::callbacks::Callbacks;
use crate::backend::http::{http_client, relay_client};
use crate::exec::ExecError;
use crate::inventory::listing::ListingError;
use crate::log::{Header, LogLevel};
use crate::probe::clock;
use crate::probe::system::SystemProbe;
use crate::serve::board::SharedBoard;
use crate::serve::hooks::Hooks;
use crate::serve::http::access::AccessPolicy;
use crate::serve::http::app::{App, Facts};
use crate::serve::http::connections::{self, Limits};
use crate::serve::http::names::Names;
use crate::serve::journal::Journal;
use crate::serve::message::Message;
use crate::serve::preread::Preread;
use crate::serve::recorder::{NotifyRecording, Recorder};
use crate::serve::sampler::Sampler;
use crate::serve::shadow::{NotifyShadow, Shadow, ShadowPlan};
use crate::serve::signals::Reloader;
use crate::serve::source::Started;
use crate::serve::supervisor::Heartbeat;
use crate::serve::world::{LiveWorld, Parts};

pub use crate::serve::client::{AskError, fetch_status};
pub use crate::serve::config::{
    ConfigError, RawClient, RawConfig, RawHooks, RawListen, RawModels, RawRecording, RawServer,
    schema as config_schema,
};
pub use crate::serve::hooks::HookPlan;
pub use crate::serve::http::access::{Access, KnownClient, Token, TokenError};
pub use crate::serve::http::names::UnknownModel;
pub use crate::serve::notice::DaemonEvent;
pub use crate::serve::recorder::RecordingPlan;
pub use crate::serve::shadow::compare::{Cost, Difference, Saved, ShadowReport, ShadowState};
pub use crate::serve::signals::Reload;
pub use crate::serve::source::{Source, SourceError};
pub use crate::serve::status::{
    Companion, HistoryEntry, Latencies, Ordered, Recording, Requests, ResourceUse, Status,
    TimedDecision, Words, schema as status_schema,
};
pub use crate::serve::supervisor::Supervisor;
pub use crate::serve::waiting::{Arrived, wait_for_server};

/// What to serve, and how.
#[derive(Debug)]
pub struct Plan {
    /// The address to listen on: loopback, or another one with a token. Port 0 takes any free port.
    pub address: SocketAddr,
    /// A listener that is already open there and was reported: see [`wait_for_server`].
    pub listener: Option<std::net::TcpListener>,
    /// Who may send requests.
    pub access: Access,
    /// The source of the models.
    pub source: Source,
    /// The ladder; the source has each of its models.
    pub catalog: Catalog,
    /// Other names, each for a tier, a model or `auto`.
    pub aliases: BTreeMap<String, String>,
    /// How to answer a request for an unknown name; by default the model that serves answers on loopback, and the
    /// request is refused elsewhere.
    pub unknown_model: Option<UnknownModel>,
    /// The longest body of a request.
    pub longest_body: Bytes,
    /// Whether to load nothing, and decide as if models were loaded.
    pub dry_run: bool,
    /// The policy.
    pub settings: RawSettings,
    /// The policies that its settings may name.
    pub policies: Registry,
    /// Where to record the run, if anywhere.
    pub recording: Option<RecordingPlan>,
    /// A policy that runs beside it, without effect.
    pub shadow: Option<RawSettings>,
    /// The commands to run on events.
    pub hooks: HookPlan,
    /// The service manager that started it, if one did.
    pub supervisor: Supervisor,
}

/// Called with the daemon's reports, from any thread.
pub type Notify = Arc<dyn Fn(DaemonEvent<'_>) + Send + Sync>;

/// Serves on the machine that `probe` samples until SIGTERM or Ctrl-C, and then until running requests have finished. A
/// second signal ends it at once. SIGHUP takes the policy's settings from `reload`. Returns how many replies were cut
/// because it stopped.
///
/// # Errors
/// When it cannot begin: the address is taken, or others can reach it without a token, a program does not run, or
/// settings or the catalog are invalid. Once it serves, only in a livelock.
pub fn serve(
    mut plan: Plan,
    mut probe: SystemProbe,
    reload: Reload,
    notify: &Notify,
) -> Result<u64, LiveError> {
    check_access(plan.address, &plan.access)?;
    let machine = probe.machine();
    let settings = Settings::new(plan.settings.clone(), machine.class())?;
    let controller = Controller::new(&settings, &plan.catalog, Detail::Full, &plan.policies)?;
    let reloader = Reloader {
        reload,
        machine_class: machine.class(),
        catalog: plan.catalog.clone(),
        policies: plan.policies.clone(),
        folder: match &plan.source {
            Source::Processes { folder, .. } => Some(folder.clone()),
            Source::Server(_) => None,
        },
    };
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(LiveError::Runtime)?;
    let client = http_client().map_err(LiveError::Client)?;
    let facts = facts(&plan)?;
    let has_listened = plan.listener.is_some();
    let listener = runtime
        .block_on(async {
            match plan.listener.take() {
                Some(listener) => TcpListener::from_std(listener),
                None => TcpListener::bind(plan.address).await,
            }
        })
        .and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) =
        listener.map_err(|source| LiveError::Listen { address: plan.address, source })?;
    let board = SharedBoard::new(plan.catalog.clone(), settings);
    let shadow = shadow(&plan, &machine, &board, notify)?;
    let (to, inbox) = mpsc::channel();
    let tools = (runtime.handle().clone(), client, callbacks(&to, notify));
    // The claim is held to the end.
    let Started { backend, adopted, claim: _claim } = match plan.dry_run {
        true => Started::dry_run(&plan.catalog, tools),
        false => plan.source.start(&plan.catalog, tools)?,
    };
    for Adopted { model, .. } in &adopted {
        notify(DaemonEvent::Adopted { model });
    }
    let recorder = recorder(&plan, &machine, &board, notify)?;
    let relays = relay_client().map_err(LiveError::Client)?;
    let app = Arc::new(App::new(to.clone(), plan.catalog.clone(), relays, board.clone(), facts));
    let (stop, stopped) = oneshot::channel::<()>();
    let router = http::router(app, AccessPolicy::new(plan.access, address.ip()));
    let server = runtime.spawn(connections::serve(listener, router, Limits::USUAL, async {
        // Sent, or dropped if the controller failed.
        let _ = stopped.await;
    }));
    signals::listen(&runtime, to, notify, reloader)?;
    plan.supervisor.ready();
    if !has_listened {
        notify(DaemonEvent::Listening { address });
    }
    let interval = plan.settings.sampling_interval.0;
    let drain_deadline = plan.settings.manager.drain_deadline.0;
    let hooks = Hooks::begin(plan.hooks, runtime.handle(), Arc::clone(notify));
    let parts = journal::Parts {
        catalog: plan.catalog.clone(),
        board: board.clone(),
        hooks,
        supervisor: plan.supervisor.clone(),
        drain_deadline,
    };
    let mut journal = Journal::new(parts, Arc::clone(notify));
    let heartbeat = Heartbeat::new(plan.supervisor);
    let catalog = plan.catalog;
    let stale_after = plan.settings.stale_after.0;
    let sampler = Sampler::of_machine(probe, stale_after).map_err(LiveError::Runtime)?;
    let preread = Preread::new(
        catalog.clone(),
        if plan.dry_run { BTreeMap::new() } else { plan.source.files() },
    );
    let world = LiveWorld::new(Parts { sampler, backend, catalog, interval, inbox, adopted });
    let observers =
        Observers { recorder, shadow, board: board.clone(), preread, journal: &mut journal };
    let ran = control(controller, world, observers, heartbeat);
    let report = board.lock().shadow().cloned();
    if let Some(report) = &report {
        notify(DaemonEvent::Shadow(report));
    }
    board.lock().close();
    let _ = stop.send(());
    // Answers that are already written still reach their clients; nothing else is waited for.
    let _ = runtime.block_on(async { tokio::time::timeout(GOODBYE, server).await });
    // Remaining model processes are killed with their tasks.
    runtime.shutdown_timeout(GOODBYE);
    let cut = journal.cut() + ran?;
    notify(DaemonEvent::Stopped { cut });
    Ok(cut)
}

/// Refuses an address that others can reach without a token.
fn check_access(address: SocketAddr, access: &Access) -> Result<(), LiveError> {
    match address.ip().is_loopback() || access.has_tokens() {
        true => Ok(()),
        false => Err(LiveError::NoToken { address }),
    }
}

/// The observers of a run.
struct Observers<'a> {
    recorder: Recorder,
    shadow: Shadow,
    board: SharedBoard,
    preread: Preread,
    journal: &'a mut Journal,
}

/// Drives the controller until the world is over, and closes the log. Returns how many replies were cut at once.
fn control(
    mut controller: Controller,
    mut world: LiveWorld,
    observers: Observers<'_>,
    mut heartbeat: Heartbeat,
) -> Result<u64, Livelock> {
    let Observers { mut recorder, mut shadow, mut board, mut preread, journal } = observers;
    while !world.is_over() {
        heartbeat.beat(world.now());
        // The driver returns now and then, to check whether all is over.
        let until = world.now() + SLICE;
        let mut observers: [&mut dyn Observe; 5] =
            [&mut recorder, &mut shadow, &mut board, &mut preread, &mut *journal];
        driver::run(&mut controller, &mut world, until, &mut observers[..])?;
        let sources = world.own_sources();
        board.lock().set_own_sources(sources);
    }
    recorder.close();
    shadow.close();
    Ok(world.unanswered())
}

/// Returns what clients see of the models, and the names by which they request them.
fn facts(plan: &Plan) -> Result<Facts, LiveError> {
    let is_near = plan.address.ip().is_loopback();
    let usual = if is_near { UnknownModel::Auto } else { UnknownModel::Refuse };
    let unknown = plan.unknown_model.unwrap_or(usual);
    let names = Names::new(&plan.catalog, &plan.aliases, unknown)
        .map_err(|alias| LiveError::Alias { alias })?;
    Ok(Facts {
        names,
        longest_body: plan.longest_body,
        started_at: i64::try_from(clock::date().nanos() / NANOS_PER_SECOND).unwrap_or_default(),
        written: plan.source.written(),
        is_ollama: plan.source.is_ollama(),
        is_dry_run: plan.dry_run,
    })
}

/// Begins the shadow, if there is one.
fn shadow(
    plan: &Plan,
    machine: &Machine,
    board: &SharedBoard,
    notify: &Notify,
) -> Result<Shadow, LiveError> {
    let Some(shadow) = &plan.shadow else { return Ok(Shadow::off()) };
    let settings = Settings::new(shadow.clone(), machine.class()).map_err(LiveError::Shadow)?;
    Controller::new(&settings, &plan.catalog, Detail::Changes, &plan.policies)?;
    let plan = ShadowPlan {
        machine: machine.clone(),
        catalog: plan.catalog.clone(),
        real: plan.settings.clone(),
        shadow: shadow.clone(),
        policies: plan.policies.clone(),
    };
    let (board, notify) = (board.clone(), Arc::clone(notify));
    let notify_shadow: NotifyShadow = Arc::new(move |report| {
        if let ShadowState::Failed { error } = &report.state {
            notify(DaemonEvent::ShadowStopped { error });
        }
        board.lock().set_shadow(report);
    });
    Shadow::begin(plan, notify_shadow).map_err(LiveError::ShadowProgram)
}

/// Begins the recording. A disk that is full or read-only does not prevent serving; a folder that cannot be used is
/// refused.
fn recorder(
    plan: &Plan,
    machine: &Machine,
    board: &SharedBoard,
    notify: &Notify,
) -> Result<Recorder, LiveError> {
    let Some(log) = &plan.recording else { return Ok(Recorder::off()) };
    let (board, notify) = (board.clone(), Arc::clone(notify));
    let notify_recording: NotifyRecording = Arc::new(move |recording| {
        let before = board.lock().set_recording(recording.clone());
        // Once: the reason for a held recording may be found again and again.
        match (&before, &recording) {
            (Recording::Stopped { .. }, Recording::Stopped { .. })
            | (Recording::Held { .. }, Recording::Held { .. }) => {}
            (_, Recording::Stopped { error }) => notify(DaemonEvent::RecordingStopped { error }),
            (_, Recording::Held { error }) => notify(DaemonEvent::RecordingHeld { error }),
            (Recording::Stopped { .. }, Recording::On { run, .. }) => {
                notify(DaemonEvent::RecordingResumed { run, gap: true });
            }
            (Recording::Held { .. }, Recording::On { run, .. }) => {
                notify(DaemonEvent::RecordingResumed { run, gap: false });
            }
            (_, Recording::On { .. } | Recording::Off) => {}
        }
    });
    Recorder::begin(log.clone(), header(plan, machine), notify_recording)
        .map_err(|source| LiveError::Log { folder: log.folder.clone(), source })
}

fn callbacks(to: &Sender<Message>, notify: &Notify) -> Callbacks {
    let (to, notify) = (to.clone(), Arc::clone(notify));
    Callbacks {
        wake: Arc::new(move || {
            // The receiver is gone once the daemon has stopped.
            let _ = to.send(Message::Wake);
        }),
        exit_message: Arc::new(move |model, words| {
            notify(DaemonEvent::ExitMessage { model, words });
        }),
    }
}

fn header(plan: &Plan, machine: &Machine) -> Header {
    let setup = Setup {
        machine: machine.clone(),
        catalog: plan.catalog.clone(),
        settings: plan.settings.clone(),
        seed: 0,
    };
    let started_at = Some(clock::date());
    let name = if plan.dry_run { "dry run" } else { "live" };
    Header { started_at, ..Header::of(&setup, LogLevel::Full, name, Vec::new()) }
}

/// Why the daemon could not begin, or had to end.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum LiveError {
    #[error(
        "{address} can be reached from elsewhere: give a token with --token-file or --token-env, or listen on a loopback address such as 127.0.0.1"
    )]
    NoToken { address: SocketAddr },
    #[error("cannot listen on {address}: give another port with --port")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot record into `{}`: give a folder of its own that can be written", folder.display())]
    Log { folder: PathBuf, source: io::Error },
    #[error(
        "the alias \"{alias}\" refers to nothing: set it to a tier, a model's id or \"auto\", in [models.aliases] of the config"
    )]
    Alias { alias: String },
    #[error("the system gives no threads or signals")]
    Runtime(#[source] io::Error),
    #[error("cannot make connections")]
    Client(#[source] reqwest::Error),
    #[error("the shadow's policy is not valid on this machine: {0}")]
    Shadow(#[source] SettingsError),
    #[error("the shadow's policy cannot be started: {0}")]
    ShadowProgram(#[source] ExecError),
    #[error(transparent)]
    Listing(#[from] ListingError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Controller(#[from] ControllerError),
    #[error(transparent)]
    Livelock(#[from] Livelock),
}

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Chosen: the HTTP side waits for sockets; the models do the work.
const WORKERS: usize = 2;

/// Chosen: a stopped daemon ends this soon after its last model.
const SLICE: Duration = Duration::from_millis(250);

/// Chosen: for answers that are already on their way at the end.
const GOODBYE: Duration = Duration::from_secs(2);
