//! The kinds of faults that a server asks about, one by one.

use crate::sim::fault::FaultKind;

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

pub(super) fn is_sticky(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::StickySlow { .. })
}
