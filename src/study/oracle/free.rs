//! The best schedule of all, with the schedule itself.

use tiershift_core::catalog::Rung;
use tiershift_core::time::Timestamp;

use crate::study::oracle::ladder::{Kind, Ladder, NEVER, Worth, worth};
use crate::study::oracle::sweep::{Rows, Sweep};
use crate::study::oracle::tape::Tape;

/// Returns the worth of the best schedule, and what serves from when on in it.
pub(super) fn best(ladder: &Ladder, tape: &Tape, end: u64) -> (Worth, Vec<(Timestamp, Rung)>) {
    let mut sweep = Sweep::new(ladder, tape, end, ladder.longest());
    let (rungs, ahead) = (ladder.rungs(), sweep.ahead);
    let mut rows = Rows::new(rungs, ahead + 1);
    let mut plan = Plan { rungs, readings: Vec::new(), choices: Vec::new(), first: None };
    let mut groups = sweep.groups();
    let mut first_loads = sweep.first_loads();
    // The worth of the rest while nothing was ever loaded.
    let mut unloaded: Worth = 0;
    let open = sweep.open(&groups);
    for (rung, line) in rows.row_mut(sweep.count).iter_mut().enumerate() {
        *line = worth(ladder.qualities[rung], end);
    }
    for run in sweep.runs() {
        let room = sweep.room(run);
        let best = ladder.qualities[room.best()];
        // How much each line grows while the best rung serves, whatever was there before.
        let growth = |rung: usize, span| worth(best, span) - worth(ladder.qualities[rung], span);
        // Successive samples at which each has grown by that.
        let (mut steady, mut spacing) = (0, 0);
        let mut reading = run.behind;
        while reading > run.first {
            reading -= 1;
            sweep.go_to(reading);
            rows.repeat(reading);
            let choices = plan.add(reading);
            for (rung, line) in rows.row_mut(reading).iter_mut().enumerate() {
                if !room.allows(rung) {
                    *line = NEVER;
                }
            }
            for (group, moves) in &open[run.place] {
                let group = &mut groups[*group];
                let Some(passage) = sweep.passage(reading, group) else { continue };
                let after = rows.row(passage.arrival)[group.to] - passage.cost;
                for &place in moves {
                    let from = ladder.moves[place].from;
                    let value = after + sweep.served(&passage, place);
                    let line = &mut rows.row_mut(reading)[from];
                    if value > *line {
                        *line = value;
                        choices[from] = u16::try_from(place + 1).expect("a ladder has few moves");
                    }
                }
            }
            plan.drop_if_repeated();
            let line = |arrival, to| rows.row(arrival)[to];
            let first_load = sweep.first_load((reading, room), &mut first_loads, line);
            let mut begin = |reading: usize, value: Worth| {
                if value > unloaded {
                    unloaded = value;
                    plan.first = Some((reading, first_load.1));
                }
            };
            begin(reading, first_load.0);
            let holds = sweep.holds(reading);
            let has_grown =
                |rung| rows.row(reading)[rung] - rows.row(reading + 1)[rung] == growth(rung, holds);
            let is_steady = holds == spacing && (0..rungs).all(has_grown);
            steady = if is_steady { steady + 1 } else { 0 };
            spacing = holds;
            if steady > ahead {
                let (first, span) = sweep.grid_from(run);
                rows.shift((reading, first), ahead, |row| {
                    for (rung, line) in row.iter_mut().enumerate() {
                        *line += growth(rung, span);
                    }
                });
                begin(first, first_load.0 + growth(0, span));
                sweep.go_to(first);
                reading = first;
            }
        }
        sweep.leave(run);
    }
    (unloaded, plan.follow(ladder, tape, end))
}

/// The best move at each sample, from the last one back. A missing sample is like the next one.
struct Plan {
    rungs: usize,
    readings: Vec<usize>,
    /// For each rung at each sample: zero to stay, otherwise one more than the move's index.
    choices: Vec<u16>,
    /// The sample of the very first load, and its index among those of the ladder.
    first: Option<(usize, usize)>,
}

impl Plan {
    fn add(&mut self, reading: usize) -> &mut [u16] {
        self.readings.push(reading);
        let start = self.choices.len();
        self.choices.resize(start + self.rungs, 0);
        &mut self.choices[start..]
    }

    /// Drops the last row if it is like the one before it.
    fn drop_if_repeated(&mut self) {
        let mut rows = self.choices.rchunks_exact(self.rungs);
        if let (Some(last), Some(before)) = (rows.next(), rows.next())
            && last == before
        {
            self.readings.pop();
            self.choices.truncate(self.choices.len() - self.rungs);
        }
    }

    /// Returns what serves from when on.
    fn follow(&self, ladder: &Ladder, tape: &Tape, end: u64) -> Vec<(Timestamp, Rung)> {
        let mut serving = vec![(Timestamp::ZERO, Rung::NONE)];
        let mut serve = |at: u64, rung: usize| {
            let rung = Rung(u8::try_from(rung).expect("a catalog has at most 32 rungs"));
            let at = Timestamp::from_nanos(at);
            if serving.last().is_some_and(|last| last.0 == at) {
                serving.pop();
            }
            if serving.last().is_none_or(|last| last.1 != rung) {
                serving.push((at, rung));
            }
        };
        let Some((begin, first_load)) = self.first else { return serving };
        let way = ladder.first_loads[first_load];
        let (mut rung, mut idle_from) = (way.to, tape.times.at(begin) + way.takes);
        serve(idle_from, rung);
        let count = tape.times.count_up_to(end);
        let mut row = self.readings.len();
        let mut reading = begin + 1;
        while reading < count {
            while row > 0 && (row == self.readings.len() || self.readings[row] < reading) {
                row -= 1;
            }
            let now = tape.times.at(reading);
            let choice = usize::from(self.choices[row * self.rungs + rung]);
            if now < idle_from || choice == 0 {
                reading += 1;
                continue;
            }
            let way = ladder.moves[choice - 1];
            let done = now + way.takes;
            let until = match way.kind {
                Kind::Beside => together_until(tape, reading, way.from, way.to).min(done),
                Kind::Leave | Kind::After => now,
            };
            if until < done {
                serve(until, 0);
            }
            serve(done, way.to);
            (rung, idle_from) = (way.to, done);
            reading += 1;
        }
        serving
    }
}

/// Returns the moment of the first sample, from this one on, at which a rung cannot serve while another one loads.
fn together_until(tape: &Tape, reading: usize, from: usize, to: usize) -> u64 {
    if from == 0 {
        return u64::MAX;
    }
    let run = tape.runs.partition_point(|run| run.0 <= reading);
    let apart = |run: &&(usize, usize)| !tape.rooms[run.1].fits_beside(from, to);
    tape.runs[run..].iter().find(apart).map_or(u64::MAX, |run| tape.times.at(run.0))
}
