//! Access: programs on this machine by its own names, and clients elsewhere that have the token.
//!
//! A web page of another origin can read answers only if its origin is allowed, and can never give orders.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, ORIGIN, VARY, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tiershift_core::time::SpanText;

use crate::serve::http::completions::{DEADLINE, PRIORITY};
use crate::serve::http::refusal::Refusal;

/// Who may send requests.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token that every client must send, if there is one. Without any token, only loopback is listened on.
    pub token: Option<Token>,
    /// Clients with tokens of their own, which they may send instead.
    pub clients: Vec<KnownClient>,
    /// The token that an order requires. If clients have a token and this is absent, no orders are accepted over HTTP.
    pub order_token: Option<Token>,
    /// Names of this machine, besides its own for itself.
    pub hosts: Vec<String>,
    /// Origins whose pages may send requests and read answers, such as `http://localhost:3000`; `*` for all.
    pub origins: Vec<String>,
}

impl Access {
    /// Returns whether any client has a token.
    pub fn has_tokens(&self) -> bool {
        self.token.is_some() || !self.clients.is_empty()
    }
}

/// A client that its own token identifies. The token stands for headers that the client need not send.
#[derive(Clone, Debug)]
pub struct KnownClient {
    /// Its token.
    pub token: Token,
    /// The priority of its requests; higher goes first.
    pub priority: u8,
    /// How long its requests may wait for a model.
    pub deadline: Option<Duration>,
}

impl KnownClient {
    /// Adds the headers that a request lacks.
    fn complete(&self, headers: &mut HeaderMap) {
        let deadline = self.deadline.map(|deadline| SpanText(deadline).to_string());
        let values = [(PRIORITY, Some(self.priority.to_string())), (DEADLINE, deadline)];
        for (name, value) in values {
            if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
                headers.entry(name).or_insert(value);
            }
        }
    }
}

/// A token's digest: the token itself is not kept, and two digests are compared in constant time.
#[derive(Clone)]
pub struct Token(blake3::Hash);

impl Token {
    /// Takes a token.
    ///
    /// # Errors
    /// When it is easy to guess, or no header can contain it.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if text.len() < SHORTEST_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError);
        }
        Ok(Self(blake3::hash(text.as_bytes())))
    }

    fn is(&self, shown: &[u8]) -> bool {
        // `blake3::Hash` compares in constant time.
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

/// Decides which requests are allowed.
#[derive(Debug)]
pub(in crate::serve) struct AccessPolicy {
    access: Access,
    /// Whether other machines can reach us.
    is_open: bool,
}

impl AccessPolicy {
    pub(in crate::serve) fn new(access: Access, address: IpAddr) -> Self {
        Self { access, is_open: !address.is_loopback() }
    }

    /// Returns the client whose token was sent, if it is one of those with their own.
    fn check(&self, path: &str, headers: &HeaderMap) -> Result<Option<&KnownClient>, Refusal> {
        self.check_names(path, headers)?;
        if path == OPEN_PATH || PUBLIC_PATHS.contains(&path) {
            return Ok(None);
        }
        let Access { token, clients, order_token, .. } = &self.access;
        let is_order = path == ORDER_PATH;
        if let Some(order_token) = order_token.as_ref().filter(|_| is_order) {
            return shows(headers, order_token).then_some(None).ok_or_else(token_required);
        }
        let known = clients.iter().find(|client| shows(headers, &client.token));
        let is_common = token.as_ref().is_some_and(|token| shows(headers, token));
        // On loopback, tokens of single clients are not for keeping out the others.
        let is_required = token.is_some() || (self.is_open && !clients.is_empty());
        if is_required && known.is_none() && !is_common {
            return Err(token_required());
        }
        // A client that may not even send requests does not learn what orders need.
        if is_required && is_order {
            let message = "a client's token does not allow orders: start the daemon with --order-token-file, and send that token";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "no_orders", message));
        }
        Ok(known)
    }

    /// Checks the host name that the client uses, and the origin of a page.
    fn check_names(&self, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let foreign = |message| Refusal::new(StatusCode::FORBIDDEN, "foreign_host", message);
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
        if hosts.next().is_some() || !self.is_ours(host) {
            let called: String = host.chars().take(LONGEST_NAME_SHOWN).collect();
            return Err(foreign(format!(
                "this daemon is not called \"{called}\": use 127.0.0.1 or localhost, or start it with --allow-host NAME"
            )));
        }
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        let is_own = origin.split_once("://").is_some_and(|(_, host)| self.is_ours(host));
        // A page on another port of this machine has another origin: what it may do is up to browsers, as always.
        if is_own || (self.allows(origin) && path != ORDER_PATH) {
            return Ok(());
        }
        let called: String = origin.chars().take(LONGEST_NAME_SHOWN).collect();
        Err(foreign(format!(
            "web pages from \"{called}\" may not send requests here: start the daemon with --allow-origin ORIGIN"
        )))
    }

    /// Returns whether pages of an origin may send requests and read answers.
    fn allows(&self, origin: &str) -> bool {
        let origins = &self.access.origins;
        origins.iter().any(|ours| ours == "*" || ours.eq_ignore_ascii_case(origin))
    }

    /// Returns whether `host`, with or without a port, names this machine. A page that had a name of its own pointed
    /// here uses that name; a numeric address cannot be pointed elsewhere.
    fn is_ours(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        let address = name.parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback() || self.is_open)
            || self.access.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    }
}

