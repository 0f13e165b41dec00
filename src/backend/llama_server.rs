//! Runs each model in its own `llama-server` process, which is started to load it and stopped to unload it.
//!
//! Each process is watched by a task that only reports. Not done here: time-outs of loads and draining, which belong to
//! the manager, and requests, which go directly to [`LlamaServer::endpoint`].

mod health;
pub mod launch;
#[cfg(target_os = "linux")]
mod left;
mod process;
mod progress;
mod tryout;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::process::Signal;
use tiershift_core::backend::Backend;
use tiershift_core::event::{Adopted, Command, Outcome, Tried};
use tiershift_core::model::ModelId;
use tiershift_core::time::Timestamp;
use tokio::process::Command as Spawn;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::backend::callbacks::Callbacks;
use crate::backend::endpoint::Endpoint;
use crate::backend::key::Key;
use crate::backend::llama_server::launch::Launch;
#[cfg(target_os = "linux")]
use crate::backend::llama_server::left::Left;
use crate::backend::llama_server::process::{Process, STOP_TIMEOUT};

/// Starts the processes.
pub struct LlamaServer {
    program: PathBuf,
    /// The folder of the models, which marks our processes as ours.
    home: PathBuf,
    launches: BTreeMap<ModelId, Launch>,
    tools: Tools,
    /// The existing processes, from the command to load to the report of their end.
    running: BTreeMap<ModelId, Running>,
    reports: mpsc::Receiver<Outcome>,
}

/// What every watching task needs.
#[derive(Clone)]
struct Tools {
    runtime: Handle,
    client: reqwest::Client,
    reports: mpsc::Sender<Outcome>,
    callbacks: Callbacks,
}

struct Running {
    pid: Option<u32>,
    port: u16,
    key: Key,
    gpu: Option<u8>,
    /// Taken once it was asked to stop.
    stop: Option<oneshot::Sender<()>>,
}

impl LlamaServer {
    /// Prepares to run these models with this program. Nothing is started yet.
    pub fn new(
        program: PathBuf,
        home: PathBuf,
        launches: BTreeMap<ModelId, Launch>,
        runtime: Handle,
        client: reqwest::Client,
        callbacks: Callbacks,
    ) -> Self {
        let (sender, reports) = mpsc::channel();
        let tools = Tools { runtime, client, reports: sender, callbacks };
        Self { program, home, launches, tools, running: BTreeMap::new(), reports }
    }

    /// Returns the endpoint of a model's process, once it was asked to load.
    pub fn endpoint(&self, model: &ModelId) -> Option<Endpoint> {
        let Running { port, key, .. } = self.running.get(model)?;
        Some(Endpoint::new(&format!("http://127.0.0.1:{port}")).with_key(key.clone()))
    }

