//! The decision plot: the state of the machine, the decisions, and their reasons, on one time axis.
//!
//! From top to bottom: each space resource with its lines and the use that upgrades would have led to; the rates; the
//! tier with loading, draining and unloading, waits and every change; requests; latency. A panel without data is left
//! out. Several runs are drawn below one another, on equal axes. Colours are those of Okabe and Ito, which colour-blind
//! people can distinguish; each also has a shape, a place or a name.
//!
//! A run with so many changes that their marks would hide each other is shown as densities: the share of time on each
//! tier, the number of changes, the range and the mean of use.
//!
//! ```text
//! records --> PlotData (bounded memory) --> Drawing (shapes in whole pixels) --> SVG | PNG
//! ```

mod axis;
pub mod calibration;
mod companions;
mod data;
mod drawing;
mod legend;
mod mark;
mod panels;
mod theme;
mod tier;
mod title;

use std::borrow::Cow;

use plotters::backend::SVGBackend;
use tiershift_core::{text, time};

use crate::report::MARK;
use crate::report::plot::drawing::{Anchor, Area, Dash, Drawing, Ink, fit};
use crate::report::timeline::columns::Scale;
use crate::summary::{NONE_LOADED, Summary};

pub use data::PlotData;
pub use title::Title;

/// A run to be drawn.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The title of the run.
    pub title: &'a Title,
    /// The collected data.
    pub data: &'a PlotData,
    /// Its summary.
    pub summary: &'a Summary,
}

/// Returns the plot of one or more runs as SVG.
pub fn svg(runs: &[Run<'_>]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.title.name.as_str()).collect();
    let descriptions: Vec<String> = runs.iter().map(legend::description).collect();
    to_svg(&draw(runs), &names.join(" and "), &descriptions.join(" "))
}

/// Returns the plot as PNG, with two pixels where the SVG has one.
#[cfg(feature = "png")]
pub fn png(runs: &[Run<'_>]) -> Vec<u8> {
    to_png(&draw(runs))
}

/// Returns a drawing as SVG, with a title and a description for people who cannot see it, and dark if the reader's
/// screen is.
fn to_svg(drawing: &Drawing, title: &str, description: &str) -> String {
    let mut text = String::new();
    let size = (drawing.width.unsigned_abs(), drawing.height.unsigned_abs());
    drawing.draw(&mut SVGBackend::with_string(&mut text, size), 1, false);
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let [title, description] = [title, description].map(escape);
    let (tag, shapes) = text.split_once('\n').expect("the first line is the svg tag");
    let named = "<svg role=\"img\" aria-labelledby=\"plot-title\" aria-describedby=\"plot-desc\" ";
    let tag = tag.replacen("<svg ", named, 1);
    let style = theme::dark_style();
    format!(
        "{tag}\n<title id=\"plot-title\">{title}</title>\n<desc id=\"plot-desc\">{MARK}: {description}</desc>\n{style}\n{shapes}"
    )
}

#[cfg(feature = "png")]
fn to_png(drawing: &Drawing) -> Vec<u8> {
    let size = [drawing.width, drawing.height].map(|side| side.unsigned_abs() * PNG_SCALE);
    let mut pixels = vec![0xff; size[0] as usize * size[1] as usize * 3];
    let mut bitmap = plotters::backend::BitMapBackend::with_buffer(&mut pixels, size.into());
    drawing.draw(&mut bitmap, PNG_SCALE as i32, true);
    drop(bitmap);
    encode(&pixels, size)
}

#[cfg(feature = "png")]
fn encode(pixels: &[u8], [width, height]: [u32; 2]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Best);
    let software = encoder.add_text_chunk("Software".to_owned(), MARK.to_owned());
    software.expect("the text is Latin");
    let mut writer = encoder.write_header().expect("the size is not zero");
    writer.write_image_data(pixels).expect("the buffer has the size of the picture");
    writer.finish().expect("writing to memory cannot fail");
    out
}

/// Places the panels, and the runs, below one another.
fn draw(runs: &[Run<'_>]) -> Drawing {
    let all: Vec<&PlotData> = runs.iter().map(|run| run.data).collect();
    let mut sheet = Sheet::new(&all);
    let explained = legend::EXPLAINED / runs.len().max(1);
    for run in runs {
        let Run { title, data, summary } = *run;
        sheet.begin(data);
        sheet.title(title, data, summary);
        panels::memory(&mut sheet, data);
        panels::video_memory(&mut sheet, data);
        panels::rates(&mut sheet, data);
        tier::panel(&mut sheet, data, explained);
        companions::panel(&mut sheet, data);
        panels::requests(&mut sheet, data);
        panels::latency(&mut sheet, data);
        sheet.time_labels();
        legend::draw(&mut sheet, data, explained);
        sheet.reason(summary);
    }
    sheet.finish()
}

/// Returns the figures of a run in a line.
fn figures(summary: &Summary) -> String {
    format!(
        "policy {}   ·   {}, {}, {}   ·   quality served {:.3}   ·   {} over memory{}   ·   {}",
        summary.policy,
        text::count(summary.switches, "switch"),
        text::count(summary.reversals, "reversal"),
        text::count(summary.wasted_loads, "wasted load"),
        summary.quality_served_fraction,
        text::seconds(summary.seconds_over_memory),
        match summary.seconds_over_vram {
            Some(over) if over > 0.0 => {
                format!("   ·   {} over video memory", text::seconds(over))
            }
            Some(_) | None => String::new(),
        },
        text::seconds(summary.seconds),
    )
}

/// A drawing in progress: panels are added at the bottom.
struct Sheet<'a> {
    drawing: Drawing,
    /// All runs to be drawn: they share their axes.
    all: &'a [&'a PlotData],
    /// Whether the current run has so many changes that it is shown as densities.
    is_dense: bool,
    /// Rows of labels below the panels. The grid is that of the first.
    axes: Vec<axis::TimeAxis>,
    /// The date of the beginning, if it is known.
    date: Option<String>,
    scale: Scale,
    bottom: i32,
}

