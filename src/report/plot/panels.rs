//! The panels that show measurements: space, rates, requests, latency.

use tiershift_core::sample::Resource;
use tiershift_core::text;
use tiershift_core::time::Timestamp;
use tiershift_core::units::Percent;

use crate::report::plot::data::{PlotData, RateSeries, SpaceSeries};
use crate::report::plot::drawing::{Anchor, Area, Dash, Ink};
use crate::report::plot::{
    BLACK, BLUE, GREEN, Key, Mark, ORANGE, PURPLE, RED, SKY, SMALL, Sheet, axis,
};
use crate::report::timeline::REQUEST;
use crate::report::timeline::columns::{Cell, Columns};

pub(super) fn memory(sheet: &mut Sheet, data: &PlotData) {
    let judged = data.settings.constrains(Resource::Memory);
    space(sheet, data, "memory", &data.memory, judged);
}

pub(super) fn video_memory(sheet: &mut Sheet, data: &PlotData) {
    let judged = data.settings.constrains(Resource::Vram);
    for (number, gpu) in data.gpus.iter().enumerate() {
        let title = match data.gpus.len() {
            1 => "video memory".to_owned(),
            _ => format!("video memory of GPU {number}"),
        };
        space(sheet, data, &title, &gpu.vram, judged);
    }
}

/// A resource that is filled: others' use, the models' own on top of it, the lines, and the use that upgrades
/// would have led to.
fn space(sheet: &mut Sheet, data: &PlotData, title: &str, series: &SpaceSeries, judged: bool) {
    if series.used.is_empty() {
        return;
    }
    let mut keys = vec![
        Key { mark: Mark::Fill(OTHERS), text: "others" },
        Key { mark: Mark::Fill(OWN), text: "models" },
        Key { mark: Mark::Line(BLUE), text: "all use" },
    ];
    if !series.projected.is_empty() {
        keys.push(Key {
            mark: Mark::Fill(PURPLE),
            text: "use after the next upgrade, as projected",
        });
    }
    let area = sheet.panel(&format!("{title} (GiB)"), 170, &keys);
    let total = series.total.as_gib();
    let most = [series.used.max(), series.projected.max(), series.total.get()];
    let most = most.into_iter().max().unwrap_or(0);
    let y = Vertical { area, most: most.saturating_add(most / 20).max(1) };
    let unit = 1u64 << 30;
    let step = axis::value_step(total.max(most as f64 / unit as f64));
    value_ticks(sheet, area, step, |value| y.at((value * unit as f64) as u64));
    let used = series.used.held(sheet.scale, &data.gaps.list);
    let others = series.others.held(sheet.scale, &data.gaps.list);
    fill(sheet, y, &used, |cell| cell.max, OWN);
    fill(sheet, y, &others, |cell| cell.max, OTHERS);
    gaps(sheet, data, area);
    let projected = bridged(series.projected.points(sheet.scale));
    stroke(sheet, y, &projected, 3, PURPLE);
    stroke(sheet, y, &used, 2, BLUE);
    let settings = &data.settings;
    let share = |line: Percent| y.at(series.total.share(line).get());
    let mut lines =
        vec![(y.at(series.total.get()), Dash::Solid, BLACK, format!("all {total:.1} GiB"))];
    if judged {
        let limit = settings.degrade_limit(series.total);
        let degrade = format!("degrade {}", text::percent(Percent::of(limit, series.total)));
        lines.push((y.at(limit.get()), Dash::Dashed, RED, degrade));
        let preventive = settings.preventive_line;
        lines.push((
            share(preventive),
            Dash::Dotted,
            ORANGE,
            format!("preventive {}", text::percent(preventive)),
        ));
        let upgrade = settings.upgrade_line;
        lines.push((
            share(upgrade),
            Dash::Mixed,
            GREEN,
            format!("upgrade {}", text::percent(upgrade)),
        ));
    }
    sheet.lines(area, &lines);
    sheet.frame(area);
}

