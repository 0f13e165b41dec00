//! The defects of a file, counted by kind; the first few are kept in full.

use std::fmt;

use serde::Serialize;

use crate::trace::TraceError;

/// All defects of a file so far. Nothing is dropped without being counted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defects {
    name: String,
    strict: bool,
    counts: [u64; DefectKind::ALL.len()],
    first: Vec<Defect>,
}

impl Defects {
    pub(crate) fn new(name: &str, strict: bool) -> Self {
        Self { name: name.to_owned(), strict, counts: Default::default(), first: Vec::new() }
    }

    /// Returns how often `kind` occurred.
    pub fn count(&self, kind: DefectKind) -> u64 {
        self.counts[kind as usize]
    }

    /// Returns the rows that gave no sample or request.
    pub fn rejected_rows(&self) -> u64 {
        self.iter().filter(|(kind, _)| kind.rejects_row()).map(|(_, count)| count).sum()
    }

    /// Returns the rows that were rejected although they are meant as rows: because of their time, or, unless lines of
    /// any kind are usual in the file, because of their shape.
    pub(crate) fn misplaced(&self, is_text: bool) -> u64 {
        let by_time =
            [DefectKind::UnreadableTime, DefectKind::BackwardTime, DefectKind::DuplicateTime];
        let by_shape = if is_text { 0 } else { self.count(DefectKind::UnreadableRow) };
        by_time.into_iter().map(|kind| self.count(kind)).sum::<u64>() + by_shape
    }

    /// Returns why a file is refused in which most rows were rejected, and what may be done about it.
    pub(crate) fn why_most_are_rejected(&self) -> String {
        let mut reasons = self.warnings();
        if self.count(DefectKind::BackwardTime) > 0 {
            let hint = "where the newest row comes first, or rows are in no order, describe the file in a mapping with \
                        `sorted = false`";
            reasons.push(hint.to_owned());
        }
        if self.count(DefectKind::DuplicateTime) > self.count(DefectKind::BackwardTime) {
            let hint = "where rows were read more often than the time shows, say how far they are apart, `--interval 500ms`; where \
                        those of one time are GPUs that no column distinguishes, say how many, `--gpus 2`; where they are parts \
                        of one reading, add them up in a mapping with `rows = \"sum\"` and `sorted = false`";
            reasons.push(hint.to_owned());
        }
        reasons.join("; ")
    }

    /// Returns the defects of every kind together.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the kinds that occurred with their counts, in the order of [`DefectKind::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (DefectKind, u64)> {
        DefectKind::ALL.into_iter().zip(self.counts).filter(|&(_, count)| count > 0)
    }

    /// Returns the first [`Defects::KEPT`] defects in full, and the first of each kind, in the order of the file.
    pub fn first(&self) -> &[Defect] {
        &self.first
    }

    /// Returns a sentence for each kind that occurred, with its first position, for the warnings of a summary. It
    /// contains only the file's name, without its folder: a summary is the same wherever the file is.
    pub fn warnings(&self) -> Vec<String> {
        self.iter()
            .map(|(kind, count)| {
                let example = self.first.iter().find(|defect| defect.kind == kind);
                let file = self.name.rsplit(['/', '\\']).next().unwrap_or_default();
                let example = example.map(|defect| {
                    format!(
                        ", first at {file}:{}:{}: {}",
                        defect.line, defect.column, defect.reason
                    )
                });
                format!("{count} x {kind} ({}){}", kind.effect(), example.unwrap_or_default())
            })
            .collect()
    }

    /// Returns a defect as `file:line:column: reason`.
    pub fn describe(&self, defect: &Defect) -> String {
        format!("{}:{}:{}: {}", self.name, defect.line, defect.column, defect.reason)
    }

    /// Counts a defect. The reason is only formatted if it is kept.
    pub(crate) fn note(
        &mut self,
        kind: DefectKind,
        place: Place,
        reason: impl FnOnce() -> String,
    ) -> Result<(), TraceError> {
        self.counts[kind as usize] += 1;
        let is_first_of_kind = self.counts[kind as usize] == 1;
        if !self.strict && !is_first_of_kind && self.first.len() >= Self::KEPT {
            return Ok(());
        }
        let Place { line, column } = place;
        let reason = reason();
        self.first.push(Defect { kind, line, column, reason: reason.clone() });
        if self.strict {
            return Err(TraceError::Strict { name: self.name.clone(), line, column, kind, reason });
        }
        Ok(())
    }

    /// Returns the error for a defect after which reading cannot continue.
    pub(crate) fn refuse(&self, place: Place, reason: String) -> TraceError {
        let Place { line, column } = place;
        TraceError::Malformed { name: self.name.clone(), line, column, reason }
    }

    /// How many defects are kept in full. Chosen: as many as a user reads before opening the file itself.
    pub const KEPT: usize = 20;
}