impl<'a> Sheet<'a> {
    fn new(all: &'a [&'a PlotData]) -> Self {
        Self {
            drawing: Drawing::new(WIDTH),
            all,
            is_dense: false,
            axes: Vec::new(),
            date: None,
            scale: Scale {
                begin: time::Timestamp::ZERO,
                end: time::Timestamp::ZERO,
                pixels: (WIDTH - LEFT - RIGHT) as usize,
                holds_to_end: true,
            },
            bottom: 0,
        }
    }

    /// Begins a run, below what is already drawn.
    fn begin(&mut self, data: &PlotData) {
        let pixels = self.scale.pixels;
        let clock = &data.timeline.clock;
        let begin = self.all.iter().map(|data| data.timeline.part.from).min();
        let begin = begin.unwrap_or_default();
        let end = self.most(|data| data.timeline.end.as_nanos());
        let end = time::Timestamp::from_nanos(end);
        let scale = Scale { begin, end, pixels, holds_to_end: true };
        let is_free = |before: &(time::Timestamp, String), label: &(time::Timestamp, String)| {
            let half = |text: &str| drawing::text_width(text, SMALL) / 2;
            let [left, right] = [before, label].map(|tick| scale.pixel(tick.0) as i32);
            left + half(&before.1) + BETWEEN_LABELS <= right - half(&label.1)
        };
        let date = clock.at(begin).map(|start| start.civil().date().to_string());
        let mut wall = axis::wall_axis(clock, begin, end, is_free);
        if let (Some(wall), Some(date)) = (&mut wall, &date) {
            let taken = DATE_LEFT + drawing::text_width(date, SMALL) + BETWEEN_LABELS / 2;
            wall.ticks.retain(|(at, label)| {
                LEFT + scale.pixel(*at) as i32 - drawing::text_width(label, SMALL) / 2 >= taken
            });
        }
        self.axes = wall.into_iter().chain([axis::time_axis(begin, end)]).collect();
        (self.date, self.scale) = (date, scale);
        self.is_dense = tier::is_dense(self, data);
    }

    /// Returns the largest value that any of the runs has.
    fn most(&self, of: impl Fn(&PlotData) -> u64) -> u64 {
        self.all.iter().map(|data| of(data)).max().unwrap_or(0)
    }

    fn title(&mut self, title: &Title, data: &PlotData, summary: &Summary) {
        let start = data.timeline.clock.at(data.timeline.part.from);
        let lines = [
            (title.name.clone(), TITLE_SIZE, BLACK, 24),
            (title.details(start), SMALL + 1, DARK, 23),
            (figures(summary), TEXT, DARK, 23),
        ];
        for (text, size, ink, below) in lines {
            self.bottom += below;
            let text = fit(&text, size, WIDTH - LEFT - 20);
            self.drawing.text(&text, (LEFT, self.bottom), Anchor::Start, size, ink);
        }
        self.bottom += 14;
    }

    /// Adds a panel with its title, and a key to its inks above its right end.
    fn panel(&mut self, title: &str, height: i32, keys: &[Key]) -> Area {
        let top = self.bottom + HEAD;
        let area = Area { left: LEFT, top, right: WIDTH - RIGHT, bottom: top + height };
        self.drawing.rect(area, PAPER);
        let line = top - 11;
        self.drawing.text(title, (area.left, line), Anchor::Start, TEXT, BLACK);
        let mut right = area.right;
        for key in keys.iter().rev() {
            right -= drawing::text_width(&key.text, SMALL);
            self.drawing.text(&key.text, (right, line), Anchor::Start, SMALL, DARK);
            right -= 24;
            let swatch = Area { left: right, top: line - 5, right: right + 18, bottom: line + 5 };
            key.mark.draw(&mut self.drawing, swatch);
            right -= 16;
        }
        for (at, _) in &self.axes[0].ticks {
            let x = area.left + self.scale.pixel(*at) as i32;
            self.drawing.vertical(x, area.top, area.bottom, GRID);
        }
        self.bottom = area.bottom;
        area
    }

    /// Returns the place of a moment.
    fn x(&self, at: time::Timestamp) -> i32 {
        LEFT + self.scale.pixel(at) as i32
    }

    /// Writes a value beside its tick.
    fn value_label(&mut self, area: Area, y: i32, text: &str) {
        self.drawing.horizontal(y, area.left - 4, area.left, Dash::Solid, DARK);
        self.drawing.text(text, (area.left - 8, y), Anchor::End, SMALL, DARK);
    }

    /// Draws lines across a panel and names them at its right edge, with at least one line of text between two names.
    fn lines(&mut self, area: Area, lines: Vec<Line>) {
        let last = |line: &Line| line.heights.iter().rev().copied().flatten().next();
        let mut lines: Vec<(i32, Line)> =
            lines.into_iter().filter_map(|line| Some((last(&line)?, line))).collect();
        lines.retain(|(height, _)| *height >= area.top);
        lines.sort_by_key(|line| line.0);
        let mut free = area.top - 12;
        for (height, Line { heights, dash, ink, text }) in lines {
            self.drawing.line(area.left, &heights, dash, ink);
            let place = height.max(free);
            let words = (area.right + 8, place);
            self.drawing.text(&text, words, Anchor::Start, SMALL, ink.of_text());
            free = place + SMALL + 2;
        }
    }

    fn frame(&mut self, area: Area) {
        self.drawing.frame(area, FRAME);
    }

    fn time_labels(&mut self) {
        if let Some(date) = &self.date {
            let place = (DATE_LEFT, self.bottom + 14);
            self.drawing.text(date, place, Anchor::Start, SMALL, DARK);
        }
        for axis in &self.axes {
            let y = self.bottom + 14;
            for (at, label) in &axis.ticks {
                let x = LEFT + self.scale.pixel(*at) as i32;
                self.drawing.vertical(x, self.bottom, self.bottom + 5, DARK);
                self.drawing.text(label, (x, y), Anchor::Middle, SMALL, DARK);
            }
            let place = (WIDTH - RIGHT + 24, y);
            self.drawing.text(&axis.caption, place, Anchor::Start, SMALL, DARK);
            self.bottom += AXIS_ROW;
        }
        self.bottom += 4;
    }

    /// If no model was ever loaded, writes why there is nothing to see.
    fn reason(&mut self, summary: &Summary) {
        let Some(reason) = summary.warnings.iter().find(|warning| warning.starts_with(NONE_LOADED))
        else {
            return;
        };
        let reason = fit(reason, TEXT, WIDTH - LEFT - 20);
        self.drawing.text(&reason, (LEFT, self.bottom + 16), Anchor::Start, TEXT, BLACK);
        self.bottom += 26;
    }

    fn finish(mut self) -> Drawing {
        self.drawing.height = self.bottom + 12;
        self.drawing
    }
}

