//! The only pool of threads: work side by side, results in order.

use rayon::ThreadPoolBuildError;
use rayon::prelude::*;

/// Works on every item, `jobs` of them side by side (0: as many as there are processors), and returns the results in
/// the items' order: the number of threads changes no result.
///
/// # Errors
/// When the system provides no threads.
pub fn map<T: Sync, R: Send>(
    jobs: u16,
    items: &[T],
    work: impl Fn(&T) -> R + Send + Sync,
) -> Result<Vec<R>, ThreadPoolBuildError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(jobs)).build()?;
    Ok(pool.install(|| items.par_iter().map(work).collect()))
}

/// As [`map`], inside the work of a [`map`] over `outside` items, on its threads. If these are enough to keep all
/// threads busy, the items are processed one after the other: a waiting thread would otherwise begin another of the
/// outer items on top of this one, and so on until its stack is full.
pub fn map_inside<T: Sync, R: Send>(
    outside: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Send + Sync,
) -> Vec<R> {
    match outside < rayon::current_num_threads() {
        true => items.par_iter().map(work).collect(),
        false => items.iter().map(work).collect(),
    }
}
