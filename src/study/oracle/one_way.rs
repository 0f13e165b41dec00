//! The best schedule without a reversal: no switch is completed sooner than the window after one in the other
//! direction. The first load of a run has no direction.
//!
//! After a switch there are two ways on: another one in the same direction, at any time, or one in the other direction,
//! which must not be complete before the window has passed. For the second, what each kind of next move is worth
//! is kept for every reading ("stay here, and make this move now or later"), and is looked up at the first reading from
//! which it is late enough.

use crate::study::oracle::ladder::{Ladder, NEVER, POSSIBLE, Worth, worth};
use crate::study::oracle::sweep::{Group, Passage, Rows, Sweep};
use crate::study::oracle::tape::Tape;

/// Returns the worth of the best schedule without a reversal.
pub(super) fn best(ladder: &Ladder, tape: &Tape, end: u64) -> Worth {
    let mut sweep = Sweep::new(ladder, tape, end);
    let columns = Columns::new(ladder);
    let longest = ladder.moves.iter().map(|way| way.takes).max().unwrap_or(0);
    let ahead = sweep.most_within(longest.saturating_add(ladder.window));
    let mut rows = Rows::new(columns.width(), ahead + 1);
    let mut last = vec![NEVER; columns.width()];
    for rung in 0..columns.rungs {
        last[columns.stay(rung)] = worth(ladder.qualities[rung], end);
    }
    columns.gather(ladder, &mut last);
    rows.row_mut(sweep.count).copy_from_slice(&last);
    let mut groups = sweep.groups();
    let open = sweep.open(&groups);
    let mut turns: Vec<Turns> =
        groups.iter().map(|group| Turns::after(group, ladder, sweep.count)).collect();
    // What is to come where nothing was ever loaded.
    let mut unloaded: Worth = 0;
    for run in sweep.runs() {
        let room = sweep.room(run);
        let banned: Vec<usize> = columns.of_rungs(ladder, |rung| !room.allows(rung));
        let is_open = |place: usize| ladder.is_open(room, &ladder.moves[place]);
        let opened: Vec<usize> = (0..columns.moves).filter(|&place| is_open(place)).collect();
        let best = ladder.qualities[room.best()];
        // How much a line grows in a time in which the best rung serves, whatever was there before.
        let growth = |rung: usize, span| worth(best, span) - worth(ladder.qualities[rung], span);
        let (mut steady, mut spacing) = (0, 0);
        let mut reading = run.behind;
        while reading > run.first {
            reading -= 1;
            rows.repeat(reading);
            for &column in &banned {
                rows.row_mut(reading)[column] = NEVER;
            }
            let mut first_load = NEVER;
            for (number, moves) in &open[run.place] {
                let group = &mut groups[*number];
                let Some(passage) = sweep.passage(reading, group) else { continue };
                let any = rows.row(passage.arrival)[columns.any(group.to)] - passage.cost;
                // Nothing that follows is worth more than what may follow without a rule: that is looked at first.
                let mut after = None;
                for &place in moves {
                    let way = &ladder.moves[place];
                    let served = sweep.served(&passage, place);
                    if way.from == 0 {
                        first_load = first_load.max(any + served);
                    }
                    if any + served <= rows.row(reading)[place] {
                        continue;
                    }
                    let after = *after.get_or_insert_with(|| {
                        turns[*number].value(&sweep, &columns, &rows, group, &passage)
                    });
                    columns.raise(
                        rows.row_mut(reading),
                        place,
                        (way.from, group.up),
                        after + served,
                    );
                }
            }
            unloaded = unloaded.max(first_load);
            let holds = sweep.holds(reading);
            let (row, next) = (rows.row(reading), rows.row(reading + 1));
            let has_grown = |column: usize, rung: usize| {
                row[column] - next[column] == growth(rung, holds)
                    || row[column].max(next[column]) < POSSIBLE
            };
            // A move that is not open here only waits: it falls behind, and is never the best again.
            let is_steady = holds == spacing
                && opened.iter().all(|&place| has_grown(place, ladder.moves[place].from))
                && (0..columns.rungs).all(|rung| has_grown(columns.any(rung), rung));
            steady = if is_steady { steady + 1 } else { 0 };
            spacing = holds;
            if steady > ahead {
                let first = sweep.grid_from(run, reading);
                let span = sweep.time(reading) - sweep.time(first);
                rows.shift((reading, first), ahead, |row| {
                    for &place in &opened {
                        row[place] += growth(ladder.moves[place].from, span);
                    }
                    columns.gather(ladder, row);
                });
                unloaded = unloaded.max(first_load + growth(0, span));
                reading = first;
            }
        }
        sweep.leave(run);
    }
    unloaded
}

