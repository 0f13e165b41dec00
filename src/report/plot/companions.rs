//! When each companion served: one thin band per companion.

use tiershift_core::catalog::Rung;

use crate::report::plot::data::PlotData;
use crate::report::plot::drawing::{Anchor, Area, Dash, fit};
use crate::report::plot::{DARK, GREEN, GRID, LEFT, SMALL, Sheet};

pub(super) fn panel(sheet: &mut Sheet<'_>, data: &PlotData) {
    let companions = data.timeline.catalog.companions();
    if companions.is_empty() {
        return;
    }
    let count = i32::try_from(companions.len()).unwrap_or(i32::MAX);
    let area = sheet.panel("companions", BAND.saturating_mul(count), &[]);
    let mut top = area.top;
    for (lane, model) in (0..=u8::MAX).map(Rung).zip(companions) {
        let bottom = top + BAND;
        sheet.drawing.horizontal(bottom, area.left, area.right, Dash::Solid, GRID);
        let name = fit(model.id.as_str(), SMALL, LEFT - 12);
        let middle = (top + bottom) / 2;
        sheet.drawing.text(&name, (area.left - 8, middle), Anchor::End, SMALL, DARK);
        for &(_, of, from, to) in &data.timeline.companions.list {
            if of == lane {
                let (left, right) = (sheet.x(from), sheet.x(to));
                let right = right.max(left + 1);
                let band = Area { left, right, top: top + 4, bottom: bottom - 4 };
                sheet.drawing.rect(band, GREEN.pale(60));
            }
        }
        top = bottom;
    }
    sheet.frame(area);
}

/// Height of a companion's band.
const BAND: i32 = 16;
