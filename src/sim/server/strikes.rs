//! Which faults strike at the server's occasions.

use tiershift_core::time::Timestamp;
use tiershift_core::units::Percent;

use crate::sim::fault::{Fault, FaultKind};
use crate::sim::rng::Stream;

/// The faults, with how often each has struck.
#[derive(Clone, Debug)]
pub(super) struct Strikes {
    faults: Vec<Fault>,
    /// How often each fault has struck, for those that strike a limited number of times.
    struck: Vec<u32>,
    stream: Stream,
}

impl Strikes {
    pub(super) fn new(faults: &[Fault], stream: Stream) -> Self {
        Self { faults: faults.to_vec(), struck: vec![0; faults.len()], stream }
    }

    /// Returns the first fault of a kind that is open, about this model, and strikes on this occasion.
    pub(super) fn strikes(
        &mut self,
        now: Timestamp,
        model: &str,
        is_kind: fn(&FaultKind) -> bool,
    ) -> Option<FaultKind> {
        for (fault, struck) in self.faults.iter().zip(&mut self.struck) {
            let about = fault.kind.model().is_none_or(|name| name == model);
            if !(is_kind(&fault.kind) && about && fault.is_open(now)) {
                continue;
            }
            let certain = fault.probability >= Percent::ONE_HUNDRED;
            if fault.kind.count().is_none_or(|count| *struck < count)
                && (certain || self.stream.happens(fault.probability.fraction()))
            {
                *struck += 1;
                return Some(fault.kind.clone());
            }
        }
        None
    }

    /// Returns the end of the window in which the server reports nothing, if one is open.
    pub(super) fn hangs_until(&self, now: Timestamp) -> Option<Timestamp> {
        let hang =
            |fault: &&Fault| matches!(fault.kind, FaultKind::BackendHang) && fault.is_open(now);
        self.faults.iter().filter(hang).map(|fault| fault.until).max()
    }

    /// Returns whether a GPU is lost, together with its models.
    pub(super) fn has_lost(&self, now: Timestamp, gpu: u8) -> bool {
        let is_it = |kind: &FaultKind| matches!(kind, FaultKind::GpuLost { gpu: lost, crash: true } if *lost == gpu);
        self.faults.iter().any(|fault| is_it(&fault.kind) && fault.is_open(now))
    }
}

pub(super) fn is_load_slow(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::LoadSlow { .. })
}

pub(super) fn is_grab(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::OutsideGrab { .. })
}

pub(super) fn is_load_half(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::LoadHalf { .. })
}

pub(super) fn is_load_fail(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::LoadFail { .. })
}

pub(super) fn is_leak(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::Leak { .. })
}

pub(super) fn is_release_lag(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::ReleaseLag { .. })
}

pub(super) fn is_unload_lie(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::UnloadLies { .. })
}

pub(super) fn is_unload_unconfirmed(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::UnloadUnconfirmed { .. })
}

pub(super) fn is_request_hang(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::RequestHang { .. })
}

pub(super) fn is_sticky(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::StickySlow { .. })
}
