//! What a backend calls between two polls.

use std::sync::Arc;

use tiershift_core::model::ModelId;

/// Called from any thread.
#[derive(Clone)]
pub struct Callbacks {
    /// There is an outcome to poll.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// A model ended unasked or did not load; this is what its process or its server said last.
    pub exit_message: Arc<ExitMessage>,
}

/// Called with the model, and the last lines that its process or its server wrote.
pub type ExitMessage = dyn Fn(&ModelId, &str) + Send + Sync;
