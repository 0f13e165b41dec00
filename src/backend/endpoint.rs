//! Where a request is sent, with which key, and what must be changed in its body.

use crate::backend::key::Key;

/// The address of a model's server, and what is added to each request to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    base: String,
    query: &'static str,
    changes: Changes,
    key: Option<Key>,
}

/// The changes to the body of a completion; every other field stays as the client sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The model's name at the server; `None` if the server has only one.
    pub model: Option<String>,
    /// How long the model stays loaded after the request, in seconds, if each request decides that.
    pub keep_alive: Option<i64>,
}

impl Endpoint {
    /// Takes a server's address, without a slash at its end.
    pub(super) fn new(base: &str) -> Self {
        Self { base: base.to_owned(), query: "", changes: Changes::default(), key: None }
    }

    pub(super) fn with_changes(self, changes: Changes) -> Self {
        Self { changes, ..self }
    }

    pub(super) fn with_query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    pub(super) fn with_key(self, key: Key) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Begins a request to a path, which begins with a slash.
    pub fn post(&self, client: &reqwest::Client, path: &str) -> reqwest::RequestBuilder {
        self.request(client, reqwest::Method::POST, path)
    }

    /// Begins a request with any method.
    pub fn request(
        &self,
        client: &reqwest::Client,
        method: reqwest::Method,
        path: &str,
    ) -> reqwest::RequestBuilder {
        let request = client.request(method, self.url(path));
        match &self.key {
            Some(key) => request.bearer_auth(key.as_str()),
            None => request,
        }
    }

    fn url(&self, path: &str) -> String {
        // A client's own query comes first.
        match (self.query.strip_prefix('?'), path.contains('?')) {
            (Some(query), true) => format!("{}{path}&{query}", self.base),
            _ => format!("{}{path}{}", self.base, self.query),
        }
    }

    /// Returns the changes to a body.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_stands_behind_each_path() {
        let endpoint = Endpoint::new("http://127.0.0.1:1").with_query("?a=b");
        assert_eq!(endpoint.url("/v1/x"), "http://127.0.0.1:1/v1/x?a=b");
        assert_eq!(endpoint.url("/v1/x?c=d"), "http://127.0.0.1:1/v1/x?c=d&a=b");
    }
}
