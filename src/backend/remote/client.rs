//! Talks to a model server over HTTP, and reports why an answer did not come.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A server's address, and the client for it.
#[derive(Clone, Debug)]
pub(super) struct ServerClient {
    http: reqwest::Client,
    base: Url,
}

impl ServerClient {
    pub(super) fn new(http: reqwest::Client, base: Url) -> Self {
        Self { http, base }
    }

    /// Returns the same address with another client.
    pub(super) fn with(&self, http: reqwest::Client) -> Self {
        Self { http, base: self.base.clone() }
    }

    /// Returns the server's address, without a slash at its end.
    pub(super) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Returns the port at which the server answers.
    pub(super) fn port(&self) -> Option<u16> {
        self.base.port_or_known_default()
    }

    /// Returns the content at a path.
    ///
    /// # Errors
    /// When the answer is not the expected one.
    pub(super) async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, ServerError> {
        self.get(path).await?
    }

    /// Like `ask`, but distinguishes an unexpected answer from none.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Result<T, ServerError>, ServerError> {
        let text = self.text(path).await?;
        Ok(text.and_then(|text| read(&text)))
    }

    /// Like `get`, with the unparsed text.
    pub(super) async fn text(
        &self,
        path: &str,
    ) -> Result<Result<String, ServerError>, ServerError> {
        let request = self.http.get(self.at(path)).timeout(LOOK_TIMEOUT);
        match answer(request).await {
            Err(error @ (ServerError::Away | ServerError::Silent)) => Err(error),
            answered => Ok(answered),
        }
    }

    /// Asks with only the client's own time limit: the answer may take a whole load.
    pub(super) async fn get_slowly(&self, segments: &[&str]) -> Result<(), ServerError> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            // A name is one segment, whatever it contains.
            path.pop_if_empty().extend(segments);
        }
        answer(self.http.get(url)).await.map(drop)
    }

    /// Posts a JSON object with only the client's own time limit, and returns the answer.
    ///
    /// # Errors
    /// An answer that contains "error" is one, whatever its status.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, ServerError> {
        let text = answer(self.http.post(self.at(path)).json(body)).await?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        match answer.get("error") {
            Some(error) => Err(ServerError::Refused {
                code: StatusCode::OK.as_u16(),
                words: error.to_string(),
            }),
            None => Ok(answer),
        }
    }

    /// Posts to a path whose last part is a name.
    pub(super) async fn post_to(&self, path: &str, name: &str) -> Result<(), ServerError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/')).push(name);
        }
        answer(self.http.post(url)).await.map(drop)
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base())
    }
}

/// Why a server did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Nothing listens there.
    #[error("the server is not there")]
    Away,
    /// It accepted, and did not answer in time.
    #[error("the server does not answer")]
    Silent,
    /// It answered with an error.
    #[error("the server answered {code}")]
    Refused {
        /// The status.
        code: u16,
        /// Its message. It may name this machine's folders, so it is not logged.
        words: String,
    },
    /// The answer is not one of this kind of server.
    #[error("the server's answer is not understood")]
    Unclear,
}

/// Reads an answer.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, ServerError> {
    serde_json::from_str(text).map_err(|_| ServerError::Unclear)
}

async fn answer(request: reqwest::RequestBuilder) -> Result<String, ServerError> {
    let of = |error: &reqwest::Error| {
        if error.is_timeout() { ServerError::Silent } else { ServerError::Away }
    };
    let mut answer = request.send().await.map_err(|error| of(&error))?;
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| of(&error))? {
        if bytes.len() + part.len() > LONGEST_ANSWER {
            return Err(ServerError::Unclear);
        }
        bytes.extend(part);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if status.is_success() {
        Ok(text)
    } else {
        Err(ServerError::Refused {
            code: status.as_u16(),
            words: text.chars().take(MOST_WORDS).collect(),
        })
    }
}

/// Chosen: all of these servers answer in milliseconds what they already know.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Chosen: a thousand models take about 2 MB.
const LONGEST_ANSWER: usize = 16 << 20;

/// Chosen: the reason is in the first lines.
const MOST_WORDS: usize = 2000;
