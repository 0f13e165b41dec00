//! What both optima share on their way through the samples, from the last one back to the first.
//!
//! Values are kept as *lines*: the worth of the rest, plus the quality of the present rung times the present moment.
//! Then staying on a rung changes nothing, and a move costs a few additions.

use crate::study::oracle::ladder::{Kind, Ladder, Move, NEVER, Worth, worth};
use crate::study::oracle::tape::{Room, Tape};
use crate::study::oracle::times::{Times, first_in};

/// The samples after the present one, and when each stretch of room ends.
pub(super) struct Sweep<'a> {
    pub(super) ladder: &'a Ladder,
    tape: &'a Tape,
    times: &'a Times,
    /// The number of samples up to the end of the run.
    pub(super) count: usize,
    pub(super) end: u64,
    /// The present sample.
    reading: usize,
    /// The most samples that anything which begins at a sample may take.
    pub(super) ahead: usize,
    /// The moments of the present sample and of those that far ahead, each in the place of its index's lower bits: they
    /// are looked at again and again.
    near: Vec<u64>,
    /// For each rung, the moment of the next sample that does not allow it.
    banned: Vec<u64>,
    /// For each move beside, the moment of the next sample at which the two do not fit together.
    apart: Vec<u64>,
}

/// Moves to one rung that take the same time.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) to: usize,
    pub(super) up: bool,
    takes: u64,
    /// The indices of the moves.
    pub(super) moves: Vec<usize>,
    /// The earliest sample at which they were last found to be followed by another move.
    arrival: usize,
}

/// The moves of a group, begun at a sample.
#[derive(Clone, Copy)]
pub(super) struct Passage {
    now: u64,
    /// When the new rung serves.
    pub(super) done: u64,
    /// The first sample at which another move may begin; the number of samples stands for the end.
    pub(super) arrival: usize,
    /// What the line of the new rung at the arrival loses on the way back to the beginning.
    pub(super) cost: Worth,
}

/// A stretch of samples with the same room.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) first: usize,
    pub(super) behind: usize,
    /// The index of its room.
    pub(super) place: usize,
}

impl<'a> Sweep<'a> {
    /// Begins behind the last sample. Nothing that begins at a sample takes longer than `span`.
    pub(super) fn new(ladder: &'a Ladder, tape: &'a Tape, end: u64, span: u64) -> Self {
        let times = &tape.times;
        let count = times.count_up_to(end);
        let ahead = most_within(times, count, span);
        Self {
            times,
            count,
            end,
            reading: count,
            ahead,
            near: vec![0; (ahead + 2).next_power_of_two()],
            banned: vec![u64::MAX; ladder.rungs()],
            apart: vec![u64::MAX; ladder.moves.len()],
            ladder,
            tape,
        }
    }

