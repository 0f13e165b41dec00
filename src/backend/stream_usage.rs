//! Counts the tokens of a reply while it passes through, and checks whether it reached its end: for the streams of
//! OpenAI's APIs, of Anthropic's, of llama-server's own, and of Ollama's, which has one line per token.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

/// What is known of a stream so far.
#[derive(Debug, Default)]
pub(crate) struct StreamUsage {
    /// Whether each line is a JSON object, not a server-sent event.
    is_of_lines: bool,
    line: Vec<u8>,
    events: u32,
    counted: Count,
    first_token: Option<Duration>,
    last_token: Option<Duration>,
    is_done: bool,
    has_error: bool,
}

/// A server's own figures about a reply, as far as it provides them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Tokens of the prompt that it read, without those that it had cached.
    pub(crate) prompt_tokens: Option<u32>,
    /// Tokens of the whole prompt.
    pub(crate) prompt_length: Option<u32>,
    pub(crate) output_tokens: Option<u32>,
    /// How long it read the prompt.
    pub(crate) first_token: Option<Duration>,
}

/// The figures that servers add to a reply.
#[derive(Debug, Deserialize)]
struct Figures<'a> {
    usage: Option<Usage>,
    timings: Option<Timings>,
    /// The Responses API has the usage here, in its last event; others have something else here.
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    /// Anthropic's API has it here, in its first event.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// Ollama's, in its last line.
    prompt_eval_count: Option<u32>,
    eval_count: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    #[serde(alias = "input_tokens")]
    prompt_tokens: Option<u32>,
    #[serde(alias = "input_tokens_details")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(alias = "output_tokens")]
    completion_tokens: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Timings {
    prompt_n: Option<u32>,
    cache_n: Option<u32>,
    predicted_n: Option<u32>,
    prompt_ms: Option<f64>,
}

impl Count {
    /// Reads the figures in a JSON object; without any, nothing is known.
    pub(crate) fn read(json: &[u8]) -> Self {
        let Ok(figures) = serde_json::from_slice::<Figures>(json) else {
            return Self::default();
        };
        let Figures { usage, timings, response, message, prompt_eval_count, eval_count } = figures;
        let read_of = |usage: &Usage| {
            let cached = usage.prompt_tokens_details.as_ref().and_then(|it| it.cached_tokens);
            Some(usage.prompt_tokens?.saturating_sub(cached.unwrap_or_default()))
        };
        let (usage, timings) = (usage.as_ref(), timings.as_ref());
        let outside = Self {
            prompt_tokens: timings
                .and_then(|it| it.prompt_n)
                .or(usage.and_then(read_of))
                .or(prompt_eval_count),
            prompt_length: usage
                .and_then(|it| it.prompt_tokens)
                .or(timings.and_then(|it| it.prompt_n?.checked_add(it.cache_n?))),
            output_tokens: usage
                .and_then(|it| it.completion_tokens)
                .or(timings.and_then(|it| it.predicted_n))
                .or(eval_count),
            first_token: timings
                .and_then(|it| it.prompt_ms)
                .map(|ms| tiershift_core::time::from_secs_f64(ms / 1000.0)),
        };
        let inside = response.or(message).filter(|it| it.get().starts_with('{'));
        match inside {
            Some(inside) => outside.or(Self::read(inside.get().as_bytes())),
            None => outside,
        }
    }

    /// Returns these figures, with missing ones taken from `earlier`.
    fn or(self, earlier: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens.or(earlier.prompt_tokens),
            prompt_length: self.prompt_length.or(earlier.prompt_length),
            output_tokens: self.output_tokens.or(earlier.output_tokens),
            first_token: self.first_token.or(earlier.first_token),
        }
    }
}

impl StreamUsage {
    /// Expects one JSON object per line.
    pub(crate) fn of_lines() -> Self {
        Self { is_of_lines: true, ..Self::default() }
    }

    /// Reads the next bytes, which arrived `after` the start.
    pub(crate) fn feed(&mut self, after: Duration, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + part.len() <= LONGEST_LINE {
                self.line.extend(part);
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.read_line(after, &line);
            }
        }
    }

    fn read_line(&mut self, after: Duration, line: &[u8]) {
        let data = if self.is_of_lines {
            line.trim_ascii()
        } else if let Some(data) = line.strip_prefix(b"data:") {
            data.trim_ascii()
        } else {
            // How llama-server itself reports that it broke off.
            self.has_error |= line.starts_with(b"error:");
            return;
        };
        if data.is_empty() {
            return;
        }
        if data == b"[DONE]" {
            self.is_done = true;
            return;
        }
        if data.starts_with(br#"{"error""#) {
            self.has_error = true;
            return;
        }
        if data.ends_with(b"}") && LAST_MARKS.iter().any(|mark| has(data, mark)) {
            self.is_done |= serde_json::from_slice::<Ending>(data).is_ok_and(|it| it.is_last());
        }
        self.events += 1;
        self.first_token.get_or_insert(after);
        self.last_token = Some(after);
        let has_figures = FIGURES.iter().any(|key| has(data, key));
        if has_figures {
            self.counted = Count::read(data).or(self.counted);
        }
    }

    /// Returns whether the stream ended properly.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done && !self.has_error
    }

    /// Returns whether the server itself reported in the stream that it broke off.
    pub(crate) fn has_error(&self) -> bool {
        self.has_error
    }

    /// Returns the server's count; if there is none, each event counts as one token.
    pub(crate) fn count(&self) -> Count {
        let output_tokens = self.counted.output_tokens.or(Some(self.events));
        Count { output_tokens, ..self.counted }
    }

    /// Returns when the first token came.
    pub(crate) fn first_token(&self) -> Option<Duration> {
        self.first_token
    }

    /// Returns when the last token came, or the figures after it.
    pub(crate) fn last_token(&self) -> Option<Duration> {
        self.last_token
    }
}

