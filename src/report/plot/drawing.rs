//! Shapes in logical pixels, and the one place that passes them to a drawing library.
//!
//! Every line is a rectangle or a band of columns, all in whole pixels: no slanted or wide lines of a library are used,
//! so that SVG and PNG show the same.

use plotters::backend::DrawingBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, RGBAColor, RGBColor, TextStyle};

/// A picture before it is drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawing {
    pub(super) width: i32,
    pub(super) height: i32,
    shapes: Vec<Shape>,
}

#[derive(Clone, Debug)]
enum Shape {
    /// From the upper left corner up to, but not including, the lower right one.
    Rect {
        area: Area,
        ink: Ink,
    },
    /// Columns from `x` on, each filled from its upper up to, but not including, its lower edge.
    Band {
        x: i32,
        columns: Vec<(i32, i32)>,
        ink: Ink,
    },
    /// At 45 degrees, from left to right.
    Stroke {
        from: (i32, i32),
        to: (i32, i32),
        ink: Ink,
    },
    Polygon {
        points: Vec<(i32, i32)>,
        ink: Ink,
    },
    Text {
        text: String,
        at: (i32, i32),
        anchor: Anchor,
        size: i32,
        ink: Ink,
    },
}

/// A rectangle; the right and the lower edge are outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: i32,
    pub(super) top: i32,
    pub(super) right: i32,
    pub(super) bottom: i32,
}

/// A colour and how opaque it is, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ink(pub(super) (u8, u8, u8), pub(super) u8);

/// The end of a text at its position. Texts are centred on their line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// The pattern of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dash {
    Solid,
    Dashed,
    Dotted,
    Mixed,
}

impl Dash {
    /// Lengths of ink and gap, in turn.
    fn pattern(self) -> &'static [i32] {
        match self {
            Self::Solid => &[i32::MAX / 4],
            Self::Dashed => &[8, 5],
            Self::Dotted => &[2, 4],
            Self::Mixed => &[10, 4, 2, 4],
        }
    }
}

impl Drawing {
    /// Begins a white sheet. Its height is set when it is known.
    pub(super) fn new(width: i32) -> Self {
        Self { width, ..Self::default() }
    }

    pub(super) fn rect(&mut self, area: Area, ink: Ink) {
        if area.left < area.right && area.top < area.bottom {
            self.shapes.push(Shape::Rect { area, ink });
        }
    }

    pub(super) fn frame(&mut self, area: Area, ink: Ink) {
        let Area { left, top, right, bottom } = area;
        self.rect(Area { bottom: top + 1, ..area }, ink);
        self.rect(Area { top: bottom - 1, ..area }, ink);
        self.rect(Area { right: left + 1, ..area }, ink);
        self.rect(Area { left: right - 1, ..area }, ink);
    }

    pub(super) fn horizontal(&mut self, y: i32, from: i32, to: i32, dash: Dash, ink: Ink) {
        self.line(from, &vec![Some(y); usize::try_from(to - from).unwrap_or(0)], dash, ink);
    }

    /// Draws a line through the heights of columns from `x` on; `None` is a gap.
    pub(super) fn line(&mut self, x: i32, heights: &[Option<i32>], dash: Dash, ink: Ink) {
        // Columns without ink have no height: one shape per line keeps the file small.
        let pattern = dash.pattern();
        let period: i32 = pattern.iter().sum();
        let inked = |column: i32| {
            let mut place = column % period;
            let turn = pattern.iter().position(|&length| {
                place -= length;
                place < 0
            });
            turn.is_some_and(|turn| turn % 2 == 0)
        };
        let mut before = None;
        let columns: Vec<_> = (0..)
            .zip(heights)
            .map(|(column, &height)| {
                let from = before.replace(height).flatten();
                let (y, from) = (height?, from.or(height)?);
                // A step is drawn completely, wherever the dashes are.
                Some(match y == from {
                    true => (y, y + i32::from(inked(column))),
                    false => (y.min(from), y.max(from) + 1),
                })
            })
            .collect();
        self.band(x, &columns, ink);
    }

