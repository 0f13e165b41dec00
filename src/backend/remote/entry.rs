//! One model in a server's list, and where it is in its life.

use std::path::PathBuf;

use tiershift_core::model::Footprint;
use tiershift_core::units::Bytes;

/// A model as its server describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What it is called there.
    pub name: String,
    /// Where it is in its life.
    pub presence: Presence,
    /// Bytes of its weights.
    pub size: Option<Bytes>,
    /// Its file, where the server reports it.
    pub file: Option<PathBuf>,
    /// Whether it turns texts into vectors and completes nothing: then it stands on no ladder.
    pub embeds_only: bool,
    /// The port of its own process.
    pub(super) port: Option<u16>,
    /// What it uses, by the server's own figures.
    pub(super) used: Option<Footprint>,
    /// Whether the server drops it by itself when it is idle for a while, because somebody asked for that.
    pub(super) expires: bool,
}

/// Where a model is in its life, as far as its server reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Not loaded.
    #[default]
    Absent,
    /// Not loaded, and its last process ended badly: a broken file, a crash, or an unload at a bad moment.
    Failed,
    /// On its way in or out.
    Loading,
    /// It can serve.
    Ready,
}
