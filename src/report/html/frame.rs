//! The frame for every single-file page.
//!
//! A page contains its styles, its scripts and its data; a policy within the page prevents the browser from fetching
//! anything. The data is compressed, so that a day of two-second samples takes some hundred KB, and so that no name of
//! a file, a model or a policy can be read as markup; what is not compressed is escaped.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;

/// A kind of page: the parts that are the same in all of its pages.
pub(super) struct Frame {
    /// It contains `{{title}}`, `{{styles}}`, `{{figures}}`, `{{data}}` and `{{scripts}}` where these belong.
    pub(super) markup: &'static str,
    pub(super) styles: &'static str,
    pub(super) scripts: &'static str,
}

impl Frame {
    /// Returns the page with the input of its scripts, and the figures for a browser that runs none. Inserted parts are
    /// not searched for the names of others.
    pub(super) fn filled(&self, title: &str, figures: &str, document: &impl Serialize) -> String {
        let json = serde_json::to_vec(document).expect("plain data with text keys is always JSON");
        let data = packed(&json);
        let fixed = self.markup.len() + self.styles.len() + self.scripts.len();
        let figures = escaped(figures);
        let mut page = String::with_capacity(fixed + data.len() + figures.len());
        let mut rest = self.markup;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").expect("the frame closes what it opens");
            page.push_str(before);
            match name {
                "title" => page.push_str(&escaped(title)),
                "styles" => page.push_str(self.styles),
                "figures" => page.push_str(&figures),
                "data" => page.push_str(&data),
                "scripts" => page.push_str(self.scripts),
                _ => unreachable!("the frame names these parts only"),
            }
            rest = after;
        }
        page.push_str(rest);
        page
    }
}

fn packed(json: &[u8]) -> String {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(json).expect("writing to memory cannot fail");
    STANDARD.encode(encoder.finish().expect("writing to memory cannot fail"))
}

/// Returns text as markup that is shown literally.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

/// Returns the content of a page.
#[cfg(test)]
pub(super) fn unpacked(page: &str) -> serde_json::Value {
    use std::io::Read as _;
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    let packed = STANDARD.decode(rest.split_once('<').unwrap().0).unwrap();
    let mut json = String::new();
    flate2::read::DeflateDecoder::new(&packed[..]).read_to_string(&mut json).unwrap();
    serde_json::from_str(&json).unwrap()
}
