//! Rates whose own part is not reported: those of another server whose processes are not known, or of a GPU whose
//! driver sees other process ids than we do, as in a container.
//!
//! What our models take while they work is not others' use. While they rest, the whole rate is others'. So while they
//! work, others take no more than they took before, and no more than what is left after the latest growth that came
//! with the work. If no such growth was ever seen, the rate is not judged.

use tiershift_core::sample::{Rate, Sample};
use tiershift_core::units::Percent;

/// What is remembered of each rate from sample to sample.
#[derive(Debug, Default)]
pub(super) struct OwnRates {
    cpu: Watched,
    gpus: Vec<Watched>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    /// Whether any of it was ever reported as ours: then all reports are right.
    is_separated: bool,
    /// The reading while none of our models worked.
    at_rest: Option<Percent>,
    /// The growth that came with the work, and the last reading while one of our models worked.
    of_work: Percent,
    at_work: Option<Percent>,
}

impl OwnRates {
    /// Takes a sample, and counts in it as ours what works. `works_on` returns whether one of our models has worked
    /// since the last sample, on this GPU or anywhere.
    pub(super) fn count(&mut self, sample: &mut Sample, works_on: impl Fn(Option<usize>) -> bool) {
        sample.cpu = sample.cpu.and_then(|rate| self.cpu.count(rate, works_on(None)));
        self.gpus.resize_with(sample.gpus.len(), Watched::default);
        for (place, (gpu, watched)) in sample.gpus.iter_mut().zip(&mut self.gpus).enumerate() {
            let rate = gpu.utilization;
            gpu.utilization = rate.and_then(|rate| watched.count(rate, works_on(Some(place))));
        }
    }
}

impl Watched {
    fn count(&mut self, rate: Rate, works: bool) -> Option<Rate> {
        self.is_separated |= rate.own > Percent::ZERO;
        if self.is_separated {
            return Some(rate);
        }
        let used = rate.others;
        if !works {
            let went = self.at_work.take().map_or(Percent::ZERO, |at_work| at_work - used);
            if went > Percent::ZERO {
                self.of_work = went;
            }
            self.at_rest = Some(used);
            return Some(rate);
        }
        self.at_work = Some(used);
        let at_rest = self.at_rest?;
        self.of_work = self.of_work.max(used - at_rest);
        if self.of_work == Percent::ZERO && used > Percent::ZERO {
            return None;
        }
        let others = at_rest.min(used - self.of_work);
        Some(Rate { others, own: used - others })
    }
}

#[cfg(test)]
mod tests {
    use tiershift_core::sample::GpuSample;

    use super::*;

    /// Takes a sample of (others, own) percent of the processors and of two GPUs, and returns it corrected.
    fn counted(
        rates: &mut OwnRates,
        read: [(u32, u32); 3],
        works_on: &[Option<usize>],
    ) -> [Option<(u32, u32)>; 3] {
        let rate =
            |(others, own)| Some(Rate { others: Percent::new(others), own: Percent::new(own) });
        let gpu = |read| GpuSample { utilization: rate(read), ..GpuSample::default() };
        let gpus = vec![gpu(read[1]), gpu(read[2])];
        let mut sample = Sample { cpu: rate(read[0]), gpus, ..Sample::default() };
        rates.count(&mut sample, |place| works_on.contains(&place));
        let made = |rate: Rate| (rate.others.milli() / 1000, rate.own.milli() / 1000);
        [sample.cpu, sample.gpus[0].utilization, sample.gpus[1].utilization]
            .map(|rate| rate.map(made))
    }

    #[test]
    fn what_comes_while_ours_works_is_never_others() {
        let rates = &mut OwnRates::default();
        let works = [None, Some(0)];
        // What others take is unknown: the rate is not judged, except that of a GPU on which we have nothing.
        assert_eq!(counted(rates, [(90, 0), (70, 0), (8, 0)], &works), [None, None, Some((8, 0))]);
        // At rest, all of it is others' use.
        assert_eq!(
            counted(rates, [(20, 0), (5, 0), (8, 0)], &[]),
            [Some((20, 0)), Some((5, 0)), Some((8, 0))]
        );
        let read = [(95, 0), (99, 0), (60, 0)];
        assert_eq!(counted(rates, read, &works), [Some((20, 75)), Some((5, 94)), Some((60, 0))]);
        let cpu = |rates: &mut OwnRates, used, works: &[Option<usize>]| {
            counted(rates, [(used, 0), (0, 0), (0, 0)], works)[0]
        };
        // A later decrease of others' use does not turn our part into theirs.
        assert_eq!(cpu(rates, 80, &works), Some((5, 75)));
        assert_eq!(cpu(rates, 50, &[]), Some((50, 0)));
        // What disappeared at the end of the work is what it takes.
        assert_eq!(cpu(rates, 70, &works), Some((40, 30)));
    }

    #[test]
    fn a_step_that_nobody_has_seen_is_not_made_up() {
        let rates = &mut OwnRates::default();
        let cpu = |rates: &mut OwnRates, used, works: &[Option<usize>]| {
            counted(rates, [(used, 0), (0, 0), (0, 0)], works)[0]
        };
        assert_eq!(cpu(rates, 100, &[]), Some((100, 0)));
        assert_eq!(cpu(rates, 100, &[None]), None, "a busy machine does not show what is ours");
        assert_eq!(cpu(rates, 60, &[]), Some((60, 0)));
        assert_eq!(cpu(rates, 100, &[None]), Some((60, 40)));
        assert_eq!(cpu(rates, 0, &[None]), Some((0, 0)));
    }

    #[test]
    fn what_is_told_apart_stays_as_it_is_read() {
        let rates = &mut OwnRates::default();
        let works = [None, Some(0)];
        let read = [(30, 60), (1, 98), (0, 0)];
        let want = [Some((30, 60)), Some((1, 98)), Some((0, 0))];
        assert_eq!(counted(rates, read, &works), want);
        // A waiting model takes nothing, so all use is others'.
        assert_eq!(
            counted(rates, [(80, 0), (40, 0), (0, 0)], &works),
            [Some((80, 0)), Some((40, 0)), Some((0, 0))]
        );
    }
}
