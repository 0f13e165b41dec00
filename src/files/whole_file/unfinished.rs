//! What is being written under a temporary name, known to the whole process: a signal ends it without a destructor, and
//! would leave every half written file behind. The one thing here that is global, because a signal is.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file or folder that is not in its place yet. Dropped when it is, or when its owner has taken it away.
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    /// Creates a file or folder that is known from its first moment: a signal waits until it is.
    pub(crate) fn create<T: AsRef<Path>>(
        create: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, Self)> {
        let mut all = all();
        let created = create()?;
        all.insert(created.as_ref().to_owned());
        let path = created.as_ref().to_owned();
        Ok((created, Self(path)))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        all().remove(&self.0);
    }
}

/// Removes all of it, and lets nothing new begin: the process ends.
#[cfg_attr(not(all(unix, feature = "live")), expect(dead_code, reason = "nothing handles signals"))]
pub(crate) fn remove_all() {
    let mut all = all();
    for path in std::mem::take(&mut *all) {
        // Another thread may still write into a folder: what appears while it is emptied is removed by the next try.
        // Nothing can be done about what cannot be removed at all.
        for _ in 0..MOST_TRIES {
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
            if !path.exists() {
                break;
            }
        }
    }
    std::mem::forget(all);
}

fn all() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Chosen: a run writes five files, any of which may appear in between.
const MOST_TRIES: u32 = 10;

static ALL: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