    pub(super) fn vertical(&mut self, x: i32, from: i32, to: i32, ink: Ink) {
        self.rect(Area { left: x, top: from, right: x + 1, bottom: to }, ink);
    }

    /// Draws the existing columns; `None` is a gap.
    pub(super) fn band(&mut self, x: i32, columns: &[Option<(i32, i32)>], ink: Ink) {
        let mut x = x;
        for run in columns.chunk_by(|a, b| a.is_some() == b.is_some()) {
            let columns: Vec<(i32, i32)> = run.iter().copied().flatten().collect();
            if !columns.is_empty() {
                self.shapes.push(Shape::Band { x, columns, ink });
            }
            x += run.len() as i32;
        }
    }

    pub(super) fn polygon(&mut self, points: Vec<(i32, i32)>, ink: Ink) {
        self.shapes.push(Shape::Polygon { points, ink });
    }

    /// Fills an area with strokes at 45 degrees: `rising` from lower left to upper right, or falling.
    pub(super) fn hatch(&mut self, area: Area, rising: bool, ink: Ink) {
        let height = area.height();
        let mut start = area.left - height;
        while start < area.right {
            // The stroke's columns inside the area; it meets the area's first row or last row at `start`.
            let left = start.max(area.left);
            let right = (start + height).min(area.right);
            let y =
                |x: i32| if rising { area.bottom - (x - start) } else { area.top + (x - start) };
            if left < right {
                self.shapes.push(Shape::Stroke {
                    from: (left, y(left)),
                    to: (right, y(right)),
                    ink,
                });
            }
            start += HATCH_SPACING;
        }
    }

    pub(super) fn text(&mut self, text: &str, at: (i32, i32), anchor: Anchor, size: i32, ink: Ink) {
        self.shapes.push(Shape::Text { text: text.to_owned(), at, anchor, size, ink });
    }

    /// Draws everything, each logical pixel as `scale` by `scale` pixels of the backend. `cells` means that the backend
    /// paints cells of pixels (a bitmap) and not areas between coordinates (SVG).
    pub(super) fn draw<B: DrawingBackend>(&self, backend: &mut B, scale: i32, cells: bool) {
        let rect = |backend: &mut B, area: Area, ink: Ink| {
            let upper_left = (area.left * scale, area.top * scale);
            let lower_right = (area.right * scale, area.bottom * scale);
            keep(backend.draw_rect(upper_left, lower_right, &ink.color(), true));
        };
        let sheet = Area { left: 0, top: 0, right: self.width, bottom: self.height };
        rect(backend, sheet, Ink((255, 255, 255), 100));
        for shape in &self.shapes {
            match shape {
                Shape::Rect { area, ink } => rect(backend, *area, *ink),
                Shape::Band { x, columns, ink } if cells => {
                    for (left, &(top, bottom)) in (*x..).zip(columns) {
                        if top < bottom {
                            rect(backend, Area { left, top, right: left + 1, bottom }, *ink);
                        }
                    }
                }
                Shape::Band { x, columns, ink } => {
                    let outline = outline(*x, columns, scale);
                    keep(backend.fill_polygon(outline, &ink.color()));
                }
                Shape::Stroke { from, to, ink } if cells => {
                    let rise = (to.1 - from.1).signum();
                    for step in 0..(to.0 - from.0) * scale {
                        let x = from.0 * scale + step;
                        let y = from.1 * scale + step * rise - i32::from(rise < 0);
                        keep(backend.draw_rect((x, y), (x + 1, y + 1), &ink.color(), true));
                    }
                }
                Shape::Stroke { from, to, ink } => {
                    let end = |(x, y): (i32, i32)| (x * scale, y * scale);
                    keep(backend.draw_line(end(*from), end(*to), &ink.color()));
                }
                Shape::Polygon { points, ink } => {
                    let points = points.iter().map(|&(x, y)| (x * scale, y * scale));
                    keep(backend.fill_polygon(points, &ink.color()));
                }
                Shape::Text { text, at, anchor, size, ink } => {
                    let pixels = f64::from(*size * scale);
                    // SVG is drawn at 1/1.24 of the size given, and centred on the height of an x. A bitmap is
                    // drawn at the size over ascent and descent (1.164 em in this font), and centred too high.
                    let (given, lower) = if cells {
                        (pixels * 1.164, *size * scale * 4 / 25)
                    } else {
                        (pixels * 1.24, 0)
                    };
                    let style = text_style(given, *ink, *anchor);
                    keep(backend.draw_text(text, &style, (at.0 * scale, at.1 * scale + lower)));
                }
            }
        }
        keep(backend.present());
    }
}

