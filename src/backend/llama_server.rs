//! Runs each model in a `llama-server` process of its own, which is started to load it and stopped to unload it.
//!
//! A process is watched by a task that does nothing but report. Left alone on purpose: time-outs of loads and
//! draining, which are the manager's, and requests, which go to [`LlamaServer::endpoint`] straight.

#[cfg(target_os = "linux")]
mod left;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, mpsc};
use std::time::Duration;

#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process};
use tiershift_core::backend::Backend;
use tiershift_core::event::{Adopted, Command, Outcome};
use tiershift_core::model::ModelId;
use tiershift_core::time::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command as Spawn};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::backend::endpoint::Endpoint;
use crate::backend::key::Key;

/// What starts the processes.
pub struct LlamaServer {
    program: PathBuf,
    /// The folder of the models, which marks our processes as ours.
    home: PathBuf,
    launches: BTreeMap<ModelId, Launch>,
    tools: Tools,
    /// The processes that are there, from the command to load to the report of their end.
    running: BTreeMap<ModelId, Running>,
    reports: mpsc::Receiver<Outcome>,
}

/// What is needed to start a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its file.
    pub file: PathBuf,
    /// Context of one slot.
    pub context_tokens: u32,
    /// Requests side by side.
    pub slots: u32,
    /// Whether it turns texts into vectors too.
    pub embeddings: Embeddings,
}

/// How a model turns texts into vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embeddings {
    /// It does not.
    None,
    /// As its file says.
    AsTrained,
    /// As the mean over its tokens: its file does not say, and a build of 2026 without a word of it ends its process
    /// at the next completion (seen on 2026-11-24).
    Mean,
}

/// Who is told what comes between two calls.
#[derive(Clone)]
pub struct Callbacks {
    /// There is an outcome to poll.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// A model's process ended unasked; these were its last words.
    pub exit_message: Arc<ExitMessage>,
}

/// Hears which model's process ended, and the last lines that it wrote.
pub type ExitMessage = dyn Fn(&ModelId, &str) + Send + Sync;

/// What every watching task needs.
#[derive(Clone)]
struct Tools {
    runtime: Handle,
    client: reqwest::Client,
    report: mpsc::Sender<Outcome>,
    callbacks: Callbacks,
}

