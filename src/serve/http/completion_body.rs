//! The body of a completion, parsed once: its sizes and target, never its text; and the same bytes with the changes
//! that a model server needs.

use std::ops::Range;

use axum::body::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use tiershift_core::catalog::Catalog;
use tiershift_core::model::Task;
use tiershift_core::request::{Request, RequestId, Target};

use crate::backend::endpoint::{Changes, Endpoint};
use crate::serve::http::refusal::Refusal;
use crate::serve::token_length::TokenLength;

/// The body of a completion.
#[derive(Debug)]
pub(super) struct CompletionBody<'a> {
    bytes: &'a [u8],
    fields: Fields<'a>,
    model: Option<String>,
    user: Option<String>,
    /// The bytes of its text, without its pictures.
    text_bytes: u64,
    pictures: Pictures,
}

/// The parts of a body that matter here, not yet parsed: the model's server decides which types are valid.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields<'a> {
    #[serde(borrow, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    keep_alive: Option<&'a RawValue>,
    #[serde(borrow)]
    user: Option<&'a RawValue>,
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    n_predict: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    input_prefix: Option<&'a RawValue>,
    #[serde(borrow)]
    input_suffix: Option<&'a RawValue>,
    #[serde(borrow)]
    query: Option<&'a RawValue>,
    #[serde(borrow)]
    documents: Option<&'a RawValue>,
}

impl Fields<'_> {
    /// Returns the bytes of everything that a model reads.
    fn text_bytes(&self) -> usize {
        let texts =
            [self.prompt, self.messages, self.system, self.instructions, self.tools, self.input];
        let others = [self.input_prefix, self.input_suffix, self.query, self.documents];
        let texts = texts.into_iter().chain(others).flatten();
        texts.map(|text| bytes_of(text.get())).sum()
    }
}

/// Reads a field that is present, even as `null`.
fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(input).map(Some)
}

impl<'a> CompletionBody<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is not a JSON object, or has a known field twice. Its text is not repeated.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        // Some editors and shells put it in front; servers skip it.
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::bad_request("the body must be a JSON object"));
        }
        let fields: Fields = serde_json::from_slice(text).map_err(|error| {
            // The position and our own name of a field, not the client's text.
            let (line, column) = (error.line(), error.column());
            let said = error.to_string();
            let twice = said.strip_prefix("duplicate field `").and_then(|it| it.split('`').next());
            Refusal::bad_request(match twice {
                Some(field) => format!("`{field}` is in the body twice, at {line}:{column}"),
                None => format!("the body is not valid JSON, at {line}:{column}"),
            })
        })?;
        let text = |field: Option<&RawValue>| {
            field.and_then(|field| serde_json::from_str::<String>(field.get()).ok())
        };
        let model = text(fields.model).or_else(|| {
            // A value that is not text names nothing that is known here.
            fields.model.map(RawValue::get).filter(|it| *it != "null").map(str::to_owned)
        });
        // If the user is not a name, it does not matter here.
        let user = text(fields.user);
        let pictures = fields.messages.map(Pictures::of).unwrap_or_default();
        let text_bytes = fields.text_bytes().saturating_sub(pictures.bytes) as u64;
        Ok(Self { bytes, fields, model, user, text_bytes, pictures })
    }

    /// Returns the name of the model that the client wants.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Returns the user that the client names.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the bytes to send to an endpoint.
    pub(super) fn for_endpoint(&self, bytes: &Bytes, endpoint: &Endpoint) -> Bytes {
        let changes = endpoint.changes();
        if *changes == Changes::default() { bytes.clone() } else { self.with(changes).into() }
    }

    /// Returns the same bytes with these changes: a value replaces the one that is there, or is added in front.
    pub(super) fn with(&self, changes: &Changes) -> Vec<u8> {
        let Changes { model, keep_alive } = changes;
        let values = [
            ("model", self.fields.model, model.as_ref().map(|name| Value::from(name.as_str()))),
            ("keep_alive", self.fields.keep_alive, keep_alive.map(Value::from)),
        ];
        let (mut in_place, mut in_front) = (Vec::new(), String::new());
        for (key, there, value) in values {
            let Some(value) = value else { continue };
            match there {
                Some(there) => in_place.push((self.position(there), value.to_string())),
                None => in_front += &format!("\"{key}\":{value},"),
            }
        }
        in_place.sort_by_key(|(position, _)| position.start);
        // It was read as an object, so it begins with a brace.
        let begin = self.bytes.iter().position(|&byte| byte == b'{').map_or(0, |at| at + 1);
        if self.bytes[begin..].trim_ascii_start().starts_with(b"}") {
            in_front.pop();
        }
        let mut changed = self.bytes[..begin].to_vec();
        changed.extend(in_front.as_bytes());
        let mut rest = begin;
        for (position, value) in in_place {
            changed.extend(&self.bytes[rest..position.start]);
            changed.extend(value.as_bytes());
            rest = position.end;
        }
        changed.extend(&self.bytes[rest..]);
        changed
    }

    /// Returns the position of a value, which must be a part of the body.
    fn position(&self, value: &RawValue) -> Range<usize> {
        let start = value.get().as_ptr().addr() - self.bytes.as_ptr().addr();
        start..start + value.get().len()
    }

    /// Returns the bytes of a prompt that is nothing but text.
    pub(super) fn plain_text(&self) -> Option<u64> {
        (self.pictures.count == 0).then_some(self.text_bytes)
    }

    /// Returns the request as the controller sees it. The prompt's length is estimated; only admission depends on it: the
    /// model counts for itself, and its count goes into the log. A picture needs a model with the task `vision`, if the
    /// catalog has one.
    pub(super) fn request(
        &self,
        id: RequestId,
        task: Task,
        target: Target,
        (catalog, token_length): (&Catalog, &TokenLength),
    ) -> Request {
        let it = &self.fields;
        let of_pictures = (self.pictures.count * PICTURE_TOKENS) as u64;
        let prompt_tokens = token_length.tokens(self.text_bytes).saturating_add(of_pictures);
        let prompt_tokens = u32::try_from(prompt_tokens).unwrap_or(u32::MAX).max(1);
        let looks =
            self.pictures.count > 0 && catalog.models().iter().any(|it| it.can(Task::Vision));
        let task = if looks { Task::Vision } else { task };
        let limits = [it.max_completion_tokens, it.max_tokens, it.max_output_tokens, it.n_predict];
        // Other values are for the model server: -1 for no limit, the rest to refuse.
        let limit =
            limits.into_iter().flatten().find_map(|it| serde_json::from_str::<u64>(it.get()).ok());
        let output_tokens = match limit {
            _ if !task.has_reply() => 0,
            Some(limit) => u32::try_from(limit).unwrap_or(u32::MAX),
            None => USUAL_OUTPUT_TOKENS,
        };
        let prompt_estimated = true;
        let request = Request::chat(id.0, prompt_tokens, output_tokens);
        Request { prompt_estimated, task, target, ..request }
    }
}

