//! Messages beside a result, on standard error: notes, warnings and errors, in the form that the options of every verb
//! choose.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use anstream::eprintln;
use clap::builder::styling::{AnsiColor, Style};
use clap::{ColorChoice, ValueEnum};
use serde::Serialize;

use crate::files::document::{DocumentError, Position};
#[cfg(feature = "serve")]
use crate::inventory::ladder::LadderError;
use crate::scenario::ScenarioError;
#[cfg(feature = "serve")]
use crate::serve::ConfigError;
use crate::trace::TraceError;

/// The form of messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    pub(super) json: bool,
    pub(super) quiet: bool,
}

/// Global, because notes are made far below the verbs, and in any thread.
static MANNER: OnceLock<Manner> = OnceLock::new();

/// An error, as JSON.
#[derive(Debug, Serialize)]
struct Refusal {
    /// What is wrong.
    error: String,
    /// Where, in a file that was read.
    place: Option<Position>,
    /// The remedy, if it is known apart from the error's text.
    remedy: Option<String>,
    /// The exit code of the process.
    exit_code: u8,
}

/// Sets the form of all messages from here on.
pub(super) fn begin(manner: Manner, color: ColorChoice) {
    let color = match color {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    };
    color.write_global();
    // A program that runs the command line twice keeps its first form.
    let _ = MANNER.set(manner);
}

/// Returns whether only results and errors are wanted.
pub(super) fn is_quiet() -> bool {
    manner().quiet
}

/// Prints a note about a result.
pub(super) fn note(text: &str) {
    beside("note", NOTE, text);
}

/// Prints a warning.
pub(super) fn warning(text: &str) {
    beside("warning", WARNING, text);
}

fn beside(word: &str, style: Style, text: &str) {
    let Manner { json, quiet } = manner();
    match (quiet, json) {
        (true, _) => {}
        (false, true) => eprintln!("{}", serde_json::json!({ word: text })),
        (false, false) => eprintln!("{style}{word}:{style:#} {text}"),
    }
}

/// Prints why a verb failed.
pub(super) fn error(error: &anyhow::Error, exit_code: u8) {
    let message = format!("{error:#}");
    if !manner().json {
        // A document's refusal shows the position, and already begins with the word.
        let text = message.strip_prefix("error: ").unwrap_or(&message);
        return eprintln!("{BAD}error:{BAD:#} {text}");
    }
    refuse(&match document(error) {
        Some(refused) => Refusal {
            error: refused.title().to_owned(),
            place: Some(refused.position().clone()),
            remedy: refused.remedy().map(str::to_owned),
            exit_code,
        },
        None => Refusal { place: position(&message), error: message, remedy: None, exit_code },
    });
}

/// Prints why a command line was not understood, or the help that it asks for.
pub(super) fn usage(error: &clap::Error, words: &[OsString]) -> ExitCode {
    let options = words.iter().take_while(|word| *word != "--");
    if !error.use_stderr() || !{ options }.any(|word| word == "--json") {
        // If printing fails, there is nowhere to report it.
        let _ = error.print();
    } else {
        let text = error.to_string();
        let mut paragraphs = text.trim_start_matches("error: ").split("\n\n");
        let first = paragraphs.next().unwrap_or_default().trim();
        let tip = paragraphs.find_map(|part| part.trim().strip_prefix("tip: "));
        refuse(&Refusal {
            error: first.split_whitespace().collect::<Vec<_>>().join(" "),
            place: None,
            remedy: tip.map(str::to_owned),
            exit_code: 2,
        });
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Returns the colours that a command line selects, before it is parsed: help texts are coloured too.
pub(super) fn color(words: &[OsString]) -> ColorChoice {
    let mut options =
        words.iter().take_while(|word| *word != "--").map(|word| word.to_string_lossy());
    let mut asked = None;
    while let Some(word) = options.next() {
        match word.split_once('=') {
            Some(("--color", when)) => asked = Some(when.to_owned()),
            None if word == "--color" => asked = options.next().map(Into::into),
            _ => {}
        }
    }
    let asked = asked.and_then(|when| ColorChoice::from_str(&when, false).ok());
    asked.unwrap_or(ColorChoice::Auto)
}

fn refuse(refusal: &Refusal) {
    eprintln!("{}", serde_json::to_string(refusal).expect("plain data is always JSON"));
}

fn manner() -> Manner {
    MANNER.get().copied().unwrap_or_default()
}

/// Returns the refusal of a document behind an error: the error itself, or its source.
fn document(error: &anyhow::Error) -> Option<&DocumentError> {
    error.chain().find_map(|cause| {
        #[cfg(feature = "serve")]
        if let Some(ConfigError::Document(refused)) = cause.downcast_ref() {
            return Some(refused);
        }
        #[cfg(feature = "serve")]
        if let Some(LadderError::Document(refused)) = cause.downcast_ref() {
            return Some(refused);
        }
        match (cause.downcast_ref(), cause.downcast_ref()) {
            (Some(ScenarioError::Document(refused)), _) => Some(refused),
            (_, Some(TraceError::Mapping(refused))) => Some(refused),
            _ => cause.downcast_ref(),
        }
    })
}

/// Returns the position at the beginning of an error message about a file: `file:line:column: ..`. A port is not a
/// line.
fn position(message: &str) -> Option<Position> {
    let (place, _) = message.split_once(": ")?;
    let (before, last) = place.rsplit_once(':')?;
    let last: usize = last.parse().ok()?;
    let two = before.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)));
    let (file, line, column) = match two {
        Some((file, line)) => (file, line, Some(last)),
        None => (before, last, None),
    };
    Path::new(file).is_file().then(|| Position { file: file.to_owned(), line, column })
}

/// The styles of words on a terminal, the same everywhere.
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Cyan.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