/// Passes a request on, or answers why not.
pub(in crate::serve) async fn let_in(
    State(policy): State<Arc<AccessPolicy>>,
    mut request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(ORIGIN).cloned();
    let reads = origin.filter(|origin| origin.to_str().is_ok_and(|it| policy.allows(it)));
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let path = request.uri().path();
    let mut response = if is_preflight && reads.is_some() && path != ORDER_PATH {
        // A browser's preflight request carries no token.
        policy.check_names(path, request.headers()).map_or_else(Refusal::into_response, |()| {
            let headers = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
            preflight(headers)
        })
    } else {
        match policy.check(path, request.headers()) {
            Ok(client) => {
                if let Some(client) = client {
                    client.complete(request.headers_mut());
                }
                next.run(request).await
            }
            Err(refusal) => refuse(refusal),
        }
    };
    if let Some(origin) = reads {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// Answers a browser's preflight request.
fn preflight(wanted: Option<HeaderValue>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers
        .insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(wanted) = wanted {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    }
    response
}

fn token_required() -> Refusal {
    let message = "a token is required: send it as Authorization: Bearer ..., x-api-key: ..., or as a password";
    Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
}

fn refuse(refusal: Refusal) -> Response {
    let mut response = refusal.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        for way in WAYS {
            response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(way));
        }
    }
    response
}

