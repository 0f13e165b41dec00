//! Feeds a log's inputs to a new controller, and compares its outputs with the log's: the same decisions, or the first
//! difference. This is what makes a log evidence. The events are checked against the invariants too, as in a
//! simulation: violations in a live run are found here.

use tiershift_core::catalog::CatalogError;
use tiershift_core::control::Control;
use tiershift_core::controller::{Controller, ControllerError, Detail};
use tiershift_core::event::{Event, Input, Observe, Output, Record};
use tiershift_core::policy::Registry;
use tiershift_core::settings::SettingsError;
use tiershift_core::time::Timestamp;

use crate::log::{Header, LogEnd, LogError, LogLevel, LogReader, LogVersion};
use crate::sim::Invariants;

/// The content of a verified log.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Records compared.
    pub records: u64,
    /// Inputs fed.
    pub inputs: u64,
    /// Decisions that were reproduced.
    pub decisions: u64,
    /// The invariants that were broken, in order. What broke them was reproduced as well.
    pub violations: Vec<String>,
}

/// Verifies a log to its end.
///
/// # Errors
/// For anything but a complete log whose outputs are reproduced: see [`VerifyError`].
pub fn verify(mut log: LogReader, policies: &Registry) -> Result<Verified, VerifyError> {
    let header = log.header();
    let detail = match header.level {
        LogLevel::Full => Detail::Full,
        LogLevel::Inputs => Detail::Changes,
        LogLevel::Changes | LogLevel::Off => return Err(VerifyError::NotFull),
    };
    if let Some(segment) = &header.segment {
        return Err(VerifyError::BeginsLate { first_seq: segment.first_seq });
    }
    if header.version != LogVersion::CURRENT {
        return Err(VerifyError::Older { found: header.version.0 });
    }
    let mut controller = controller_of(header, detail, policies)?;
    let (settings, catalog) = (header.checked_settings()?, header.checked_catalog()?);
    let mut invariants = Invariants::new(&settings, &catalog, controller.promises());
    let mut done = Verified::default();
    let mut end = Timestamp::ZERO;
    while let Some(record) = log.next() {
        let record = record?;
        done.records += 1;
        end = record.at;
        invariants.observe(record.at, record.event.as_ref());
        match &record.event {
            Event::Input(input) => {
                if let Some(output) = controller.poll_output() {
                    return Err(difference(&log, &record, Some(output)));
                }
                done.inputs += 1;
                controller.handle(record.at, input);
                if matches!(input, Input::Settings(_)) {
                    invariants.hold_to(controller.promises());
                }
            }
            Event::Output(logged) => {
                done.decisions += u64::from(matches!(logged, Output::Decision(_)));
                let ours = controller.poll_output();
                if ours.as_ref() != Some(logged) {
                    return Err(difference(&log, &record, ours));
                }
            }
        }
    }
    done.violations = invariants.finish(end);
    match log.end() {
        Some(LogEnd::Closed { .. }) => match controller.poll_output() {
            None => Ok(done),
            Some(output) => Err(VerifyError::Missing { output: Box::new(output) }),
        },
        Some(&LogEnd::Torn { left_out, .. }) => Err(VerifyError::Torn { done, left_out }),
        None => Err(VerifyError::Torn { done, left_out: 0 }),
    }
}

/// Returns a controller as it was at the beginning of a log.
///
/// # Errors
/// When the log's settings or catalog are not valid, or its policy is unknown here.
pub fn controller_of(
    header: &Header,
    detail: Detail,
    policies: &Registry,
) -> Result<Box<dyn Control>, VerifyError> {
    let settings = header.checked_settings()?;
    let catalog = header.checked_catalog()?;
    match policies.build_control(&settings, &catalog).map_err(ControllerError::Policy)? {
        Some(control) => Ok(control),
        None => Ok(Box::new(Controller::new(&settings, &catalog, detail, policies)?)),
    }
}

fn difference(log: &LogReader, record: &Record, ours: Option<Output>) -> VerifyError {
    VerifyError::Difference {
        place: log.place(),
        logged: Box::new(record.clone()),
        ours: ours.map(Box::new),
    }
}

/// Why a log was not verified.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum VerifyError {
    #[error(
        "the log contains only changes: verify needs one that was written with `--log full`, or without --log"
    )]
    NotFull,
    #[error(
        "the log has format {found}, whose reasons have less detail than those of format {}: it can be explained, plotted and \
         replayed, but only the version that wrote it can verify it", LogVersion::CURRENT.0
    )]
    Older { found: u32 },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the log's settings are not valid: {0}")]
    Settings(#[from] SettingsError),
    #[error("the log's catalog is not valid: {0}")]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Controller(#[from] ControllerError),
    #[error("{place}, at {} s: the log has {}, the controller answers {}",
        logged.at.as_secs_f64(), json(&logged.event), ours.as_ref().map_or("nothing".to_owned(), |ours| json(&ours)))]
    Difference { place: String, logged: Box<Record>, ours: Option<Box<Output>> },
    #[error("the log ends here, but the controller also answers {}", json(output))]
    Missing { output: Box<Output> },
    #[error(
        "the log was not closed after its {} records{}: they agree, but nothing proves that the last segment is unchanged; \
         its writer was stopped, or is still running", done.records, half_line(*left_out)
    )]
    Torn { done: Verified, left_out: u64 },
    #[error(
        "the log begins at record {first_seq}, without the state that its controller had there: a full folder of recordings drops \
         the oldest segments, and a recording that had stopped goes on in a folder of its own"
    )]
    BeginsLate { first_seq: u64 },
}

fn half_line(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(" and {bytes} bytes of an incomplete one") }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
}
