//! Real model servers, behind the core's [`Backend`](tiershift_core::backend::Backend): processes of our own, or a
//! server that is already running; or nothing, for a dry run.

pub mod callbacks;
pub mod dry_run;
pub mod endpoint;
pub(crate) mod http;
mod key;
pub mod live;
pub mod llama_server;
pub(crate) mod one_token;
pub mod remote;
pub(crate) mod stream_usage;

use std::time::Duration;

/// Chosen: beyond the longest release that was seen anywhere, 1.5 s for video memory.
pub(crate) const LONGEST_LAG: Duration = Duration::from_secs(2);
