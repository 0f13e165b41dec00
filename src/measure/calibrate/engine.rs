//! The model server being measured: loads one model at a time, sends it requests, and watches its process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::json;
use tiershift_core::backend::Backend;
use tiershift_core::event::{Command, Outcome};
use tiershift_core::model::{Model, ModelId};
use tiershift_core::probe::Probe;
use tiershift_core::sample::Space;
use tiershift_core::time::{Clock, Timestamp};
use tiershift_core::units::Bytes;
use tokio::runtime::{Builder, Runtime};

use crate::backend::LONGEST_LAG;
use crate::backend::callbacks::Callbacks;
use crate::backend::endpoint::Endpoint;
use crate::backend::llama_server::LlamaServer;
use crate::backend::llama_server::launch::Launch;
use crate::backend::stream_usage::{Count, StreamUsage};
use crate::measure::calibrate::{Bounds, CalibrationError, CalibrationPlan};
use crate::probe::clock::SystemClock;
use crate::probe::system::{OwnProcesses, SystemProbe};

/// Starts, queries and stops the server. When dropped, it stops what runs.
pub(super) struct Engine<'a> {
    program: PathBuf,
    home: PathBuf,
    version: String,
    launches: BTreeMap<ModelId, Launch>,
    bounds: &'a Bounds<'a>,
    runtime: Runtime,
    client: reqwest::Client,
}

/// A model that is loaded.
pub(super) struct Loaded {
    pub(super) took: Duration,
    pub(super) context_tokens: u32,
    model: ModelId,
    server: LlamaServer,
    news: Receiver<()>,
    pid: u32,
    endpoint: Endpoint,
    /// What the process read from storage, and what it had to read; if known.
    read: Option<(Bytes, Bytes)>,
}

/// The times of a model's end.
pub(super) struct Gone {
    pub(super) took: Duration,
    /// From the end of its process until its memory was free; `None` if that was not seen.
    pub(super) lag: Option<Duration>,
}

/// One request as its client saw it, including everything that the server does besides computing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    pub(super) prompt_tokens: f64,
    /// From the request to the first token [s].
    pub(super) first_token: f64,
    output_tokens: f64,
    /// From the first token to the last [s].
    rest: f64,
}

impl Reply {
    /// Returns prompt tokens per second.
    pub(super) fn prefill(&self) -> f64 {
        self.prompt_tokens / self.first_token
    }

    /// Returns reply tokens per second after the first.
    pub(super) fn decode(&self) -> f64 {
        (self.output_tokens - 1.0) / self.rest
    }

    /// Returns the average context of the reply's tokens: the prompt and half of the reply.
    pub(super) fn context(&self) -> f64 {
        self.prompt_tokens + self.output_tokens / 2.0
    }
}

impl<'a> Engine<'a> {
    pub(super) fn new(
        plan: &CalibrationPlan,
        bounds: &'a Bounds<'a>,
    ) -> Result<Self, CalibrationError> {
        let program = plan.program.clone();
        let said = Program::new(&program).arg("--version").output();
        let said = said.and_then(|said| {
            if said.status.success() {
                Ok(said)
            } else {
                Err(std::io::Error::other(said.status.to_string()))
            }
        });
        let said =
            said.map_err(|source| CalibrationError::Program { program: program.clone(), source })?;
        // Older builds print it on one, newer ones on the other.
        let said = [said.stderr, said.stdout].concat();
        let said = String::from_utf8_lossy(&said);
        let version = said.lines().find(|line| line.contains("version")).unwrap_or("llama-server");
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(CalibrationError::Runtime)?;
        Ok(Self {
            version: version.trim().to_owned(),
            home: plan.folder.path().to_owned(),
            launches: plan.launches.clone(),
            client: crate::backend::http::http_client().map_err(CalibrationError::Client)?,
            program,
            bounds,
            runtime,
        })
    }

    /// Returns the server's version text.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Loads a model whose file the kernel was asked to forget.
    pub(super) fn load_cold(&mut self, model: &Model) -> Result<Loaded, CalibrationError> {
        let file = &self.launches[&model.id].file;
        let size = fs::metadata(file).map_or(Bytes::ZERO, |about| Bytes::new(about.len()));
        let forgotten = forget(file);
        let mut loaded = self.load(model, model.context_tokens)?;
        loaded.read = forgotten.then(|| read_from_storage(loaded.pid)).flatten().zip(Some(size));
        Ok(loaded)
    }

