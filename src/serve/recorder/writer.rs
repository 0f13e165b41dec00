//! The writer: one run after the other, each without a gap.

use std::io;

use tiershift_core::event::{Event, Input};
use tiershift_core::time::Timestamp;
use tiershift_core::units::Bytes;

use crate::log::{Header, Segment};
use crate::serve::recorder::disk::{free_bytes, is_disk_error};
use crate::serve::recorder::run::{Beginning, Run};
use crate::serve::recorder::{Entry, RETRY, RecordingPlan, Reporter};

/// The recording of a daemon.
pub(super) struct Writer {
    plan: RecordingPlan,
    /// The header of the next run, with the present settings.
    header: Header,
    reporter: Reporter,
    run: Option<Run>,
    /// The place of what is written next after what was written last; `None` until something was.
    after: Option<Segment>,
    /// Old segments that were deleted since the start.
    dropped: u64,
    /// Whether new records are held in memory until the disk has room.
    holds: bool,
    /// While nothing is written: when to retry the disk.
    next_attempt: Timestamp,
    /// When the run's folder was last checked for existence, by the clock of the caller.
    looked_at: Timestamp,
}

impl Writer {
    /// Begins a run, unless the disk is full or read-only.
    ///
    /// # Errors
    /// When the folder cannot be used, or another daemon records into it.
    pub(super) fn begin(
        plan: RecordingPlan,
        header: Header,
        reporter: Reporter,
    ) -> io::Result<Self> {
        let mut writer = Self {
            plan,
            header,
            reporter,
            run: None,
            after: None,
            dropped: 0,
            holds: false,
            next_attempt: Timestamp::ZERO,
            looked_at: Timestamp::ZERO,
        };
        match writer.new_run(Timestamp::ZERO, 0) {
            Err(error) if is_disk_error(&error) => writer.fail(Timestamp::ZERO + RETRY, &error),
            begun => begun?,
        }
        Ok(writer)
    }

    /// Writes an event if anything can be written.
    pub(super) fn take(&mut self, entry: &Entry) {
        if let Event::Input(Input::Settings(settings)) = &entry.event {
            self.header.settings = (**settings).clone();
        }
        if self.run.as_ref().is_some_and(|run| run.next_seq() != entry.seq) {
            // The next run begins at once: the disk accepts data again.
            self.end_run();
            self.next_attempt = entry.at;
        }
        if self.run.is_none() {
            // A run begins with an input, so that its consequences are in the same run.
            if entry.at < self.next_attempt || !matches!(entry.event, Event::Input(_)) {
                return;
            }
            let begun = self.has_room().and_then(|()| self.new_run(entry.at, entry.seq));
            if let Err(error) = begun {
                return self.fail(entry.at + RETRY, &error);
            }
        }
        if let Some(run) = &mut self.run
            && let Err(error) = run.write(entry.at, &entry.event)
        {
            self.fail(entry.at + RETRY, &error);
        }
    }

    /// Passes what was written to the system, and checks now and then that the file still exists. What a full disk does
    /// not accept is held until there is room, and given up if that is too much.
    pub(super) fn flush(&mut self, now: Timestamp) {
        let Some(run) = &mut self.run else { return };
        let at = run.last_at();
        let is_too_much = run.held_bytes() as u64 > MOST_HELD.min(self.plan.segment_size).get();
        if self.holds && at < self.next_attempt && !is_too_much {
            return;
        }
        let flushed = run.flush().and_then(|()| {
            if std::mem::take(&mut self.holds) {
                self.reporter.caught_up();
                run.report()?;
            }
            if now.since(self.looked_at) < LOOK {
                return Ok(true);
            }
            self.looked_at = now;
            run.is_there()
        });
        match flushed {
            Ok(true) => {}
            Ok(false) => {
                let removed = "its folder was removed; the recording continues in a new one";
                // At the next input.
                self.fail(Timestamp::ZERO, &io::Error::new(io::ErrorKind::NotFound, removed));
            }
            Err(error) if is_disk_error(&error) && !is_too_much => {
                self.holds = true;
                self.next_attempt = at + RETRY;
                self.reporter.holds(error.to_string());
            }
            Err(error) => self.fail(at + RETRY, &error),
        }
    }

    /// Closes the recording.
    pub(super) fn close(&mut self) {
        self.end_run();
    }

