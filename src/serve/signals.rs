//! The system's signals: to stop, to stop at once, to read the config again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use serde_json::Value;
use tiershift_core::catalog::Catalog;
use tiershift_core::controller::{Controller, Detail};
use tiershift_core::machine::MachineClass;
use tiershift_core::policy::Registry;
use tiershift_core::settings::{RawSettings, Settings};
use tokio::runtime::Runtime;

use crate::inventory::folder::Folder;
use crate::serve::message::Message;
use crate::serve::{DaemonEvent, LiveError, Notify, RawConfig};

/// How to read the config again.
#[derive(Clone)]
pub struct Reload {
    /// The present config, with the options of the command line.
    pub running: RawConfig,
    /// Reads it, with the same options.
    pub read: Arc<dyn Fn() -> Result<RawConfig, String> + Send + Sync>,
}

/// Listens from now on.
pub(super) fn listen(
    runtime: &Runtime,
    to: Sender<Message>,
    notify: &Notify,
    reloader: Reloader,
) -> Result<(), LiveError> {
    let _inside = runtime.enter();
    let mut stops = Stops::new().map_err(LiveError::Runtime)?;
    let (stop_notify, stop_to) = (Arc::clone(notify), to.clone());
    runtime.spawn(async move {
        stops.next().await;
        stop_notify(DaemonEvent::Stopping);
        let _ = stop_to.send(Message::Shutdown);
        stops.next().await;
        let _ = stop_to.send(Message::Abort);
    });
    reload_on_hangup(runtime, to, notify, reloader)
}

/// Compares the present config with the one from the start.
pub(super) struct Reloader {
    pub(super) reload: Reload,
    pub(super) machine_class: MachineClass,
    pub(super) catalog: Catalog,
    pub(super) policies: Registry,
    /// The models as they were found at the start, if they are files.
    pub(super) folder: Option<Folder>,
}

/// The result of reading a config again.
struct Reread {
    /// The policy's settings, if they have changed.
    settings: Option<RawSettings>,
    /// Their keys.
    taken: Vec<String>,
    /// Tables that have changed but are not applied.
    left: Vec<&'static str>,
    /// How the folder of models has changed.
    models: Vec<String>,
}

impl Reloader {
    /// Returns the policy's settings as they are now, and what else has changed.
    fn read(&mut self) -> Result<Reread, String> {
        let RawConfig { listen, client, server, models, model, policy, recording, hooks, shadow } =
            (self.reload.read)()?;
        let running = &mut self.reload.running;
        let fixed = [
            ("listen", listen == running.listen),
            ("client", client == running.client),
            ("server", server == running.server),
            ("models", models == running.models),
            ("model", model == running.model),
            ("recording", recording == running.recording),
            ("hooks", hooks == running.hooks),
            ("shadow", shadow == running.shadow),
        ];
        let left = fixed.into_iter().filter_map(|(table, same)| (!same).then_some(table));
        let checked =
            Settings::new(policy.clone(), self.machine_class).map_err(|error| error.to_string())?;
        Controller::new(&checked, &self.catalog, Detail::Full, &self.policies)
            .map_err(|error| error.to_string())?;
        let taken = changed_keys(&running.policy, &policy);
        running.policy = policy.clone();
        let models = match &self.folder {
            Some(folder) => {
                let now = Folder::open(folder.path()).map_err(|error| error.to_string())?;
                now.changes_since(folder)
            }
            None => Vec::new(),
        };
        Ok(Reread {
            settings: (!taken.is_empty()).then_some(policy),
            taken,
            left: left.collect(),
            models,
        })
    }
}

/// Returns the keys whose values differ, in alphabetical order; keys of inner tables include the table's name.
fn changed_keys(before: &RawSettings, now: &RawSettings) -> Vec<String> {
    fn flatten(prefix: &str, value: Value, into: &mut BTreeMap<String, Value>) {
        let Value::Object(table) = value else {
            into.insert(prefix.to_owned(), value);
            return;
        };
        for (key, value) in table {
            let end = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            flatten(&end, value, into);
        }
    }
    let [before, now] = [before, now].map(|settings| {
        let mut all = BTreeMap::new();
        let plain = serde_json::to_value(settings);
        flatten("", plain.expect("plain data with text keys is always JSON"), &mut all);
        all
    });
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    keys.into_iter().filter(|&key| before.get(key) != now.get(key)).cloned().collect()
}

#[cfg(unix)]
fn reload_on_hangup(
    runtime: &Runtime,
    to: Sender<Message>,
    notify: &Notify,
    mut reloader: Reloader,
) -> Result<(), LiveError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup()).map_err(LiveError::Runtime)?;
    let notify = Arc::clone(notify);
    runtime.spawn(async move {
        while hangups.recv().await.is_some() {
            // Files of a few kilobytes, now and then.
            match reloader.read() {
                Ok(Reread { settings, taken, left, models }) => {
                    if let Some(settings) = settings {
                        let _ = to.send(Message::Settings(Box::new(settings)));
                    }
                    let (taken, left, models) = (&taken[..], &left[..], &models[..]);
                    notify(DaemonEvent::Reloaded { taken, left, models });
                }
                Err(error) => notify(DaemonEvent::NotReloaded { error: &error }),
            }
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn reload_on_hangup(
    _: &Runtime,
    _: Sender<Message>,
    _: &Notify,
    _: Reloader,
) -> Result<(), LiveError> {
    Ok(())
}

#[cfg(unix)]
pub(super) struct Stops {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// Received and ignored: by default it would end the process.
    _hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Stops {
    pub(super) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
pub(super) struct Stops;

#[cfg(not(unix))]
impl Stops {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
