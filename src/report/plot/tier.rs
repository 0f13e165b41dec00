//! The tier over time, with every change and its reason.

use tiershift_core::catalog::Rung;
use tiershift_core::text;
use tiershift_core::time::Timestamp;

use crate::report::plot::data::PlotData;
use crate::report::plot::drawing::{Anchor, Area, Dash, Ink, fit, text_width};
use crate::report::plot::{
    BLACK, BLUE, DARK, FRAME, GREEN, GRID, Key, LEFT, Mark, ORANGE, PURPLE, RED, SKY, SMALL, Sheet,
    TEXT, WHITE, WIDTH, YELLOW,
};
use crate::report::timeline::columns::Cell;
use crate::report::timeline::{Change, Phase, Wait};

pub(super) fn panel(sheet: &mut Sheet, data: &PlotData) {
    let mut keys: Vec<Key> = Vec::new();
    for (wait, text) in [
        (Wait::Window, "stabilization window"),
        (Wait::Backoff, "back-off"),
        (Wait::Cooldown, "cooldown"),
    ] {
        if data.timeline.waits.list.iter().any(|stretch| stretch.0 == wait) {
            keys.push(Key { mark: Mark::Fill(wait_ink(wait)), text });
        }
    }
    for (phase, text) in [
        (Phase::Loading, "loading"),
        (Phase::Draining, "draining"),
        (Phase::Unloading, "unloading"),
    ] {
        if data.timeline.phases.list.iter().any(|stretch| stretch.0 == phase) {
            let (ground, stroke, rising) = phase_inks(phase);
            keys.push(Key { mark: Mark::Hatch { ground, stroke, rising }, text });
        }
    }
    let optimum = data.optimum.held(sheet.scale, &[]);
    if optimum.iter().any(Option::is_some) {
        keys.push(Key { mark: Mark::Line(OPTIMUM), text: "optimum" });
    }
    let rungs = i32::from(data.timeline.catalog.top().0) + 1;
    let row = (220 / rungs).clamp(14, 26);
    let area = sheet.panel("tier", LANE + row * rungs, &keys);
    let rows = Rows { bottom: area.bottom, row };
    waits(sheet, data, area);
    for rung in (0..=data.timeline.catalog.top().0).map(Rung) {
        let strip = rows.strip(rung);
        sheet.drawing.horizontal(strip.1, area.left, area.right, Dash::Solid, GRID);
        let name = fit(data.timeline.catalog.tier_name(rung), SMALL, LEFT - 12);
        let middle = (strip.0 + strip.1) / 2;
        sheet.drawing.text(&name, (area.left - 8, middle), Anchor::End, SMALL, DARK);
    }
    phases(sheet, data, rows);
    // A little below ours, so that both are seen where they agree.
    steps(sheet, &optimum, rows, OPTIMUM, (-4, 6));
    let ours = data.timeline.rung.held(sheet.scale, &[]);
    steps(sheet, &ours, rows, BLACK, (1, 2));
    marks(sheet, data, area);
    sheet.frame(area);
}

/// Where each rung's row is.
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

