//! What a recording allows, sample by sample, in bits: the whole input of an optimum.

use std::collections::BTreeMap;

use crate::study::oracle::times::Times;

/// What one sample allows. Bit `r` of a mask stands for rung `r`; rung 0, nothing, is always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Room {
    /// The rungs that fit by what the sample itself reads.
    pub(super) fitting: u64,
    /// The rungs that may serve: those, and what fitted when a space was last read that now is not.
    pub(super) allowed: u64,
    /// The rungs that may begin to load once no other model of ours is loaded.
    pub(super) loadable: u64,
    /// For each rung, those that may serve while it loads.
    pub(super) beside: Box<[u64]>,
}

impl Room {
    /// Returns whether a rung fits by what was read.
    pub(super) fn fits(&self, rung: usize) -> bool {
        self.fitting >> rung & 1 == 1
    }

    /// Returns the highest rung that fits by what was read.
    pub(super) fn best_that_fits(&self) -> usize {
        highest(self.fitting)
    }

    /// Returns whether a rung may serve.
    pub(super) fn allows(&self, rung: usize) -> bool {
        self.allowed >> rung & 1 == 1
    }

    /// Returns whether a rung may begin to load once no other model of ours is loaded.
    pub(super) fn loads(&self, rung: usize) -> bool {
        self.loadable >> rung & 1 == 1
    }

    /// Returns whether a rung may serve while another one loads.
    pub(super) fn fits_beside(&self, rung: usize, loading: usize) -> bool {
        self.beside[loading] >> rung & 1 == 1
    }

    /// Returns the highest rung that may serve.
    pub(super) fn best(&self) -> usize {
        highest(self.allowed)
    }
}

fn highest(rungs: u64) -> usize {
    rungs.checked_ilog2().unwrap_or(0) as usize
}

/// The samples in order: the moment of each, and what holds from each change to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Tape {
    pub(super) times: Times,
    /// The room from a sample on, as (sample, index in `rooms`).
    pub(super) runs: Vec<(usize, usize)>,
    /// Each kind of room that occurred, once.
    pub(super) rooms: Vec<Room>,
    places: BTreeMap<Room, usize>,
}

impl Tape {
    /// Adds a sample with the same room as the one before it.
    #[inline]
    pub(super) fn push_same(&mut self, at: u64) {
        if self.times.last().is_none_or(|last| last < at) {
            self.times.push(at);
        }
    }

    /// Adds a sample. Of two at one moment the later counts.
    pub(super) fn push(&mut self, at: u64, room: Room) {
        let next = self.rooms.len();
        let place = *self.places.entry(room).or_insert_with_key(|room| {
            self.rooms.push(room.clone());
            next
        });
        self.push_same(at);
        let reading = self.times.len() - 1;
        if self.runs.last().is_some_and(|run| run.0 == reading) {
            self.runs.pop();
        }
        if self.runs.last().is_none_or(|run| run.1 != place) {
            self.runs.push((reading, place));
        }
    }

    /// Returns from when until when each room holds, in a run that lasts until `end` [ns].
    pub(super) fn spans(&self, end: u64) -> impl Iterator<Item = (u64, u64, &Room)> {
        let begins = move |run: &(usize, usize)| self.times.at(run.0).min(end);
        let ends = self.runs.iter().skip(1).map(begins).chain([end]);
        let runs = self.runs.iter().zip(ends);
        runs.map(move |(run, until)| (begins(run), until, &self.rooms[run.1]))
    }

    /// Returns the bytes that the samples take.
    pub(super) fn bytes(&self) -> usize {
        self.times.bytes() + self.runs.capacity() * size_of::<(usize, usize)>()
    }
}