impl Area {
    pub(super) fn height(self) -> i32 {
        self.bottom - self.top
    }
}

impl Ink {
    pub(super) fn pale(self, percent: u8) -> Self {
        Self(self.0, percent)
    }

    /// Returns a darker ink for text: an ink that is right for areas is too pale for letters.
    pub(super) fn of_text(self) -> Self {
        let (red, green, blue) = self.0;
        let darker = |part: u8| (u16::from(part) * 3 / 5) as u8;
        Self((darker(red), darker(green), darker(blue)), self.1)
    }

    /// Returns the colour as SVG has it: `#0072B2`.
    pub(super) fn hex(self) -> String {
        let (red, green, blue) = self.0;
        format!("#{red:02X}{green:02X}{blue:02X}")
    }

    fn color(self) -> RGBAColor {
        let (red, green, blue) = self.0;
        RGBColor(red, green, blue).mix(f64::from(self.1) / 100.0)
    }
}

/// Returns the width of a text in logical pixels.
pub(super) fn text_width(text: &str, size: i32) -> i32 {
    let font = font(f64::from(size) * 1.164);
    let ((left, _), (right, _)) = font.layout_box(text).expect("the font is part of the program");
    right - left
}

/// Returns as much of a text as fits, with an ellipsis if some does not.
pub(super) fn fit(text: &str, size: i32, width: i32) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut short: String = text.to_owned();
    while short.pop().is_some() {
        let shortened = format!("{}…", short.trim_end());
        if text_width(&shortened, size) <= width {
            return shortened;
        }
    }
    String::new()
}

/// The upper edge from left to right, then the lower edge back, without the points inside straight lines.
fn outline(x: i32, columns: &[(i32, i32)], scale: i32) -> Vec<(i32, i32)> {
    let mut points: Vec<(i32, i32)> = Vec::new();
    let mut push = |point: (i32, i32)| {
        if let [.., a, b] = points[..]
            && (a.1 == b.1 && b.1 == point.1 || a.0 == b.0 && b.0 == point.0)
        {
            points.pop();
        }
        points.push(point);
    };
    let columns = (x..).zip(columns);
    for (x, &(top, _)) in columns.clone() {
        push((x * scale, top * scale));
        push(((x + 1) * scale, top * scale));
    }
    let mut back: Vec<(i32, i32)> = Vec::new();
    for (x, &(_, bottom)) in columns {
        back.push((x * scale, bottom * scale));
        back.push(((x + 1) * scale, bottom * scale));
    }
    back.into_iter().rev().for_each(push);
    points
}

fn text_style(size: f64, ink: Ink, anchor: Anchor) -> TextStyle<'static> {
    let horizontal = match anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    };
    TextStyle {
        font: font(size),
        color: ink.color().to_backend_color(),
        pos: Pos::new(horizontal, VPos::Center),
    }
}

fn font(size: f64) -> FontDesc<'static> {
    static REGISTERED: std::sync::Once = std::sync::Once::new();
    REGISTERED.call_once(|| {
        let font = plotters::style::register_font(FONT_NAME, FontStyle::Normal, FONT);
        assert!(font.is_ok(), "the font that is part of the program can be read");
    });
    FontDesc::new(FontFamily::Name(FONT_NAME), size, FontStyle::Normal)
}

fn keep<E: std::fmt::Debug>(drawn: Result<(), E>) {
    drawn.expect("drawing to memory with a font of our own cannot fail");
}

/// It is also the list of fonts for a viewer of the SVG; the metrics of the first two agree.
const FONT_NAME: &str = "DejaVu Sans, Verdana, sans-serif";
const FONT: &[u8] = include_bytes!("../../../assets/DejaVuSans-subset.ttf");
const HATCH_SPACING: i32 = 6;
