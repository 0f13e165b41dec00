//! The best schedule without a reversal: no switch is completed sooner than the window after one in the other
//! direction. The first load of a run has no direction.
//!
//! After a switch there are two ways on: another one in the same direction, at any time, or one in the other direction,
//! which must not be complete before the window has passed. For the second, the worth of each kind of next move is kept
//! for every sample ("stay here, and make this move now or later"), and is looked up at the first sample from which it
//! is late enough.

use crate::study::oracle::ladder::{Ladder, NEVER, POSSIBLE, Worth, worth};
use crate::study::oracle::sweep::{Group, Passage, Rows, Sweep};
use crate::study::oracle::tape::Tape;

/// Returns the worth of the best schedule without a reversal.
pub(super) fn best(ladder: &Ladder, tape: &Tape, end: u64) -> Worth {
    let span = ladder.longest().saturating_add(ladder.window);
    let mut sweep = Sweep::new(ladder, tape, end, span);
    let (columns, ahead) = (Columns::new(ladder), sweep.ahead);
    let mut rows = Rows::new(columns.width(), ahead + 1);
    let mut last = vec![NEVER; columns.width()];
    last[columns.changes(0, false)..].fill(0);
    for rung in 0..columns.rungs {
        last[columns.stay(rung)] = worth(ladder.qualities[rung], end);
    }
    columns.gather(ladder, &mut last);
    rows.row_mut(sweep.count).copy_from_slice(&last);
    let mut groups = sweep.groups();
    let mut first_loads = sweep.first_loads();
    let open = sweep.open(&groups);
    let mut turns: Vec<Turns> =
        groups.iter().map(|group| Turns::after(group, ladder, sweep.count)).collect();
    // The worth of the rest while nothing was ever loaded.
    let mut unloaded: Worth = 0;
    for run in sweep.runs() {
        let room = sweep.room(run);
        let banned: Vec<usize> = columns.of_rungs(ladder, |rung| !room.allows(rung));
        let is_open = |place: usize| ladder.is_open(room, &ladder.moves[place]);
        let opened: Vec<usize> = (0..columns.moves).filter(|&place| is_open(place)).collect();
        let best = ladder.qualities[room.best()];
        // How much a line grows while the best rung serves, whatever was there before.
        let growth = |rung: usize, span| worth(best, span) - worth(ladder.qualities[rung], span);
        let mut grown: Vec<Worth> = vec![0; columns.rungs];
        let (mut steady, mut spacing) = (0, 0);
        let mut reading = run.behind;
        while reading > run.first {
            reading -= 1;
            sweep.go_to(reading);
            rows.repeat(reading);
            for &column in &banned {
                rows.row_mut(reading)[column] = NEVER;
            }
            let line = |arrival, to| rows.row(arrival)[columns.any(to)];
            let (first_load, _) = sweep.first_load((reading, room), &mut first_loads, line);
            for (number, moves) in &open[run.place] {
                let group = &mut groups[*number];
                let Some(passage) = sweep.passage(reading, group) else { continue };
                let any = rows.row(passage.arrival)[columns.any(group.to)] - passage.cost;
                // Nothing that follows is worth more than what may follow without the rule: that is checked first.
                let mut after = None;
                for &place in moves {
                    let way = &ladder.moves[place];
                    let served = sweep.served(&passage, place);
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
            if holds != spacing {
                grown.iter_mut().enumerate().for_each(|(rung, grown)| *grown = growth(rung, holds));
            }
            let (row, next) = (rows.row(reading), rows.row(reading + 1));
            let has_grown = |column: usize, rung: usize| {
                row[column] - next[column] == grown[rung]
                    || row[column].max(next[column]) < POSSIBLE
            };
            // A move that is not open here only waits: it falls behind, and is never the best again.
            let is_steady = holds == spacing
                && opened.iter().all(|&place| has_grown(place, ladder.moves[place].from))
                && (0..columns.rungs).all(|rung| has_grown(columns.any(rung), rung));
            steady = if is_steady { steady + 1 } else { 0 };
            spacing = holds;
            if steady > ahead {
                let (first, span) = sweep.grid_from(run);
                rows.shift((reading, first), ahead, |row| {
                    for &place in &opened {
                        row[place] += growth(ladder.moves[place].from, span);
                    }
                    columns.gather(ladder, row);
                });
                unloaded = unloaded.max(first_load + growth(0, span));
                sweep.go_to(first);
                reading = first;
            }
        }
        sweep.leave(run);
    }
    unloaded
}

/// The layout of a row: each move now or later; then, for each rung, staying to the end, and the best of what may
/// follow a downward switch, an upward one, and neither, and how often a move down or up became worth more.
struct Columns {
    moves: usize,
    rungs: usize,
}

impl Columns {
    fn new(ladder: &Ladder) -> Self {
        Self { moves: ladder.moves.len(), rungs: ladder.rungs() }
    }

    fn width(&self) -> usize {
        self.moves + 6 * self.rungs
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

    fn changes(&self, rung: usize, up: bool) -> usize {
        self.moves + (4 + usize::from(up)) * self.rungs + rung
    }

    /// Returns the columns of the chosen rungs that contain a worth.
    fn of_rungs(&self, ladder: &Ladder, is_meant: impl Fn(usize) -> bool) -> Vec<usize> {
        let rung = |column: usize| match column.checked_sub(self.moves) {
            None => ladder.moves[column].from,
            Some(column) => column % self.rungs,
        };
        (0..self.changes(0, false)).filter(|&column| is_meant(rung(column))).collect()
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

    /// Enters the value of a move, if it is higher than the known one, into all columns that it belongs to.
    #[inline]
    fn raise(&self, row: &mut [Worth], place: usize, (from, up): (usize, bool), value: Worth) {
        row[self.changes(from, up)] += Worth::from(value > row[place]);
        for column in [place, self.same_way(from, up), self.any(from)] {
            row[column] = row[column].max(value);
        }
    }
}

/// The moves in the other direction that may follow those of a group once the window has passed.
struct Turns {
    each: Vec<Turn>,
    /// The one that may begin first, and the one that may begin last.
    ends: [Turn; 2],
}

/// A change of direction.
#[derive(Clone, Copy, Default)]
struct Turn {
    /// The second move.
    place: usize,
    /// From the completion of the first one to the earliest beginning of the second [ns].
    wait: u64,
    /// The sample that was last found.
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
        let each: Vec<Turn> = turns.collect();
        let first = each.iter().copied().min_by_key(|turn| turn.wait);
        let last = each.iter().copied().max_by_key(|turn| turn.wait);
        Self { each, ends: [first, last].map(Option::unwrap_or_default) }
    }

    /// Returns the worth of a move of the group with what may follow it, without what the old rung serves.
    fn value(
        &mut self,
        sweep: &Sweep<'_>,
        columns: &Columns,
        rows: &Rows,
        group: &Group,
        passage: &Passage,
    ) -> Worth {
        let mut best = rows.row(passage.arrival)[columns.same_way(group.to, group.up)];
        if self.each.is_empty() {
            return best - passage.cost;
        }
        // Usually none of them became worth more between the samples that count for the first and the last: one look is
        // enough.
        let [first, last] = &mut self.ends;
        let [first, last] = [first, last].map(|turn| turn.look(sweep, passage));
        if last < sweep.count && sweep.stays_allowed(group.to, last) {
            let (first, last) = (rows.row(first), rows.row(last));
            let changes = columns.changes(group.to, !group.up);
            if first[changes] == last[changes] {
                return best.max(last[columns.same_way(group.to, !group.up)]) - passage.cost;
            }
        }
        for turn in &mut self.each {
            let reading = turn.look(sweep, passage);
            if reading < sweep.count && sweep.stays_allowed(group.to, reading) {
                best = best.max(rows.row(reading)[turn.place]);
            }
        }
        best - passage.cost
    }
}

impl Turn {
    /// Returns the first sample at which it may begin after a move.
    #[inline]
    fn look(&mut self, sweep: &Sweep<'_>, passage: &Passage) -> usize {
        let moment = passage.done.saturating_add(self.wait);
        self.reading = sweep.reading_from(moment, self.reading);
        self.reading.max(passage.arrival)
    }
}
