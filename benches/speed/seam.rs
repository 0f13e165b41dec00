//! The cost of the open interface: the same policy behind `Box<dyn Policy>`, as a controller holds it, and in a closed enum, as
//! before. It does as little as a policy can, so that only the call is measured.

use std::hint::black_box;

use tiershift_core::catalog::Rung;
use tiershift_core::decision::{Decision, Reason};
use tiershift_core::policy::{Observation, Policy, Standing};
use tiershift_core::sample::Sample;
use tiershift_core::time::Timestamp;

use crate::inputs::Day;
use crate::table::{Row, Table, duel_alone};

pub(crate) fn measure(table: &mut Table) {
    let day = Day::new(false);
    let mut open: Box<dyn Policy> = black_box(Box::new(Stay { seen: 0 }));
    let mut closed = black_box(Closed::Stay(Stay { seen: 0 }));
    let (ours, peer) = duel_alone(
        ROUNDS,
        || decide(&day, |now, seen| open.observe(now, seen)),
        || decide(&day, |now, seen| closed.observe(now, seen)),
    );
    let each = |took: std::time::Duration| took.as_secs_f64() * 1e9 / SAMPLES as f64;
    table.push(Row {
        what: "a reading drawn and given to a policy that stays, through the trait".to_owned(),
        figure: format!("{:.1} ns each", each(ours)),
        limit: "no slower than the enum",
        peer: format!("through a closed enum ({:.1} ns each)", each(peer)),
        ratio: ours.as_secs_f64() / peer.as_secs_f64(),
    });
}

fn decide(day: &Day, mut observe: impl FnMut(Timestamp, &Observation<'_>) -> Decision) {
    let standing = Standing::at(Rung(1));
    let mut read_next = day.play(SAMPLES);
    let mut sample = Sample::default();
    while let Some(at) = read_next(&mut sample) {
        black_box(observe(at, &Observation::new(&sample, &standing)));
    }
}

/// Holds the tier.
#[derive(Debug)]
struct Stay {
    seen: u64,
}

impl Policy for Stay {
    #[inline(never)]
    fn observe(&mut self, _now: Timestamp, seen: &Observation<'_>) -> Decision {
        self.seen += 1;
        seen.standing.hold(Reason::AtTop)
    }
}

/// Reports that it has no data.
#[derive(Debug)]
struct Blind {
    seen: u64,
}

impl Policy for Blind {
    #[inline(never)]
    fn observe(&mut self, _now: Timestamp, seen: &Observation<'_>) -> Decision {
        self.seen += 1;
        seen.standing.hold(Reason::NoData)
    }
}

#[derive(Debug)]
enum Closed {
    Stay(Stay),
    #[expect(dead_code, reason = "without another variant there is nothing to choose between")]
    Blind(Blind),
}

impl Closed {
    fn observe(&mut self, now: Timestamp, seen: &Observation<'_>) -> Decision {
        match self {
            Self::Stay(policy) => policy.observe(now, seen),
            Self::Blind(policy) => policy.observe(now, seen),
        }
    }
}

const SAMPLES: u64 = 20_000_000;
const ROUNDS: u32 = 9;
