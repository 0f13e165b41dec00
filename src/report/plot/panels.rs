//! The panels that show measurements: space, rates, requests, latency.

use tiershift_core::sample::Resource;
use tiershift_core::text;
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};

use crate::report::plot::data::{Moving, PlotData, RateSeries, SpaceSeries};
use crate::report::plot::drawing::{Anchor, Area, Dash, Ink};
use crate::report::plot::{
    BLACK, BLUE, GREEN, Key, Line, Mark, ORANGE, PURPLE, RED, SKY, SMALL, Sheet, axis,
};
use crate::report::timeline::REQUEST;
use crate::report::timeline::columns::{Cell, Columns};

pub(super) fn memory(sheet: &mut Sheet<'_>, data: &PlotData) {
    let judged = data.settings.constrains(Resource::Memory);
    let most = sheet.most(|data| data.memory.most());
    space(sheet, data, "memory", &data.memory, most, judged);
}

pub(super) fn video_memory(sheet: &mut Sheet<'_>, data: &PlotData) {
    let judged = data.settings.constrains(Resource::Vram);
    for (number, gpu) in data.gpus.iter().enumerate() {
        let title = match data.gpus.len() {
            1 => "video memory".to_owned(),
            _ => format!("video memory of GPU {number}"),
        };
        let most = sheet.most(|data| data.gpus.get(number).map_or(0, |gpu| gpu.vram.most()));
        space(sheet, data, &title, &gpu.vram, most, judged);
    }
}

/// A resource that is filled: others' use, the models' own on top of it, the lines over time, and the use that upgrades
/// would have led to.
fn space(
    sheet: &mut Sheet<'_>,
    data: &PlotData,
    title: &str,
    series: &SpaceSeries,
    most: u64,
    judged: bool,
) {
    if series.used.is_empty() {
        return;
    }
    let mut keys =
        vec![Key::new(Mark::Fill(OTHERS), "others"), Key::new(Mark::Fill(OWN), "models")];
    if sheet.is_dense {
        keys.push(Key::new(Mark::Fill(RANGE), "range of all use"));
        keys.push(Key::new(Mark::Line(BLUE), "mean of all use"));
    } else {
        keys.push(Key::new(Mark::Line(BLUE), "all use"));
    }
    let projected = bridged(series.projected.points(sheet.scale));
    if projected.iter().any(Option::is_some) {
        keys.push(Key::new(Mark::Fill(PURPLE), "use after the next upgrade, as projected"));
    }
    // The panels of many GPUs stay on one screen.
    let height = [170, 170, 130, 100][data.gpus.len().min(3)];
    let area = sheet.panel(&format!("{title} (GiB)"), height, &keys);
    let y = Vertical { area, most: most.saturating_add(most / 20).max(1) };
    let unit = 1u64 << 30;
    let step = axis::value_step(most as f64 / unit as f64);
    value_ticks(sheet, area, step, |value| y.at((value * unit as f64) as u64));
    let used = series.used.held(sheet.scale, &data.gaps.list);
    let others = series.others.held(sheet.scale, &data.gaps.list);
    let shown: fn(&Cell) -> u64 = if sheet.is_dense { Cell::mean } else { |cell| cell.max };
    fill(sheet, y, &used, shown, OWN);
    fill(sheet, y, &others, shown, OTHERS);
    if sheet.is_dense {
        stroke(sheet, y, &used, 0, RANGE);
    }
    gaps(sheet, data, area);
    stroke(sheet, y, &projected, 3, PURPLE);
    match sheet.is_dense {
        true => stroke(sheet, y, &flat(&used, Cell::mean), 1, BLUE),
        false => stroke(sheet, y, &used, 2, BLUE),
    }
    let total = series.total.now();
    let gib = |bytes: u64| value_text(bytes as f64 / unit as f64);
    let share = |bytes: u64| text::percent(Percent::of(Bytes::new(bytes), Bytes::new(total)));
    let line = |moving: &Moving, dash, ink, text| Line {
        heights: heights(moving, sheet, y),
        dash,
        ink,
        text,
    };
    let named = |name: &str, moving: &Moving| {
        format!("{name} {} ({})", gib(moving.now()), share(moving.now()))
    };
    let mut lines =
        vec![line(&series.total, Dash::Solid, BLACK, format!("all {} GiB", gib(total)))];
    if judged {
        let SpaceSeries { degrade, preventive, upgrade, named: limit, .. } = series;
        lines.push(line(degrade, Dash::Dashed, RED, named("degrade", degrade)));
        let used_by_policy = Lines::of(data);
        if used_by_policy.has_preventive {
            lines.push(line(preventive, Dash::Dotted, ORANGE, named("preventive", preventive)));
        }
        if used_by_policy.has_upgrade {
            lines.push(line(upgrade, Dash::Mixed, GREEN, named("upgrade", upgrade)));
        }
        if limit.now() > 0 {
            lines.push(line(limit, Dash::Mixed, BLACK, named("limit", limit)));
        }
    }
    sheet.lines(area, lines);
    sheet.frame(area);
}