/// One defect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Defect {
    /// Its kind.
    pub kind: DefectKind,
    /// Line of the file, from one, after decompression.
    pub line: u64,
    /// Byte of that line, from one.
    pub column: u64,
    /// What was found and what was expected.
    pub reason: String,
}

/// A position in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub line: u64,
    pub column: u64,
}

/// A kind of defect, which determines what happens to the row or cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefectKind {
    /// A line that does not have the shape of a row.
    UnreadableRow,
    /// A row whose time cannot be read.
    UnreadableTime,
    /// A row that contains only the time.
    BlankRow,
    /// The header once more, in the middle of the file.
    RepeatedHeader,
    /// A row that is older than the one before.
    BackwardTime,
    /// A row with the time of the one before.
    DuplicateTime,
    /// A cell that is not a number.
    UnreadableCell,
    /// An impossible number: negative, infinite, a rate above 100 %.
    ImpossibleValue,
    /// More in use than there is.
    OverTotal,
    /// A silence much longer than the usual interval.
    Gap,
    /// A share of more than 100 %.
    AboveAll,
    /// A clock that was set, or another run in the file that starts over.
    ClockSet,
    /// A silence of hours that a replay leaves out.
    LeftOut,
    /// Two units for one number, or one that the number does not fit.
    Unit,
    /// A last line without a line end.
    NoLineEnd,
}

impl DefectKind {
    /// Every kind, in the order in which counts are printed.
    pub const ALL: [Self; 15] = [
        Self::UnreadableRow,
        Self::UnreadableTime,
        Self::BlankRow,
        Self::RepeatedHeader,
        Self::BackwardTime,
        Self::DuplicateTime,
        Self::UnreadableCell,
        Self::ImpossibleValue,
        Self::OverTotal,
        Self::Gap,
        Self::AboveAll,
        Self::ClockSet,
        Self::LeftOut,
        Self::Unit,
        Self::NoLineEnd,
    ];

    /// Returns whether a row of this kind gives no sample.
    pub fn rejects_row(self) -> bool {
        match self {
            Self::UnreadableRow
            | Self::UnreadableTime
            | Self::BlankRow
            | Self::RepeatedHeader
            | Self::BackwardTime
            | Self::DuplicateTime => true,
            Self::UnreadableCell
            | Self::ImpossibleValue
            | Self::OverTotal
            | Self::Gap
            | Self::AboveAll
            | Self::ClockSet
            | Self::LeftOut
            | Self::Unit
            | Self::NoLineEnd => false,
        }
    }

    /// Returns what is done about it.
    pub fn effect(self) -> &'static str {
        match self {
            Self::UnreadableCell | Self::ImpossibleValue => "the cell counts as missing",
            Self::OverTotal | Self::Gap => "kept as it is",
            Self::AboveAll => "kept as 100 %",
            Self::ClockSet => "the rows after it continue with their own steps",
            Self::LeftOut => "left out: this time is not counted",
            Self::Unit => "kept, in the unit that was given",
            Self::NoLineEnd => "kept, but its last number may be cut off",
            _ => "the row is rejected",
        }
    }

    /// Returns the name that files and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnreadableRow => "unreadable-row",
            Self::UnreadableTime => "unreadable-time",
            Self::BlankRow => "blank-row",
            Self::RepeatedHeader => "repeated-header",
            Self::BackwardTime => "backward-time",
            Self::DuplicateTime => "duplicate-time",
            Self::UnreadableCell => "unreadable-cell",
            Self::ImpossibleValue => "impossible-value",
            Self::OverTotal => "over-total",
            Self::Gap => "gap",
            Self::AboveAll => "above-100-percent",
            Self::ClockSet => "clock-set",
            Self::LeftOut => "silence-left-out",
            Self::Unit => "unit",
            Self::NoLineEnd => "no-line-end",
        }
    }
}

impl fmt::Display for DefectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns the part of a bad cell that is quoted.
pub(crate) fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_BYTES).collect()
}

/// How much of a bad cell is quoted.
pub(crate) const QUOTED_BYTES: usize = 40;
