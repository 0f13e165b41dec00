//! The plot of a calibration: memory over context with the line through it, times and speeds with their spread.

use crate::measure::calibration::{Calibration, Measured, Speeds};
use crate::measure::figure::Figure;
use crate::report::plot::drawing::{Anchor, Area, Dash, Drawing, Ink, fit, text_width};
use crate::report::plot::{
    BLACK, BLUE, DARK, FRAME, GREEN, GRID, ORANGE, PAPER, PURPLE, RED, SKY, SMALL, TEXT,
    TITLE_SIZE, axis,
};

/// Returns the plot as SVG.
pub fn svg(calibration: &Calibration) -> String {
    let title = format!("measured with {}", calibration.engine);
    super::to_svg(&draw(calibration), &title, "memory, times and speeds of each model")
}

/// Returns the plot as PNG, with two pixels where the SVG has one.
#[cfg(feature = "png")]
pub fn png(calibration: &Calibration) -> Vec<u8> {
    super::to_png(&draw(calibration))
}

fn draw(calibration: &Calibration) -> Drawing {
    let mut drawing = Drawing::new(WIDTH);
    let title = format!("measured with {}", calibration.engine);
    drawing.text(&title, (LEFT, 24), Anchor::Start, TITLE_SIZE, BLACK);
    let mut bottom = memory(&mut drawing, 40, &calibration.models);
    let times = |it: &Measured| {
        let cold = it.load_cold.as_ref().ok().copied();
        [
            ("load from storage", cold),
            ("load from the page cache", Some(it.load_warm)),
            ("unload", Some(it.unload)),
            ("memory back", it.release_lag),
        ]
    };
    bottom = bars(&mut drawing, bottom, "seconds", &calibration.models, times);
    bottom = bars(&mut drawing, bottom, "prompt tokens a second", &calibration.models, |it| {
        speeds(&it.prefill)
    });
    bottom = bars(&mut drawing, bottom, "reply tokens a second", &calibration.models, |it| {
        speeds(&it.decode)
    });
    drawing.height = bottom + 16;
    drawing
}