/// Which lines of the settings the policy uses. Other policies are drawn with the line that applies to every manager,
/// and with the limits in their own reasons.
struct Lines {
    has_preventive: bool,
    has_upgrade: bool,
}

impl Lines {
    fn of(data: &PlotData) -> Self {
        let policy = data.settings.policy.name();
        let has_preventive = policy == "proactive";
        Self { has_preventive, has_upgrade: has_preventive || policy == "original" }
    }
}

/// Returns the heights of a line, column by column.
fn heights(moving: &Moving, sheet: &Sheet<'_>, y: Vertical) -> Vec<Option<i32>> {
    let held = moving.columns.held(sheet.scale, &[]);
    held.iter().map(|cell| cell.map(|cell| y.at(cell.last))).collect()
}

pub(super) fn rates(sheet: &mut Sheet<'_>, data: &PlotData) {
    let settings = &data.settings;
    let most = sheet.most(|data| data.cpu.used.max());
    let judged = settings.constrains(Resource::Cpu);
    rate(sheet, data, "processor (%)", &data.cpu, most, judged);
    let judged = settings.constrains(Resource::Gpu);
    for (number, gpu) in data.gpus.iter().enumerate() {
        let title = match data.gpus.len() {
            1 => "GPU (%)".to_owned(),
            _ => format!("GPU {number} (%)"),
        };
        let most =
            sheet.most(|data| data.gpus.get(number).map_or(0, |gpu| gpu.utilization.used.max()));
        rate(sheet, data, &title, &gpu.utilization, most, judged);
    }
    let most = sheet.most(|data| data.pressure.used.max());
    let title = "memory pressure (% of time that a task waited)";
    rate(sheet, data, title, &data.pressure, most, settings.constrains(Resource::Pressure));
}

/// Draws a rate, with its lines if decisions are `judged` by them.
fn rate(
    sheet: &mut Sheet<'_>,
    data: &PlotData,
    title: &str,
    series: &RateSeries,
    most: u64,
    judged: bool,
) {
    if series.used.is_empty() {
        return;
    }
    let split = !series.others.is_empty();
    let keys = [
        Key::new(Mark::Fill(OTHERS), "others"),
        Key::new(Mark::Fill(OWN), "models"),
        Key::new(Mark::Fill(RANGE), "range of all use"),
        Key::new(Mark::Line(BLUE), "mean of all use"),
    ];
    let height = if data.gpus.len() > 3 { 56 } else { 84 };
    let area = sheet.panel(title, height, if split { &keys } else { &keys[2..] });
    let whole = u64::from(Percent::ONE_HUNDRED.milli());
    let y = Vertical { area, most: whole.max(most) * 21 / 20 };
    let most = y.most as f64 / 1000.0;
    let step = if most <= 120.0 { 50.0 } else { axis::value_step(most) };
    value_ticks(sheet, area, step, |value| y.at((value * 1000.0) as u64));
    let used = series.used.held(sheet.scale, &data.gaps.list);
    if split {
        fill(sheet, y, &used, Cell::mean, OWN);
        let others = series.others.held(sheet.scale, &data.gaps.list);
        fill(sheet, y, &others, Cell::mean, OTHERS);
    }
    // Rates jump between samples: areas and lines show means, with the range pale above them.
    stroke(sheet, y, &used, 0, RANGE);
    gaps(sheet, data, area);
    stroke(sheet, y, &flat(&used, Cell::mean), 1, BLUE);
    let mut lines = Vec::new();
    if judged {
        let line = |moving: &Moving, dash, ink, name: &str| Line {
            heights: heights(moving, sheet, y),
            dash,
            ink,
            text: format!("{name} {}", text::percent(Percent::from_milli(moving.now() as u32))),
        };
        lines.push(line(&series.degrade, Dash::Dashed, RED, "degrade"));
        if Lines::of(data).has_upgrade {
            lines.push(line(&series.upgrade, Dash::Mixed, GREEN, "upgrade"));
        }
    }
    sheet.lines(area, lines);
    sheet.frame(area);
}

