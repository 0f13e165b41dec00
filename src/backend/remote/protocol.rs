//! The differences between kinds of model servers, as data: the module of each kind has one such table.

use std::collections::BTreeSet;
use std::pin::Pin;

use crate::backend::remote::client::{ServerClient, ServerError};
use crate::backend::remote::entry::Entry;

/// How to talk to a kind of server.
pub(super) struct Protocol {
    /// Its name for users.
    pub(super) name: &'static str,
    /// Finds out whether a server is of this kind. The inner error is the evidence against it.
    pub(super) recognise: fn(&ServerClient) -> Answer<'_, Result<(), ServerError>>,
    /// The path of the list of its models.
    pub(super) list: &'static str,
    /// The list of loaded models, if the list of models does not contain it.
    pub(super) loaded: Option<LoadedList>,
    /// Reads its models, in its order, from its answers at these two paths.
    pub(super) entries: fn(list: &str, loaded: &str) -> Result<Vec<Entry>, ServerError>,
    /// The tag that it adds to a name without one.
    pub(super) default_tag: Option<&'static str>,
    /// Added to the path of each completion.
    pub(super) query: &'static str,
    /// How long a model stays after a completion, in seconds, if each completion decides that.
    pub(super) keep_alive: Option<i64>,
    /// Asks for a model; it may answer only when the model is loaded. `None` if all listed models are loaded.
    pub(super) load: Option<Ask>,
    /// Asks to drop a model; a look shows whether it has gone. `None` if a model cannot be dropped.
    pub(super) unload: Option<Ask>,
    /// Asks again for a loaded model to stay, after a request of another client has limited its time. `None` if no
    /// request does that.
    pub(super) renew: Option<Ask>,
    /// Asks whether requests run on a model that an unload would cut. `None` if the server finishes them by itself, or
    /// does not report them.
    pub(super) is_busy:
        Option<for<'a> fn(client: &'a ServerClient, model: &'a str) -> Answer<'a, bool>>,
    /// Whether a load that is under way can be ended by an unload.
    pub(super) can_cancel_load: bool,
    /// Asks for the slots of a server of one model. `None` if it does not report them.
    pub(super) slots: Option<for<'a> fn(client: &'a ServerClient) -> Answer<'a, u32>>,
    /// Whether the models run in the process that answers at its address.
    pub(super) is_one_process: bool,
    /// Returns the processes in which a loaded model runs, if they can be found.
    pub(super) processes: fn(&Entry) -> BTreeSet<u32>,
}

/// The list of what is loaded.
pub(super) struct LoadedList {
    pub(super) path: &'static str,
    /// Reads this list alone.
    pub(super) entries: fn(&str) -> Result<Vec<Entry>, ServerError>,
}

/// A request about one model.
pub(super) type Ask = for<'a> fn(client: &'a ServerClient, model: &'a str) -> Answer<'a, ()>;

/// An answer on its way.
pub(super) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ServerError>> + Send + 'a>>;