/// Where a row has what: each move now or later; then, for each rung, staying to the end, and the best of what may
/// follow a downward switch, an upward one, and neither.
struct Columns {
    moves: usize,
    rungs: usize,
}

impl Columns {
    fn new(ladder: &Ladder) -> Self {
        Self { moves: ladder.moves.len(), rungs: ladder.rungs() }
    }

    fn width(&self) -> usize {
        self.moves + 4 * self.rungs
    }

    fn stay(&self, rung: usize) -> usize {
        self.moves + rung
    }

    fn same_way(&self, rung: usize, up: bool) -> usize {
        self.moves + (1 + usize::from(up)) * self.rungs + rung
    }

    fn any(&self, rung: usize) -> usize {
        self.moves + 3 * self.rungs + rung
    }

    /// Returns the columns of some rungs.
    fn of_rungs(&self, ladder: &Ladder, is_meant: impl Fn(usize) -> bool) -> Vec<usize> {
        let rung = |column: usize| match column.checked_sub(self.moves) {
            None => ladder.moves[column].from,
            Some(column) => column % self.rungs,
        };
        (0..self.width()).filter(|&column| is_meant(rung(column))).collect()
    }

    /// Fills in what follows from the moves and from staying.
    fn gather(&self, ladder: &Ladder, row: &mut [Worth]) {
        for rung in 0..self.rungs {
            let stay = row[self.stay(rung)];
            for column in [self.same_way(rung, false), self.same_way(rung, true), self.any(rung)] {
                row[column] = stay;
            }
        }
        for (place, way) in ladder.moves.iter().enumerate() {
            self.raise(row, place, (way.from, way.goes_up()), row[place]);
        }
    }

    /// Puts the value of a move, where it is more than was known, into all columns that it belongs to.
    #[inline]
    fn raise(&self, row: &mut [Worth], place: usize, (from, up): (usize, bool), value: Worth) {
        for column in [place, self.same_way(from, up), self.any(from)] {
            row[column] = row[column].max(value);
        }
    }
}

/// The moves in the other direction that may follow those of a group once the window has passed.
struct Turns(Vec<Turn>);

/// A change of direction.
struct Turn {
    /// The second move.
    place: usize,
    /// From the completion of the first one to the earliest begin of the second [ns].
    wait: u64,
    /// The reading that was found last.
    reading: usize,
}

impl Turns {
    fn after(group: &Group, ladder: &Ladder, count: usize) -> Self {
        let turns = ladder
            .moves
            .iter()
            .enumerate()
            .filter(|(_, second)| second.from == group.to && second.goes_up() != group.up);
        let turns = turns.map(|(place, second)| Turn {
            place,
            wait: ladder.window.saturating_sub(second.takes),
            reading: count,
        });
        Self(turns.collect())
    }

    /// Returns what a move of the group is worth with what may follow it, but for what the old rung serves.
    fn value(
        &mut self,
        sweep: &Sweep<'_>,
        columns: &Columns,
        rows: &Rows,
        group: &Group,
        passage: &Passage,
    ) -> Worth {
        let mut best = rows.row(passage.arrival)[columns.same_way(group.to, group.up)];
        for turn in &mut self.0 {
            let moment = passage.done.saturating_add(turn.wait);
            turn.reading = sweep.reading_from(moment, turn.reading);
            let reading = turn.reading.max(passage.arrival);
            if reading < sweep.count && sweep.stays_allowed(group.to, reading) {
                best = best.max(rows.row(reading)[turn.place]);
            }
        }
        best - passage.cost
    }
}
