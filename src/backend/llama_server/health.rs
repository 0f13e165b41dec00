//! Asks a llama-server over HTTP whether it is ready, and whether it still answers.

use std::time::Duration;

/// Returns once the server reports that it is ready.
pub(super) async fn until_ready(client: &reqwest::Client, port: u16) {
    while !is_ready(client, port).await {
        tokio::time::sleep(HEALTH_POLL).await;
    }
}

/// Asks a server whether it is ready: 503 while it loads, then 200.
pub(super) async fn is_ready(client: &reqwest::Client, port: u16) -> bool {
    let url = format!("http://127.0.0.1:{port}/health");
    let answer = client.get(url).timeout(HEALTH_TIMEOUT).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Returns once a server has not answered several times in a row. Any answer shows that it is alive.
pub(super) async fn until_silent(client: &reqwest::Client, port: u16) {
    let url = format!("http://127.0.0.1:{port}/health");
    let mut unanswered = 0;
    while unanswered < MOST_UNANSWERED {
        tokio::time::sleep(LOOK_PAUSE).await;
        let answer = client.get(&url).timeout(LOOK_TIMEOUT).send().await;
        unanswered = if answer.is_ok() { 0 } else { unanswered + 1 };
    }
}

/// A tiny model loads in 65 ms and is seen to be ready soon after.
const HEALTH_POLL: Duration = Duration::from_millis(20);

/// Chosen: a server that loads answers in milliseconds; one that does not is asked again.
pub(super) const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Chosen: a server whose model works answers this in 0.3 to 52 ms on an overloaded machine (measured 2026-11-25), and
/// is asked seldom. One that is silent three times, for 15 to 30 s, is stopped or dead-locked.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
const MOST_UNANSWERED: u32 = 3;
