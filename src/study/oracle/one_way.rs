//! The best schedule without a reversal: no switch is completed sooner than the window after one in the other
//! direction. The first load of a run has no direction.
//!
//! After a switch there are two ways on: another one in the same direction, at any time, or one in the other direction,
//! which must not be complete before the window has passed. For the second, what each kind of next move is worth
//! is kept for every reading ("stay here, and make this move now or later"), and is looked up at the first reading from
//! which it is late enough.

use crate::study::oracle::ladder::{Ladder, NEVER, POSSIBLE, Worth, worth};
use crate::study::oracle::sweep::{Passage, Rows, Sweep};
use crate::study::oracle::tape::Tape;

/// Returns the worth of the best schedule without a reversal.
pub(super) fn best(ladder: &Ladder, tape: &Tape, end: u64) -> Worth {
    let mut sweep = Sweep::new(ladder, tape, end);
    let columns = Columns::new(ladder);
    let mut turns = Turns::new(ladder, sweep.count);
    let longest = ladder.moves.iter().map(|way| way.takes).max().unwrap_or(0);
    let ahead = sweep.most_within(longest.saturating_add(ladder.window));
    let mut rows = Rows::new(columns.width(), ahead + 1);
    let mut values = vec![NEVER; columns.width()];
    values[columns.moves..].fill(0);
    rows.row_mut(sweep.count).copy_from_slice(&values);
    let open = sweep.open();
    // What is to come where nothing was ever loaded.
    let mut unloaded: Worth = 0;
    for run in sweep.runs() {
        let room = sweep.room(run);
        let ways = &open[run.room];
        let mut is_open = vec![false; columns.moves];
        ways.iter().for_each(|&place| is_open[place] = true);
        let best = ladder.qualities[room.best()];
        let (mut steady, mut spacing) = (0, 0);
        let mut reading = run.behind;
        while reading > run.first {
            reading -= 1;
            let holds = sweep.holds(reading);
            let next = rows.row(reading + 1);
            for (place, way) in ladder.moves.iter().enumerate() {
                let held = next[place] + worth(ladder.qualities[way.from], holds);
                values[place] = if room.allows(way.from) { held } else { NEVER };
            }
            for rung in 0..columns.rungs {
                let held = next[columns.stay(rung)] + worth(ladder.qualities[rung], holds);
                values[columns.stay(rung)] = if room.allows(rung) { held } else { NEVER };
            }
            let mut first_load = NEVER;
            for &place in ways {
                let Some(passage) = sweep.passage(reading, place) else { continue };
                let way = ladder.moves[place];
                let value = passage.gain + turns.value(&sweep, &columns, &rows, place, &passage);
                values[place] = values[place].max(value);
                if way.from == 0 {
                    let any = rows.row(passage.arrival)[columns.any(way.to)];
                    first_load = first_load.max(passage.gain + any);
                }
            }
            unloaded = unloaded.max(first_load);
            columns.gather(ladder, &mut values);
            let grown = worth(best, holds);
            let next = rows.row(reading + 1);
            let has_grown = |place: usize| {
                values[place] - next[place] == grown || values[place].max(next[place]) < POSSIBLE
            };
            // A move that is not open here only waits: it falls behind, and is never the best again.
            let is_steady = holds == spacing
                && (0..columns.moves).all(|place| !is_open[place] || has_grown(place))
                && (0..columns.rungs).all(|rung| has_grown(columns.any(rung)));
            steady = if is_steady { steady + 1 } else { 0 };
            spacing = holds;
            rows.row_mut(reading).copy_from_slice(&values);
            if steady > ahead {
                let first = sweep.grid_from(run, reading);
                let span = sweep.time(reading) - sweep.time(first);
                let grown = worth(best, span);
                rows.shift(reading, first, ahead, |row| {
                    for (place, way) in ladder.moves.iter().enumerate() {
                        let waits = worth(ladder.qualities[way.from], span);
                        row[place] += if is_open[place] { grown } else { waits };
                    }
                    for rung in 0..columns.rungs {
                        row[columns.stay(rung)] += worth(ladder.qualities[rung], span);
                    }
                    columns.gather(ladder, row);
                });
                unloaded = unloaded.max(first_load + grown);
                reading = first;
            }
        }
        sweep.leave(run);
    }
    unloaded
}

/// Where a row has what: each move now or later; then, for each rung, staying to the end, and the best of what may
/// follow an upward switch, a downward one, and neither.
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

    /// Fills in what follows from the moves and from staying.
    fn gather(&self, ladder: &Ladder, row: &mut [Worth]) {
        for rung in 0..self.rungs {
            let stay = row[self.stay(rung)];
            row[self.same_way(rung, false)] = stay;
            row[self.same_way(rung, true)] = stay;
        }
        for (place, way) in ladder.moves.iter().enumerate() {
            let column = self.same_way(way.from, way.goes_up());
            row[column] = row[column].max(row[place]);
        }
        for rung in 0..self.rungs {
            row[self.any(rung)] =
                row[self.same_way(rung, false)].max(row[self.same_way(rung, true)]);
        }
    }
}

/// For each move, the moves in the other direction that may follow it once the window has passed.
struct Turns {
    of: Vec<Vec<Turn>>,
}

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
    fn new(ladder: &Ladder, count: usize) -> Self {
        let of = ladder.moves.iter().map(|first| {
            let turns = ladder.moves.iter().enumerate().filter(|(_, second)| {
                second.from == first.to && second.goes_up() != first.goes_up()
            });
            let turn = |(place, second): (usize, &super::ladder::Move)| Turn {
                place,
                wait: ladder.window.saturating_sub(second.takes),
                reading: count,
            };
            turns.map(turn).collect()
        });
        Self { of: of.collect() }
    }

    /// Returns what may follow a move.
    fn value(
        &mut self,
        sweep: &Sweep<'_>,
        columns: &Columns,
        rows: &Rows,
        place: usize,
        passage: &Passage,
    ) -> Worth {
        let way = sweep.ladder.moves[place];
        let arrival = passage.arrival;
        let mut best = rows.row(arrival)[columns.same_way(way.to, way.goes_up())];
        for turn in &mut self.of[place] {
            turn.reading = sweep.reading_from(passage.done.saturating_add(turn.wait), turn.reading);
            let reading = turn.reading.max(arrival);
            if reading < sweep.count && sweep.stays_allowed(way.to, reading) {
                let stays = sweep.time(reading) - sweep.time(arrival);
                let stays = worth(sweep.ladder.qualities[way.to], stays);
                best = best.max(stays + rows.row(reading)[turn.place]);
            }
        }
        best
    }
}
