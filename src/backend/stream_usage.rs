//! Counts the tokens of a reply while it passes through, and sees whether it came to its end.

use std::time::Duration;

use serde::Deserialize;

/// What is known of a stream of server-sent events so far.
#[derive(Debug, Default)]
pub(crate) struct StreamUsage {
    line: Vec<u8>,
    events: u32,
    counted: Count,
    first_token: Option<Duration>,
    last_token: Option<Duration>,
    is_done: bool,
    has_error: bool,
}

/// What a server says that it did for a reply, as far as it says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Tokens of the prompt that it read: not those that it had cached.
    pub(crate) prompt_tokens: Option<u32>,
    pub(crate) output_tokens: Option<u32>,
    /// How long it read.
    pub(crate) first_token: Option<Duration>,
}

/// The figures that llama-server and OpenAI put beside a reply.
#[derive(Debug, Deserialize)]
struct Figures {
    usage: Option<Usage>,
    timings: Option<Timings>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    prompt_tokens: Option<u32>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Timings {
    prompt_n: Option<u32>,
    predicted_n: Option<u32>,
    prompt_ms: Option<f64>,
}

impl Count {
    /// Reads the figures in a JSON object; where there are none, nothing is known.
    pub(crate) fn read(json: &[u8]) -> Self {
        let Ok(Figures { usage, timings }) = serde_json::from_slice(json) else {
            return Self::default();
        };
        let read_of = |usage: &Usage| {
            let cached = usage.prompt_tokens_details.as_ref().and_then(|it| it.cached_tokens);
            Some(usage.prompt_tokens?.saturating_sub(cached.unwrap_or_default()))
        };
        let (usage, timings) = (usage.as_ref(), timings.as_ref());
        Self {
            prompt_tokens: timings.and_then(|it| it.prompt_n).or(usage.and_then(read_of)),
            output_tokens: usage
                .and_then(|it| it.completion_tokens)
                .or(timings.and_then(|it| it.predicted_n)),
            first_token: timings
                .and_then(|it| it.prompt_ms)
                .map(|ms| tiershift_core::time::from_secs_f64(ms / 1000.0)),
        }
    }

    /// Returns this, and from `earlier` what is missing here.
    fn or(self, earlier: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens.or(earlier.prompt_tokens),
            output_tokens: self.output_tokens.or(earlier.output_tokens),
            first_token: self.first_token.or(earlier.first_token),
        }
    }
}

impl StreamUsage {
    /// Reads the next bytes, which came `after` the start.
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
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else {
            // llama-server's own way to break off.
            self.has_error |= line.starts_with(b"error:");
            return;
        };
        if data == b"[DONE]" {
            self.is_done = true;
            return;
        }
        if data.starts_with(br#"{"error""#) {
            self.has_error = true;
            return;
        }
        self.events += 1;
        self.first_token.get_or_insert(after);
        self.last_token = Some(after);
        let has_figures = [b"\"usage\"".as_slice(), b"\"timings\""]
            .iter()
            .any(|key| data.windows(key.len()).any(|window| window == *key));
        if has_figures {
            self.counted = Count::read(data).or(self.counted);
        }
    }

    /// Returns whether the stream ended as it should.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done && !self.has_error
    }

    /// Returns the server's count, with the events as tokens of the reply where it gave none.
    pub(crate) fn count(&self) -> Count {
        let output_tokens = self.counted.output_tokens.or(Some(self.events));
        Count { output_tokens, ..self.counted }
    }

    /// Returns when the first token came.
    pub(crate) fn first_token(&self) -> Option<Duration> {
        self.first_token
    }

    /// Returns when the last token came, or the figures behind it.
    pub(crate) fn last_token(&self) -> Option<Duration> {
        self.last_token
    }
}

/// Chosen: an event of a completion has some hundred bytes. What is longer is passed on unread.
const LONGEST_LINE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stream: &str, tokens: u32, is_done: bool) {
        // Wherever the network cuts it, it is the same stream.
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
    }

    #[test]
    fn a_whole_reply_has_its_figures() {
        let cases = [
            (
                r#"{"usage":{"completion_tokens":3,"prompt_tokens":9},"timings":{"prompt_n":7,"prompt_ms":2.0}}"#,
                (Some(7), Some(3), Some(Duration::from_millis(2))),
            ),
            (
                r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":4}}}"#,
                (Some(5), None, None),
            ),
            (r#"{"timings":{"predicted_n":5}}"#, (None, Some(5), None)),
            ("{}", (None, None, None)),
            ("proxy error", (None, None, None)),
        ];
        for (reply, (prompt_tokens, output_tokens, first_token)) in cases {
            let count = Count { prompt_tokens, output_tokens, first_token };
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