    fn new_run(&mut self, at: Timestamp, seq: u64) -> io::Result<()> {
        // A recording that begins with the daemon's first record is complete.
        let segment = (seq > 0).then(|| {
            let after = self.after.clone();
            let after = after.unwrap_or(Segment { number: 2, first_seq: 0, after: String::new() });
            Segment { first_seq: seq, ..after }
        });
        self.reporter.caught_up();
        let beginning = Beginning { at, segment, dropped: self.dropped };
        let begun =
            Run::begin(self.plan.clone(), self.header.clone(), self.reporter.clone(), beginning);
        self.run = Some(begun?);
        Ok(())
    }

    /// Ends the run, if there is one, complete as it is.
    fn end_run(&mut self) {
        let Some(mut run) = self.run.take() else { return };
        self.note(&mut run);
        let at = run.last_at();
        if let Err(error) = run.close() {
            self.fail(at + RETRY, &error);
        }
    }

    fn fail(&mut self, next_attempt: Timestamp, error: &io::Error) {
        self.next_attempt = next_attempt;
        self.holds = false;
        if let Some(mut run) = self.run.take() {
            self.note(&mut run);
        }
        self.reporter.fell_behind(error.to_string());
    }

    fn note(&mut self, run: &mut Run) {
        run.join_packer();
        self.after = Some(run.next());
        self.dropped = run.dropped();
    }

    /// # Errors
    /// When the disk has no room for a segment.
    fn has_room(&self) -> io::Result<()> {
        let Some(free) = free_bytes(&self.plan.folder) else { return Ok(()) };
        if free >= self.plan.segment_size.get() {
            return Ok(());
        }
        let segment = self.plan.segment_size;
        let error = format!(
            "the disk is full: recording continues when there is space for a segment ({segment})"
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, error))
    }
}

/// The most that a full disk may leave in memory, at most one segment. Chosen: the log of hours of a quiet daemon, of
/// half an hour of a busy one.
const MOST_HELD: Bytes = Bytes::from_mib(16);

/// Chosen: the most that is lost when someone removes the folder.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tiershift_core::machine::Machine;
    use tiershift_core::settings::RawSettings;
    use tiershift_core::setup::Setup;
    use tiershift_core::time::SpanText;
    use tiershift_core::units::Bytes;

    use super::*;
    use crate::log::{self, LogLevel, LogReader};
    use crate::serve::status::Recording;

    #[test]
    fn what_follows_a_gap_is_a_run_of_its_own_with_the_settings_that_hold() {
        let folder = tempfile::tempdir().unwrap();
        let plan = RecordingPlan {
            folder: folder.path().to_owned(),
            segment_size: Bytes::from_mib(1),
            segment_age: Duration::from_hours(1),
            total_size: Bytes::from_gib(1),
        };
        let machine = Machine { memory: Bytes::from_gib(16), ..Machine::default() };
        let header = Header::of(&Setup::of_machine(machine), LogLevel::Full, "live", Vec::new());
        let reported: Arc<Mutex<Vec<Recording>>> = Arc::default();
        let to = Arc::clone(&reported);
        let notify = Arc::new(move |it| to.lock().unwrap().push(it));
        let reporter = Reporter { notify, is_behind: Arc::default() };
        let mut writer = Writer::begin(plan, header, reporter).unwrap();
        let missing = || Event::Input(Input::SampleMissing { error: "x".to_owned() });
        let mut take = |seq: u64, event: Event| {
            writer.take(&Entry { seq, at: Timestamp::from_secs(seq), event });
        };
        let interval = SpanText(Duration::from_secs(7));
        let changed = RawSettings { sampling_interval: interval, ..RawSettings::default() };
        take(0, missing());
        take(1, Event::Input(Input::Settings(Box::new(changed))));
        // Three are missing.
        take(5, missing());
        take(6, missing());
        writer.close();
        let runs = log::runs(folder.path()).unwrap();
        let [first, second] = runs.as_slice() else { panic!("{runs:?}") };
        let read = |run| {
            let mut log = LogReader::open(run).unwrap();
            let seqs: Vec<u64> = log.by_ref().map(|it| it.unwrap().seq).collect();
            assert!(matches!(log.end(), Some(log::LogEnd::Closed { .. })));
            (seqs, log.header().settings.sampling_interval, log.header().segment.clone())
        };
        assert_eq!(read(first).0, [0, 1]);
        let (seqs, sampling_interval, segment) = read(second);
        assert_eq!((seqs, sampling_interval), (vec![5, 6], interval));
        assert!(segment.is_some_and(|it| it.number == 2 && it.first_seq == 5));
        let reported = reported.lock().unwrap();
        assert!(reported.iter().all(|it| matches!(it, Recording::On { .. })), "{reported:?}");
    }
}