    /// Loads a model with this context for each of its slots.
    pub(super) fn load(
        &mut self,
        model: &Model,
        context_tokens: u32,
    ) -> Result<Loaded, CalibrationError> {
        self.bounds.check()?;
        let launch = Launch { context_tokens, ..self.launches[&model.id].clone() };
        let (wake, news) = mpsc::channel();
        let callbacks = Callbacks {
            wake: Arc::new(move || {
                // The receiver is gone when the model is dropped.
                let _ = wake.send(());
            }),
            exit_message: Arc::new(|_, _| {}),
        };
        let mut server = LlamaServer::new(
            self.program.clone(),
            self.home.clone(),
            BTreeMap::from([(model.id.clone(), launch)]),
            self.runtime.handle().clone(),
            self.client.clone(),
            callbacks,
        );
        let clock = SystemClock::start();
        server.submit(clock.now(), &Command::Load { model: model.id.clone(), gpu: None });
        let refuse = |error: String| CalibrationError::Load { model: model.id.to_string(), error };
        let timeout = model.load_timeout;
        let outcome = self.wait(&mut server, &news, &clock, timeout)?;
        let took = clock.now().since(Timestamp::ZERO);
        match outcome {
            Some(Outcome::Loaded { .. }) => {}
            Some(outcome) => return Err(refuse(format!("{outcome:?}"))),
            None => {
                return Err(refuse(
                    "it takes longer than its load-timeout: set a longer one in the catalog"
                        .to_owned(),
                ));
            }
        }
        let pid = server.pids().next().ok_or_else(|| refuse("it has no process".to_owned()))?;
        let endpoint =
            server.endpoint(&model.id).ok_or_else(|| refuse("it has no port".to_owned()))?;
        let model = model.id.clone();
        Ok(Loaded { took, context_tokens, model, server, news, pid, endpoint, read: None })
    }

    /// Stops a model, and watches its memory come back.
    pub(super) fn unload(&self, mut loaded: Loaded) -> Result<Gone, CalibrationError> {
        let mut probe = SystemProbe::new();
        let before = space(&mut probe, Some(loaded.pid));
        let mut clock = SystemClock::start();
        let command = Command::Unload { model: loaded.model.clone() };
        loaded.server.submit(clock.now(), &command);
        self.wait(&mut loaded.server, &loaded.news, &clock, UNLOAD_TIMEOUT)?;
        let gone = clock.now();
        let mut lag = None;
        if let Some(before) = before {
            let back = before.used() - before.own.share(RETURNED);
            while clock.now() < gone + LONGEST_LAG {
                if space(&mut probe, None).is_some_and(|now| now.used() <= back) {
                    lag = Some(clock.now().since(gone));
                    break;
                }
                clock.wait_until(clock.now() + LAG_POLL);
            }
        }
        Ok(Gone { took: gone.since(Timestamp::ZERO), lag })
    }

    /// Sends a model a prompt of this many words for a reply of this many tokens.
    pub(super) fn ask(
        &self,
        loaded: &Loaded,
        words: u32,
        tokens: u32,
    ) -> Result<Reply, CalibrationError> {
        self.within(loaded, self.request(loaded, "the cat ", words, tokens))
    }

    /// Sends two requests at once.
    pub(super) fn ask_two(
        &self,
        loaded: &Loaded,
        words: u32,
        tokens: u32,
    ) -> Result<[Reply; 2], CalibrationError> {
        let both = async {
            let first = self.request(loaded, "the cat ", words, tokens);
            let second = self.request(loaded, "the dog ", words, tokens);
            tokio::try_join!(first, second)
        };
        let (first, second) = self.within(loaded, both)?;
        Ok([first, second])
    }

    /// Returns the memory that a model's process holds, including file pages.
    pub(super) fn resident(&self, loaded: &Loaded) -> Result<Bytes, CalibrationError> {
        let own = space(&mut SystemProbe::new(), Some(loaded.pid)).map(|space| space.own);
        own.filter(|own| *own > Bytes::ZERO)
            .ok_or_else(|| CalibrationError::Memory { model: loaded.model.to_string() })
    }