    /// Returns the stretches with the same room, the last one first.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + use<'a> {
        let (tape, count) = (self.tape, self.count);
        let mut behind = count;
        let runs = tape.runs.iter().rev().filter(move |run| run.0 < count);
        runs.map(move |&(first, place)| {
            let run = Run { first, behind, place };
            behind = first;
            run
        })
    }

    pub(super) fn room(&self, run: Run) -> &'a Room {
        &self.tape.rooms[run.place]
    }

    /// Returns all moves in groups.
    pub(super) fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (place, way) in self.ladder.moves.iter().enumerate() {
            let (to, up, takes) = (way.to, way.goes_up(), way.takes);
            match groups
                .iter_mut()
                .find(|group| (group.to, group.up, group.takes) == (to, up, takes))
            {
                Some(group) => group.moves.push(place),
                None => {
                    groups.push(Group { to, up, takes, moves: vec![place], arrival: self.count });
                }
            }
        }
        groups
    }

    /// Returns the moves that begin a run, each in its own group.
    pub(super) fn first_loads(&self) -> Vec<Group> {
        let group = |way: &Move| Group {
            to: way.to,
            up: true,
            takes: way.takes,
            moves: Vec::new(),
            arrival: self.count,
        };
        self.ladder.first_loads.iter().map(group).collect()
    }

    /// Returns the best first load at a sample, and its index; `line` is the new rung's line at the arrival.
    pub(super) fn first_load(
        &self,
        (reading, room): (usize, &Room),
        first_loads: &mut [Group],
        line: impl Fn(usize, usize) -> Worth,
    ) -> (Worth, usize) {
        let mut best = (NEVER, 0);
        for (place, group) in first_loads.iter_mut().enumerate() {
            if room.fits_beside(0, group.to)
                && let Some(passage) = self.passage(reading, group)
            {
                best = best.max((line(passage.arrival, group.to) - passage.cost, place));
            }
        }
        best
    }

    /// Returns, for each kind of room, the moves that may begin in it, as (group, indices).
    pub(super) fn open(&self, groups: &[Group]) -> Vec<Vec<(usize, Vec<usize>)>> {
        let of_room = |room: &Room| {
            let open = |&place: &usize| self.ladder.is_open(room, &self.ladder.moves[place]);
            let moves =
                |group: &Group| group.moves.iter().copied().filter(open).collect::<Vec<_>>();
            let groups = groups.iter().map(moves).enumerate();
            groups.filter(|(_, moves)| !moves.is_empty()).collect()
        };
        self.tape.rooms.iter().map(of_room).collect()
    }

    /// Goes back to a sample, over those between.
    #[inline]
    pub(super) fn go_to(&mut self, reading: usize) {
        let mask = self.near.len() - 1;
        for place in reading..self.reading.min(reading + mask + 1) {
            self.near[place & mask] = self.times.at(place);
        }
        self.reading = reading;
    }

    /// Returns the moment of the present sample or of one not too far ahead; that of the end for the index after the
    /// last.
    #[inline]
    pub(super) fn time(&self, reading: usize) -> u64 {
        if reading < self.count { self.near[reading & (self.near.len() - 1)] } else { self.end }
    }

    /// Returns how long a sample holds.
    #[inline]
    pub(super) fn holds(&self, reading: usize) -> u64 {
        self.time(reading + 1) - self.time(reading)
    }

    /// Returns the first sample, from the present one on, at `moment` or later, starting from a `guess` that is not too
    /// early.
    #[inline]
    pub(super) fn reading_from(&self, moment: u64, guess: usize) -> usize {
        // After a skipped stretch, the guess is far behind.
        let mut place = guess.min(self.reading + self.ahead);
        // Usually it moves by a sample or two.
        for _ in 0..4 {
            if place == self.reading || self.time(place - 1) < moment {
                return place;
            }
            place -= 1;
        }
        self.search(moment, place)
    }

    /// The same for any guess.
    #[cold]
    fn search(&self, moment: u64, guess: usize) -> usize {
        first_in(self.reading..guess, |reading| self.time(reading) >= moment)
    }

    /// Returns the passage of a group's moves that begin at a sample, if they can be completed.
    #[inline]
    pub(super) fn passage(&self, reading: usize, group: &mut Group) -> Option<Passage> {
        let now = self.time(reading);
        let done = now.saturating_add(group.takes);
        if done > self.end || self.banned[group.to] < done {
            return None;
        }
        group.arrival = self.reading_from(done, group.arrival);
        let cost = worth(self.ladder.qualities[group.to], done) + self.ladder.toll;
        Some(Passage { now, done, arrival: group.arrival.max(reading + 1), cost })
    }

    /// Returns what the old rung adds to its line while a move is made.
    #[inline]
    pub(super) fn served(&self, passage: &Passage, place: usize) -> Worth {
        let way = &self.ladder.moves[place];
        let until = match way.kind {
            Kind::Beside => passage.done.min(self.apart[place]),
            Kind::Leave | Kind::After => passage.now,
        };
        worth(self.ladder.qualities[way.from], until)
    }

    /// Returns whether a rung is allowed at every sample from the present one up to, but not including, this one.
    #[inline]
    pub(super) fn stays_allowed(&self, rung: usize, before: usize) -> bool {
        self.banned[rung] >= self.time(before)
    }

    /// Notes what a stretch does not allow, for those before it.
    pub(super) fn leave(&mut self, run: Run) {
        let room = self.room(run);
        let at = self.times.at(run.first);
        for (rung, banned) in self.banned.iter_mut().enumerate() {
            if !room.allows(rung) {
                *banned = at;
            }
        }
        for (way, apart) in self.ladder.moves.iter().zip(&mut self.apart) {
            if way.from > 0 && !room.fits_beside(way.from, way.to) {
                *apart = at;
            }
        }
    }

    /// Returns the first sample of a run from which samples are as far apart as the present one and the next, and how
    /// long before the present one it is.
    pub(super) fn grid_from(&self, run: Run) -> (usize, u64) {
        let (now, apart) = (self.time(self.reading), self.holds(self.reading));
        let (mut first, mut at) = (self.reading, now);
        while first > run.first && at - self.times.at(first - 1) == apart {
            first -= 1;
            at -= apart;
        }
        (first, now - at)
    }
}

/// Returns the most samples that lie within `span` of one of them, and one more for the next.
fn most_within(times: &Times, count: usize, span: u64) -> usize {
    let (mut most, mut far) = (0, 0);
    for near in 0..count {
        let until = times.at(near).saturating_add(span);
        while far < count && times.at(far) < until {
            far += 1;
        }
        most = most.max(far - near);
    }
    most + 1
}

/// The rows of later samples, each overwritten when it is no longer needed.
pub(super) struct Rows {
    width: usize,
    mask: usize,
    cells: Vec<Worth>,
}

impl Rows {
    /// Makes room for a row and the `ahead` rows after it.
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

    /// Makes the row of a sample equal to that of the next.
    #[inline]
    pub(super) fn repeat(&mut self, reading: usize) {
        let next = ((reading + 1) & self.mask) * self.width;
        self.cells.copy_within(next..next + self.width, (reading & self.mask) * self.width);
    }

    /// Puts the rows from `from` to `from + ahead`, changed, in the place of those that begin with `to`.
    pub(super) fn shift(
        &mut self,
        (from, to): (usize, usize),
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
