//! The paths of model servers that are forwarded, and how: work waits for its turn on a model and takes a slot there; a
//! query about a model takes none, and is answered beside running requests.

use axum::http::{Method, StatusCode};
use tiershift_core::model::Task;

use crate::serve::http::refusal::Refusal;

/// A path that is forwarded.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassedPath {
    pub(super) path: &'static str,
    pub(super) how: How,
    /// Whether only Ollama has it.
    pub(super) of_ollama: bool,
}

/// How a path is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Posted; it waits for a slot.
    Work(Task),
    /// Posted or read, beside running requests.
    Aside(What),
}

/// A query that takes no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A body is posted.
    Posted,
    /// Something is read.
    Read,
}

const fn work(path: &'static str, task: Task) -> PassedPath {
    PassedPath { path, how: How::Work(task), of_ollama: false }
}

const fn aside(path: &'static str, what: What) -> PassedPath {
    PassedPath { path, how: How::Aside(what), of_ollama: false }
}

const fn of_ollama(path: &'static str, how: How) -> PassedPath {
    PassedPath { path, how, of_ollama: true }
}

/// All of them: those of llama-server, build 11669, that work on a model or describe it, and those of Ollama. Paths
/// that change a server or its models are not included.
pub(super) const PASSED: [PassedPath; 35] = [
    work("/v1/chat/completions", Task::Chat),
    work("/chat/completions", Task::Chat),
    work("/v1/completions", Task::Chat),
    work("/completions", Task::Chat),
    work("/completion", Task::Chat),
    work("/v1/responses", Task::Chat),
    work("/responses", Task::Chat),
    work("/v1/messages", Task::Chat),
    work("/infill", Task::Chat),
    work("/v1/embeddings", Task::Embedding),
    work("/embeddings", Task::Embedding),
    work("/embedding", Task::Embedding),
    work("/v1/rerank", Task::Rerank),
    work("/v1/reranking", Task::Rerank),
    work("/rerank", Task::Rerank),
    work("/reranking", Task::Rerank),
    aside("/v1/messages/count_tokens", What::Posted),
    aside("/v1/chat/completions/input_tokens", What::Posted),
    aside("/chat/completions/input_tokens", What::Posted),
    aside("/v1/responses/input_tokens", What::Posted),
    aside("/responses/input_tokens", What::Posted),
    aside("/tokenize", What::Posted),
    aside("/detokenize", What::Posted),
    aside("/apply-template", What::Posted),
    aside("/props", What::Read),
    aside("/slots", What::Read),
    aside("/lora-adapters", What::Read),
    of_ollama("/api/chat", How::Work(Task::Chat)),
    of_ollama("/api/generate", How::Work(Task::Chat)),
    of_ollama("/api/embed", How::Work(Task::Embedding)),
    of_ollama("/api/embeddings", How::Work(Task::Embedding)),
    of_ollama("/api/show", How::Aside(What::Posted)),
    of_ollama("/api/tags", How::Aside(What::Read)),
    of_ollama("/api/ps", How::Aside(What::Read)),
    of_ollama("/api/version", How::Aside(What::Read)),
];

/// Answers that there is no such path, and which to use.
pub(super) fn not_found(path: &str, is_ollama: bool) -> Refusal {
    let code = "not_found";
    if path.starts_with("/api/") {
        let message = if is_ollama {
            format!("{path} is not forwarded: manage Ollama's models in Ollama itself")
        } else {
            format!(
                "{path} does not exist here: Ollama's API is only available when Ollama is the model server; use /v1/chat/completions"
            )
        };
        return Refusal::new(StatusCode::NOT_FOUND, code, message).in_ollamas_form();
    }
    let with_prefix = format!("/v1{path}");
    let without_doubling = path.replace("/v1/v1/", "/v1/");
    let known = |other: &str| PASSED.iter().any(|it| it.path == other) || other == "/v1/models";
    let advice = if known(&with_prefix) {
        format!("use {with_prefix}")
    } else if without_doubling != path && known(&without_doubling) {
        format!("use {without_doubling}, with a base URL that has /v1 once")
    } else {
        "the API is below /v1: /v1/chat/completions, /v1/responses, /v1/messages, /v1/completions, \
         /v1/embeddings, /v1/rerank, /v1/models"
            .to_owned()
    };
    Refusal::new(StatusCode::NOT_FOUND, code, format!("there is no {path}: {advice}"))
}

/// Answers that the path exists, but not for this method.
pub(super) fn not_allowed(method: &Method, path: &str) -> Refusal {
    let passed = PASSED.iter().find(|it| it.path == path);
    let usual = match passed.map(|it| it.how) {
        Some(How::Work(_) | How::Aside(What::Posted)) => "; POST to it",
        Some(How::Aside(What::Read)) => "; GET it",
        None => "",
    };
    let message = format!("{path} takes no {method}{usual}");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_path_stands_there_once() {
        let paths: BTreeSet<&str> = PASSED.iter().map(|it| it.path).collect();
        assert_eq!(paths.len(), PASSED.len());
        assert!(PASSED.iter().all(|it| it.of_ollama == it.path.starts_with("/api/")));
    }

    #[test]
    fn who_asks_for_what_is_not_there_is_told_what_to_use() {
        let told = |path: &str| not_found(path, false).body().to_string();
        assert!(told("/v1/v1/chat/completions").contains("use /v1/chat/completions"));
        assert!(told("/nothing").contains("/v1/responses"));
        // Ollama's clients expect the error to be a text.
        let error = not_found("/api/chat", false).body();
        assert!(error["error"].as_str().is_some_and(|it| it.contains("/v1/chat/completions")));
        assert!(not_found("/api/pull", true).body().to_string().contains("in Ollama itself"));
    }
}
