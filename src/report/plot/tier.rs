//! The tier over time, with every change and its reason.

use tiershift_core::catalog::Rung;

use crate::report::plot::data::PlotData;
use crate::report::plot::drawing::{Anchor, Area, Dash, Ink, fit, text_width};
use crate::report::plot::mark::{Kind, REVERSAL, mark};
use crate::report::plot::{
    BLACK, BLUE, DARK, FRAME, GREEN, GRID, Key, LEFT, Mark, ORANGE, PURPLE, RED, SKY, SMALL, Sheet,
    WHITE, YELLOW, legend,
};
use crate::report::timeline::columns::{Cell, Columns};
use crate::report::timeline::{Phase, WHOLE_TIME, Wait};

/// Draws the panel. `explained` is the number of changes for which the legend has room.
pub(super) fn panel(sheet: &mut Sheet<'_>, data: &PlotData, explained: usize) {
    let has_optimum = !data.optimum.is_empty();
    let mut keys: Vec<Key> = Vec::new();
    for (wait, text) in [
        (Wait::Window, "stabilization window"),
        (Wait::Backoff, "back-off"),
        (Wait::Cooldown, "cooldown"),
    ] {
        if data.timeline.waits.list.iter().any(|stretch| stretch.0 == wait) {
            keys.push(Key::new(Mark::Fill(wait_ink(wait)), text));
        }
    }
    if sheet.is_dense {
        keys = vec![
            Key::new(Mark::Fill(REVERSAL), "reversals"),
            Key::new(Mark::Fill(RED), "down"),
            Key::new(Mark::Fill(GREEN), "up"),
            Key::new(Mark::Fill(DARK), "share of time on the tier"),
        ];
        if has_optimum {
            keys.push(Key::new(Mark::Fill(OPTIMUM), "in the optimum"));
        }
    } else {
        for (phase, text) in [
            (Phase::Loading, "loading"),
            (Phase::Draining, "draining"),
            (Phase::Unloading, "unloading"),
        ] {
            if data.timeline.phases.list.iter().any(|stretch| stretch.0 == phase) {
                let (ground, stroke, rising) = phase_inks(phase);
                keys.push(Key::new(Mark::Hatch { ground, stroke, rising }, text));
            }
        }
        if has_optimum {
            keys.push(Key::new(Mark::Line(OPTIMUM), "optimum"));
        }
    }
    let rungs = i32::from(data.timeline.catalog.top().0) + 1;
    let row = (220 / rungs).clamp(14, 26);
    let area = sheet.panel("tier", LANE + row * rungs, &keys);
    let rows = Rows { bottom: area.bottom, row };
    if !sheet.is_dense {
        waits(sheet, data, area);
    }
    for rung in (0..=data.timeline.catalog.top().0).map(Rung) {
        let strip = rows.strip(rung);
        sheet.drawing.horizontal(strip.1, area.left, area.right, Dash::Solid, GRID);
        let name = fit(data.timeline.catalog.tier_name(rung), SMALL, LEFT - 12);
        let middle = (strip.0 + strip.1) / 2;
        sheet.drawing.text(&name, (area.left - 8, middle), Anchor::End, SMALL, DARK);
    }
    if sheet.is_dense {
        shares(sheet, &data.timeline.shares, rows, (0, 3), DARK);
        shares(sheet, &data.optimum_shares, rows, (row - 4, 0), OPTIMUM);
    } else {
        phases(sheet, data, rows);
        // A little below ours, so that both are visible when they agree.
        let optimum = data.optimum.held(sheet.scale, &[]);
        steps(sheet, &optimum, rows, OPTIMUM, (-4, 6));
        let ours = data.timeline.rung.held(sheet.scale, &[]);
        steps(sheet, &ours, rows, BLACK, (1, 2));
    }
    marks(sheet, data, area, explained);
    sheet.frame(area);
}

/// Returns whether the marks of a run's changes would hide each other.
pub(super) fn is_dense(sheet: &Sheet<'_>, data: &PlotData) -> bool {
    places(sheet, data).len() > MOST_MARKS
}

