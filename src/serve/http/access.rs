//! Who is let in: programs of this machine by its own names, and from elsewhere whoever has the token.
//!
//! There are no CORS headers anywhere: a page from elsewhere never reads an answer.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::serve::http::refusal::Refusal;

/// Who is let in.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// What everybody must show, where there is one. Without it, only loopback is listened on.
    pub token: Option<Token>,
    /// Names that this machine is called by, besides its own for itself.
    pub hosts: Vec<String>,
}

/// A token's digest: the words themselves are not kept, and two digests are compared in constant time.
#[derive(Clone)]
pub struct Token(blake3::Hash);

impl Token {
    /// Takes a token.
    ///
    /// # Errors
    /// One that is easy to guess, or that no header can hold.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if text.len() < SHORTEST_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError);
        }
        Ok(Self(blake3::hash(text.as_bytes())))
    }

    fn is(&self, shown: &[u8]) -> bool {
        // `blake3::Hash` takes the same time for every answer.
        blake3::hash(shown) == self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A token that protects nothing. It is not repeated here.
#[derive(Debug, thiserror::Error)]
#[error(
    "the token must have {SHORTEST_TOKEN} visible ASCII characters or more: `openssl rand -hex 32` makes one"
)]
pub struct TokenError;

/// Decides who is let in.
#[derive(Debug)]
pub(in crate::serve) struct AccessPolicy {
    access: Access,
    /// Whether others than this machine can reach us.
    is_open: bool,
}

impl AccessPolicy {
    pub(in crate::serve) fn new(access: Access, address: IpAddr) -> Self {
        Self { access, is_open: !address.is_loopback() }
    }

    fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
        let is_near = hosts.next().is_none()
            && host.is_some_and(|host| self.is_ours(host))
            && origin.is_none_or(|origin| {
                origin.split_once("://").is_some_and(|(_, host)| self.is_ours(host))
            });
        if !is_near {
            let message =
                "this daemon is called by 127.0.0.1, localhost, or a name given with --allow-host";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "foreign_host", message));
        }
        match &self.access.token {
            Some(token) if path != OPEN_PATH && !shows(headers, token) => {
                let message = "show the token: Authorization: Bearer ..., or as a password";
                Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns whether `host`, with or without a port, names this machine. A page that had a name of its own pointed
    /// here calls by that name; an address in figures cannot be pointed anywhere.
    fn is_ours(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        let address = name.parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback() || self.is_open)
            || self.access.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    }
}

/// Lets a request in, or says why not.
pub(in crate::serve) async fn let_in(
    State(policy): State<Arc<AccessPolicy>>,
    request: Request,
    next: Next,
) -> Response {
    match policy.check(request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let mut response = refusal.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                for way in WAYS {
                    response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(way));
                }
            }
            response
        }
    }
}

/// Returns whether the token is shown: as a bearer's, or as the password that a browser asks its user for.
fn shows(headers: &HeaderMap, token: &Token) -> bool {
    let Some((scheme, shown)) = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    let shown = shown.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return token.is(shown.as_bytes());
    }
    scheme.eq_ignore_ascii_case("basic")
        && STANDARD.decode(shown).is_ok_and(|pair| {
            let colon = pair.iter().position(|&byte| byte == b':');
            colon.is_some_and(|colon| token.is(&pair[colon + 1..]))
        })
}

fn without_port(host: &str) -> Option<&str> {
    match host.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            (port.is_empty() || port.starts_with(':')).then_some(name)
        }
        None => Some(host.split_once(':').map_or(host, |(name, _)| name)),
    }
}

/// What a load balancer may ask without a token. It says nothing but that we are there.
const OPEN_PATH: &str = "/healthz";

/// How a token can be shown.
const WAYS: [&str; 2] = ["Bearer", "Basic realm=\"tiershift: any name, the token as password\""];

/// Chosen: 64 bits in hexadecimal figures, which nobody guesses over a network.
const SHORTEST_TOKEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn door(address: &str, token: Option<&str>, hosts: &[&str]) -> AccessPolicy {
        let token = token.map(|token| Token::new(token).unwrap());
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        AccessPolicy::new(Access { token, hosts }, address.parse().unwrap())
    }

    #[track_caller]
    fn check(door: &AccessPolicy, path: &str, headers: &[(&'static str, &str)], want: Option<u16>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let got = door.check(path, &map).err();
        let status = got.clone().map(|refusal| refusal.into_response().status().as_u16());
        assert_eq!(status, want, "{path} {headers:?}: {got:?}");
    }

    #[test]
    fn on_loopback_only_its_own_names_are_let_in() {
        let near = door("127.0.0.1", None, &["box.lan"]);
        for host in ["localhost", "LOCALHOST:1", "127.8.8.8:8484", "[::1]:80", "[::1]", "Box.lan:1"]
        {
            check(&near, "/", &[("host", host)], None);
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "10.0.0.1", "[::1", "[::1]x", "[::2]:1"]
        {
            check(&near, "/", &[("host", host)], Some(403));
        }
        check(&near, "/", &[], Some(403));
        check(&near, "/", &[("host", "localhost"), ("host", "evil.example")], Some(403));
    }

    #[test]
    fn a_page_from_elsewhere_is_not_let_in() {
        let near = door("127.0.0.1", None, &[]);
        let from = |origin| [("host", "localhost:8484"), ("origin", origin)];
        check(&near, "/switch", &from("http://localhost:8484"), None);
        for origin in ["http://evil.example", "null", "", "localhost"] {
            check(&near, "/switch", &from(origin), Some(403));
        }
    }

    fn with(shown: &str) -> [(&'static str, &str); 2] {
        [("host", "10.0.0.1:8484"), ("authorization", shown)]
    }

    #[test]
    fn from_elsewhere_the_token_opens_and_nothing_else() {
        let open = door("0.0.0.0", Some(TOKEN), &["box.lan"]);
        let basic = format!("Basic {}", STANDARD.encode(format!("me:{TOKEN}")));
        for shown in [format!("Bearer {TOKEN}"), format!("bearer  {TOKEN} "), basic] {
            check(&open, "/status", &with(&shown), None);
        }
        let wrong = STANDARD.encode("me:0123456789abcdeF");
        for shown in
            ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Basic", "Basic !", TOKEN, &wrong]
        {
            check(&open, "/status", &with(shown), Some(401));
        }
        check(&open, "/status", &with(&format!("Basic {wrong}")), Some(401));
        check(&open, "/status", &[("host", "box.lan")], Some(401));
        check(&open, "/healthz", &[("host", "box.lan")], None);
        check(&open, "/healthz", &[("host", "evil.example")], Some(403));
    }

    #[test]
    fn a_token_is_long_and_never_shown() {
        for weak in ["", "short", "0123456789 abcdef", "0123456789abcdé..."] {
            let refused = Token::new(weak).unwrap_err().to_string();
            assert!(weak.is_empty() || !refused.contains(weak), "{refused}");
        }
        let access = Access { token: Some(Token::new(TOKEN).unwrap()), hosts: Vec::new() };
        assert!(!format!("{access:?}").contains(TOKEN));
    }
}
