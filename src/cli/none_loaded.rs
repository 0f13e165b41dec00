//! Why no model was ever loaded, for replays and for the plots of their logs.

use tiershift_core::catalog::Catalog;
use tiershift_core::machine::Machine;
use tiershift_core::model::Footprint;
use tiershift_core::sample::Sample;
use tiershift_core::text;
use tiershift_core::units::Bytes;

use crate::summary::{NONE_LOADED, Summary, TierSeconds};

/// If no model was ever loaded, returns why: the machine of the trace lacks what models need, or too much of it is
/// taken.
pub(super) fn why_none(
    summary: &Summary,
    catalog: &Catalog,
    machine: &Machine,
    first: Option<&Sample>,
) -> Option<String> {
    let is_loaded = |tier: &TierSeconds| tier.tier != "none" && tier.seconds > 0.0;
    if summary.tier_seconds.iter().any(is_loaded) {
        return None;
    }
    let smallest = catalog.models().iter().min_by_key(|model| {
        let Footprint { ram, vram } = model.footprint_to_load();
        (vram, ram)
    })?;
    let Footprint { ram, vram } = smallest.footprint_to_load();
    let most_vram = machine.gpus.iter().copied().max().unwrap_or_default();
    let reads_memory = first.is_some_and(|sample| sample.memory.is_some());
    let reads_vram = first.is_some_and(|sample| sample.gpus.iter().any(|gpu| gpu.vram.is_some()));
    let needs = [
        (ram, reads_memory, machine.memory, "main memory"),
        (vram, reads_vram, most_vram, "video memory"),
    ];
    let lacking = needs.iter().find(|(need, is_read, ..)| *need > Bytes::ZERO && !is_read);
    let small = needs.iter().find(|(need, _, total, _)| need > total);
    let id = &smallest.id;
    Some(match (lacking, small) {
        (Some((need, _, _, what)), _) => {
            let need = text::bytes(*need);
            format!(
                "{NONE_LOADED}: {id} needs {need} of {what}, and the trace does not record {what}"
            )
        }
        (None, Some((need, _, total, what))) => {
            let [need, total] = [*need, *total].map(text::bytes);
            format!("{NONE_LOADED}: {id} needs {need} of {what}, but the machine has {total}")
        }
        (None, None) => {
            let needs = needs.iter().filter(|(need, ..)| *need > Bytes::ZERO);
            let needs: Vec<_> = needs
                .map(|(need, _, total, what)| {
                    let [need, total] = [*need, *total].map(text::bytes);
                    format!("{need} of the {total} of {what}")
                })
                .collect();
            format!(
                "{NONE_LOADED}: {id} needs {}, which was never free for long enough (`tiershift explain` shows why)",
                needs.join(" and ")
            )
        }
    })
}