pub(super) fn rates(sheet: &mut Sheet, data: &PlotData) {
    let usual = (data.settings.degrade_line, data.settings.upgrade_line);
    let pressed = (data.settings.pressure_degrade_line, data.settings.pressure_upgrade_line);
    let judged = |resource| {
        let lines = if resource == Resource::Pressure { pressed } else { usual };
        data.settings.constrains(resource).then_some(lines)
    };
    rate(sheet, data, "processor (%)", &data.cpu, judged(Resource::Cpu));
    for (number, gpu) in data.gpus.iter().enumerate() {
        let title = match data.gpus.len() {
            1 => "GPU (%)".to_owned(),
            _ => format!("GPU {number} (%)"),
        };
        rate(sheet, data, &title, &gpu.utilization, judged(Resource::Gpu));
    }
    if !data.pressure.is_empty() {
        let pressure = RateSeries {
            others: Columns::new(data.timeline.part.from),
            used: data.pressure.clone(),
        };
        let title = "memory pressure (% of time that a task waited)";
        rate(sheet, data, title, &pressure, judged(Resource::Pressure));
    }
}

/// Draws a rate; `judged` are the lines, degrade and upgrade, that it is held against.
fn rate(
    sheet: &mut Sheet,
    data: &PlotData,
    title: &str,
    series: &RateSeries,
    judged: Option<(Percent, Percent)>,
) {
    if series.used.is_empty() {
        return;
    }
    let split = !series.others.is_empty();
    let keys = [
        Key { mark: Mark::Fill(OTHERS), text: "others" },
        Key { mark: Mark::Fill(OWN), text: "models" },
        Key { mark: Mark::Fill(RANGE), text: "range of all use" },
        Key { mark: Mark::Line(BLUE), text: "mean of all use" },
    ];
    let area = sheet.panel(title, 84, if split { &keys } else { &keys[2..] });
    let whole = u64::from(Percent::ONE_HUNDRED.milli());
    let y = Vertical { area, most: whole.max(series.used.max()) * 21 / 20 };
    let most = y.most as f64 / 1000.0;
    let step = if most <= 120.0 { 50.0 } else { axis::value_step(most) };
    value_ticks(sheet, area, step, |value| y.at((value * 1000.0) as u64));
    let used = series.used.held(sheet.scale, &data.gaps.list);
    if split {
        fill(sheet, y, &used, Cell::mean, OWN);
        let others = series.others.held(sheet.scale, &data.gaps.list);
        fill(sheet, y, &others, Cell::mean, OTHERS);
    }
    // Rates jump between samples: areas and lines show means, and the range lies pale over them.
    stroke(sheet, y, &used, 0, RANGE);
    gaps(sheet, data, area);
    stroke(sheet, y, &flat(&used, Cell::mean), 1, BLUE);
    let mut lines = Vec::new();
    if let Some((degrade, upgrade)) = judged {
        let line = |line: Percent| y.at(u64::from(line.milli()));
        lines.push((
            line(degrade),
            Dash::Dashed,
            RED,
            format!("degrade {}", text::percent(degrade)),
        ));
        lines.push((
            line(upgrade),
            Dash::Mixed,
            GREEN,
            format!("upgrade {}", text::percent(upgrade)),
        ));
    }
    sheet.lines(area, &lines);
    sheet.frame(area);
}

pub(super) fn requests(sheet: &mut Sheet, data: &PlotData) {
    if data.timeline.in_flight.is_empty() {
        return;
    }
    let keys = [
        Key { mark: Mark::Fill(ORANGE), text: "waiting" },
        Key { mark: Mark::Line(BLUE), text: "running" },
        Key { mark: Mark::Line(ORANGE.pale(50)), text: "most waiting" },
        Key { mark: Mark::Line(BLUE.pale(40)), text: "most running" },
    ];
    let area = sheet.panel("requests", 84, &keys);
    let most = data.timeline.in_flight.max().max(data.timeline.queued.max()).max(REQUEST);
    let y = Vertical { area, most: most * 11 / 10 };
    let step = axis::value_step(y.most as f64 / REQUEST as f64).max(1.0);
    value_ticks(sheet, area, step, |value| y.at(value as u64 * REQUEST));
    let queued = data.timeline.queued.held(sheet.scale, &[]);
    fill(sheet, y, &queued, Cell::mean, ORANGE);
    stroke(sheet, y, &flat(&queued, |cell| cell.max), 1, ORANGE.pale(50));
    let running = data.timeline.in_flight.held(sheet.scale, &[]);
    stroke(sheet, y, &flat(&running, |cell| cell.max), 1, BLUE.pale(40));
    stroke(sheet, y, &flat(&running, Cell::mean), 1, BLUE);
    sheet.frame(area);
}