pub(super) fn requests(sheet: &mut Sheet<'_>, data: &PlotData) {
    if data.timeline.in_flight.is_empty() && data.refused.is_empty() {
        return;
    }
    let mut keys = Vec::new();
    for (series, ink, name) in [(&data.refused, RED, "refused"), (&data.failed, BLACK, "failed")] {
        if !series.is_empty() {
            keys.push(Key::new(Mark::Fill(ink), format!("{} {name}", series.sum())));
        }
    }
    keys.extend([
        Key::new(Mark::Fill(ORANGE), "waiting"),
        Key::new(Mark::Line(BLUE), "running"),
        Key::new(Mark::Line(ORANGE.pale(50)), "most waiting"),
        Key::new(Mark::Line(BLUE.pale(40)), "most running"),
    ]);
    let area = sheet.panel("requests", 84, &keys);
    let most = sheet.most(|data| data.timeline.in_flight.max().max(data.timeline.queued.max()));
    let most = most.max(REQUEST);
    let y = Vertical { area, most: most * 11 / 10 };
    let step = axis::value_step(y.most as f64 / REQUEST as f64).max(1.0);
    value_ticks(sheet, area, step, |value| y.at(value as u64 * REQUEST));
    let queued = data.timeline.queued.held(sheet.scale, &[]);
    fill(sheet, y, &queued, Cell::mean, ORANGE);
    stroke(sheet, y, &flat(&queued, |cell| cell.max), 1, ORANGE.pale(50));
    let running = data.timeline.in_flight.held(sheet.scale, &[]);
    stroke(sheet, y, &flat(&running, |cell| cell.max), 1, BLUE.pale(40));
    stroke(sheet, y, &flat(&running, Cell::mean), 1, BLUE);
    hanging(sheet, area, &data.refused, RED);
    hanging(sheet, area, &data.failed, BLACK);
    sheet.frame(area);
}

/// Draws bars from the top of a panel, longer for higher counts.
fn hanging(sheet: &mut Sheet<'_>, area: Area, counts: &Columns, ink: Ink) {
    let counts = counts.points(sheet.scale);
    let most = counts.iter().flatten().map(Cell::sum).max().unwrap_or(0).max(1);
    for (x, cell) in (area.left..).zip(&counts) {
        if let Some(cell) = cell {
            let long = SHORTEST + (cell.sum() * LONGER / most) as i32;
            let bar = Area { left: x, right: x + 2, bottom: area.top + long, ..area };
            sheet.drawing.rect(Area { right: bar.right.min(area.right), ..bar }, ink);
        }
    }
}

/// The latency of completed requests, on a logarithmic axis.
pub(super) fn latency(sheet: &mut Sheet<'_>, data: &PlotData) {
    if data.timeline.latency.is_empty() {
        return;
    }
    let keys =
        [Key::new(Mark::Fill(SKY), "up to the slowest"), Key::new(Mark::Line(BLUE), "median")];
    let area = sheet.panel("latency of requests by the moment they were done", 100, &keys);
    let blocks = data.timeline.latency.blocks(sheet.scale);
    let scale = sheet.scale;
    let all = sheet.all.iter().flat_map(|data| data.timeline.latency.blocks(scale));
    let (least, most) = all
        .fold((u64::MAX, 1), |(least, most), block| (least.min(block.2.max(1)), most.max(block.3)));
    let least = least.min(most);
    let decade = |micros: u64| libm::log10(micros.max(1) as f64);
    let (low, high) = (decade(least).floor(), (decade(most) + 0.02).ceil());
    let high = high.max(low + 1.0);
    let y = |micros: u64| {
        let part = (decade(micros) - low) / (high - low);
        area.bottom - (part * f64::from(area.height())) as i32
    };
    let mut micros = 1u64;
    loop {
        let height = y(micros);
        if (area.top..=area.bottom).contains(&height) {
            let label = match micros {
                ..1000 => format!("{micros} µs"),
                1000..1_000_000 => format!("{} ms", micros / 1000),
                _ => format!("{} s", micros / 1_000_000),
            };
            sheet.drawing.horizontal(height, area.left, area.right, Dash::Solid, super::GRID);
            sheet.value_label(area, height, &label);
        }
        if micros >= most || micros > u64::MAX / 10 {
            break;
        }
        micros *= 10;
    }
    for &(from, to, median, max) in &blocks {
        let left = area.left + from as i32;
        // Wide enough to be visible, and never over the next block.
        let right = (area.left + to as i32).max(left + 1).min(area.right);
        let (top, middle) = (y(max), y(median));
        let bottom = (middle + 1).max(top + 1);
        sheet.drawing.rect(Area { left, top, right, bottom }, SKY);
        sheet.drawing.rect(Area { left, top: middle - 1, right, bottom: middle + 1 }, BLUE);
    }
    if let Some(limit) = data.settings.latency_limit {
        let height = y(u64::try_from(limit.as_micros()).unwrap_or(u64::MAX)).max(area.top);
        let text = format!("limit {}", text::span(limit));
        let heights = vec![Some(height); sheet.scale.pixels];
        sheet.lines(area, vec![Line { heights, dash: Dash::Dashed, ink: RED, text }]);
    }
    sheet.frame(area);
}

