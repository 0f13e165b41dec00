//! Files that users write and files that we write: read with the position of each mistake, written completely or not at
//! all.

pub(crate) mod built_in;
pub mod catalog;
pub mod document;
pub mod model_table;
pub(crate) mod packed;
pub mod policy;
pub mod progress;
pub(crate) mod schema;
pub mod whole_file;