/// The latency of requests that were done, on a logarithmic axis.
pub(super) fn latency(sheet: &mut Sheet, data: &PlotData) {
    if data.timeline.latency.is_empty() {
        return;
    }
    let keys = [
        Key { mark: Mark::Fill(SKY), text: "up to the slowest" },
        Key { mark: Mark::Line(BLUE), text: "median" },
    ];
    let area = sheet.panel("latency of requests by the moment they were done", 100, &keys);
    let blocks = data.timeline.latency.blocks(sheet.scale);
    let least = blocks.iter().map(|block| block.2.max(1)).min().unwrap_or(1);
    let most = blocks.iter().map(|block| block.3).max().unwrap_or(1).max(least);
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
        // Wide enough to be seen, and never over the next block.
        let right = (area.left + to as i32).max(left + 1).min(area.right);
        let (top, middle) = (y(max), y(median));
        let bottom = (middle + 1).max(top + 1);
        sheet.drawing.rect(Area { left, top, right, bottom }, SKY);
        sheet.drawing.rect(Area { left, top: middle - 1, right, bottom: middle + 1 }, BLUE);
    }
    if let Some(limit) = data.settings.latency_limit {
        let height = y(u64::try_from(limit.as_micros()).unwrap_or(u64::MAX)).max(area.top);
        sheet.lines(area, &[(height, Dash::Dashed, RED, "limit".to_owned())]);
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

fn value_ticks(sheet: &mut Sheet, area: Area, step: f64, y: impl Fn(f64) -> i32) {
    let mut tick = 0u32;
    let mut above = area.bottom + SMALL;
    loop {
        let value = f64::from(tick) * step;
        let height = y(value);
        // A value beyond the axis is drawn at its end: there, labels would pile up.
        if height <= area.top || height >= above || tick > 100 {
            return;
        }
        if tick > 0 {
            sheet.drawing.horizontal(height, area.left, area.right, Dash::Solid, super::GRID);
        }
        let text = if step < 1.0 { format!("{value:.1}") } else { format!("{value:.0}") };
        sheet.value_label(area, height, &text);
        above = height - SMALL + 1;
        tick += 1;
    }
}

/// Fills from the bottom of the panel to a value of each column.
fn fill(sheet: &mut Sheet, y: Vertical, cells: &[Option<Cell>], of: fn(&Cell) -> u64, ink: Ink) {
    let column = |cell: &Option<Cell>| cell.map(|cell| (y.at(of(&cell)), y.area.bottom));
    let columns: Vec<_> = cells.iter().map(column).collect();
    sheet.drawing.band(y.area.left, &columns, ink);
}

/// Draws from the smallest to the largest value of each column, `width` pixels at least.
fn stroke(sheet: &mut Sheet, y: Vertical, cells: &[Option<Cell>], width: i32, ink: Ink) {
    let column = |cell: &Option<Cell>| {
        cell.map(|cell| {
            let (top, bottom) = (y.at(cell.max) - width / 2, y.at(cell.min) + (width + 1) / 2);
            // A line at zero is seen, too.
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

fn gaps(sheet: &mut Sheet, data: &PlotData, area: Area) {
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

const OTHERS: Ink = Ink((205, 205, 205), 100);
const RANGE: Ink = Ink(BLUE.0, 30);
/// Sky blue on white paper.
const OWN: Ink = Ink((158, 212, 243), 100);
