//! From nothing loaded to something: no model is loaded until then, so other waits apply than between rungs.

use std::time::Duration;

use crate::catalog::{Catalog, Rung};
use crate::settings::Settings;
use crate::time::Timestamp;

/// Decides how long a rung must fit before it is loaded while nothing is, and which rung goes first.
#[derive(Clone, Debug)]
pub(crate) struct Rescue {
    /// By rung: how long it takes to load, and how long it must serve to have been worth the load.
    loads: Vec<Duration>,
    break_evens: Vec<Duration>,
    /// The longest wait.
    longest: Duration,
    /// Rescues in a row that were lost before they had served for their break-even time.
    lost: u32,
    /// When the last of them was.
    lost_at: Timestamp,
    /// The rung that the last rescue loaded, and when, while something is still loaded.
    rescued: Option<(Rung, Timestamp)>,
}

impl Rescue {
    pub(crate) fn new(settings: &Settings, catalog: &Catalog) -> Self {
        let longest = settings.stabilization.longest();
        let models = || catalog.rungs_up().filter_map(|rung| catalog.primary(rung));
        let break_even = |quality: f64| break_even(settings, quality).min(longest);
        let none = std::iter::once(Duration::ZERO);
        Self {
            loads: none.clone().chain(models().map(|model| model.load_cold)).collect(),
            break_evens: none
                .chain(models().map(|model| break_even(model.quality.fraction())))
                .collect(),
            longest,
            lost: 0,
            lost_at: Timestamp::ZERO,
            rescued: None,
        }
    }

    /// Takes over the earlier losses.
    pub(crate) fn learn_from(&mut self, before: &Self) {
        (self.lost, self.lost_at, self.rescued) = (before.lost, before.lost_at, before.rescued);
    }

    /// Notes that a switch from nothing has brought `rung`.
    pub(crate) fn begin(&mut self, now: Timestamp, rung: Rung) {
        self.rescued = Some((rung, now));
    }

    /// Notes that nothing is loaded any more.
    pub(crate) fn end(&mut self, now: Timestamp) {
        if let Some((rung, since)) = self.rescued.take() {
            let was_worth_it = now.since(since) >= self.break_evens[usize::from(rung.0)];
            if was_worth_it {
                self.lost = 0;
            } else {
                self.lose(now);
            }
        }
    }

    /// Notes that a switch from nothing did not reach its goal.
    pub(crate) fn lose(&mut self, now: Timestamp) {
        self.lost += 1;
        self.lost_at = now;
    }

    /// Returns when the last one was lost, if it was.
    pub(crate) fn lost_at(&self) -> Option<Timestamp> {
        (self.lost > 0).then_some(self.lost_at)
    }

    /// Returns how long a rung must have fitted: about as long as it takes to load, and twice as long for each rescue
    /// in a row that was lost too soon.
    pub(crate) fn wait(&self, rung: Rung) -> Duration {
        let load = self.loads[usize::from(rung.0)].clamp(SHORTEST_WAIT, LONGEST_FIRST_WAIT);
        load.saturating_mul(1 << self.lost.min(MOST_DOUBLINGS)).min(self.longest.max(load))
    }

    /// Returns whether a rung is ready so soon that the smaller one, which would be ready first, is not worth its load.
    pub(crate) fn is_ready_with(&self, rung: Rung, smaller: Rung) -> bool {
        let [load, first] = [rung, smaller].map(|rung| self.loads[usize::from(rung.0)]);
        load <= first + READY_TOGETHER
    }
}

/// Returns how long a change that raises quality by `gain`, a share of one, must last to earn the price of the change
/// and of its reversal.
///
/// # Source
/// Ski rental: waiting for as long as the change would have to last never costs more than twice the best (Albers, CACM
/// 53(5), 2010).
pub(crate) fn break_even(settings: &Settings, gain: f64) -> Duration {
    crate::time::from_secs_f64(2.0 * settings.price.as_secs_f64() / gain.max(f64::EPSILON))
}

/// Bounds of the wait before anything was lost: at least two samples by default, and what users take for a hiccup.
const SHORTEST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_FIRST_WAIT: Duration = Duration::from_secs(15);

/// A larger model that is ready at most this much later is loaded instead of the smaller one: a second load costs as
/// much.
const READY_TOGETHER: Duration = Duration::from_secs(15);

/// Keeps the shift in range; from five seconds to five minutes there are six doublings.
const MOST_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MachineClass;
    use crate::settings::RawSettings;
    use crate::units::Bytes;

    #[test]
    fn each_rescue_that_is_lost_too_soon_doubles_the_wait_and_one_that_lasts_forgives() {
        let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
        let mut rescue = Rescue::new(&settings, &Catalog::relative_to(Bytes::from_gib(16)));
        let small = Rung(1);
        let mut now = Timestamp::ZERO;
        let mut wait_after = |seconds: u64| {
            rescue.begin(now, small);
            now += Duration::from_secs(seconds);
            rescue.end(now);
            rescue.wait(small).as_secs()
        };
        let waits: Vec<u64> = (0..7).map(|_| wait_after(10)).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        // 2 x 60 s for half of the best quality: 240 s.
        assert_eq!(wait_after(239), 300);
        assert_eq!(wait_after(240), 5);
    }

    #[test]
    fn a_larger_model_goes_first_only_where_it_is_ready_nearly_as_soon() {
        let settings = Settings::new(RawSettings::default(), MachineClass::MidRange).unwrap();
        let large_first = |gib| {
            let catalog = Catalog::relative_to(Bytes::from_gib(gib));
            Rescue::new(&settings, &catalog).is_ready_with(Rung(3), Rung(1))
        };
        assert!(large_first(32));
        assert!(!large_first(64));
    }
}
