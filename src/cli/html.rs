//! `--html`: the result of a verb, as a single page.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tiershift_core::catalog::Rung;
use tiershift_core::controller::{Detail, Saying};
use tiershift_core::decision::Decision;
use tiershift_core::event::{EventRef, Observe, Output};
use tiershift_core::policy::Registry;
use tiershift_core::time::Timestamp;

use crate::cli::common;
use crate::cli::output::{self, Force, is_standard};
use crate::log::{Header, LogReader};
use crate::report::{self, PageData, PageRun, html};
use crate::study::retold::Retold;
use crate::summary::{Fold, Summary};
use crate::wall::{Part, WallClock};

/// Where to write the page, as an argument.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct HtmlOption {
    /// Write the result as one HTML page that needs no other files and no network: to look at, send or print; - is standard
    /// output
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl HtmlOption {
    /// Returns whether a page was requested.
    pub(super) fn is_given(&self) -> bool {
        self.html.is_some()
    }

    /// Returns whether the page goes to standard output, to which nothing else is written then.
    pub(super) fn is_printed(&self) -> bool {
        self.html.as_deref().is_some_and(is_standard)
    }

    /// Refuses what is impossible: a page of several runs, or one on standard output beside JSON.
    pub(super) fn check(&self, is_one_run: bool, json: bool) -> Result<()> {
        if self.html.is_none() {
            return Ok(());
        }
        anyhow::ensure!(is_one_run, "--html shows one run, but several were given: give one");
        self.check_printed(&[(json, "--json")])
    }

    /// Returns where to write a page that is not of one run, if one was requested. `printed` are the options that write
    /// to standard output, with whether they were given.
    pub(super) fn place(&self, printed: &[(bool, &str)], force: Force) -> Result<Option<&Path>> {
        self.check_printed(printed)?;
        if let Some(place) = &self.html {
            force.check(place, report::MARK)?;
        }
        Ok(self.html.as_deref())
    }

    fn check_printed(&self, printed: &[(bool, &str)]) -> Result<()> {
        if let Some((_, option)) =
            printed.iter().find(|(is_given, _)| *is_given && self.is_printed())
        {
            anyhow::bail!(
                "{option} and --html - would both write to standard output: give --html a file"
            );
        }
        Ok(())
    }

    /// Begins the page of the part of a run with this header.
    pub(super) fn begin(&self, header: &Header, part: Part, force: Force) -> Result<Option<Page>> {
        let Some(place) = &self.html else { return Ok(None) };
        force.check(place, report::MARK)?;
        let (catalog, settings) = (header.checked_catalog()?, header.checked_settings()?);
        let data = PageData::of_part(part, &catalog, &settings);
        Ok(Some(Page { place: place.clone(), data }))
    }
}

/// Passes on what the controller would have reported at a lower detail, from a run in which it reports everything: the
/// page needs everything, and the files beside it must not change.
pub(super) struct WithDetail<'a, T> {
    told: &'a mut T,
    saying: Saying,
}

impl<'a, T> WithDetail<'a, T> {
    pub(super) fn new(told: &'a mut T, detail: Detail) -> Self {
        Self { told, saying: Saying::new(detail) }
    }
}

impl<T: Observe> Observe for WithDetail<'_, T> {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        match event {
            EventRef::Output(Output::Decision(decision)) if !self.saying.says(decision) => {}
            EventRef::Output(Output::Decision(decision))
                if self.saying.detail() != Detail::Full && !decision.gates.is_empty() =>
            {
                let Decision { rung, action, reason, .. } = *decision;
                let bare = Output::Decision(Decision::new(rung, action, reason));
                self.told.observe(at, EventRef::Output(&bare));
            }
            EventRef::Input(_) | EventRef::Output(_) => self.told.observe(at, event),
        }
    }
}

/// Returns the figures of a run in a log, with what its header and last lines state.
pub(super) fn summary_of(mut fold: Fold, end: Timestamp, log: &LogReader) -> Summary {
    if let Some(account) = log.account() {
        fold.set_account(account.clone());
    }
    let mut summary = fold.finish(end);
    summary.started_at = log.clock().started_at();
    summary.fingerprint = log.fingerprint().unwrap_or_default().to_owned();
    summary.policy = log.header().settings.policy.name().to_owned();
    summary
}

/// A page, while its run lasts.
pub(super) struct Page {
    place: PathBuf,
    data: PageData,
}

impl Observe for Page {
    fn observe(&mut self, at: Timestamp, event: EventRef<'_>) {
        self.data.observe(at, event);
    }
}

impl Page {
    /// Writes the page of a run that lasted until `end`, and returns its path. `clock` is what the wall clock showed;
    /// `optimum` is the schedule of the optimum, if one was computed.
    pub(super) fn finish(
        self,
        title: &str,
        summary: &Summary,
        end: Timestamp,
        clock: &WallClock,
        optimum: &[(Timestamp, Rung)],
    ) -> Result<PathBuf> {
        self.finish_under(title, summary, end, clock, optimum, None)
    }

    /// As [`Page::finish`], with another run drawn over it.
    pub(super) fn finish_under(
        mut self,
        title: &str,
        summary: &Summary,
        end: Timestamp,
        clock: &WallClock,
        optimum: &[(Timestamp, Rung)],
        over: Option<&Over>,
    ) -> Result<PathBuf> {
        self.data.finish(end, clock, optimum);
        let run = PageRun { title, data: &self.data, summary };
        let over = over.map(|Over { title, data, summary }| PageRun { title, data, summary });
        let runs: Vec<PageRun<'_>> = [run].into_iter().chain(over).collect();
        output::write(&self.place, html::page(&runs).as_bytes())?;
        Ok(self.place)
    }
}

/// A run that a page shows over another.
pub(super) struct Over {
    title: String,
    data: PageData,
    summary: Summary,
}

impl Over {
    /// Reads the run from its log.
    pub(super) fn read(path: &Path, part: Part, policies: &Registry) -> Result<Self> {
        common::note_newest(path);
        let log = LogReader::open(path)?;
        let header = log.header().clone();
        let (catalog, settings) = (header.checked_catalog()?, header.checked_settings()?);
        let mut data = PageData::of_part(part, &catalog, &settings);
        let mut fold = Fold::new(&catalog, settings.reversal_window).judging_samples(&settings);
        let mut told = Retold::new(log, policies);
        let end = told.observe(&mut [&mut data, &mut fold])?;
        let log = told.log();
        common::note_end(path, log);
        data.finish(end, log.clock(), &[]);
        let summary = summary_of(fold, end, log);
        Ok(Self { title: header.title(), data, summary })
    }
}