    /// Returns the ids of the existing processes.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.running.values().filter_map(|process| process.pid)
    }

    /// Returns the GPU that a model was put on.
    pub fn gpu_of(&self, model: &ModelId) -> Option<u8> {
        self.running.get(model)?.gpu
    }

    /// Returns the models whose processes exist.
    pub fn models(&self) -> impl Iterator<Item = &ModelId> {
        self.running.keys()
    }

    /// Returns whether no process is left.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    fn load(&mut self, model: &ModelId, gpu: Option<u8>) {
        if let Err(error) = self.start(model, gpu) {
            self.tools.report(Outcome::LoadFailed { model: model.clone(), error });
        }
    }

    fn start(&mut self, model: &ModelId, gpu: Option<u8>) -> Result<(), String> {
        let launch = self.launches.get(model).ok_or("no file is known for it")?;
        if self.running.contains_key(model) {
            return Err("its last process has not ended".to_owned());
        }
        let port = free_port().map_err(|error| format!("no free port: {error}"))?;
        let key = Key::new().map_err(|error| format!("no key for it: {error}"))?;
        let _inside = self.tools.runtime.enter();
        let mut child = self
            .command(launch, &launch.arguments(model, port, gpu))
            .env(Key::VARIABLE, key.as_str())
            .spawn()
            .map_err(|error| format!("llama-server does not start: {}", error.kind()))?;
        let running = Running { pid: child.id(), port, key, gpu, stop: None };
        let last_lines = child.stderr.take().map(|pipe| tokio::spawn(process::last_lines(pipe)));
        let (watch, stopped) = self.watch(model, running, Process::Child(child), last_lines);
        tokio::spawn(watch.load(port, stopped));
        Ok(())
    }

    /// Takes over the processes that an earlier daemon left for the same folder, and returns their models. One that is
    /// not ready to serve, or that would be started differently today, is ended, and its end is waited for.
    ///
    /// Must be called before anything else, by the only daemon that serves from this folder.
    #[cfg(target_os = "linux")]
    pub fn adopt(&mut self) -> Vec<Adopted> {
        let runtime = self.tools.runtime.clone();
        let _inside = runtime.enter();
        let mut unwanted = tokio::task::JoinSet::new();
        for left in Left::find(MARK, self.home.as_os_str()) {
            // Any process may have inherited the mark alone.
            let Some((model, port, gpu)) = started_as(&left) else { continue };
            let is_as_today = self.launches.get(&model).is_some_and(|launch| {
                let has =
                    |(name, value): (&String, &String)| left.variable(name).as_ref() == Some(value);
                left.arguments == launch.arguments(&model, port, gpu) && launch.env.iter().all(has)
            });
            let ready = tokio::time::timeout(
                health::HEALTH_TIMEOUT,
                health::is_ready(&self.tools.client, port),
            );
            let key = left.variable(Key::VARIABLE).and_then(Key::of);
            if let Some(key) = key
                && is_as_today
                && !self.running.contains_key(&model)
                && runtime.block_on(ready) == Ok(true)
            {
                let running = Running { pid: Some(left.pid), port, key, gpu, stop: None };
                let (watch, stopped) = self.watch(&model, running, Process::Left(left), None);
                tokio::spawn(watch.keep(port, stopped));
            } else {
                // Its client was the daemon that died: there is nothing to finish.
                left.signal(Signal::KILL);
                let mut left = left;
                unwanted.spawn(async move { left.wait().await });
            }
        }
        runtime.block_on(unwanted.join_all());
        self.running
            .iter()
            .map(|(model, running)| Adopted { model: model.clone(), gpu: running.gpu })
            .collect()
    }

    /// Returns nothing: what an earlier daemon left is known only on Linux.
    #[cfg(not(target_os = "linux"))]
    pub fn adopt(&mut self) -> Vec<Adopted> {
        Vec::new()
    }

    fn watch(
        &mut self,
        model: &ModelId,
        mut running: Running,
        process: Process,
        last_lines: Option<JoinHandle<String>>,
    ) -> (Watch, oneshot::Receiver<()>) {
        let (stop, stopped) = oneshot::channel();
        running.stop = Some(stop);
        self.running.insert(model.clone(), running);
        (Watch { model: model.clone(), process, last_lines, tools: self.tools.clone() }, stopped)
    }

    fn command(&self, launch: &Launch, arguments: &[OsString]) -> Spawn {
        let mut command = Spawn::new(&self.program);
        command
            .args(arguments)
            // Without memory mapping, a model's memory can be seen to come and go. Builds of 2026 and older ones use
            // different names; an unknown variable is ignored, but an unknown argument is refused.
            .env("LLAMA_ARG_LOAD_MODE", "none")
            .env("LLAMA_ARG_NO_MMAP", "1")
            // NVML counts GPUs in this order; CUDA by default counts the fastest first.
            .env("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
            .envs(&launch.env)
            .env(MARK, &self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Ctrl-C in a terminal goes to a whole group: it must not end running streams.
        #[cfg(unix)]
        command.process_group(0);
        command
    }

    fn try_out(&self, model: &ModelId) {
        let Some(endpoint) = self.endpoint(model) else { return };
        let (tools, model) = (self.tools.clone(), model.clone());
        self.tools.runtime.spawn(async move {
            if let Some((output_tokens, decoded_in)) = tryout::run(&tools.client, &endpoint).await {
                tools.report(Outcome::Tried(Tried { model, output_tokens, decoded_in }));
            }
        });
    }

    fn unload(&mut self, model: &ModelId) {
        match self.running.get_mut(model) {
            // A repeated command: the answer is on its way.
            Some(process) => drop(process.stop.take().map(|stop| stop.send(()))),
            None => self.tools.report(Outcome::Unloaded { model: model.clone() }),
        }
    }
}

impl Backend for LlamaServer {
    fn submit(&mut self, _: Timestamp, command: &Command) {
        match command {
            Command::Load { model, gpu } => self.load(model, *gpu),
            Command::Unload { model } => self.unload(model),
            // These pass between a client and the model's port.
            Command::Start { .. } | Command::Cancel { .. } => {}
            Command::Try { model } => self.try_out(model),
        }
    }

    fn poll(&mut self, _: Timestamp) -> Option<Outcome> {
        let outcome = self.reports.try_recv().ok()?;
        if let Outcome::LoadFailed { model, .. }
        | Outcome::Unloaded { model }
        | Outcome::Crashed { model, .. } = &outcome
        {
            self.running.remove(model);
        }
        Some(outcome)
    }

    /// Nothing is known in advance: `wake` is called instead.
    fn next_wakeup(&self) -> Option<Timestamp> {
        None
    }
}

impl Tools {
    fn report(&self, outcome: Outcome) {
        // The receiver is gone once the daemon has stopped.
        let _ = self.reports.send(outcome);
        (self.callbacks.wake)();
    }
}

/// Watches one process to its end.
struct Watch {
    model: ModelId,
    process: Process,
    last_lines: Option<JoinHandle<String>>,
    tools: Tools,
}

impl Watch {
    /// Watches from the start of a process.
    async fn load(mut self, port: u16, mut stopped: oneshot::Receiver<()>) {
        let gets_on = Outcome::Loading { model: self.model.clone() };
        let tools = self.tools.clone();
        let progress = progress::watch(self.process.id(), move || tools.report(gets_on.clone()));
        let ended = tokio::select! {
            how = self.process.wait() => Some(how),
            never = progress => match never {},
            _ = &mut stopped => None,
            () = health::until_ready(&self.tools.client, port) => {
                self.tools.report(Outcome::Loaded { model: self.model.clone() });
                return self.keep(port, stopped).await;
            }
        };
        let model = self.model.clone();
        if let Some(how) = ended {
            let error = format!("its process ended before it was ready ({how})");
            self.tools.report(Outcome::LoadFailed { model, error });
            return self.pass_on_last_lines().await;
        }
        self.unload().await;
    }

    /// Watches from the moment at which it can serve.
    async fn keep(mut self, port: u16, stopped: oneshot::Receiver<()>) {
        let error = tokio::select! {
            how = self.process.wait() => format!("its process ended ({how})"),
            () = health::until_silent(&self.tools.client, port) => {
                self.process.kill();
                // A process that waits for a device cannot even be killed; its memory then counts as others'.
                let _ = tokio::time::timeout(STOP_TIMEOUT, self.process.wait()).await;
                "its process hung, and was ended".to_owned()
            }
            _ = stopped => return self.unload().await,
        };
        self.tools.report(Outcome::Crashed { model: self.model.clone(), error });
        self.pass_on_last_lines().await;
    }

    async fn unload(mut self) {
        self.process.terminate().await;
        self.tools.report(Outcome::Unloaded { model: self.model });
    }

    async fn pass_on_last_lines(&mut self) {
        let Some(lines) = self.last_lines.take() else { return };
        if let Ok(Ok(lines)) = tokio::time::timeout(LAST_LINES_TIMEOUT, lines).await {
            (self.tools.callbacks.exit_message)(&self.model, &lines);
        }
    }
}

/// Returns the model, the port and the GPU with which a process was started; `None` if we did not start it.
#[cfg(target_os = "linux")]
fn started_as(left: &Left) -> Option<(ModelId, u16, Option<u8>)> {
    let port = left.option("--port")?.to_str()?.parse().ok()?;
    let gpu = left.option("--main-gpu").and_then(|gpu| gpu.to_str()?.parse().ok());
    Some((ModelId::from(left.option("--alias")?.to_str()?), port, gpu))
}

/// Returns a port that was free a moment ago. If another program takes it first, the load fails and is retried.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The variable in which our processes carry the folder that they serve from.
const MARK: &str = "TIERSHIFT_SERVES_FROM";

/// Chosen: the pipe closes with the process, unless a grandchild holds it.
const LAST_LINES_TIMEOUT: Duration = Duration::from_millis(500);
