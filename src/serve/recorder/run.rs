//! The recording of one run: segments in its own folder, compressed when they are finished; the oldest of all runs are
//! deleted when there are too many.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tiershift_core::event::Event;
use tiershift_core::time::Timestamp;

use crate::log::{self, Header, LogWriter, Segment, segment_name};
use crate::probe::clock;
use crate::serve::recorder::disk::{self, HoldingWriter};
use crate::serve::recorder::{RecordingPlan, Reporter};
use crate::serve::status::Recording;

/// A recording that is being written.
pub(super) struct Run {
    plan: RecordingPlan,
    folder: PathBuf,
    header: Header,
    reporter: Reporter,
    segment: LogWriter<HoldingWriter<File>>,
    number: u32,
    began: Timestamp,
    last_at: Timestamp,
    is_empty: bool,
    /// Compresses the previous segment, and deletes what is too much.
    packer: Option<JoinHandle<u64>>,
    dropped: u64,
    /// Held while the run lasts.
    _lock: File,
}

/// The beginning of a recording.
#[derive(Default)]
pub(super) struct Beginning {
    pub(super) at: Timestamp,
    /// Its place after a gap; `None` if it begins with the daemon's first record.
    pub(super) segment: Option<Segment>,
    /// Old segments that were deleted before.
    pub(super) dropped: u64,
}

impl Run {
    /// Begins a recording in a new folder.
    pub(super) fn begin(
        plan: RecordingPlan,
        header: Header,
        reporter: Reporter,
        beginning: Beginning,
    ) -> io::Result<Self> {
        let Beginning { at, segment: place, dropped } = beginning;
        fs::create_dir_all(&plan.folder)?;
        let lock = lock(&plan.folder)?;
        let folder = new_folder(&plan.folder)?;
        let number = place.as_ref().map_or(1, |place| place.number);
        let header = Header { segment: place, ..header };
        let begun = create(&folder, number, header.clone()).and_then(|mut segment| {
            segment.flush()?;
            Ok(segment)
        });
        let segment = begun.inspect_err(|_| {
            // A full disk is tried again and again: nothing of an attempt may stay.
            let _ = fs::remove_file(folder.join(segment_name(number)));
            let _ = fs::remove_dir(&folder);
        })?;
        let mut run = Self {
            plan,
            folder,
            header,
            reporter,
            segment,
            number,
            began: at,
            last_at: at,
            is_empty: true,
            packer: None,
            dropped,
            _lock: lock,
        };
        // Older runs may have left too much, or an uncompressed segment.
        run.report()?;
        Ok(run)
    }

    /// Writes an event, into the next segment if this one is full.
    pub(super) fn write(&mut self, at: Timestamp, event: &Event) -> io::Result<()> {
        let is_full = self.segment.bytes() >= self.plan.segment_size.get()
            || at.since(self.began) >= self.plan.segment_age;
        // A segment begins with an input, so that its consequences are in the same segment.
        if is_full && !self.is_empty && matches!(event, Event::Input(_)) && self.can_rotate() {
            self.rotate(at)?;
        }
        self.is_empty = false;
        self.last_at = at;
        self.segment.write(at, event.as_ref())
    }

    /// Returns whether the disk has room for the end of this segment and the beginning of the next. If not, this one
    /// continues to grow.
    fn can_rotate(&mut self) -> bool {
        self.segment.flush().is_ok()
            && disk::free_bytes(&self.folder).is_none_or(|free| free >= ROTATION)
    }

