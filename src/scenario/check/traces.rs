//! Loads the traces that a scenario names: a resource trace for its background, a request trace for its workload.
//!
//! They are read together with the scenario: a run then cannot fail because of them, and its two runs see the same.

use std::path::Path;
use std::sync::Arc;

use tiershift_core::machine::Machine;

use crate::files::document::DocumentError;
use crate::scenario::check::{Check, MOST_EVENTS};
use crate::sim::background::{Layer, RawShape, Series};
use crate::sim::workload::{self, Arrivals, Recorded, Workload};
use crate::trace::{Loaded, ReadOptions, TraceError, load_requests, load_samples};

impl Check<'_> {
    /// Loads every trace that the file names, and returns warnings about them.
    pub(super) fn load_traces(
        &self,
        layers: &mut [Layer],
        workloads: &mut [Workload],
        machine: &Machine,
        digest: &mut blake3::Hasher,
    ) -> Result<Vec<String>, DocumentError> {
        let mut warnings = Vec::new();
        let remedy = "name a trace by its path from the scenario's folder";
        for (layer, raw) in layers.iter_mut().zip(&self.raw.backgrounds) {
            let RawShape::Trace(play) = &layer.shape else { continue };
            let path = self.base_dir.join(&play.file);
            let options = ReadOptions { machine: Some(machine.clone()), ..ReadOptions::default() };
            let loaded = load_samples(&path, &options)
                .map_err(|why| self.document.refuse(raw.span(), "file", &told(&why), remedy))?;
            digest.update(loaded.digest.as_bytes());
            warnings.extend(warnings_of(&path, &loaded));
            let series = Series::new(loaded.rows);
            if !series.tells(layer.resource) {
                let want = "a resource whose use by others is in the trace";
                return Err(self.refuse_key_of(&raw.span(), "resource", want));
            }
            layer.series = Some(Arc::new(series));
        }
        for (workload, raw) in workloads.iter_mut().zip(&self.raw.workloads) {
            let Arrivals::Trace { file, speed, repeat } = &workload.arrivals else { continue };
            let path = self.base_dir.join(file);
            let loaded = load_requests(&path, &ReadOptions::default())
                .map_err(|why| self.document.refuse(raw.span(), "file", &told(&why), remedy))?;
            digest.update(loaded.digest.as_bytes());
            warnings.extend(warnings_of(&path, &loaded));
            let recorded = Recorded::all(loaded.rows);
            let lap = workload::lap(&recorded).as_secs_f64() / speed;
            let laps = workload.until.since(workload.at).as_secs_f64() / lap;
            if *repeat && laps * recorded.len() as f64 > MOST_EVENTS {
                let want = format!("lower: more than {MOST_EVENTS} requests would come");
                return Err(self.refuse_key_of(&raw.span(), "speed", &want));
            }
            workload.recorded = Some(recorded);
        }
        Ok(warnings)
    }
}

/// Returns an error and its cause, in one line.
fn told(error: &TraceError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn warnings_of<T>(path: &Path, loaded: &Loaded<T>) -> impl Iterator<Item = String> {
    let name =
        path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let all = loaded.defects.warnings().into_iter().chain(loaded.notes.clone());
    all.map(move |warning| format!("{name}: {warning}"))
}
