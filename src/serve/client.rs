//! Queries a running daemon: the data behind `tiershift status`.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde_json::Value;
use tokio::runtime::Builder;

/// Returns the answer of `/status` of the daemon at `url`.
///
/// # Errors
/// When nothing answers, when the answer is not from tiershift, or when a token is required that was not given.
pub fn fetch_status(url: &str, token: Option<&str>) -> Result<Value, AskError> {
    // As people write an address, and curl takes it.
    let url = &if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(AskError::Runtime)?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        let mut request = client
            .map_err(|source| AskError::Nobody { url: url.to_owned(), source })?
            .get(format!("{}/status", url.trim_end_matches('/')));
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| AskError::Token { url: url.to_owned() })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let nobody = |source| AskError::Nobody { url: url.to_owned(), source };
        let answer = request.send().await.map_err(nobody)?;
        match answer.status() {
            StatusCode::OK => answer
                .json()
                .await
                .map_err(|source| AskError::Stranger { url: url.to_owned(), source }),
            StatusCode::UNAUTHORIZED => Err(AskError::Token { url: url.to_owned() }),
            status => Err(AskError::Refused { url: url.to_owned(), status }),
        }
    })
}

/// Why a daemon's status could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum AskError {
    #[error(
        "no daemon answers at {url}: start one with `tiershift serve`, or name another with --url"
    )]
    Nobody { url: String, source: reqwest::Error },
    #[error("the program that answers at {url} is not tiershift: give another address with --url")]
    Stranger { url: String, source: reqwest::Error },
    #[error("the daemon at {url} requires a token: give it with --token-file or --token-env")]
    Token { url: String },
    #[error("the daemon at {url} answered {status}: use a host name that it allows (--allow-host)")]
    Refused { url: String, status: StatusCode },
    #[error("the system gives no threads")]
    Runtime(#[source] std::io::Error),
}

/// Chosen: a daemon on this machine answers in milliseconds, one elsewhere in less than this, or not at all.
const PATIENCE: Duration = Duration::from_secs(10);
