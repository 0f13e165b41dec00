//! The look of an SVG on a dark screen. The colours of the drawing are those of paper; a style replaces each of them. A
//! bitmap has no such choice and stays light.

use std::fmt::Write as _;

use crate::report::plot::drawing::Ink;
use crate::report::plot::mark::REVERSAL;
use crate::report::plot::panels::{OTHERS, OWN};
use crate::report::plot::{
    BLACK, BLUE, DARK, FRAME, GREEN, GRID, ORANGE, PAPER, PURPLE, RED, SKY, WHITE, YELLOW,
};

/// Returns the style element.
pub(super) fn dark_style() -> String {
    let mut style = "<style>@media (prefers-color-scheme: dark) {\n".to_owned();
    let mut rule = |ink: Ink, dark: &str| {
        let light = ink.hex();
        let written = writeln!(
            style,
            "[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}"
        );
        written.expect("writing to a string cannot fail");
    };
    for (ink, dark) in DARK_INKS {
        rule(ink, dark);
    }
    for (ink, dark) in DARK_TEXTS {
        rule(ink.of_text(), dark);
    }
    style.push_str("}</style>");
    style
}

/// The replacement of each ink; an ink that is not listed works on a dark ground as well as on a light one.
const DARK_INKS: [(Ink, &str); 13] = [
    (WHITE, "#14171C"),
    (PAPER, "#1B1F26"),
    (GRID, "#2E343D"),
    (FRAME, "#7F8793"),
    (DARK, "#C3C8D0"),
    (BLACK, "#F2F4F7"),
    (OTHERS, "#4C535E"),
    (OWN, "#1F5578"),
    (SKY, "#2F7FB0"),
    (BLUE, "#8FD0F8"),
    (YELLOW, "#C9BD2E"),
    (PURPLE, "#DD93BB"),
    (REVERSAL, "#E36BC9"),
];

/// The replacement for the names of lines.
const DARK_TEXTS: [(Ink, &str); 3] = [(RED, "#FF8A3D"), (ORANGE, "#E69F00"), (GREEN, "#00C08B")];

#[cfg(test)]
mod tests {
    use super::*;

    /// Contrast by WCAG 2.1, 1.4.3, of two colours.
    fn contrast(a: &str, b: &str) -> f64 {
        let luminance = |hex: &str| {
            let part = |at: usize| {
                let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
                match value <= 0.03928 {
                    true => value / 12.92,
                    false => libm::pow((value + 0.055) / 1.055, 2.4),
                }
            };
            0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
        };
        let [a, b] = [a, b].map(luminance);
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn words_can_be_read_on_paper_and_in_the_dark() {
        let dark_of = |ink: Ink| {
            let texts = DARK_TEXTS.map(|(line, dark)| (line.of_text(), dark));
            let mut inks = DARK_INKS.iter().chain(&texts);
            let found = inks.find(|(light, _)| *light == ink);
            found.map_or_else(|| ink.hex(), |(_, dark)| (*dark).to_owned())
        };
        let grounds = [PAPER, WHITE];
        for ink in [BLACK, DARK, RED.of_text(), ORANGE.of_text(), GREEN.of_text()] {
            for ground in grounds {
                let light = contrast(&ink.hex(), &ground.hex());
                assert!(light >= 4.5, "{} on {}: {light}", ink.hex(), ground.hex());
            }
        }
        for ink in [BLACK, DARK, RED.of_text(), ORANGE.of_text(), GREEN.of_text()] {
            for ground in grounds {
                let dark = contrast(&dark_of(ink), &dark_of(ground));
                assert!(dark >= 4.5, "{} on {}: {dark}", dark_of(ink), dark_of(ground));
            }
        }
    }
}
