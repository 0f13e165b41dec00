//! A short request of our own to a model that has just been loaded, through the same interface as any client's.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tiershift_core::time::from_secs_f64;

use crate::backend::endpoint::Endpoint;

/// Returns how many tokens the model wrote and how long that took, without the prompt, by its server's own clock; if it
/// does not end in time, the number of tokens requested, and the time limit. `None` if it answers otherwise: that is
/// handled elsewhere.
pub(super) async fn run(client: &reqwest::Client, endpoint: &Endpoint) -> Option<(u32, Duration)> {
    // For all of its tokens, whatever the model would write.
    let body = json!({
        "messages": [{"role": "user", "content": "Count from one to twenty."}],
        "max_tokens": TOKENS, "temperature": 0, "ignore_eos": true,
    });
    let answered = async {
        let answer = endpoint.post(client, "/v1/chat/completions").json(&body).send().await.ok()?;
        answer.error_for_status().ok()?.bytes().await.ok()
    };
    match tokio::time::timeout(LIMIT, answered).await {
        Ok(reply) => decoded(&reply?),
        Err(_) => Some((TOKENS, LIMIT)),
    }
}

/// Reads the number of the reply's tokens in a server's answer, and how long they took.
fn decoded(reply: &[u8]) -> Option<(u32, Duration)> {
    #[derive(Deserialize)]
    struct Reply {
        timings: Timings,
    }
    #[derive(Deserialize)]
    struct Timings {
        predicted_n: u32,
        predicted_ms: f64,
    }
    let Reply { timings: Timings { predicted_n, predicted_ms } } =
        serde_json::from_slice(reply).ok()?;
    (predicted_n > 0).then(|| (predicted_n, from_secs_f64(predicted_ms / 1000.0)))
}

/// Chosen: two seconds at four tokens a second, and enough that the first of them does not matter much.
const TOKENS: u32 = 8;

/// Within a minute of the load it is known whether it is slow. A model that needs longer for eight tokens writes about
/// one in five seconds.
const LIMIT: Duration = Duration::from_secs(45);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_time_is_read_and_nothing_is_made_up() {
        let reply =
            br#"{"choices":[],"timings":{"prompt_ms":9.5,"predicted_n":8,"predicted_ms":250.5}}"#;
        assert_eq!(decoded(reply), Some((8, Duration::from_micros(250_500))));
        for other in ["", "{}", r#"{"timings":{"predicted_n":0,"predicted_ms":0.0}}"#] {
            assert_eq!(decoded(other.as_bytes()), None, "{other}");
        }
    }
}