/// Returns whether the token is sent: as a bearer token, as a key as Anthropic's or Azure's clients send it, or as the
/// password that a browser asks its user for.
fn shows(headers: &HeaderMap, token: &Token) -> bool {
    let keys = KEY_HEADERS.iter().filter_map(|name| headers.get(*name));
    if keys.into_iter().any(|key| token.is(key.as_bytes().trim_ascii())) {
        return true;
    }
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

/// The path that a load balancer may query without a token. It only shows that the daemon is up.
const OPEN_PATH: &str = "/healthz";

/// The paths that llama-server's clients use for the same.
const PUBLIC_PATHS: [&str; 2] = ["/health", "/v1/health"];

/// The path for orders.
const ORDER_PATH: &str = "/switch";

/// Headers in which some clients send their token.
const KEY_HEADERS: [&str; 2] = ["x-api-key", "api-key"];

/// The most of a name that is repeated.
const LONGEST_NAME_SHOWN: usize = 80;

/// The ways to send a token.
const WAYS: [&str; 2] = ["Bearer", "Basic realm=\"tiershift: any name, the token as password\""];

/// Chosen: 64 bits as hexadecimal digits, which cannot be guessed over a network.
const SHORTEST_TOKEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn door(address: &str, token: Option<&str>, hosts: &[&str]) -> AccessPolicy {
        let token = token.map(|token| Token::new(token).unwrap());
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        AccessPolicy::new(Access { token, hosts, ..Access::default() }, address.parse().unwrap())
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
    fn the_token_is_taken_where_clients_of_others_show_it() {
        let open = door("0.0.0.0", Some(TOKEN), &[]);
        for name in ["x-api-key", "api-key"] {
            check(&open, "/v1/models", &[("host", "localhost"), (name, TOKEN)], None);
            check(&open, "/v1/models", &[("host", "localhost"), (name, "wrong")], Some(401));
        }
    }

    #[test]
    fn a_clients_token_gives_no_orders() {
        const ORDERS: &str = "fedcba9876543210";
        let shown = |token: &str| with(&format!("Bearer {token}")).map(|(k, v)| (k, v.to_owned()));
        let mut open = door("0.0.0.0", Some(TOKEN), &[]);
        let ask = |open: &AccessPolicy, path: &str, token: &str, want| {
            let [host, authorization] = &shown(token);
            check(open, path, &[(host.0, &host.1), (authorization.0, &authorization.1)], want);
        };
        ask(&open, "/switch", TOKEN, Some(403));
        ask(&open, "/switch", "nothing-that-is-known", Some(401));
        open.access.order_token = Some(Token::new(ORDERS).unwrap());
        ask(&open, "/switch", ORDERS, None);
        ask(&open, "/switch", TOKEN, Some(401));
        ask(&open, "/status", ORDERS, Some(401));
        // On loopback every client may give orders, unless there is a token for them.
        let mut near = door("127.0.0.1", None, &[]);
        check(&near, "/switch", &[("host", "localhost")], None);
        near.access.order_token = Some(Token::new(ORDERS).unwrap());
        check(&near, "/switch", &[("host", "localhost")], Some(401));
        check(&near, "/status", &[("host", "localhost")], None);
    }

    fn named_client(token: &str, priority: u8, deadline: Option<Duration>) -> KnownClient {
        KnownClient { token: Token::new(token).unwrap(), priority, deadline }
    }

    #[test]
    fn a_clients_own_token_stands_for_headers_that_it_does_not_send() {
        const EDITOR: &str = "editor-0123456789";
        let mut access = Access::default();
        let patience = Duration::from_secs(90);
        access.clients = vec![
            named_client(EDITOR, 200, Some(patience)),
            named_client("batch-0123456789", 0, None),
        ];
        let near = AccessPolicy::new(access.clone(), "127.0.0.1".parse().unwrap());
        let headers_of = |token: &str, own: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert("host", "localhost".parse().unwrap());
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            for (name, value) in own {
                headers.insert(*name, value.parse().unwrap());
            }
            if let Some(client) = near.check("/v1/models", &headers).unwrap() {
                client.complete(&mut headers);
            }
            [PRIORITY, DEADLINE]
                .map(|name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()))
        };
        let [editor, batch, other] =
            [EDITOR, "batch-0123456789", "nobody-0123456789"].map(|token| headers_of(token, &[]));
        assert_eq!(editor, [Some("200".to_owned()), Some("1m 30s".to_owned())]);
        assert_eq!(batch, [Some("0".to_owned()), None]);
        assert_eq!(other, [None, None]);
        let own = headers_of(EDITOR, &[("x-tiershift-priority", "3")]);
        assert_eq!(own[0].as_deref(), Some("3"));
        // From elsewhere they are what opens, and give no orders.
        let open = AccessPolicy::new(access, "0.0.0.0".parse().unwrap());
        check(&open, "/status", &with(&format!("Bearer {EDITOR}")), None);
        check(&open, "/status", &with("Bearer nobody-0123456789"), Some(401));
        check(&open, "/switch", &with(&format!("Bearer {EDITOR}")), Some(403));
        check(&near, "/switch", &[("host", "localhost")], None);
    }

    #[test]
    fn a_page_is_let_in_where_its_origin_is_allowed_and_gives_no_orders() {
        let mut near = door("127.0.0.1", None, &[]);
        let from = |origin| [("host", "localhost:8484"), ("origin", origin)];
        check(&near, "/v1/models", &from("https://app.example"), Some(403));
        near.access.origins = vec!["https://app.example".to_owned()];
        check(&near, "/v1/models", &from("https://app.example"), None);
        check(&near, "/switch", &from("https://app.example"), Some(403));
        check(&near, "/v1/models", &from("https://other.example"), Some(403));
        near.access.origins = vec!["*".to_owned()];
        check(&near, "/v1/models", &from("chrome-extension://abc"), None);
        check(&near, "/v1/models", &[("host", "evil.example"), ("origin", "null")], Some(403));
    }

    #[test]
    fn a_token_is_long_and_never_shown() {
        for weak in ["", "short", "0123456789 abcdef", "0123456789abcdé..."] {
            let refused = Token::new(weak).unwrap_err().to_string();
            assert!(weak.is_empty() || !refused.contains(weak), "{refused}");
        }
        let access = Access { token: Some(Token::new(TOKEN).unwrap()), ..Access::default() };
        assert!(!format!("{access:?}").contains(TOKEN));
    }
}
