//! Where a request is sent, with which key, and what is changed in its body on the way.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use crate::backend::key::Key;

/// The address of a model's server, and what is added to each request there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    base: String,
    query: &'static str,
    /// What the model is called there; `None` where only one is.
    name: Option<String>,
    field: Option<(&'static str, i64)>,
    key: Option<Key>,
}

impl Endpoint {
    /// Takes a server's address, without a slash at its end.
    pub(super) fn new(base: &str) -> Self {
        Self { base: base.to_owned(), query: "", name: None, field: None, key: None }
    }

    pub(super) fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    pub(super) fn with_query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    pub(super) fn with_field(self, key: &'static str, value: i64) -> Self {
        Self { field: Some((key, value)), ..self }
    }

    pub(super) fn with_key(self, key: Key) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Begins a request to a path, which begins with a slash.
    pub fn post(&self, client: &reqwest::Client, path: &str) -> reqwest::RequestBuilder {
        let request = client.post(self.url(path));
        match &self.key {
            Some(key) => request.bearer_auth(key.as_str()),
            None => request,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}{}", self.base, self.query)
    }

    /// Returns the body to send instead of one whose `model` is ours: every other field stays as it is, byte for byte.
    /// What is no JSON object is sent as it came: the server says what is wrong with it.
    pub fn body(&self, body: &[u8]) -> Option<Vec<u8>> {
        let name = self.name.as_ref()?;
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
        fields.insert("model".to_owned(), to_raw_value(name).ok()?);
        if let Some((key, value)) = self.field {
            fields.insert(key.to_owned(), to_raw_value(&value).ok()?);
        }
        serde_json::to_vec(&fields).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_model_is_changed_in_a_body() {
        let endpoint =
            Endpoint::new("http://127.0.0.1:1").named("b\"x").with_field("keep_alive", -1);
        let body = endpoint.body(br#"{"n":1.50, "model":"auto","prompt":"a\u0041 b"}"#).unwrap();
        let text = r#"{"keep_alive":-1,"model":"b\"x","n":1.50,"prompt":"a\u0041 b"}"#;
        assert_eq!(String::from_utf8(body).unwrap(), text);
        assert_eq!(endpoint.body(b"[]"), None);
        assert_eq!(Endpoint::new("http://127.0.0.1:1").body(b"{}"), None);
        assert_eq!(endpoint.with_query("?a=b").url("/v1/x"), "http://127.0.0.1:1/v1/x?a=b");
    }
}