/// Returns where the changes are marked: those of one kind in one column share a mark.
fn places(sheet: &Sheet<'_>, data: &PlotData) -> Vec<(i32, Kind)> {
    let changes = data.timeline.shown_changes().iter();
    let mut places: Vec<_> = changes.map(|change| (sheet.x(change.at), Kind::of(change))).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// Draws how much of each column's time each rung serves: a bar in the rung's row, at most as high as the row, without
/// the free space above and below.
fn shares(sheet: &mut Sheet<'_>, shares: &[Columns], rows: Rows, free: (i32, i32), ink: Ink) {
    for (rung, share) in (0..=u8::MAX).map(Rung).zip(shares) {
        let (top, bottom) = rows.strip(rung);
        let (top, bottom) = (top + 2 + free.0, bottom - 1 - free.1);
        let height = u64::try_from(bottom - top).unwrap_or(0).max(1);
        let column = |cell: &Option<Cell>| {
            let whole = cell.map(|cell| cell.mean().min(WHOLE_TIME))?;
            let part = whole * height;
            // Anything that served at all is visible.
            let high = part.div_ceil(WHOLE_TIME) as i32;
            (high > 0).then_some((bottom - high, bottom))
        };
        let columns: Vec<_> = share.held(sheet.scale, &[]).iter().map(column).collect();
        sheet.drawing.band(LEFT, &columns, ink);
    }
}

/// The position of each rung's row.
#[derive(Clone, Copy)]
struct Rows {
    bottom: i32,
    row: i32,
}

impl Rows {
    /// Returns the upper and the lower edge of a rung's row.
    fn strip(self, rung: Rung) -> (i32, i32) {
        let bottom = self.bottom - i32::from(rung.0) * self.row;
        (bottom - self.row, bottom)
    }
}

fn waits(sheet: &mut Sheet<'_>, data: &PlotData, area: Area) {
    let mut drawn = Vec::new();
    for &(wait, _, from, to) in &data.timeline.waits.list {
        drawn.push((wait, sheet.x(from), sheet.x(to)));
    }
    // Neighbours that share a pixel are one shape.
    drawn.sort_unstable();
    for (wait, left, right) in joined(drawn) {
        let top = area.top + LANE;
        sheet.drawing.rect(Area { left, right: right.max(left + 1), top, ..area }, wait_ink(wait));
    }
}

fn phases(sheet: &mut Sheet<'_>, data: &PlotData, rows: Rows) {
    let mut drawn = Vec::new();
    for &(phase, rung, from, to) in &data.timeline.phases.list {
        let (left, right) = (sheet.x(from), sheet.x(to));
        // A drain that took no time needs no mark.
        if phase != Phase::Draining || right > left {
            drawn.push(((rung, phase), left, right));
        }
    }
    drawn.sort_unstable();
    for ((rung, phase), left, right) in joined(drawn) {
        let (top, bottom) = rows.strip(rung);
        let bar = Area { left, top: top + 3, right: right.max(left + 2), bottom: bottom - 2 };
        let (ground, stroke, rising) = phase_inks(phase);
        sheet.drawing.rect(bar, ground);
        // In a narrow bar, strokes would only darken it, and make a long run's file large.
        if bar.right - bar.left >= 8 {
            sheet.drawing.hatch(bar, rising, stroke);
        }
    }
}

/// Joins spans of one kind that touch. They must be sorted.
fn joined<K: Copy + PartialEq>(spans: Vec<(K, i32, i32)>) -> Vec<(K, i32, i32)> {
    let mut out: Vec<(K, i32, i32)> = Vec::new();
    for (kind, left, right) in spans {
        match out.last_mut() {
            Some(last) if last.0 == kind && left <= last.2 => last.2 = last.2.max(right),
            _ => out.push((kind, left, right)),
        }
    }
    out
}

/// Draws the rung of each column from `above` pixels over the middle of its row to `below` pixels under it.
fn steps(
    sheet: &mut Sheet<'_>,
    cells: &[Option<Cell>],
    rows: Rows,
    ink: Ink,
    (above, below): (i32, i32),
) {
    let middle = |rung: u64| {
        let (top, bottom) = rows.strip(Rung(u8::try_from(rung).unwrap_or(u8::MAX)));
        (top + bottom) / 2
    };
    let columns: Vec<Option<(i32, i32)>> = cells
        .iter()
        .map(|cell| cell.map(|cell| (middle(cell.max) - above, middle(cell.min) + below)))
        .collect();
    sheet.drawing.band(LEFT, &columns, ink);
}

/// Marks every change in the lane above the rungs, and numbers those that the legend explains.
fn marks(sheet: &mut Sheet<'_>, data: &PlotData, area: Area, explained: usize) {
    let lane = area.top + LANE;
    sheet.drawing.rect(Area { bottom: lane, ..area }, WHITE);
    sheet.drawing.horizontal(lane, area.left, area.right, Dash::Solid, GRID);
    if sheet.is_dense {
        density(sheet, data, Area { bottom: lane, top: area.top + 16, ..area });
    } else {
        let places = places(sheet, data);
        for &(x, kind) in &places {
            let ink = if kind == Kind::Reversal { PURPLE.pale(60) } else { FRAME };
            sheet.drawing.vertical(x, lane, area.bottom, ink);
        }
        for &(x, kind) in &places {
            mark(sheet, (x, lane - 10), kind);
        }
        if let Some(stop) = data.timeline.stopped() {
            let x = sheet.x(stop.at).min(area.right - 1);
            sheet
                .drawing
                .rect(Area { left: x - 5, right: x + 1, top: lane - 16, bottom: lane - 4 }, DARK);
        }
    }
    let mut free = area.left - 20;
    for (number, change) in (1..).zip(legend::explained(data, explained)) {
        let x = sheet.x(change.at);
        let text = format!("{number}");
        let half = text_width(&text, SMALL) / 2;
        if x - half > free {
            sheet.drawing.text(&text, (x, area.top + 8), Anchor::Middle, SMALL, BLACK);
            free = x + half + 6;
        }
    }
}

/// Draws how many changes there are in each stretch of time: reversals on top of downgrades on top of upgrades.
fn density(sheet: &mut Sheet<'_>, data: &PlotData, area: Area) {
    let bins = ((area.right - area.left) / BIN) as usize + 1;
    let mut counts = vec![[0i32; 3]; bins];
    for change in data.timeline.shown_changes() {
        let bin = ((sheet.x(change.at) - area.left) / BIN) as usize;
        let kind = match Kind::of(change) {
            Kind::Upgrade => 0,
            Kind::Downgrade | Kind::GivenUp => 1,
            Kind::Reversal => 2,
        };
        counts[bin.min(bins - 1)][kind] += 1;
    }
    let most = counts.iter().map(|bin| bin.iter().sum::<i32>()).max().unwrap_or(1).max(1);
    for (left, bin) in (area.left..).step_by(BIN as usize).zip(&counts) {
        let mut below = 0;
        let y = |count: i32| area.bottom - (count * (area.height() - 2) + most - 1) / most;
        for (count, ink) in bin.iter().zip([GREEN, RED, REVERSAL]) {
            let (top, bottom) = (y(below + count), y(below));
            let right = (left + BIN - 1).min(area.right);
            sheet.drawing.rect(Area { left, right, top, bottom }, ink);
            below += count;
        }
    }
}

fn wait_ink(wait: Wait) -> Ink {
    match wait {
        Wait::Window => YELLOW.pale(35),
        Wait::Backoff => PURPLE.pale(25),
        Wait::Cooldown => FRAME.pale(25),
    }
}

/// Ground, stroke, and whether the strokes rise.
fn phase_inks(phase: Phase) -> (Ink, Ink, bool) {
    match phase {
        Phase::Loading => (SKY.pale(50), BLUE, true),
        Phase::Draining => (ORANGE.pale(50), RED, false),
        Phase::Unloading => (FRAME.pale(50), BLACK, false),
    }
}

/// The lane of the marks and their numbers.
const LANE: i32 = 36;
/// From this many marks on, they would hide each other. Chosen: 14 pixels for each of them.
const MOST_MARKS: usize = 80;
/// Pixels of time that are counted together if there are more.
const BIN: i32 = 5;
/// Visible beneath a black line, and not the ink of a phase or a wait.
const OPTIMUM: Ink = GREEN;
