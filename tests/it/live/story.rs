//! Reads a run from its log, for tests.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use tiershift::log::{LogEnd, LogReader, runs, segments};
use tiershift_core::event::{Event, Input, Output};
use tiershift_core::request::{End, RequestId};

/// The switches and the requests of a run.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Tiers, from and to, in order.
    pub(super) switches: Vec<(String, String)>,
    /// Each request's ends: one, if all is well.
    pub(super) requests: BTreeMap<RequestId, Vec<End>>,
}

impl Story {
    /// Reads a log that was closed.
    #[track_caller]
    pub(super) fn read(path: &Path) -> Self {
        let mut log = LogReader::open(path).unwrap();
        let catalog = log.header().checked_catalog().unwrap();
        let mut story = Self::default();
        for record in &mut log {
            match record.unwrap().event {
                Event::Input(Input::Request(request)) => {
                    story.requests.insert(request.id, Vec::new());
                }
                Event::Output(Output::Ended { request, end }) => {
                    story.requests.get_mut(&request).expect("it was asked").push(end);
                }
                Event::Output(Output::Switched { from, to, .. }) if from != to => {
                    let tier = |rung| catalog.tier_name(rung).to_owned();
                    story.switches.push((tier(from), tier(to)));
                }
                Event::Input(_) | Event::Output(_) => {}
            }
        }
        assert!(matches!(log.end(), Some(LogEnd::Closed { .. })), "{:?}", log.end());
        story
    }

    /// Asserts that every request has ended exactly once, and returns how many are done and how many failed, were
    /// cancelled or rejected.
    #[track_caller]
    pub(super) fn ends(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for (request, ends) in &self.requests {
            assert_eq!(ends.len(), 1, "request {request:?} ended {ends:?}");
            counts[match ends[0] {
                End::Done { .. } => 0,
                End::Failed { .. } => 1,
                End::Cancelled { .. } => 2,
                End::Rejected { .. } => 3,
            }] += 1;
        }
        counts
    }
}

/// Returns the text of the newest log that a daemon recorded and closed.
pub(super) fn log_text(recordings: &Path) -> String {
    let run = runs(recordings).unwrap().pop().unwrap();
    let unpack = |path: &Path| zstd::decode_all(File::open(path).unwrap()).unwrap();
    let bytes = segments(&run).unwrap().iter().flat_map(|it| unpack(&it.path)).collect();
    String::from_utf8(bytes).unwrap()
}