fn speeds(speeds: &Speeds) -> [(&'static str, Option<Figure>); 3] {
    [
        ("alone", Some(speeds.alone)),
        ("each of two", speeds.side_by_side),
        ("beside a busy program", Some(speeds.beside_busy_load)),
    ]
}

/// Draws each model's memory and the line through it, and returns where the panel ends.
fn memory(drawing: &mut Drawing, top: i32, models: &[Measured]) -> i32 {
    let area = panel(drawing, top, "memory (MiB) by tokens of context", MEMORY_HEIGHT);
    let points = || models.iter().flat_map(|it| &it.footprints);
    let most_tokens = points().map(|held| held.tokens).max().unwrap_or(1) as f64;
    let most_mib = points().map(|held| mib(held.resident.get())).fold(1.0, f64::max) * 1.1;
    let width = f64::from(area.right - area.left);
    let x = |tokens: f64| area.left + (tokens / most_tokens * width) as i32;
    let y = |mib: f64| area.bottom - (mib / most_mib * f64::from(area.height())) as i32;
    let step = axis::value_step(most_mib);
    for tick in (0..).map(|turn| f64::from(turn) * step).take_while(|tick| *tick <= most_mib) {
        drawing.horizontal(y(tick), area.left, area.right, Dash::Solid, GRID);
        let at = (area.left - 8, y(tick));
        drawing.text(&format!("{tick}"), at, Anchor::End, SMALL, DARK);
    }
    let step = axis::value_step(most_tokens);
    for tick in (0..).map(|turn| f64::from(turn) * step).take_while(|tick| *tick <= most_tokens) {
        let at = (x(tick), area.bottom + 12);
        drawing.text(&format!("{tick}"), at, Anchor::Middle, SMALL, DARK);
    }
    let mut names = Vec::new();
    for (measured, ink) in models.iter().zip(INKS.into_iter().cycle()) {
        let line = |tokens: f64| {
            mib(measured.fit.weights.get()) + mib(measured.fit.kv_per_token.get()) * tokens
        };
        let columns = (area.left..area.right).map(|column| {
            let tokens = f64::from(column - area.left) / width * most_tokens;
            let middle = y(line(tokens));
            (middle >= area.top).then_some((middle - 1, middle + 1))
        });
        drawing.band(area.left, &columns.collect::<Vec<_>>(), ink);
        for held in &measured.footprints {
            let (x, y) = (x(held.tokens as f64), y(mib(held.resident.get())));
            let point = Area { left: x - 4, top: y - 4, right: x + 4, bottom: y + 4 };
            drawing.rect(point, ink);
        }
        names.push((y(line(most_tokens)), &measured.id));
    }
    // Each name is at least one line of text apart from the next.
    names.sort_unstable();
    let mut free = area.top;
    for (height, name) in names {
        let height = height.max(free);
        let name = fit(name, SMALL, RIGHT - 14);
        drawing.text(&name, (area.right + 10, height), Anchor::Start, SMALL, BLACK);
        free = height + SMALL + 2;
    }
    drawing.frame(area, FRAME);
    area.bottom + 20
}

/// Draws a bar for each figure of each model, with its spread across the bar's end, and returns where the panel ends.
fn bars<const N: usize>(
    drawing: &mut Drawing,
    top: i32,
    title: &str,
    models: &[Measured],
    figures: impl Fn(&Measured) -> [(&'static str, Option<Figure>); N],
) -> i32 {
    let rows = models.iter().zip(INKS.into_iter().cycle()).flat_map(|(measured, ink)| {
        figures(measured).into_iter().map(move |(name, figure)| (measured, ink, name, figure))
    });
    let rows: Vec<_> = rows.collect();
    let area = panel(drawing, top, title, rows.len() as i32 * ROW + 8);
    let most = rows.iter().filter_map(|row| row.3).map(|it| it.most).fold(1e-9, f64::max);
    // Room for the value after the longest bar.
    let width = f64::from(area.right - area.left - 90);
    let x = |value: f64| area.left + (value / most * width) as i32;
    for (place, (measured, ink, name, figure)) in rows.into_iter().enumerate() {
        let y = area.top + 4 + place as i32 * ROW;
        let middle = y + ROW / 2;
        let room = LEFT - 20 - text_width(name, SMALL);
        let label = format!("{}   {name}", fit(&measured.id, SMALL, room));
        drawing.text(&label, (area.left - 8, middle), Anchor::End, SMALL, DARK);
        let Some(figure) = figure else {
            drawing.text("not seen", (area.left + 8, middle), Anchor::Start, SMALL, DARK);
            continue;
        };
        let bar =
            Area { left: area.left, top: y + 3, right: x(figure.median), bottom: y + ROW - 3 };
        drawing.rect(bar, ink.pale(70));
        drawing.horizontal(middle, x(figure.least), x(figure.most), Dash::Solid, BLACK);
        for end in [figure.least, figure.most] {
            drawing.vertical(x(end), middle - 4, middle + 4, BLACK);
        }
        let places = if figure.median < 10.0 { 3 } else { 1 };
        let value = format!("{:.places$}", figure.median);
        let at = (x(figure.most.max(figure.median)) + 8, middle);
        drawing.text(&value, at, Anchor::Start, SMALL, BLACK);
    }
    drawing.frame(area, FRAME);
    area.bottom
}

fn panel(drawing: &mut Drawing, top: i32, title: &str, height: i32) -> Area {
    let top = top + HEAD;
    let area = Area { left: LEFT, top, right: WIDTH - RIGHT, bottom: top + height };
    drawing.rect(area, PAPER);
    drawing.text(title, (LEFT, top - 11), Anchor::Start, TEXT, BLACK);
    area
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 20) as f64
}

const WIDTH: i32 = 1000;
/// Room for the names of bars on the left, and for those of models on the right.
const LEFT: i32 = 230;
const RIGHT: i32 = 110;
const HEAD: i32 = 30;
const MEMORY_HEIGHT: i32 = 220;
const ROW: i32 = 20;
const INKS: [Ink; 6] = [BLUE, ORANGE, GREEN, PURPLE, RED, SKY];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::calibration::tests::measured;

    #[test]
    fn every_figure_stands_beside_its_bar() {
        let picture = svg(&measured());
        for shown in ["a server", "0.250", "250.0", "20.0", "not seen", "memory back", "1000"] {
            assert!(picture.contains(shown), "{shown} is not in {picture}");
        }
    }
}
