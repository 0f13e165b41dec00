//! The available models, and the catalog made of them: a folder of files, or a server's list.

pub mod folder;
pub(crate) mod gguf;
pub(crate) mod guess;
pub mod ladder;
pub mod listing;
pub(crate) mod scan;