/// Returns the approximate length of a text without JSON's escapes, each of which stands for a letter of two or three
/// bytes.
fn bytes_of(json: &str) -> usize {
    json.len() - json.matches("\\u").count() * (ESCAPED_LETTER - LETTER)
}

/// The pictures and sounds among the messages: their bytes are not text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pictures {
    count: usize,
    bytes: usize,
}

/// The content of a message: a text, or parts of several kinds.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// A part of a message that is not text, by the fields that it has.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow)]
    input_audio: Option<&'a RawValue>,
}

impl Pictures {
    /// Counts them. If the messages do not follow OpenAI's API, there are none: the model's server answers for it.
    fn of(messages: &RawValue) -> Self {
        let messages: Vec<Message> = serde_json::from_str(messages.get()).unwrap_or_default();
        let contents = messages.iter().filter_map(|message| message.content);
        let parts = contents.flat_map(|content| {
            serde_json::from_str::<Vec<Part>>(content.get()).unwrap_or_default()
        });
        parts.flat_map(|part| [part.image_url, part.input_audio]).flatten().fold(
            Self::default(),
            |Self { count, bytes }, data| Self {
                count: count + 1,
                bytes: bytes + data.get().len(),
            },
        )
    }
}

/// A mark in front of the text in some files.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An escaped letter is written in six bytes, and stands for two or three.
const ESCAPED_LETTER: usize = 6;
const LETTER: usize = 3;

/// A picture of 336 by 336 points in patches of 14, as LLaVA 1.5 reads it: 24 x 24 tokens. Others take from 85 to some
/// thousands; as for text, it is an estimate.
const PICTURE_TOKENS: usize = 576;

/// Chosen: the assumed length of a reply that has no limit. The model's context is its only real one.
const USUAL_OUTPUT_TOKENS: u32 = 256;

#[cfg(test)]
mod tests {
    use tiershift_core::units;

    use super::*;

