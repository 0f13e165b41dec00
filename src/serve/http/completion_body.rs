//! What a client asks for, read from its body: sizes and the target, never the words.

use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;
use tiershift_core::catalog::Catalog;
use tiershift_core::model::{ModelId, Task};
use tiershift_core::request::{Request, RequestId, Target};

use crate::serve::http::refusal::Refusal;

/// The parts of a request that matter here. The body goes on to the model as it came.
#[derive(Debug, Deserialize)]
pub(super) struct CompletionBody<'a> {
    model: Option<String>,
    max_tokens: Option<Number>,
    max_completion_tokens: Option<Number>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

impl<'a> CompletionBody<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(body).map_err(|error| {
            // The place, not the words: they are the client's.
            let (line, column) = (error.line(), error.column());
            let place = format!("{line}:{column}");
            Refusal::bad_request(format!("the body is no JSON, or not what is meant, at {place}"))
        })
    }

    /// Returns the request as the controller sees it. The prompt's length is estimated: see [`BYTES_PER_TOKEN`].
    pub(super) fn request(&self, id: RequestId, task: Task, catalog: &Catalog) -> Request {
        let texts = [self.prompt, self.messages, self.input];
        let bytes: usize = texts.into_iter().flatten().map(|text| text.get().len()).sum();
        let prompt_tokens = u32::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX).max(1);
        let output_tokens = match task {
            Task::Embedding => 0,
            Task::Chat | Task::Code | Task::Vision => {
                let limits = [&self.max_completion_tokens, &self.max_tokens];
                // What is no count is llama-server's -1, for no limit, or its to refuse.
                let limit = limits.into_iter().flatten().find_map(Number::as_u64);
                limit.map_or(USUAL_OUTPUT_TOKENS, |limit| u32::try_from(limit).unwrap_or(u32::MAX))
            }
        };
        let target = match self.model.as_deref() {
            None | Some("" | "auto") => Target::Auto,
            Some(name) if catalog.rung_of_tier(name).is_some() => Target::Tier(name.to_owned()),
            Some(name) => Target::Model(ModelId::from(name)),
        };
        Request { task, target, ..Request::chat(id.0, prompt_tokens, output_tokens) }
    }
}

/// English text has about four bytes a token with the tokenizers of current models. Nothing but admission depends on
/// it: the model counts for itself, and its count goes into the log.
const BYTES_PER_TOKEN: usize = 4;

/// Chosen: what a reply is taken for that names no limit. The model's context is its only real one.
const USUAL_OUTPUT_TOKENS: u32 = 256;

#[cfg(test)]
mod tests {
    use tiershift_core::units::Bytes;

    use super::*;

    #[test]
    fn a_body_tells_sizes_and_target() {
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        let tier = |name: &str| Target::Tier(name.to_owned());
        let cases = [
            (Task::Chat, r#"{"prompt":"12345678901234"}"#, 4, 256, Target::Auto),
            (Task::Chat, r#"{"prompt":"","max_tokens":7,"model":"auto"}"#, 1, 7, Target::Auto),
            (
                Task::Chat,
                r#"{"messages":[],"max_completion_tokens":9,"model":"small"}"#,
                1,
                9,
                tier("small"),
            ),
            (Task::Chat, r#"{"model":"other"}"#, 1, 256, Target::Model("other".into())),
            (Task::Chat, r#"{"max_tokens":-1}"#, 1, 256, Target::Auto),
            (Task::Chat, r#"{"max_completion_tokens":null,"max_tokens":9}"#, 1, 9, Target::Auto),
            (Task::Chat, r#"{"max_tokens":1e300}"#, 1, 256, Target::Auto),
            (Task::Chat, r#"{"max_tokens":99999999999}"#, 1, u32::MAX, Target::Auto),
            (
                Task::Embedding,
                r#"{"input":["1234567","12345"],"max_tokens":7}"#,
                4,
                0,
                Target::Auto,
            ),
        ];
        for (task, body, prompt, output, target) in cases {
            let wish = CompletionBody::read(body.as_bytes()).unwrap();
            let request = wish.request(RequestId(1), task, &catalog);
            assert_eq!((request.prompt_tokens, request.output_tokens), (prompt, output), "{body}");
            assert_eq!(request.target, target, "{body}");
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_the_words() {
        let refusal = CompletionBody::read(br#"{"prompt": secret}"#).unwrap_err();
        assert!(!refusal.body().to_string().contains("secret"), "{refusal:?}");
    }
}