    /// Passes what was written to the system. What it does not accept is held until it does.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.segment.flush()
    }

    /// Returns how much of what was written the system has not accepted.
    pub(super) fn held_bytes(&self) -> usize {
        self.segment.get_ref().held_bytes()
    }

    /// Reports that the recording continues.
    pub(super) fn report(&mut self) -> io::Result<()> {
        self.start_packer(None)
    }

    /// Returns the number of the next record.
    pub(super) fn next_seq(&self) -> u64 {
        self.segment.next_seq()
    }

    /// Returns the moment of the last record.
    pub(super) fn last_at(&self) -> Timestamp {
        self.last_at
    }

    /// Returns the place of the segment that would follow.
    pub(super) fn next(&self) -> Segment {
        let (first_seq, after) = (self.segment.next_seq(), self.segment.digest());
        Segment { number: self.number + 1, first_seq, after }
    }

    /// Returns how many old segments have been deleted so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns whether the file being written still exists under its name.
    pub(super) fn is_there(&self) -> io::Result<bool> {
        match fs::metadata(self.folder.join(segment_name(self.number))) {
            Ok(about) => Ok(about.is_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Closes the log and compresses its last segment.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.join_packer();
        self.segment.finish(&[])?;
        // If it cannot be compressed, it is complete as it is.
        let _ = log::pack(&self.folder.join(segment_name(self.number)));
        Ok(())
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let place = self.next();
        let number = place.number;
        let header = Header { segment: Some(place), ..self.header.clone() };
        let next = create(&self.folder, number, header)?;
        // Nothing of the next is passed to the system before the last of this one.
        std::mem::replace(&mut self.segment, next).finish(&[])?;
        let finished = self.folder.join(segment_name(self.number));
        (self.number, self.began) = (number, now);
        self.start_packer(Some(finished))
    }

    fn start_packer(&mut self, finished: Option<PathBuf>) -> io::Result<()> {
        self.join_packer();
        let (plan, reporter) = (self.plan.clone(), self.reporter.clone());
        let open = self.folder.join(segment_name(self.number));
        let (segment, before) = (self.number, self.dropped);
        let run = self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pack = move || {
            // If it cannot be compressed, it is complete as it is.
            let _ = finished.map(|finished| log::pack(&finished));
            let room = plan.total_size - plan.segment_size;
            let Kept { bytes, dropped } = keep_newest(&plan.folder, &open, room.get());
            reporter.goes_on(Recording::On {
                run,
                segment,
                kept_bytes: bytes,
                dropped_segments: before + dropped,
            });
            dropped
        };
        self.packer = Some(std::thread::Builder::new().name("packer".to_owned()).spawn(pack)?);
        Ok(())
    }

    /// Waits until the last finished segment is compressed; no further state of the recording is reported.
    pub(super) fn join_packer(&mut self) {
        if let Some(packer) = self.packer.take() {
            self.dropped += packer.join().unwrap_or_default();
        }
    }
}

/// What a folder of recordings contains, and what was deleted.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    bytes: u64,
    dropped: u64,
}

/// Deletes the oldest finished segments until the others take no more than `room`. What cannot be read or deleted
/// stays.
fn keep_newest(recordings: &Path, open: &Path, room: u64) -> Kept {
    let runs = log::runs(recordings).unwrap_or_default();
    let segments = runs.iter().flat_map(|run| log::segments(run).unwrap_or_default());
    let finished: Vec<_> = segments.filter(|segment| segment.path != open).collect();
    let mut kept = Kept { bytes: finished.iter().map(|segment| segment.bytes).sum(), dropped: 0 };
    for segment in finished {
        if kept.bytes <= room {
            break;
        }
        if fs::remove_file(&segment.path).is_ok() {
            kept.bytes -= segment.bytes;
            kept.dropped += 1;
        }
    }
    for run in runs {
        // A folder that still contains anything stays.
        let _ = fs::remove_dir(run);
    }
    kept
}

