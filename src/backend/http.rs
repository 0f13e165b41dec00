//! The HTTP client for model servers.

use std::time::Duration;

/// Returns the client for model servers on this machine.
///
/// # Errors
/// When the system has no resources for one.
pub(crate) fn http_client() -> reqwest::Result<reqwest::Client> {
    builder().read_timeout(SILENCE).build()
}

/// Returns the client that forwards requests. How long a reply may take is decided by the manager: a whole reply of a
/// slow model takes longer than any silence that would be an error elsewhere.
///
/// # Errors
/// As above.
pub(crate) fn relay_client() -> reqwest::Result<reqwest::Client> {
    builder().build()
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        // The models' ports are on this machine, whatever proxies the environment names.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        // A connection is used once: llama-server closes some after a stream, and a request that is sent into one then
        // fails (measured 2026-11-24: 1 of 24 at eight at once). A new one on loopback takes a tenth of a millisecond.
        .pool_max_idle_per_host(0)
}

/// Chosen: a server on this machine accepts at once, or is stuck.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Chosen: a load on a slow machine may take minutes without a byte.
const SILENCE: Duration = Duration::from_secs(600);
