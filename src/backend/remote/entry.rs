//! One model in a server's list, and its state.

use std::path::PathBuf;

use tiershift_core::model::Footprint;
use tiershift_core::units::Bytes;

/// A model as its server describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name there.
    pub name: String,
    /// Its state.
    pub presence: Presence,
    /// Bytes of its weights.
    pub size: Option<Bytes>,
    /// Tokens of context in each slot, if the server reports them.
    pub context_tokens: Option<u32>,
    /// Requests side by side, if the server reports it.
    pub slots: Option<u32>,
    /// Its file, if the server reports it.
    pub file: Option<PathBuf>,
    /// Whether it only turns texts into vectors and completes nothing: then it is not on a ladder.
    pub embeds_only: bool,
    /// The port of its own process.
    pub(super) port: Option<u16>,
    /// What it uses, by the server's own figures.
    pub(super) used: Option<Footprint>,
    /// Whether the server drops it on its own when it is idle for a while, because a client asked for that.
    pub(super) expires: bool,
}

/// The state of a model, as far as its server reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Not loaded.
    #[default]
    Absent,
    /// Not loaded, and its last process ended badly: a broken file, a crash, or an unload at a bad moment.
    Failed,
    /// Being loaded or unloaded.
    Loading,
    /// It can serve.
    Ready,
}
