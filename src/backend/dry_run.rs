//! Loads nothing: every load succeeds after the time in the catalog, and takes the memory in the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Duration;

use tiershift_core::backend::Backend;
use tiershift_core::catalog::Catalog;
use tiershift_core::event::{Command, Outcome};
use tiershift_core::model::ModelId;
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;
use tokio::runtime::Handle;

use crate::backend::callbacks::Callbacks;

/// Models that are loaded in name only.
pub struct DryRun {
    catalog: Catalog,
    runtime: Handle,
    callbacks: Callbacks,
    /// Those that hold memory, each with its GPU and the number of the command that began it.
    held: BTreeMap<ModelId, (Option<u8>, u64)>,
    /// Those that were loaded before, whose files would be in the page cache.
    read: BTreeSet<ModelId>,
    commands: u64,
    sender: mpsc::Sender<(u64, Outcome)>,
    reports: mpsc::Receiver<(u64, Outcome)>,
}

impl DryRun {
    /// Begins with nothing loaded.
    pub fn new(catalog: Catalog, runtime: Handle, callbacks: Callbacks) -> Self {
        let (sender, reports) = mpsc::channel();
        Self {
            catalog,
            runtime,
            callbacks,
            held: BTreeMap::new(),
            read: BTreeSet::new(),
            commands: 0,
            sender,
            reports,
        }
    }

    /// Returns whether no model is left.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Adds to a sample of the machine what the models would use.
    pub fn add_to(&self, sample: &mut Sample) {
        for (id, (gpu, _)) in &self.held {
            let Some(model) = self.catalog.model(id) else { continue };
            let need = model.footprint();
            if let Some(memory) = &mut sample.memory {
                memory.own += need.ram;
            }
            let gpu = gpu.and_then(|gpu| sample.gpus.get_mut(usize::from(gpu)));
            if let Some(vram) = gpu.and_then(|gpu| gpu.vram.as_mut()) {
                vram.own += need.vram;
            }
        }
    }

    /// Reports an outcome after a while.
    fn report(&self, after: Duration, outcome: Outcome) {
        let (command, reports) = (self.commands, self.sender.clone());
        let wake = self.callbacks.wake.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(after).await;
            // The receiver is gone once the daemon has stopped.
            let _ = reports.send((command, outcome));
            wake();
        });
    }
}

impl Backend for DryRun {
    fn submit(&mut self, _: Timestamp, command: &Command) {
        self.commands += 1;
        match command {
            Command::Load { model: id, gpu } => {
                let model =
                    self.catalog.model(id).expect("the catalog has every model that is loaded");
                let is_read = !self.read.insert(id.clone());
                let after = if is_read { model.load_warm } else { model.load_cold };
                self.held.insert(id.clone(), (*gpu, self.commands));
                self.report(after, Outcome::Loaded { model: id.clone() });
            }
            Command::Unload { model: id } => {
                let after = self.catalog.model(id).map_or(Duration::ZERO, |model| model.unload);
                if let Some((_, command)) = self.held.get_mut(id) {
                    // Earlier commands are no longer answered.
                    *command = self.commands;
                }
                self.report(after, Outcome::Unloaded { model: id.clone() });
            }
            // No request runs, and there is nothing to try.
            Command::Start { .. } | Command::Cancel { .. } | Command::Try { .. } => {}
        }
    }

    fn poll(&mut self, _: Timestamp) -> Option<Outcome> {
        loop {
            let (command, outcome) = self.reports.try_recv().ok()?;
            let (Outcome::Loaded { model } | Outcome::Unloaded { model }) = &outcome else {
                continue;
            };
            let is_last = self.held.get(model).is_none_or(|(_, last)| *last == command);
            if !is_last {
                continue;
            }
            if matches!(outcome, Outcome::Unloaded { .. }) {
                self.held.remove(model);
            }
            return Some(outcome);
        }
    }

    /// Nothing is known in advance: `wake` is called instead.
    fn next_wakeup(&self) -> Option<Timestamp> {
        None
    }
}
