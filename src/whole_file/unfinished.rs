//! What is being written beside its place, known to the whole process: a signal ends it without a destructor, and
//! would leave every half written file behind. The one thing here that is global, because a signal is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file or folder that is not in its place yet. Dropped when it is, or when its owner has taken it away.
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    pub(crate) fn new(path: &Path) -> Self {
        all().insert(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        all().remove(&self.0);
    }
}

/// Takes all of it away: the process ends.
#[cfg_attr(not(all(unix, feature = "live")), expect(dead_code, reason = "nothing hears signals"))]
pub(crate) fn remove_all() {
    for path in std::mem::take(&mut *all()) {
        // Nothing can be done about what does not go.
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
    }
}

fn all() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

static ALL: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
