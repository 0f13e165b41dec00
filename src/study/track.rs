//! A recording on which many runs are played: read once, with its optimum computed once for all runs of one length.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tiershift_core::sample::{GpuSample, Sample};
use tiershift_core::time::Timestamp;

use crate::sim::{Ground, Tap};
use crate::study::oracle::{Best, Oracle};
use crate::summary::Summary;

/// The samples of a recording, as the first run passes them.
pub struct Track {
    oracle: Oracle,
    readings: Vec<(Timestamp, Sample)>,
    /// The most bytes that the samples may take.
    most: usize,
    bytes: usize,
}

/// What the first run leaves to the others.
pub struct Kept {
    oracle: Oracle,
    /// `None` if they would have taken too much memory.
    readings: Option<Arc<[(Timestamp, Sample)]>>,
    /// The best schedules computed so far, one per length.
    best: Mutex<Vec<Best>>,
}

impl Track {
    /// Begins. The samples are kept if they take no more than `most` bytes.
    pub fn begin(oracle: Oracle, most: usize) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { oracle, readings: Vec::new(), most, bytes: 0 }))
    }

    /// Returns the tap for the samples of the first run.
    pub fn tap(track: &Rc<RefCell<Self>>) -> Tap {
        let track = Rc::clone(track);
        Box::new(move |at, sample| track.borrow_mut().read(at, sample))
    }

    fn read(&mut self, at: Timestamp, sample: &Sample) {
        self.oracle.read(at, sample);
        if self.bytes > self.most {
            return;
        }
        self.bytes += size_of::<(Timestamp, Sample)>() + size_of_val::<[GpuSample]>(&sample.gpus);
        match self.bytes > self.most {
            true => self.readings = Vec::new(),
            false => self.readings.push((at, sample.clone())),
        }
    }

    /// Ends, when the first run is over.
    ///
    /// # Panics
    /// When that run is not over: it holds a tap.
    pub fn finish(track: Rc<RefCell<Self>>) -> Kept {
        let track = Rc::into_inner(track).expect("the first run is over");
        let Self { oracle, readings, most, bytes } = track.into_inner();
        let readings = (bytes <= most).then(|| readings.into());
        Kept { oracle, readings, best: Mutex::default() }
    }
}

impl Kept {
    /// Returns the samples, to be played again; `None` if the recording must be read again.
    pub fn ground(&self) -> Option<Ground> {
        let readings = Arc::clone(self.readings.as_ref()?);
        let mut next = 0;
        Some(Ground::recorded_in_place(Box::new(move |sample| {
            let reading = readings.get(next);
            next += 1;
            Ok(reading.map(|(at, reading)| {
                sample.clone_from(reading);
                *at
            }))
        })))
    }

    /// Compares runs with the optimum, which is computed once per length.
    pub fn compare(&self, summaries: &mut [Summary]) {
        let mut known = self.best.lock().unwrap_or_else(PoisonError::into_inner);
        for summary in summaries {
            let place = known.iter().position(|best| best.is_of(summary.seconds));
            let place = place.unwrap_or_else(|| {
                known.push(self.oracle.best(summary.seconds));
                known.len() - 1
            });
            self.oracle.compare(&known[place], summary);
        }
    }
}
