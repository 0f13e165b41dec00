//! Model files for the tests, each written once.

use std::path::Path;

// Who has no model files writes them with the same code.
#[path = "../../../examples/random_models/gguf.rs"]
mod writer;

pub(crate) use writer::{MEDIUM, NANO, SMALL, Shape, TINY, write};

/// Puts a model of this shape into a folder, as a link to one that is written once.
pub(crate) fn place(folder: &Path, name: &str, shape: Shape) {
    let kept =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("random-{}.gguf", shape.width()));
    if !kept.exists() {
        let whole = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        write(whole.path(), shape).unwrap();
        whole.persist(&kept).unwrap();
    }
    std::os::unix::fs::symlink(kept, folder.join(format!("{name}.gguf"))).unwrap();
}