    /// Returns the most memory that a model's process has held so far; nothing if the system does not report it.
    pub(super) fn peak(&self, loaded: &Loaded) -> Bytes {
        let status = fs::read_to_string(format!("/proc/{}/status", loaded.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        kib.map_or(Bytes::ZERO, Bytes::from_kib)
    }

    async fn request(
        &self,
        loaded: &Loaded,
        word: &str,
        words: u32,
        tokens: u32,
    ) -> Result<Reply, String> {
        let body = json!({
            "prompt": word.repeat(words as usize), "max_tokens": tokens, "ignore_eos": true,
            "temperature": 0, "cache_prompt": false, "stream": true,
        });
        let in_words = |error: reqwest::Error| error.without_url().to_string();
        let clock = SystemClock::start();
        let answer = loaded.endpoint.post(&self.client, "/v1/completions").json(&body).send().await;
        let mut answer = answer.and_then(reqwest::Response::error_for_status).map_err(in_words)?;
        let mut usage = StreamUsage::default();
        while let Some(bytes) = answer.chunk().await.map_err(in_words)? {
            usage.feed(clock.now().since(Timestamp::ZERO), &bytes);
        }
        let Count { prompt_tokens: Some(prompt), output_tokens: Some(output), .. } = usage.count()
        else {
            return Err("it does not report how many tokens it generated".to_owned());
        };
        let (Some(first), Some(last), true) =
            (usage.first_token(), usage.last_token(), usage.is_done())
        else {
            return Err("its reply breaks off".to_owned());
        };
        Ok(Reply {
            prompt_tokens: prompt.into(),
            first_token: first.as_secs_f64(),
            output_tokens: output.into(),
            // If they were read at once, they took at least what a clock can resolve.
            rest: last.saturating_sub(first).max(CLOCK_TICK).as_secs_f64(),
        })
    }

    /// Runs a request until it is answered, or the work must end.
    fn within<T>(
        &self,
        loaded: &Loaded,
        request: impl Future<Output = Result<T, String>>,
    ) -> Result<T, CalibrationError> {
        self.bounds.check()?;
        let answered = self.runtime.block_on(async {
            tokio::pin!(request);
            loop {
                match tokio::time::timeout(LOOK_UP, &mut request).await {
                    Ok(answer) => return Ok::<_, CalibrationError>(answer),
                    Err(_) => self.bounds.check()?,
                }
            }
        })?;
        let model = loaded.model.to_string();
        answered.map_err(|error| CalibrationError::Answer { model, error })
    }

    /// Waits for the server's next outcome; `None` when the time is over.
    fn wait(
        &self,
        server: &mut LlamaServer,
        news: &Receiver<()>,
        clock: &SystemClock,
        timeout: Duration,
    ) -> Result<Option<Outcome>, CalibrationError> {
        let end = clock.now() + timeout;
        loop {
            if let Some(outcome) = server.poll(clock.now()) {
                if matches!(outcome, Outcome::Loading { .. }) {
                    continue;
                }
                return Ok(Some(outcome));
            }
            self.bounds.check()?;
            if clock.now() >= end {
                return Ok(None);
            }
            // Woken, or timed out: in both cases the state is checked.
            let _ = news.recv_timeout(LOOK_UP);
        }
    }
}

impl Loaded {
    /// Returns whether the load came from storage, or why that is not so or not known.
    pub(super) fn is_cold(&self) -> Result<(), String> {
        match self.read {
            None => Err("the system does not report what is read from storage".to_owned()),
            Some((read, size)) if read >= size.share(COLD) => Ok(()),
            Some((read, size)) => Err(format!(
                "only {} of {} MiB came from storage: the system kept the file cached",
                read.get() >> 20,
                size.get() >> 20
            )),
        }
    }
}

/// Asks the kernel to forget a file, and returns whether it did.
fn forget(file: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{Advice, fadvise};
        // What is not written yet cannot be dropped from the cache.
        File::open(file).is_ok_and(|file| {
            file.sync_all().is_ok() && fadvise(&file, 0, None, Advice::DontNeed).is_ok()
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = File::open(file);
        false
    }
}

/// Returns how much a process has had to read from storage.
fn read_from_storage(pid: u32) -> Option<Bytes> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let line = io.lines().find_map(|line| line.strip_prefix("read_bytes:"))?;
    line.trim().parse().ok().map(Bytes::new)
}

/// Returns the machine's memory, with that of a process as our own.
fn space(probe: &mut SystemProbe, own: Option<u32>) -> Option<Space> {
    probe.set_own_processes(OwnProcesses::new(own));
    probe.sample(SystemClock::start().now()).ok()?.memory
}

const CLOCK_TICK: Duration = Duration::from_nanos(1);

/// Chosen: how long Ctrl-C may take to be noticed.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Longer than the ten seconds after which a server that does not stop is killed.
const UNLOAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Memory counts as back when this share of it is: other programs change a little at the same time.
const RETURNED: tiershift_core::units::Percent = tiershift_core::units::Percent::new(90);

/// Chosen: a twentieth of what the daemon could notice.
const LAG_POLL: Duration = Duration::from_millis(5);

/// A load counts as cold when this share of the file came from storage; read-ahead and metadata make it more than all.
const COLD: tiershift_core::units::Percent = tiershift_core::units::Percent::new(90);