    #[test]
    fn a_body_says_sizes_and_a_name() {
        let catalog = Catalog::relative_to(units::Bytes::from_gib(16));
        let cases = [
            (Task::Chat, r#"{"prompt":"12345678901234"}"#, 4, 256, None),
            (Task::Chat, r#"{"prompt":"","max_tokens":7,"model":"auto"}"#, 1, 7, Some("auto")),
            (
                Task::Chat,
                r#"{"messages":[],"max_completion_tokens":9,"model":"small"}"#,
                1,
                9,
                Some("small"),
            ),
            (Task::Chat, r#"{"model":5}"#, 1, 256, Some("5")),
            (Task::Chat, "\u{feff}{\"model\":null}", 1, 256, None),
            (Task::Chat, r#"{"max_tokens":-1}"#, 1, 256, None),
            (Task::Chat, r#"{"max_tokens":"x"}"#, 1, 256, None),
            (Task::Chat, r#"{"max_completion_tokens":null,"max_tokens":9}"#, 1, 9, None),
            (Task::Chat, r#"{"max_tokens":1e300}"#, 1, 256, None),
            (Task::Chat, r#"{"max_tokens":99999999999}"#, 1, u32::MAX, None),
            (Task::Chat, r#"{"input":"12345678901234","max_output_tokens":3}"#, 4, 3, None),
            (Task::Chat, r#"{"prompt":"12","n_predict":3}"#, 1, 3, None),
            // Eight letters, as Python writes them: at most half as many tokens again.
            (
                Task::Chat,
                r#"{"prompt":"\u0434\u0435\u0434\u0435\u0434\u0435\u0434\u0435"}"#,
                6,
                256,
                None,
            ),
            (Task::Embedding, r#"{"input":["1234567","12345"],"max_tokens":7}"#, 4, 0, None),
        ];
        for (task, body, prompt, output, model) in cases {
            let body_read = CompletionBody::read(body.as_bytes()).unwrap();
            assert_eq!(body_read.model(), model, "{body}");
            let known = (&catalog, &TokenLength::default());
            let request = body_read.request(RequestId(1), task, Target::Auto, known);
            assert_eq!((request.prompt_tokens, request.output_tokens), (prompt, output), "{body}");
        }
    }

    #[test]
    fn a_picture_is_not_counted_as_text_and_goes_to_a_model_that_looks_at_it() {
        let catalog = Catalog::relative_to(units::Bytes::from_gib(16));
        let data = "A".repeat(40_000);
        let part = format!(r#"{{"type":"image_url","image_url":{{"url":"data:{data}"}}}}"#);
        let text = r#"{"type":"text","text":"What is this?"}"#;
        let body =
            |content: &str| format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#);
        let request = |catalog: &Catalog, body: &str| {
            let read = CompletionBody::read(body.as_bytes()).unwrap();
            let known = (catalog, &TokenLength::default());
            read.request(RequestId(1), Task::Chat, Target::Auto, known)
        };
        let picture = body(&format!("[{text},{part}]"));
        let asked = request(&catalog, &picture);
        // A quarter of 103 bytes of JSON around it, and the picture.
        assert_eq!((asked.prompt_tokens, asked.task), (25 + 576, Task::Chat));
        assert!(asked.prompt_estimated);
        let words = request(&catalog, &body(&format!("\"{data}\"")));
        assert!(words.prompt_tokens > 10_000, "{words:?}");
        // Parts of unknown kinds are not pictures.
        for content in ["[1]", r#"[{"type":"other"}]"#, "7", "null"] {
            assert!(request(&catalog, &body(content)).prompt_tokens < 20, "{content}");
        }
        let models = catalog.models().iter().cloned().map(|model| {
            let tasks = vec![Task::Chat, Task::Vision];
            if model.id.as_str() == "large" {
                tiershift_core::model::Model { tasks, ..model }
            } else {
                model
            }
        });
        let seeing = Catalog::new(models.collect()).unwrap();
        assert_eq!(request(&seeing, &picture).task, Task::Vision);
        assert_eq!(request(&seeing, &body(text)).task, Task::Chat);
    }

    #[track_caller]
    fn check(body: &str, changes: &Changes, want: &str) {
        let read = CompletionBody::read(body.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(read.with(changes)).unwrap(), want, "{body}");
    }

    #[test]
    fn only_what_must_change_is_changed_in_a_body() {
        let both = Changes { model: Some("b\"x".to_owned()), keep_alive: Some(-1) };
        let body = r#" {"n":1.50, "model" : "auto","prompt":"a\u0041 {b}", "n":2 } "#;
        check(
            body,
            &both,
            r#" {"keep_alive":-1,"n":1.50, "model" : "b\"x","prompt":"a\u0041 {b}", "n":2 } "#,
        );
        check(
            r#"{"keep_alive":"5m","messages":[],"model":null}"#,
            &both,
            r#"{"keep_alive":-1,"messages":[],"model":"b\"x"}"#,
        );
        check("{ }", &both, r#"{"model":"b\"x","keep_alive":-1 }"#);
        check(body, &Changes::default(), body);
        let name = Changes { model: Some("m".to_owned()), keep_alive: None };
        check(r#"{"keep_alive":5}"#, &name, r#"{"model":"m","keep_alive":5}"#);
    }

    #[test]
    fn what_is_not_a_request_is_refused() {
        for body in ["", "[]", "[\"auto\"]", "null", "{\"model\":"] {
            CompletionBody::read(body.as_bytes()).unwrap_err();
        }
        let twice = CompletionBody::read(br#"{"model":"a","model":"b"}"#).unwrap_err();
        assert!(twice.body().to_string().contains("`model` is in the body twice"), "{twice:?}");
        CompletionBody::read(br#"{"model":null}"#).unwrap();
        for (body, user) in [(r#"{"user":7}"#, None), (r#"{"user":"a\u0062"}"#, Some("ab"))] {
            assert_eq!(CompletionBody::read(body.as_bytes()).unwrap().user(), user);
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_the_words() {
        let refusal = CompletionBody::read(br#"{"prompt": secret}"#).unwrap_err();
        assert!(!refusal.body().to_string().contains("secret"), "{refusal:?}");
    }
}
