//! While a switch waits for running requests, the file of the next model is read, so that its load finds it in the page
//! cache.
//!
//! Reading begins with the first sample after the decision, if the load has not begun, and ends with the load. It reads
//! no more than is free by that sample, so that the page cache does not displace any program's working memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tiershift_core::catalog::{Catalog, Rung};
use tiershift_core::decision::Action;
use tiershift_core::event::{Command, EventRef, Input, Observe, Output};
use tiershift_core::model::ModelId;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

/// Follows the decisions, and reads.
#[derive(Debug)]
pub(super) struct Preread {
    catalog: Catalog,
    files: BTreeMap<ModelId, PathBuf>,
    next: Option<ModelId>,
    reading: Option<Arc<Reading>>,
}

/// The file being read.
#[derive(Debug, Default)]
struct Reading {
    is_over: AtomicBool,
    bytes: AtomicU64,
}

impl Preread {
    /// Follows a run that loads these files.
    pub(super) fn new(catalog: Catalog, files: BTreeMap<ModelId, PathBuf>) -> Self {
        Self { catalog, files, next: None, reading: None }
    }

    fn stop(&mut self) {
        if let Some(reading) = self.reading.take() {
            reading.is_over.store(true, Ordering::Relaxed);
        }
    }

    fn begin(&mut self, free: Bytes) {
        let Some(file) = self.next.take().and_then(|model| self.files.get(&model)) else { return };
        let reading = Arc::<Reading>::default();
        let (file, counted) = (file.clone(), Arc::clone(&reading));
        let read = move || {
            // If it cannot be read, the load will report it.
            let _ = counted.read(&file, free);
        };
        // If the system provides no thread, the load reads it.
        if std::thread::Builder::new().name("preread".to_owned()).spawn(read).is_ok() {
            self.reading = Some(reading);
        }
    }
}

impl Reading {
    fn read(&self, file: &Path, most: Bytes) -> std::io::Result<()> {
        let mut file = File::open(file)?.take(most.get());
        let mut buffer = vec![0; CHUNK];
        while !self.is_over.load(Ordering::Relaxed) {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Observe for Preread {
    fn observe(&mut self, _: Timestamp, event: EventRef<'_>) {
        match event {
            EventRef::Output(Output::Decision(decision)) => {
                if let Action::Upgrade { to } | Action::Downgrade { to, .. } = decision.action {
                    self.stop();
                    self.next = (to != Rung::NONE)
                        .then(|| self.catalog.primary(to).map(|model| model.id.clone()))
                        .flatten();
                }
            }
            EventRef::Output(Output::Command(Command::Load { .. })) => {
                self.next = None;
                self.stop();
            }
            EventRef::Input(Input::Sample(sample)) if self.next.is_some() => {
                if let Some(memory) = sample.memory {
                    self.begin(memory.free());
                }
            }
            _ => {}
        }
    }
}

impl Drop for Preread {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Chosen: small beside what is free on any machine, and large enough that reading it is one request to the storage.
const CHUNK: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use tiershift_core::decision::{Decision, Reason, Urgency};
    use tiershift_core::sample::{Sample, Space};

    use super::*;

    const SIZE: u64 = 3 << 20;

    /// A run whose medium model has a file, with the decision to switch to it.
    fn decided(to: Rung) -> (tempfile::TempDir, Preread) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("medium.gguf");
        std::fs::write(&file, vec![1; SIZE as usize]).unwrap();
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        let mut preread = Preread::new(catalog, BTreeMap::from([("medium".into(), file)]));
        let action = Action::Downgrade { to, urgency: Urgency::Graceful };
        let decision = Decision::new(Rung(3), action, Reason::Asked);
        preread.observe(Timestamp::ZERO, EventRef::Output(&Output::Decision(decision)));
        (folder, preread)
    }

    fn reading(preread: &mut Preread, free: u64) {
        let (total, others) = (Bytes::from_gib(16), Bytes::from_gib(16) - Bytes::new(free));
        let memory = Some(Space { total, others, own: Bytes::ZERO });
        let input = Input::Sample(Sample { memory, ..Sample::default() });
        preread.observe(Timestamp::ZERO, EventRef::Input(&input));
    }

    /// Returns how much is read in the end.
    fn read(preread: &Preread) -> Option<u64> {
        let reading = preread.reading.as_ref()?;
        // The thread releases it when it has ended.
        while Arc::strong_count(reading) > 1 {
            std::thread::yield_now();
        }
        Some(reading.bytes.load(Ordering::Relaxed))
    }

    #[test]
    fn the_next_models_file_is_read_as_far_as_memory_is_free() {
        let (_folder, mut preread) = decided(Rung(2));
        assert_eq!(read(&preread), None, "how much is free is not known yet");
        reading(&mut preread, SIZE * 2);
        assert_eq!(read(&preread), Some(SIZE));
        reading(&mut preread, SIZE * 2);
        assert_eq!(read(&preread), Some(SIZE), "once");

        let (_folder, mut preread) = decided(Rung(2));
        reading(&mut preread, SIZE / 2);
        assert_eq!(read(&preread), Some(SIZE / 2));
    }

    #[test]
    fn nothing_is_read_for_a_load_that_has_begun_or_where_nothing_comes() {
        let (_folder, mut preread) = decided(Rung(2));
        let load = Command::Load { model: "medium".into(), gpu: None };
        preread.observe(Timestamp::ZERO, EventRef::Output(&Output::Command(load)));
        reading(&mut preread, SIZE * 2);
        assert_eq!(read(&preread), None);
        for to in [Rung::NONE, Rung(1)] {
            let (_folder, mut preread) = decided(to);
            reading(&mut preread, SIZE * 2);
            assert_eq!(read(&preread), None, "{to:?}");
        }
    }
}
