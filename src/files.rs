//! Files that people write and files that we write: read with the place of each mistake, written whole or not at all.

pub mod document;
pub mod whole_file;