/// How values become heights.
#[derive(Clone, Copy)]
struct Vertical {
    area: Area,
    most: u64,
}

impl Vertical {
    fn at(self, value: u64) -> i32 {
        let height = u128::from(value.min(self.most)) * self.area.height().unsigned_abs() as u128;
        self.area.bottom - (height / u128::from(self.most)) as i32
    }
}

fn value_ticks(sheet: &mut Sheet<'_>, area: Area, step: f64, y: impl Fn(f64) -> i32) {
    let mut tick = 0u32;
    let mut above = area.bottom + SMALL;
    loop {
        let value = f64::from(tick) * step;
        let height = y(value);
        // A value beyond the axis is drawn at its end, where labels would pile up.
        if height <= area.top || height >= above || tick > 100 {
            return;
        }
        if tick > 0 {
            sheet.drawing.horizontal(height, area.left, area.right, Dash::Solid, super::GRID);
        }
        let text = if step < 0.1 {
            format!("{value:.2}")
        } else if step < 1.0 {
            format!("{value:.1}")
        } else {
            format!("{value:.0}")
        };
        sheet.value_label(area, height, &text);
        above = height - SMALL + 1;
        tick += 1;
    }
}

/// Returns an amount of GiB as in the names of lines.
fn value_text(gib: f64) -> String {
    if gib < 1.0 { format!("{gib:.2}") } else { format!("{gib:.1}") }
}

/// Fills from the bottom of the panel to a value of each column.
fn fill(
    sheet: &mut Sheet<'_>,
    y: Vertical,
    cells: &[Option<Cell>],
    of: fn(&Cell) -> u64,
    ink: Ink,
) {
    let column = |cell: &Option<Cell>| cell.map(|cell| (y.at(of(&cell)), y.area.bottom));
    let columns: Vec<_> = cells.iter().map(column).collect();
    sheet.drawing.band(y.area.left, &columns, ink);
}

/// Draws from the smallest to the largest value of each column, at least `width` pixels.
fn stroke(sheet: &mut Sheet<'_>, y: Vertical, cells: &[Option<Cell>], width: i32, ink: Ink) {
    let column = |cell: &Option<Cell>| {
        cell.map(|cell| {
            let (top, bottom) = (y.at(cell.max) - width / 2, y.at(cell.min) + (width + 1) / 2);
            // A line at zero is visible too.
            let bottom = bottom.min(y.area.bottom);
            (top.min(bottom - width).max(y.area.top), bottom)
        })
    };
    let columns: Vec<_> = cells.iter().map(column).collect();
    sheet.drawing.band(y.area.left, &columns, ink);
}

/// Holds values over the few columns to the next one: in a short run, samples are some columns apart.
fn bridged(mut cells: Vec<Option<Cell>>) -> Vec<Option<Cell>> {
    let mut last: Option<(usize, Cell)> = None;
    for place in 0..cells.len() {
        let Some(cell) = cells[place] else { continue };
        if let Some((before, held)) = last
            && place - before <= 8
        {
            cells[before + 1..place].fill(Some(Cell::hold(held.last)));
        }
        last = Some((place, cell));
    }
    cells
}

/// Takes one value of each column, and connects it to the one before.
fn flat(cells: &[Option<Cell>], of: fn(&Cell) -> u64) -> Vec<Option<Cell>> {
    let mut before = None;
    let mut out = Vec::with_capacity(cells.len());
    for cell in cells {
        let value = cell.map(|cell| of(&cell));
        out.push(value.map(|value| Cell::hold(value).connected(before.unwrap_or(value))));
        before = value;
    }
    out
}

fn gaps(sheet: &mut Sheet<'_>, data: &PlotData, area: Area) {
    for &(from, to) in &data.gaps.list {
        let [left, right] = [from, to].map(|at: Timestamp| sheet.x(at));
        if right > left + 1 {
            let hole = Area { left: left + 1, right, ..area };
            sheet.drawing.hatch(hole, true, super::FRAME.pale(40));
            if right - left > 60 {
                let middle = ((left + right) / 2, (area.top + area.bottom) / 2);
                sheet.drawing.text("no samples", middle, Anchor::Middle, SMALL, super::DARK);
            }
        }
    }
}

/// The shortest bar at the top of the requests, and how much longer the longest is.
const SHORTEST: i32 = 8;
const LONGER: u64 = 24;
pub(super) const OTHERS: Ink = Ink((205, 205, 205), 100);
const RANGE: Ink = Ink(BLUE.0, 30);
/// Sky blue on white paper.
pub(super) const OWN: Ink = Ink((158, 212, 243), 100);
