//! The wall clock of a trace, from its own times and from what the user states.

use std::time::Duration;

use tiershift_core::time::Timestamp;

use crate::trace::import::clock::{Lacks, YEAR_1980};
use crate::trace::import::mapping::Time;
use crate::trace::import::record::Records;
use crate::wall::{WallClock, WallTime};

/// Sets the marks of a trace's wall clock.
#[derive(Clone, Debug)]
pub(super) struct Dates {
    source: DatesFrom,
    /// The beginning of the file as the user, or the mapping, states it.
    told: Option<WallTime>,
    /// The time of the first row on the file's own scale.
    first: Option<i64>,
    /// The row's time from which on the preamble states something else; the last of all times if it does not.
    pub(super) next: i64,
    /// A note for the user.
    note: Option<String>,
}

/// The source of dates.
#[derive(Clone, Debug)]
enum DatesFrom {
    /// None, unless the user states it.
    Nobody,
    /// The times of a public format.
    Times,
    /// The `#` lines of a native trace; its times count from the beginning.
    Preamble(WallClock),
}

impl Dates {
    /// For a public format.
    pub(super) fn of_times(time: &Time) -> Self {
        let source = if time.wall_clock { DatesFrom::Times } else { DatesFrom::Nobody };
        Self::new(source, time.starts_at)
    }

    /// For a native trace.
    pub(super) fn of_preamble(clock: WallClock, told: Option<WallTime>) -> Self {
        Self::new(DatesFrom::Preamble(clock), told)
    }

    fn new(source: DatesFrom, told: Option<WallTime>) -> Self {
        Self { source, told, first: None, next: i64::MAX, note: None }
    }

    /// Marks what the clock shows at a row: the first one, or one before which time did not proceed as usual. `at` is
    /// the row's time on the file's own scale.
    pub(super) fn mark(
        &mut self,
        clock: &mut WallClock,
        moment: Timestamp,
        at: i64,
        records: Option<&Records>,
    ) {
        let is_first = self.first.is_none();
        let first = *self.first.get_or_insert(at);
        let shown = match &self.source {
            DatesFrom::Nobody => None,
            DatesFrom::Times => records.and_then(|records| self.read(at, records)),
            DatesFrom::Preamble(clock) => {
                let row = Timestamp::from_nanos(u64::try_from(at).unwrap_or_default());
                let next = clock.marks().iter().find(|mark| mark.at > row);
                let next = next.and_then(|mark| i64::try_from(mark.at.as_nanos()).ok());
                self.next = next.unwrap_or(i64::MAX);
                clock.at(row)
            }
        };
        let lacks = records.and_then(Records::lacks);
        if let Some(told) = self.told {
            if is_first {
                self.compare(told, shown, lacks);
            }
            // A time without a date was already completed.
            if lacks.is_none() || shown.is_none() {
                let since = Duration::from_nanos(u64::try_from(at - first).unwrap_or_default());
                clock.set(moment, told.after(since));
                return;
            }
        } else if is_first && let Some(lacks) = lacks {
            self.note = Some(match lacks {
                Lacks::Date => "the times in this file have no date, so dates are not reported: give the first day with \
                                `--starts-at 2026-01-31`"
                    .to_owned(),
                Lacks::Year => "the dates in this file have no year, so dates are not reported: give the first day with \
                                `--starts-at 2026-01-31`"
                    .to_owned(),
            });
        }
        if let Some(shown) = shown {
            clock.set(moment, shown);
        }
    }

    /// Returns the date of a row, as far as its time and the user state it.
    fn read(&self, at: i64, records: &Records) -> Option<WallTime> {
        match records.lacks() {
            None if at < YEAR_1980 => None,
            None => WallTime::from_nanos(i128::from(at), records.offset()),
            // The records know the year.
            Some(Lacks::Year) => {
                let shown = WallTime::from_nanos(i128::from(at), None)?;
                Some(WallTime::new(shown.civil(), self.told?.offset()))
            }
            Some(Lacks::Date) => {
                let told = self.told?;
                let midnight = told.civil().date().to_datetime(jiff::civil::Time::midnight());
                let since = Duration::from_nanos(u64::try_from(at).ok()?);
                Some(WallTime::new(midnight, told.offset()).after(since))
            }
        }
    }

    /// Notes if the file states another beginning than the user.
    fn compare(&mut self, told: WallTime, shown: Option<WallTime>, lacks: Option<Lacks>) {
        let Some(shown) = shown else { return };
        if told.since(shown).unsigned_abs() <= SAME {
            return;
        }
        let is_date_only = told.civil().time() == jiff::civil::Time::midnight();
        let (told_text, shown_text) = (told.described(), shown.described());
        self.note = match lacks {
            None => Some(format!(
                "the first row is of {shown_text} by the file itself; the beginning that was given, {told_text}, is taken"
            )),
            Some(_) if is_date_only && told.civil().date() == shown.civil().date() => None,
            Some(_) => Some(format!(
                "the beginning that was given is {told_text}, and the first row is of {shown_text}: the row's own time is taken"
            )),
        };
    }

    /// Returns the note for the user, once.
    pub(super) fn take_note(&mut self) -> Option<String> {
        self.note.take()
    }
}

/// Two times that are no further apart count as equal. Chosen: a user gives the minute.
const SAME: Duration = Duration::from_secs(60);