/// Locks a folder of recordings against other daemons, as long as the file is held.
fn lock(folder: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(folder.join(".lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let why = "another daemon records into this folder: give another folder";
            Err(io::Error::new(io::ErrorKind::WouldBlock, why))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Creates a folder that is named after the moment.
fn new_folder(recordings: &Path) -> io::Result<PathBuf> {
    let name: String =
        clock::date().to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    for again in 1..=MOST_RUNS_A_SECOND {
        let folder = match again {
            1 => recordings.join(&name),
            _ => recordings.join(format!("{name}-{again}")),
        };
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

fn create(
    folder: &Path,
    number: u32,
    header: Header,
) -> io::Result<LogWriter<HoldingWriter<File>>> {
    let path = folder.join(segment_name(number));
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    LogWriter::new(HoldingWriter::new(file), header)
}

/// Chosen: many times a header and a last line, and little compared with any disk.
const ROTATION: u64 = 128 << 10;

/// Chosen: a daemon that is restarted again and again within a second does not work anyway.
const MOST_RUNS_A_SECOND: u32 = 9;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tiershift_core::event::Input;
    use tiershift_core::machine::Machine;
    use tiershift_core::setup::Setup;
    use tiershift_core::units::Bytes;

    use super::*;
    use crate::log::{LogEnd, LogLevel, LogReader};
    use crate::serve::recorder::NotifyRecording;

    fn header() -> Header {
        let memory = Bytes::from_gib(16);
        let setup = Setup::of_machine(Machine { memory, ..Machine::default() });
        Header::of(&setup, LogLevel::Full, "live", Vec::new())
    }

    fn plan(folder: &Path) -> RecordingPlan {
        RecordingPlan {
            folder: folder.to_owned(),
            segment_size: Bytes::new(8 << 10),
            segment_age: Duration::from_secs(100),
            total_size: Bytes::from_gib(1),
        }
    }

    fn write(run: &mut Run, secs: u64) {
        let event = Event::Input(Input::SampleMissing { error: "x".repeat(1000) });
        run.write(Timestamp::from_secs(secs), &event).unwrap();
    }

    fn begin_with(plan: RecordingPlan, notify: NotifyRecording) -> io::Result<Run> {
        let reporter = Reporter { notify, is_behind: Arc::default() };
        Run::begin(plan, header(), reporter, Beginning::default())
    }

    type Reported = Arc<Mutex<Vec<Recording>>>;

    fn begin(plan: RecordingPlan) -> (Run, Reported) {
        let reported = Reported::default();
        let to = Arc::clone(&reported);
        let run = begin_with(plan, Arc::new(move |it| to.lock().unwrap().push(it)));
        (run.unwrap(), reported)
    }

    #[test]
    fn a_run_is_one_log_in_segments_of_bounded_size_and_age() {
        let folder = tempfile::tempdir().unwrap();
        let (mut run, _) = begin(plan(folder.path()));
        for seq in 0..50 {
            write(&mut run, seq);
        }
        // Nothing for a long time: the next event begins a new segment.
        write(&mut run, 1000);
        let place = run.folder.clone();
        let last = run.number;
        run.close().unwrap();
        let found = log::segments(&place).unwrap();
        assert!(found.len() == last as usize && last > 5, "{found:?}");
        assert!(found.iter().all(|it| it.path.extension().is_some_and(|end| end == "zst")));
        let mut log = LogReader::open(folder.path()).unwrap();
        assert_eq!(
            log.by_ref().map(|it| it.unwrap().seq).collect::<Vec<_>>(),
            (0..=50).collect::<Vec<_>>()
        );
        assert!(matches!(log.end(), Some(LogEnd::Closed { records: 51, .. })));
    }

    #[test]
    fn readers_see_what_is_flushed_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (mut run, _) = begin(plan(folder.path()));
        for seq in 0..30 {
            write(&mut run, seq);
            run.flush().unwrap();
            let mut log = LogReader::open(folder.path()).unwrap();
            assert_eq!(log.by_ref().map(Result::unwrap).count() as u64, seq + 1);
            assert_eq!(log.end(), Some(&LogEnd::Torn { records: seq + 1, left_out: 0 }));
        }
    }

    #[test]
    fn the_oldest_segments_are_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (mut run, _) = begin(plan(folder.path()));
        for seq in 0..30 {
            write(&mut run, seq);
        }
        let old = run.folder.clone();
        run.close().unwrap();
        let old_segments = log::segments(&old).unwrap().len() as u64;
        // Nothing of an old run is left, and of this one the newest.
        let room = Bytes::new(3 << 10);
        let tight = RecordingPlan {
            total_size: plan(folder.path()).segment_size + room,
            ..plan(folder.path())
        };
        let (mut run, reported) = begin(tight);
        assert_ne!(run.folder, old, "a run never writes on in an older one's folder");
        for seq in 0..200 {
            write(&mut run, seq);
        }
        let place = run.folder.clone();
        run.close().unwrap();
        assert!(!old.exists(), "{:?}", log::segments(&old));
        let left = log::segments(&place).unwrap();
        assert!(left[0].number > 1 && left.len() > 1, "{left:?}");
        // The last was open when the others were checked.
        let finished: u64 = left[..left.len() - 1].iter().map(|it| it.bytes).sum();
        assert!(finished <= room.get(), "{left:?}");
        let reported = reported.lock().unwrap();
        let Some(Recording::On { dropped_segments, segment, .. }) = reported.last() else {
            panic!("{reported:?}")
        };
        let gone = old_segments + u64::from(segment - 1) - (left.len() as u64 - 1);
        assert_eq!(*dropped_segments, gone);
        let log = LogReader::open(folder.path()).unwrap();
        assert!(log.header().segment.as_ref().is_some_and(|it| it.first_seq > 0));
        assert!(log.map(Result::unwrap).last().is_some_and(|it| it.seq == 199));
    }

    #[test]
    fn two_daemons_do_not_record_into_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (run, _) = begin(plan(folder.path()));
        let second = begin_with(plan(folder.path()), Arc::new(|_| {}));
        assert!(second.is_err_and(|error| error.to_string().contains("another daemon")));
        drop(run);
        begin(plan(folder.path()));
    }
}
