//! The functions that a backend calls between two polls.

use std::sync::Arc;

use tiershift_core::model::ModelId;

/// Called from any thread.
#[derive(Clone)]
pub struct Callbacks {
    /// There is an outcome to poll.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// A model ended on its own or did not load; this is the last output of its process or server.
    pub exit_message: Arc<ExitMessage>,
}

/// Called with the model, and the last lines of its process or server.
pub type ExitMessage = dyn Fn(&ModelId, &str) + Send + Sync;