/// What marks the last event of a stream: a flag for llama-server's own and Ollama's, the type for Anthropic's and the
/// Responses API.
#[derive(Debug, Deserialize)]
struct Ending<'a> {
    #[serde(borrow, default)]
    stop: Option<&'a RawValue>,
    #[serde(borrow, default)]
    done: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
}

impl Ending<'_> {
    fn is_last(&self) -> bool {
        let is_set = |flag: Option<&RawValue>| flag.is_some_and(|flag| flag.get() == "true");
        let kind = self.kind.map_or("", RawValue::get).trim_matches('"');
        is_set(self.stop) || is_set(self.done) || LAST_TYPES.contains(&kind)
    }
}

fn has(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|window| window == part)
}

/// Looked for before an event is parsed.
const LAST_MARKS: [&[u8]; 4] = [b"\"stop\":true", b"\"done\":true", b"message_stop", b"response."];

/// The types of the last events.
const LAST_TYPES: [&str; 4] =
    ["message_stop", "response.completed", "response.incomplete", "response.failed"];

/// Keys that accompany figures.
const FIGURES: [&[u8]; 3] = [b"\"usage\"", b"\"timings\"", b"\"eval_count\""];

/// Chosen: an event of a completion has some hundred bytes. A longer one is passed on unread.
const LONGEST_LINE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stream: &str, tokens: u32, is_done: bool) {
        // However the network cuts it, it is the same stream.
        for size in [1, 7, stream.len()] {
            let mut usage = StreamUsage::default();
            for (index, bytes) in stream.as_bytes().chunks(size).enumerate() {
                usage.feed(Duration::from_millis(index as u64), bytes);
            }
            let counted = (usage.count().output_tokens, usage.is_done());
            assert_eq!(counted, (Some(tokens), is_done), "{size}: {stream}");
        }
    }

    #[test]
    fn a_stream_is_counted_wherever_it_is_cut() {
        let event = "data: {\"choices\":[{\"text\":\" a\"}]}\n\n";
        check(&format!("{event}{event}data: [DONE]\n\n"), 2, true);
        let figures = "data: {\"choices\":[],\"usage\":{\"completion_tokens\":9}}\r\n\r\n";
        check(&format!("{event}{figures}data: [DONE]\r\n\r\n"), 9, true);
        let timings = "data: {\"timings\":{\"predicted_n\":5,\"prompt_ms\":1.5}}\n\n";
        check(&format!(": ping\n\n{event}{timings}data: [DONE]\n\n"), 5, true);
        check(event, 1, false);
        check(&format!("{event}data: {{\"error\":{{}}}}\n\ndata: [DONE]\n\n"), 1, false);
        check("error: {}\n\ndata: [DONE]\n\n", 0, false);
        // Anthropic's, the Responses API, and llama-server's own.
        let last = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":4}}\n\n\
                    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        check(last, 4, true);
        let last = "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"output_tokens\":6}}}\n\n";
        check(&format!("{event}{last}"), 6, true);
        check("data: {\"content\":\"message_stop\",\"stop\":false}\n\n", 1, false);
        check(
            "data: {\"content\":\"a\",\"stop\":true,\"timings\":{\"predicted_n\":3}}\n\n",
            3,
            true,
        );
    }

    #[test]
    fn a_stream_of_lines_ends_with_the_one_that_says_so() {
        let mut usage = StreamUsage::of_lines();
        usage.feed(Duration::ZERO, b"{\"message\":{\"content\":\"a\"},\"done\":false}\n");
        assert!(!usage.is_done());
        usage.feed(
            Duration::ZERO,
            b"{\"response\":\"\",\"done\":true,\"prompt_eval_count\":7,\"eval_count\":2}\n",
        );
        let count = usage.count();
        assert_eq!((count.prompt_tokens, count.output_tokens), (Some(7), Some(2)));
        assert!(usage.is_done() && !usage.has_error());
    }

    #[test]
    fn a_whole_reply_has_its_figures() {
        let cases = [
            (
                r#"{"usage":{"completion_tokens":3,"prompt_tokens":9},"timings":{"prompt_n":7,"prompt_ms":2.0}}"#,
                (Some(7), Some(9), Some(3), Some(Duration::from_millis(2))),
            ),
            (
                r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":4}}}"#,
                (Some(5), Some(9), None, None),
            ),
            (r#"{"timings":{"prompt_n":2,"cache_n":7}}"#, (Some(2), Some(9), None, None)),
            (r#"{"timings":{"predicted_n":5}}"#, (None, None, Some(5), None)),
            ("{}", (None, None, None, None)),
            ("proxy error", (None, None, None, None)),
        ];
        for (reply, (prompt_tokens, prompt_length, output_tokens, first_token)) in cases {
            let count = Count { prompt_tokens, prompt_length, output_tokens, first_token };
            assert_eq!(Count::read(reply.as_bytes()), count, "{reply}");
        }
    }

    #[test]
    fn what_one_event_says_the_next_does_not_take_back() {
        let mut usage = StreamUsage::default();
        let stream = "data: {\"timings\":{\"prompt_n\":7,\"predicted_n\":2}}\n\n\
                      data: {\"usage\":{\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";
        usage.feed(Duration::ZERO, stream.as_bytes());
        let count = usage.count();
        assert_eq!((count.prompt_tokens, count.output_tokens), (Some(7), Some(3)));
    }
}