/// A line across a panel, over time.
struct Line {
    /// For each column.
    heights: Vec<Option<i32>>,
    dash: Dash,
    ink: Ink,
    text: String,
}

/// The meaning of an ink of a panel.
struct Key {
    mark: Mark,
    text: Cow<'static, str>,
}

impl Key {
    fn new(mark: Mark, text: impl Into<Cow<'static, str>>) -> Self {
        Self { mark, text: text.into() }
    }
}

/// How a key looks.
enum Mark {
    Fill(Ink),
    Line(Ink),
    Hatch { ground: Ink, stroke: Ink, rising: bool },
}

impl Mark {
    fn draw(&self, drawing: &mut Drawing, area: Area) {
        match *self {
            Self::Fill(ink) => drawing.rect(area, ink),
            Self::Line(ink) => {
                let middle = (area.top + area.bottom) / 2;
                drawing.rect(Area { top: middle - 1, bottom: middle + 1, ..area }, ink);
            }
            Self::Hatch { ground, stroke, rising } => {
                drawing.rect(area, ground);
                drawing.hatch(area, rising, stroke);
            }
        }
    }
}

const WIDTH: i32 = 1400;
/// Room for values on the left, and for the names of lines on the right.
const LEFT: i32 = 86;
const RIGHT: i32 = 154;
/// Room for a panel's title above it.
const HEAD: i32 = 30;
/// From one row of time labels to the next, and between two labels of a row.
const AXIS_ROW: i32 = 22;
const BETWEEN_LABELS: i32 = 8;
/// The position of the date of the beginning.
const DATE_LEFT: i32 = 4;
const TITLE_SIZE: i32 = 18;
const TEXT: i32 = 14;
const SMALL: i32 = 11;
#[cfg(feature = "png")]
const PNG_SCALE: u32 = 2;

const BLACK: Ink = Ink((0, 0, 0), 100);
const DARK: Ink = Ink((70, 70, 70), 100);
const FRAME: Ink = Ink((140, 140, 140), 100);
const GRID: Ink = Ink((228, 228, 228), 100);
const PAPER: Ink = Ink((250, 250, 250), 100);
const WHITE: Ink = Ink((255, 255, 255), 100);
// Okabe and Ito, Color Universal Design, 2008.
const ORANGE: Ink = Ink((230, 159, 0), 100);
const SKY: Ink = Ink((86, 180, 233), 100);
const GREEN: Ink = Ink((0, 158, 115), 100);
const YELLOW: Ink = Ink((240, 228, 66), 100);
const BLUE: Ink = Ink((0, 114, 178), 100);
const RED: Ink = Ink((213, 94, 0), 100);
const PURPLE: Ink = Ink((204, 121, 167), 100);

#[cfg(test)]
mod tests;
