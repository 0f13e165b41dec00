//! What both optima share on their way through the readings, from the last one back to the first.

use crate::study::oracle::ladder::{Kind, Ladder, Worth, worth};
use crate::study::oracle::tape::{Room, Tape};

/// The readings that lie ahead of the one that is looked at, and when each stretch of room ends.
pub(super) struct Sweep<'a> {
    pub(super) ladder: &'a Ladder,
    tape: &'a Tape,
    /// The readings up to the end of the run, and how many there are.
    times: &'a [u64],
    pub(super) count: usize,
    end: u64,
    /// For each rung, the moment of the next reading that does not allow it.
    banned: Vec<u64>,
    /// For each move beside, the moment of the next reading at which the two do not fit together.
    apart: Vec<u64>,
    /// For each move, the reading at which it is followed by another one at the earliest.
    arrivals: Vec<usize>,
}

/// A move that begins at a reading.
pub(super) struct Passage {
    /// What it is worth until the reading `arrival`, the toll paid.
    pub(super) gain: Worth,
    /// When the new rung serves.
    pub(super) done: u64,
    /// The first reading at which another move may begin; the number of readings is the end.
    pub(super) arrival: usize,
}

/// A stretch of readings with the same room.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) first: usize,
    pub(super) behind: usize,
    pub(super) room: usize,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(ladder: &'a Ladder, tape: &'a Tape, end: u64) -> Self {
        let count = tape.times.partition_point(|&at| at <= end);
        Self {
            times: &tape.times[..count],
            count,
            end,
            banned: vec![u64::MAX; ladder.rungs()],
            apart: vec![u64::MAX; ladder.moves.len()],
            arrivals: vec![count; ladder.moves.len()],
            ladder,
            tape,
        }
    }

    /// Returns the stretches with the same room, the last one first.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + use<'a> {
        let (tape, count) = (self.tape, self.count);
        let mut behind = count;
        let runs = tape.runs.iter().rev().filter(move |run| run.0 < count);
        runs.map(move |&(first, room)| {
            let run = Run { first, behind, room };
            behind = first;
            run
        })
    }

    pub(super) fn room(&self, run: Run) -> &'a Room {
        &self.tape.rooms[run.room]
    }

    /// Returns the moves that may begin in each kind of room.
    pub(super) fn open(&self) -> Vec<Vec<usize>> {
        self.tape.rooms.iter().map(|room| self.ladder.open(room)).collect()
    }

    /// Returns the moment of a reading; that of the end for the one behind the last.
    #[inline]
    pub(super) fn time(&self, reading: usize) -> u64 {
        self.times.get(reading).copied().unwrap_or(self.end)
    }

    /// Returns the time that a reading holds.
    #[inline]
    pub(super) fn holds(&self, reading: usize) -> u64 {
        self.time(reading + 1) - self.time(reading)
    }

    /// Returns the first reading at `moment` or later, as seen from an earlier `guess` of it that is not too early.
    #[inline]
    pub(super) fn reading_from(&self, moment: u64, guess: usize) -> usize {
        let mut place = guess;
        // It moves by a reading or two; behind a stretch that was passed over, by many.
        for _ in 0..4 {
            if place == 0 || self.times[place - 1] < moment {
                return place;
            }
            place -= 1;
        }
        self.times[..place].partition_point(|&at| at < moment)
    }

    /// Returns what comes of a move that begins at a reading, where it can be completed.
    #[inline]
    pub(super) fn passage(&mut self, reading: usize, place: usize) -> Option<Passage> {
        let way = &self.ladder.moves[place];
        let now = self.times[reading];
        let done = now.saturating_add(way.takes);
        if done > self.end || self.banned[way.to] < done {
            return None;
        }
        self.arrivals[place] = self.reading_from(done, self.arrivals[place]);
        let arrival = self.arrivals[place].max(reading + 1);
        let served = match way.kind {
            Kind::Beside => done.min(self.apart[place]) - now,
            Kind::Leave | Kind::After => 0,
        };
        let before = worth(self.ladder.qualities[way.from], served);
        let after = worth(self.ladder.qualities[way.to], self.time(arrival) - done);
        Some(Passage { gain: before + after - self.ladder.toll, done, arrival })
    }

    /// Returns whether a rung is allowed at every reading from the one that is looked at to this one, which is not meant.
    #[inline]
    pub(super) fn stays_allowed(&self, rung: usize, before: usize) -> bool {
        self.banned[rung] >= self.time(before)
    }

    /// Notes what a stretch does not allow, for those before it.
    pub(super) fn leave(&mut self, run: Run) {
        let room = self.room(run);
        let at = self.times[run.first];
        for (rung, banned) in self.banned.iter_mut().enumerate() {
            if !room.allows(rung) {
                *banned = at;
            }
        }
        for (way, apart) in self.ladder.moves.iter().zip(&mut self.apart) {
            let fit = way.from == 0
                || (way.kind == Kind::Beside && room.beside[way.to] >> way.from & 1 == 1);
            if !fit {
                *apart = at;
            }
        }
    }

    /// Returns the most readings that lie within `span` of one of them, and one more for what lies behind.
    pub(super) fn most_within(&self, span: u64) -> usize {
        let (mut most, mut far) = (0, 0);
        for (near, &at) in self.times.iter().enumerate() {
            while far < self.count && self.times[far] < at.saturating_add(span) {
                far += 1;
            }
            most = most.max(far - near);
        }
        most + 1
    }

    /// Returns the first reading of a run from which on readings are as far apart as the two at `reading`.
    pub(super) fn grid_from(&self, run: Run, reading: usize) -> usize {
        let apart = self.holds(reading);
        let mut first = reading;
        while first > run.first && self.holds(first - 1) == apart {
            first -= 1;
        }
        first
    }
}

/// The rows of the readings ahead, each written over the one that nobody looks at any more.
pub(super) struct Rows {
    width: usize,
    mask: usize,
    cells: Vec<Worth>,
}

impl Rows {
    /// Makes room for a row and the `ahead` rows behind it.
    pub(super) fn new(width: usize, ahead: usize) -> Self {
        let count = (ahead + 1).next_power_of_two();
        Self { width, mask: count - 1, cells: vec![0; count * width] }
    }

    #[inline]
    pub(super) fn row(&self, reading: usize) -> &[Worth] {
        let start = (reading & self.mask) * self.width;
        &self.cells[start..start + self.width]
    }

    #[inline]
    pub(super) fn row_mut(&mut self, reading: usize) -> &mut [Worth] {
        let start = (reading & self.mask) * self.width;
        &mut self.cells[start..start + self.width]
    }

    /// Puts rows `from ..= from + ahead` in the place of those that begin with `to`.
    pub(super) fn shift(
        &mut self,
        from: usize,
        to: usize,
        ahead: usize,
        mut change: impl FnMut(&mut [Worth]),
    ) {
        let rows: Vec<Vec<Worth>> =
            (0..=ahead).map(|step| self.row(from + step).to_vec()).collect();
        for (step, mut row) in rows.into_iter().enumerate() {
            change(&mut row);
            self.row_mut(to + step).copy_from_slice(&row);
        }
    }
}
