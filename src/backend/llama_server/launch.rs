//! How a model is started: its file, its sizes, and the resulting command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use tiershift_core::model::ModelId;

/// The data for starting a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its file.
    pub file: PathBuf,
    /// Its image projector.
    pub projector: Option<PathBuf>,
    /// Context of one slot.
    pub context_tokens: u32,
    /// Requests side by side.
    pub slots: u32,
    /// Whether it also turns texts into vectors, or ranks them.
    pub embeddings: Embeddings,
    /// The user's additional arguments.
    pub args: Vec<String>,
    /// The user's additional environment variables.
    pub env: BTreeMap<String, String>,
}

/// How a model turns texts into vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embeddings {
    /// It does not.
    None,
    /// As its file states.
    AsTrained,
    /// As the mean over its tokens: its file does not state it, and a build of 2026 that is not given it ends its
    /// process at the next completion (seen on 2026-11-24).
    Mean,
    /// It ranks texts instead.
    Rank,
}

impl Launch {
    /// Returns the arguments for a model's process.
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
        // Without this, a build for GPUs uses them as far as it fits, whatever was planned.
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
        // If an argument occurs twice, the server uses the last.
        all.extend(self.args.iter().map(OsString::from));
        all
    }
}

/// Refuses settings of a model's server that the daemon makes itself.
///
/// # Errors
/// The first such argument or variable, and what to do instead.
pub(crate) fn check(
    args: &[String],
    env: &BTreeMap<String, String>,
) -> Result<(), RefusedArgument> {
    let find = |table: &[(&[&str], &'static str)], word: &str| {
        let found = table.iter().find(|(words, _)| words.contains(&word));
        found.map(|(_, why)| RefusedArgument { word: word.to_owned(), why })
    };
    let refused_argument = |word: &String| {
        // As llama-server reads it.
        let name = if word.starts_with("--") { word.replace('_', "-") } else { word.clone() };
        find(ARGUMENTS_OF_OURS, &name)
    };
    let refused = args.iter().find_map(refused_argument);
    let refused = refused.or_else(|| env.keys().find_map(|name| find(VARIABLES_OF_OURS, name)));
    refused.map_or(Ok(()), Err)
}

/// An argument or a variable that the daemon sets itself.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{word}` is not for a person to set: {why}")]
pub struct RefusedArgument {
    word: String,
    why: &'static str,
}

/// Arguments that the daemon sets for each server, or that would hide it from the daemon.
const ARGUMENTS_OF_OURS: &[(&[&str], &str)] = &[
    (
        &["--host", "--port", "--api-prefix", "--reuse-port"],
        "the daemon chooses where its servers listen",
    ),
    (
        &["--api-key", "--api-key-file", "--ssl-key-file", "--ssl-cert-file"],
        "only the daemon talks to its servers; give clients a token with --token-file",
    ),
    (
        &[
            "--model",
            "-m",
            "--model-url",
            "-mu",
            "--hf-repo",
            "-hf",
            "-hfr",
            "--hf-file",
            "-hff",
            "--docker-repo",
            "-dr",
            "--models-dir",
            "--models-preset",
            "--offline",
        ],
        "the file of a model is `file` in its table",
    ),
    (
        &["--alias", "-a"],
        "the name of a model is `id` in its table, and other names are [models.aliases]",
    ),
    (&["--ctx-size", "-c"], "use `context-tokens`, for one slot: its memory is planned"),
    (&["--parallel", "-np"], "use `slots`: requests and memory are planned by it"),
    (
        &[
            "--n-gpu-layers",
            "--gpu-layers",
            "-ngl",
            "--main-gpu",
            "-mg",
            "--split-mode",
            "-sm",
            "--tensor-split",
            "-ts",
            "--device",
            "-dev",
        ],
        "the daemon decides where a model goes: give `vram` in its table for one that belongs on a GPU",
    ),
    (
        &["--mmproj", "-mm", "--mmproj-url", "-mmu", "--mmproj-auto", "--no-mmproj"],
        "put the projector beside the model: it is found by its name, and counted",
    ),
    (
        &["--embeddings", "--embedding", "--rerank", "--reranking"],
        "use `tasks` in its table: \"embedding\" or \"rerank\"",
    ),
    (
        &["--help", "-h", "--usage", "--version", "--list-devices", "--completion-bash"],
        "the server would end at once",
    ),
];

/// The same for variables. What llama-server reads as `LLAMA_ARG_..` is covered by the arguments above.
const VARIABLES_OF_OURS: &[(&[&str], &str)] = &[
    (
        &["LLAMA_API_KEY", "LLAMA_ARG_API_KEY"],
        "only the daemon talks to its servers; give clients a token with --token-file",
    ),
    (
        &[
            "CUDA_DEVICE_ORDER",
            "CUDA_VISIBLE_DEVICES",
            "NVIDIA_VISIBLE_DEVICES",
            "HIP_VISIBLE_DEVICES",
            "ROCR_VISIBLE_DEVICES",
        ],
        "GPUs would have other numbers to the server than to the daemon: set it for the daemon",
    ),
    (&["TIERSHIFT_SERVES_FROM"], "the daemon knows its servers by it"),
];

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
            args: vec!["-fa".to_owned(), "on".to_owned()],
            env: BTreeMap::new(),
        };
        let words = |gpu| {
            let all = launch.arguments(&ModelId::from("a"), 7, gpu);
            all.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert!(words(None).ends_with(
            "--ctx-size 2048 --parallel 2 --no-webui --offline --n-gpu-layers 0 -fa on"
        ));
        assert!(
            words(Some(1)).ends_with("--n-gpu-layers 999 --split-mode none --main-gpu 1 -fa on")
        );
    }

    #[test]
    fn what_the_daemon_sets_itself_is_refused_with_the_reason() {
        let check = |args: &str, name: &str| {
            let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
            let env = [(name.to_owned(), "1".to_owned())].into_iter().filter(|_| !name.is_empty());
            check(&args, &env.collect()).map_err(|error| error.to_string())
        };
        assert_eq!(check("--flash-attn on -ub 2048 --jinja", "GGML_CUDA_P2P"), Ok(()));
        for (args, name, want) in [
            ("-fa on --port 1", "", "`--port` is not for a person"),
            ("--ctx_size 4096", "", "use `context-tokens`"),
            ("-ngl 20", "", "give `vram`"),
            ("", "LLAMA_API_KEY", "--token-file"),
            ("", "CUDA_VISIBLE_DEVICES", "set it for the daemon"),
        ] {
            let error = check(args, name).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
