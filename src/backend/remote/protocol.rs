//! What sets one kind of model server apart from another, as data: the module of each kind has one such table.

use std::collections::BTreeSet;
use std::pin::Pin;

use crate::backend::remote::client::{ServerClient, ServerError};
use crate::backend::remote::entry::Entry;

/// How a kind of server is asked, and what it does otherwise than the others.
pub(super) struct Protocol {
    /// What people call it.
    pub(super) name: &'static str,
    /// Finds out whether a server is of this kind. The inner error is what spoke against it.
    pub(super) recognise: fn(&ServerClient) -> Answer<'_, Result<(), ServerError>>,
    /// The path of the list of its models.
    pub(super) list: &'static str,
    /// What is loaded, where the list does not say it.
    pub(super) loaded: Option<LoadedList>,
    /// Reads its models, in its order, from what it answered at these two paths.
    pub(super) entries: fn(list: &str, loaded: &str) -> Result<Vec<Entry>, ServerError>,
    /// What it adds to a name that is given without a tag.
    pub(super) default_tag: Option<&'static str>,
    /// Added to the path of each completion.
    pub(super) query: &'static str,
    /// How long a model stays after a completion, in seconds, where each completion decides that.
    pub(super) keep_alive: Option<i64>,
    /// Asks for a model; it may answer only when the model is loaded. `None` where what it lists is loaded already.
    pub(super) load: Option<Ask>,
    /// Asks to drop a model; a look says whether it has gone. `None` where a model stays whatever is asked.
    pub(super) unload: Option<Ask>,
    /// Asks again for a loaded model to stay, after somebody else's request has limited its time. `None` where no
    /// request does that.
    pub(super) renew: Option<Ask>,
    /// Asks whether requests run on a model that an unload would cut. `None` where it finishes them by itself, or does
    /// not say.
    pub(super) is_busy:
        Option<for<'a> fn(client: &'a ServerClient, model: &'a str) -> Answer<'a, bool>>,
    /// Whether a load that is under way can be ended by an unload.
    pub(super) can_cancel_load: bool,
    /// Returns the processes that a loaded model runs in, where they can be found.
    pub(super) processes: fn(&Entry) -> BTreeSet<u32>,
}

/// The list of what is loaded.
pub(super) struct LoadedList {
    pub(super) path: &'static str,
    /// Reads it alone.
    pub(super) entries: fn(&str) -> Result<Vec<Entry>, ServerError>,
}

/// Asks something about one model.
pub(super) type Ask = for<'a> fn(client: &'a ServerClient, model: &'a str) -> Answer<'a, ()>;

/// An answer on its way.
pub(super) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ServerError>> + Send + 'a>>;
