//! Readers of runs: records and figures in, bytes out.
//!
//! Nothing here decides, measures or recomputes: each report prints the reasons and numbers that the run recorded.
//! Nothing here opens a file either: every function returns bytes, the same for the same run.

pub mod compare;
pub mod decisions;
mod figures;
pub mod folder;
pub mod html;
pub mod junit;
pub mod museum;
pub mod parting;
pub mod plot;
pub mod sweep;
pub mod text;
pub mod timeline;
pub mod tune;

pub use html::{PageData, PageRun, ScenarioRow, comparison_page, suite_page};
pub use museum::museum_table;
pub use plot::PlotData;
pub use text::text_summary;

/// The mark in the first bytes of each picture and page that we wrote.
pub const MARK: &str = "made by tiershift";
