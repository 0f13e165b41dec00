//! Counts the tokens of a reply while it passes through, and sees whether it came to its end.

use std::time::Duration;

use serde::Deserialize;

/// What is known of a stream of server-sent events so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    line: Vec<u8>,
    events: u32,
    counted: Option<u32>,
    first_token: Option<Duration>,
    is_done: bool,
    has_error: bool,
}

/// The figures that llama-server and OpenAI put beside a reply.
#[derive(Debug, Deserialize)]
struct Figures {
    usage: Option<Usage>,
    timings: Option<Timings>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    completion_tokens: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Timings {
    predicted_n: Option<u32>,
    prompt_ms: Option<f64>,
}

impl Tally {
    /// Takes the next bytes, which came `after` the start.
    pub(super) fn feed(&mut self, after: Duration, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + part.len() <= LONGEST_LINE {
                self.line.extend(part);
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take_line(after, &line);
            }
        }
    }

    fn take_line(&mut self, after: Duration, line: &[u8]) {
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
        let has_figures = [b"\"usage\"".as_slice(), b"\"timings\""]
            .iter()
            .any(|key| data.windows(key.len()).any(|window| window == *key));
        if has_figures && let Some((tokens, _)) = figures(data) {
            self.counted = Some(tokens);
        }
    }

    /// Returns whether the stream ended as it should.
    pub(super) fn is_done(&self) -> bool {
        self.is_done && !self.has_error
    }

    /// Returns the tokens of the reply: the server's count, or the events where it gave none.
    pub(super) fn tokens(&self) -> u32 {
        self.counted.unwrap_or(self.events)
    }

    /// Returns when the first token came.
    pub(super) fn first_token(&self) -> Option<Duration> {
        self.first_token
    }
}

/// Returns the tokens of a reply and the time to its first, from the figures in a JSON object.
pub(super) fn figures(json: &[u8]) -> Option<(u32, Option<Duration>)> {
    let Figures { usage, timings } = serde_json::from_slice(json).ok()?;
    let used = usage.and_then(|usage| usage.completion_tokens);
    let (predicted, prompt_ms) = timings.map_or((None, None), |it| (it.predicted_n, it.prompt_ms));
    let first_token = prompt_ms.map(|ms| crate::time::from_secs_f64(ms / 1000.0));
    Some((used.or(predicted)?, first_token))
}

/// Chosen: an event of a completion has some hundred bytes. What is longer is passed on, and not looked at.
const LONGEST_LINE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stream: &str, tokens: u32, is_done: bool) {
        // Wherever the network cuts it, it is the same stream.
        for size in [1, 7, stream.len()] {
            let mut tally = Tally::default();
            for (place, bytes) in stream.as_bytes().chunks(size).enumerate() {
                tally.feed(Duration::from_millis(place as u64), bytes);
            }
            assert_eq!((tally.tokens(), tally.is_done()), (tokens, is_done), "{size}: {stream}");
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
    fn a_whole_reply_tells_its_figures() {
        let reply = br#"{"usage":{"completion_tokens":3},"timings":{"prompt_ms":2.0}}"#;
        assert_eq!(figures(reply), Some((3, Some(Duration::from_millis(2)))));
        assert_eq!(figures(b"{}"), None);
        assert_eq!(figures(b"proxy error"), None);
    }
}
