//! The signals of the system: to stop, to stop at once, to read its config again.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use tiershift_core::catalog::Catalog;
use tiershift_core::controller::{Controller, Detail};
use tiershift_core::machine::MachineClass;
use tiershift_core::policy::Registry;
use tiershift_core::settings::{RawSettings, Settings};
use tokio::runtime::Runtime;

use crate::serve::message::Message;
use crate::serve::{DaemonEvent, LiveError, Notify, RawConfig};

/// How to read the config again.
#[derive(Clone)]
pub struct Reload {
    /// What it comes to now, with the options of the command line.
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

/// Compares what a config comes to now with what it came to.
pub(super) struct Reloader {
    pub(super) reload: Reload,
    pub(super) machine_class: MachineClass,
    pub(super) catalog: Catalog,
    pub(super) policies: Registry,
}

impl Reloader {
    /// Returns the policy's settings as they are now, where nothing else has changed and they hold.
    fn read(&mut self) -> Result<RawSettings, String> {
        let RawConfig { listen, server, models, model, policy, recording, shadow } =
            (self.reload.read)()?;
        let running = &mut self.reload.running;
        let fixed = [
            ("listen", listen == running.listen),
            ("server", server == running.server),
            ("models", models == running.models),
            ("model", model == running.model),
            ("recording", recording == running.recording),
            ("shadow", shadow == running.shadow),
        ];
        let changed: Vec<&str> =
            fixed.into_iter().filter_map(|(table, same)| (!same).then_some(table)).collect();
        if !changed.is_empty() {
            let tables = changed.join(", ");
            return Err(format!("{tables} cannot change while it runs: restart it for that"));
        }
        let checked =
            Settings::new(policy.clone(), self.machine_class).map_err(|error| error.to_string())?;
        Controller::new(&checked, &self.catalog, Detail::Full, &self.policies)
            .map_err(|error| error.to_string())?;
        running.policy = policy.clone();
        Ok(policy)
    }
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
                Ok(settings) => {
                    let _ = to.send(Message::Settings(Box::new(settings)));
                    notify(DaemonEvent::Reloaded);
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
    /// Taken and left alone: by default it would end the process.
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
