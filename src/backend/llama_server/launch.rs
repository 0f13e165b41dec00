//! How a model is started: its file, its sizes, and the command line made of them.

use std::ffi::OsString;
use std::path::PathBuf;

use tiershift_core::model::ModelId;

/// What is needed to start a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its file.
    pub file: PathBuf,
    /// What it looks at pictures with.
    pub projector: Option<PathBuf>,
    /// Context of one slot.
    pub context_tokens: u32,
    /// Requests side by side.
    pub slots: u32,
    /// Whether it turns texts into vectors, too, or ranks them.
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
    /// It ranks texts instead.
    Rank,
}

impl Launch {
    /// Returns what a model's process is started with.
    pub(super) fn arguments(&self, model: &ModelId, port: u16, gpu: Option<u8>) -> Vec<OsString> {
        let context = u64::from(self.context_tokens) * u64::from(self.slots);
        let mut all: Vec<OsString> = vec!["--model".into(), self.file.clone().into()];
        let rest = [
            ["--alias", model.as_str()],
            ["--host", "127.0.0.1"],
            ["--port", &port.to_string()],
            ["--ctx-size", &context.to_string()],
            ["--parallel", &self.slots.to_string()],
            ["--no-webui", "--offline"],
        ];
        all.extend(rest.as_flattened().iter().map(OsString::from));
        if let Some(projector) = &self.projector {
            all.extend(["--mmproj".into(), projector.clone().into()]);
        }
        // Without this, a build for GPUs puts there what fits, whatever was planned.
        let main_gpu = gpu.unwrap_or_default().to_string();
        let placement: &[&str] = match gpu {
            None => &["--n-gpu-layers", "0"],
            Some(_) => {
                &["--n-gpu-layers", ALL_LAYERS, "--split-mode", "none", "--main-gpu", &main_gpu]
            }
        };
        all.extend(placement.iter().map(OsString::from));
        let embeddings: &[&str] = match self.embeddings {
            Embeddings::None => &[],
            Embeddings::AsTrained => &["--embeddings"],
            Embeddings::Mean => &["--embeddings", "--pooling", "mean"],
            Embeddings::Rank => &["--reranking"],
        };
        all.extend(embeddings.iter().map(OsString::from));
        all
    }
}

/// More layers than any model has.
const ALL_LAYERS: &str = "999";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_goes_to_its_gpu_whole_or_not_at_all() {
        let launch = Launch {
            file: PathBuf::from("/m/a.gguf"),
            projector: None,
            context_tokens: 1024,
            slots: 2,
            embeddings: Embeddings::None,
        };
        let words = |gpu| {
            let all = launch.arguments(&ModelId::from("a"), 7, gpu);
            all.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert!(
            words(None)
                .ends_with("--ctx-size 2048 --parallel 2 --no-webui --offline --n-gpu-layers 0")
        );
        assert!(words(Some(1)).ends_with("--n-gpu-layers 999 --split-mode none --main-gpu 1"));
    }
}
