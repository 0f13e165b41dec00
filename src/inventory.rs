//! Which models there are, and the catalog made of them: a folder of files, or what a server lists.

pub mod folder;
pub(crate) mod gguf;
pub(crate) mod guess;
pub mod ladder;
pub mod listing;
pub(crate) mod scan;