fn waits(sheet: &mut Sheet, data: &PlotData, area: Area) {
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

fn phases(sheet: &mut Sheet, data: &PlotData, rows: Rows) {
    let mut drawn = Vec::new();
    for &(phase, rung, from, to) in &data.timeline.phases.list {
        let (left, right) = (sheet.x(from), sheet.x(to));
        // A drain that nobody had to wait for is not worth a mark.
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
    sheet: &mut Sheet,
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
fn marks(sheet: &mut Sheet, data: &PlotData, area: Area) {
    let lane = area.top + LANE;
    sheet.drawing.rect(Area { bottom: lane, ..area }, WHITE);
    sheet.drawing.horizontal(lane, area.left, area.right, Dash::Solid, GRID);
    let place = lane - 10;
    // Marks of one kind in one column are one mark.
    let mut drawn: Vec<(i32, Kind)> = data
        .timeline
        .changes_told()
        .iter()
        .map(|change| (sheet.x(change.at), Kind::of(change)))
        .collect();
    drawn.sort_unstable();
    drawn.dedup();
    // Where there are many, lines would hide the steps that they lead to.
    for &(x, kind) in drawn.iter().filter(|_| drawn.len() <= MOST_LINES) {
        if kind == Kind::Reversal {
            sheet.drawing.vertical(x, lane, area.bottom, PURPLE.pale(60));
        } else {
            sheet.drawing.vertical(x, lane, area.bottom, FRAME);
        }
    }
    for &(x, kind) in &drawn {
        mark(sheet, (x, place), kind);
    }
    let mut free = area.left - 20;
    for (number, change) in (1..).zip(data.timeline.changes_told()).take(EXPLAINED) {
        let x = sheet.x(change.at);
        let text = format!("{number}");
        let half = text_width(&text, SMALL) / 2;
        if x - half > free {
            sheet.drawing.text(&text, (x, area.top + 8), Anchor::Middle, SMALL, BLACK);
            free = x + half + 6;
        }
    }
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Upgrade,
    Downgrade,
    GivenUp,
    Reversal,
}

impl Kind {
    fn of(change: &Change) -> Self {
        if change.reversal {
            Self::Reversal
        } else if change.completed.is_none() {
            Self::GivenUp
        } else if change.to > change.from {
            Self::Upgrade
        } else {
            Self::Downgrade
        }
    }
}

/// A triangle up or down, a cross for a reversal, a hollow square for what was given up.
fn mark(sheet: &mut Sheet, (x, y): (i32, i32), kind: Kind) {
    let drawing = &mut sheet.drawing;
    match kind {
        Kind::Upgrade => drawing.polygon(vec![(x - 6, y + 5), (x + 7, y + 5), (x, y - 6)], GREEN),
        Kind::Downgrade => drawing.polygon(vec![(x - 6, y - 5), (x + 7, y - 5), (x, y + 6)], RED),
        Kind::GivenUp => {
            drawing.frame(Area { left: x - 5, top: y - 5, right: x + 6, bottom: y + 6 }, DARK);
        }
        Kind::Reversal => {
            let arm = |dx: i32, dy: i32| {
                vec![
                    (x - 6 * dx - 2, y - 6 * dy),
                    (x - 6 * dx + 2, y - 6 * dy),
                    (x + 6 * dx + 2, y + 6 * dy),
                    (x + 6 * dx - 2, y + 6 * dy),
                ]
            };
            drawing.polygon(arm(1, 1), REVERSAL);
            drawing.polygon(arm(-1, 1), REVERSAL);
        }
    }
}

/// Lists the first changes with their reasons under the plot, in two columns.
pub(super) fn legend(sheet: &mut Sheet, data: &PlotData) {
    let left = 20;
    sheet.bottom += 14;
    if data.timeline.changes_told().is_empty() {
        let text = "No change was decided.";
        sheet.drawing.text(text, (left, sheet.bottom), Anchor::Start, TEXT, DARK);
        sheet.bottom += 10;
        return;
    }
    let listed = data.timeline.changes_told().len().min(EXPLAINED);
    let rows = if listed <= 6 { listed } else { listed.div_ceil(2) };
    let width = (WIDTH - 2 * left) / if listed <= 6 { 1 } else { 2 };
    let top = sheet.bottom;
    for (place, change) in data.timeline.changes_told()[..listed].iter().enumerate() {
        let x = left + (place / rows) as i32 * width;
        let y = top + (place % rows) as i32 * LEGEND_ROW;
        let number = format!("{}", place + 1);
        sheet.drawing.text(&number, (x + 20, y), Anchor::End, SMALL, BLACK);
        mark(sheet, (x + 33, y), Kind::of(change));
        let at = text::span(change.at.since(Timestamp::ZERO));
        let text = format!("{at} · {}", change.text(&data.timeline.catalog));
        let text = fit(&text, SMALL, width - 60);
        sheet.drawing.text(&text, (x + 46, y), Anchor::Start, SMALL, DARK);
    }
    sheet.bottom = top + rows as i32 * LEGEND_ROW;
    let more = data.timeline.changes_told().len() - listed;
    let mut notes = Vec::new();
    if more > 0 {
        notes.push(format!("and {more} more changes: decisions.csv lists them all"));
    }
    if data.timeline.changes_told()[..listed].iter().any(|change| change.reversal) {
        notes.push("a cross marks a reversal: a change that undoes the one before it".to_owned());
    }
    if !notes.is_empty() {
        let at = (left + 46, sheet.bottom);
        sheet.drawing.text(&notes.join("   ·   "), at, Anchor::Start, SMALL, BLACK);
        sheet.bottom += LEGEND_ROW;
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
const MOST_LINES: usize = 80;
const LEGEND_ROW: i32 = 18;
/// More reasons than this make a page, not a legend.
const EXPLAINED: usize = 24;
/// Seen beneath a black line, and no ink of a phase or a wait.
const OPTIMUM: Ink = GREEN;
/// Darker than the palette's purple, so that a thin cross is seen.
const REVERSAL: Ink = Ink((150, 30, 120), 100);