struct Running {
    pid: Option<u32>,
    port: u16,
    key: Key,
    gpu: Option<u8>,
    /// Taken once it was told to stop.
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
        let (report, reports) = mpsc::channel();
        let tools = Tools { runtime, client, report, callbacks };
        Self { program, home, launches, tools, running: BTreeMap::new(), reports }
    }

    /// Returns where a model's process answers, once it was told to load.
    pub fn endpoint(&self, model: &ModelId) -> Option<Endpoint> {
        let Running { port, key, .. } = self.running.get(model)?;
        Some(Endpoint::new(&format!("http://127.0.0.1:{port}")).with_key(key.clone()))
    }

    /// Returns the ids of the processes that are there.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.running.values().filter_map(|process| process.pid)
    }

    /// Returns the models whose processes are there.
    pub fn models(&self) -> impl Iterator<Item = &ModelId> {
        self.running.keys()
    }

    /// Returns whether no process is left.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    fn load(&mut self, model: &ModelId, gpu: Option<u8>) {
        if let Err(error) = self.start(model, gpu) {
            self.tools.tell(Outcome::LoadFailed { model: model.clone(), error });
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
            .command(&arguments(model, launch, port, gpu))
            .env(Key::VARIABLE, key.as_str())
            .spawn()
            .map_err(|error| format!("llama-server does not start: {}", error.kind()))?;
        let running = Running { pid: child.id(), port, key, gpu, stop: None };
        let words = child.stderr.take().map(|pipe| tokio::spawn(exit_message(pipe)));
        let (watch, stopped) = self.watch(model, running, Process::Child(child), words);
        tokio::spawn(watch.load(port, stopped));
        Ok(())
    }

    /// Takes over the processes that an earlier daemon left for the same folder, and returns their models. One that
    /// is not ready to serve, or that would be started otherwise today, is ended, and its end is waited for.
    ///
    /// To be called before anything else, by the only daemon that serves from this folder.
    #[cfg(target_os = "linux")]
    pub fn adopt(&mut self) -> Vec<Adopted> {
        let runtime = self.tools.runtime.clone();
        let _inside = runtime.enter();
        let mut unwanted = tokio::task::JoinSet::new();
        for left in left::Left::find(MARK, self.home.as_os_str()) {
            // The mark alone may have been handed down to anything.
            let Some((model, port, gpu)) = names(&left) else { continue };
            let is_as_today = self
                .launches
                .get(&model)
                .is_some_and(|launch| left.arguments == arguments(&model, launch, port, gpu));
            let ready = tokio::time::timeout(HEALTH_TIMEOUT, is_ready(&self.tools.client, port));
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
                // Whoever it answered died with its daemon: there is nothing to be finished.
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

    /// Returns nothing: only on Linux is it known what an earlier daemon left.
    #[cfg(not(target_os = "linux"))]
    pub fn adopt(&mut self) -> Vec<Adopted> {
        Vec::new()
    }

    fn watch(
        &mut self,
        model: &ModelId,
        mut running: Running,
        process: Process,
        words: Option<JoinHandle<String>>,
    ) -> (Watch, oneshot::Receiver<()>) {
        let (stop, stopped) = oneshot::channel();
        running.stop = Some(stop);
        self.running.insert(model.clone(), running);
        (Watch { model: model.clone(), process, words, tools: self.tools.clone() }, stopped)
    }

    fn command(&self, arguments: &[OsString]) -> Spawn {
        let mut command = Spawn::new(&self.program);
        command
            .args(arguments)
            .env(MARK, &self.home)
            // Without memory mapping, a model's memory is seen to come and go. Builds of 2026 and older ones call it
            // differently; what a build does not know in the environment it ignores, on the command line it refuses.
            .env("LLAMA_ARG_LOAD_MODE", "none")
            .env("LLAMA_ARG_NO_MMAP", "1")
            // NVML counts GPUs in this order, CUDA by itself the fastest first.
            .env("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Ctrl-C in a terminal goes to a whole group: running streams shall not end by it.
        #[cfg(unix)]
        command.process_group(0);
        command
    }

    fn unload(&mut self, model: &ModelId) {
        match self.running.get_mut(model) {
            // Asked again: the answer is on its way.
            Some(process) => drop(process.stop.take().map(|stop| stop.send(()))),
            None => self.tools.tell(Outcome::Unloaded { model: model.clone() }),
        }
    }
}

impl Backend for LlamaServer {
    fn submit(&mut self, _: Timestamp, command: &Command) {
        match command {
            Command::Load { model, gpu } => self.load(model, *gpu),
            Command::Unload { model } => self.unload(model),
            // These are between a client and the model's port.
            Command::Start { .. } | Command::Cancel { .. } => {}
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

    /// Nothing is known beforehand: `wake` is called instead.
    fn next_wakeup(&self) -> Option<Timestamp> {
        None
    }
}

impl Tools {
    fn tell(&self, outcome: Outcome) {
        // Nobody listens any more when the daemon has ended.
        let _ = self.report.send(outcome);
        (self.callbacks.wake)();
    }
}

/// A model's process.
enum Process {
    /// We started it.
    Child(Child),
    /// An earlier daemon did.
    #[cfg(target_os = "linux")]
    Left(left::Left),
}

impl Process {
    /// Waits for its end, and returns how it ended.
    async fn wait(&mut self) -> String {
        match self {
            Self::Child(child) => child
                .wait()
                .await
                .map_or_else(|error| error.kind().to_string(), |status| status.to_string()),
            #[cfg(target_os = "linux")]
            Self::Left(left) => {
                left.wait().await;
                "another's child, so nobody says how".to_owned()
            }
        }
    }

    /// Ends it and waits for its end.
    async fn terminate(&mut self) {
        #[cfg(unix)]
        {
            self.signal(Signal::TERM);
            if tokio::time::timeout(STOP_TIMEOUT, self.wait()).await.is_ok() {
                return;
            }
        }
        self.kill();
        self.wait().await;
    }

    /// Ends it at once, whatever it does.
    fn kill(&mut self) {
        #[cfg(unix)]
        self.signal(Signal::KILL);
        #[cfg(not(unix))]
        if let Self::Child(child) = self {
            // An error says that it has ended.
            let _ = child.start_kill();
        }
    }

    #[cfg(unix)]
    fn signal(&self, signal: Signal) {
        match self {
            Self::Child(child) => {
                let pid =
                    child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
                // It has not been waited for, so its id is still its own.
                if let Some(pid) = pid {
                    let _ = kill_process(pid, signal);
                }
            }
            #[cfg(target_os = "linux")]
            Self::Left(left) => left.signal(signal),
        }
    }
}

/// As a child, one that was taken over ends at the latest with whoever watches it.
#[cfg(target_os = "linux")]
impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Left(left) = self {
            left.signal(Signal::KILL);
        }
    }
}

/// Watches one process to its end.
struct Watch {
    model: ModelId,
    process: Process,
    words: Option<JoinHandle<String>>,
    tools: Tools,
}

impl Watch {
    /// From the start of a process.
    async fn load(mut self, port: u16, mut stopped: oneshot::Receiver<()>) {
        let ended = tokio::select! {
            how = self.process.wait() => Some(how),
            _ = &mut stopped => None,
            () = until_ready(&self.tools.client, port) => {
                self.tools.tell(Outcome::Loaded { model: self.model.clone() });
                return self.keep(port, stopped).await;
            }
        };
        let model = self.model.clone();
        if let Some(how) = ended {
            let error = format!("its process ended before it was ready ({how})");
            self.tools.tell(Outcome::LoadFailed { model, error });
            return self.pass_on_last_words().await;
        }
        self.unload().await;
    }

    /// From the moment at which it can serve.
    async fn keep(mut self, port: u16, stopped: oneshot::Receiver<()>) {
        let error = tokio::select! {
            how = self.process.wait() => format!("its process ended ({how})"),
            () = until_silent(&self.tools.client, port) => {
                self.process.kill();
                // What waits for a device cannot even be killed; its memory then counts as others'.
                let _ = tokio::time::timeout(STOP_TIMEOUT, self.process.wait()).await;
                "its process hung, and was ended".to_owned()
            }
            _ = stopped => return self.unload().await,
        };
        self.tools.tell(Outcome::Crashed { model: self.model.clone(), error });
        self.pass_on_last_words().await;
    }

    async fn unload(mut self) {
        self.process.terminate().await;
        self.tools.tell(Outcome::Unloaded { model: self.model });
    }

    async fn pass_on_last_words(&mut self) {
        let Some(words) = self.words.take() else { return };
        if let Ok(Ok(words)) = tokio::time::timeout(LAST_WORDS_TIMEOUT, words).await {
            (self.tools.callbacks.exit_message)(&self.model, &words);
        }
    }
}

/// Returns what a model's process is started with.
fn arguments(model: &ModelId, launch: &Launch, port: u16, gpu: Option<u8>) -> Vec<OsString> {
    let context = u64::from(launch.context_tokens) * u64::from(launch.slots);
    let mut all: Vec<OsString> = vec!["--model".into(), launch.file.clone().into()];
    let rest = [
        ["--alias", model.as_str()],
        ["--host", "127.0.0.1"],
        ["--port", &port.to_string()],
        ["--ctx-size", &context.to_string()],
        ["--parallel", &launch.slots.to_string()],
        ["--no-webui", "--offline"],
    ];
    all.extend(rest.as_flattened().iter().map(OsString::from));
    // Not said, a build for GPUs puts there what fits, whatever was planned for.
    let main_gpu = gpu.unwrap_or_default().to_string();
    let placement: &[&str] = match gpu {
        None => &["--n-gpu-layers", "0"],
        Some(_) => &["--n-gpu-layers", ALL_LAYERS, "--split-mode", "none", "--main-gpu", &main_gpu],
    };
    all.extend(placement.iter().map(OsString::from));
    let embeddings: &[&str] = match launch.embeddings {
        Embeddings::None => &[],
        Embeddings::AsTrained => &["--embeddings"],
        Embeddings::Mean => &["--embeddings", "--pooling", "mean"],
    };
    all.extend(embeddings.iter().map(OsString::from));
    all
}

/// Returns the model, the port and the GPU that a process was started with; `None` for what we have not started.
#[cfg(target_os = "linux")]
fn names(left: &left::Left) -> Option<(ModelId, u16, Option<u8>)> {
    let port = left.option("--port")?.to_str()?.parse().ok()?;
    let gpu = left.option("--main-gpu").and_then(|gpu| gpu.to_str()?.parse().ok());
    Some((ModelId::from(left.option("--alias")?.to_str()?), port, gpu))
}

/// Returns a port that was free a moment ago. Where another program takes it first, the load fails and is tried
/// again.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Returns once the server says that it is ready.
async fn until_ready(client: &reqwest::Client, port: u16) {
    while !is_ready(client, port).await {
        tokio::time::sleep(HEALTH_POLL).await;
    }
}

/// Asks a server whether it is ready: 503 while it loads, then 200.
async fn is_ready(client: &reqwest::Client, port: u16) -> bool {
    let url = format!("http://127.0.0.1:{port}/health");
    let answer = client.get(url).timeout(HEALTH_TIMEOUT).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Returns once a server has not answered several times in a row. Whatever it answers, it is there.
async fn until_silent(client: &reqwest::Client, port: u16) {
    let url = format!("http://127.0.0.1:{port}/health");
    let mut unanswered = 0;
    while unanswered < MOST_UNANSWERED {
        tokio::time::sleep(LOOK_PAUSE).await;
        let answer = client.get(&url).timeout(LOOK_TIMEOUT).send().await;
        unanswered = if answer.is_ok() { 0 } else { unanswered + 1 };
    }
}

/// Reads what a process says until it ends, and returns the last lines.
async fn exit_message(pipe: ChildStderr) -> String {
    let mut lines = VecDeque::new();
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(&line).into_owned());
        line.clear();
    }
    lines.into_iter().collect()
}

/// More layers than any model has.
const ALL_LAYERS: &str = "999";

/// The variable in which a process of ours carries the folder that it serves from.
const MARK: &str = "TIERSHIFT_SERVES_FROM";

/// A tiny model loads in 65 ms and is seen ready soon after.
const HEALTH_POLL: Duration = Duration::from_millis(20);

/// Chosen: a server that loads answers in milliseconds; one that does not is asked again.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Chosen: a server whose model works answers this in 0.3 to 52 ms on a machine that has more to do than it can (measured
/// 2026-11-25), and is asked seldom. One that is silent three times, for 15 to 30 s, is stopped or dead-locked.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
const MOST_UNANSWERED: u32 = 3;

/// llama-server's own stop time-out in router mode. Idle servers of 3.4 GB took 140 ms (measured 2026-11-23).
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Chosen: the pipe closes with the process, unless a grandchild holds it.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(500);

/// Chosen: the reason for a failed load stands in the last five lines.
const LAST_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_goes_to_its_gpu_whole_or_not_at_all() {
        let launch = Launch {
            file: PathBuf::from("/m/a.gguf"),
            context_tokens: 1024,
            slots: 2,
            embeddings: Embeddings::None,
        };
        let words = |gpu| {
            let all = arguments(&ModelId::from("a"), &launch, 7, gpu);
            all.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert!(
            words(None)
                .ends_with("--ctx-size 2048 --parallel 2 --no-webui --offline --n-gpu-layers 0")
        );
        assert!(words(Some(1)).ends_with("--n-gpu-layers 999 --split-mode none --main-gpu 1"));
    }
}
