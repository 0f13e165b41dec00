//! The last line: how many records there are, what the run was made from, and the proof that every byte is as it was
//! written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::log::{Header, LogVersion, digest_text};
use crate::summary::Account;
use crate::wall::WallMark;

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Trailer {
    pub(super) end: End,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    /// Lines between the first and this one.
    pub(super) records: u64,
    /// blake3 of the uncompressed bytes of each source, in the header's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) sources: Vec<String>,
    /// See [`Header::fingerprint`]. Version 1 has it in the first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fingerprint: Option<String>,
    /// blake3 of every byte above this line.
    pub(super) digest: String,
}

impl Trailer {
    /// Returns the last line of a log with this number of records and this digest.
    pub(super) fn new(
        header: &Header,
        records: u64,
        sources: &[String],
        digest: &blake3::Hasher,
    ) -> Self {
        let digest = digest_text(digest.finalize());
        let end = if header.version == LogVersion(1) {
            End { records, sources: Vec::new(), fingerprint: None, digest }
        } else {
            let fingerprint = Some(header.fingerprint(sources));
            End { records, sources: sources.to_vec(), fingerprint, digest }
        };
        Self { end }
    }

    pub(super) fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("plain data with text keys is always JSON");
        line.push(b'\n');
        line
    }
}

/// A line above the last one: what the wall clock showed at a moment, if that does not follow from the lines above.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClockLine {
    pub(super) clock: WallMark,
}

/// A line above the last one: what the machine of a simulated run counted, which samples do not show.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountLine {
    pub(super) account: Account,
}

/// The beginning of every such line, and of no record.
pub(super) const CLOCK_STARTS: &[u8] = b"{\"clock\":";
/// The beginning of an account's line, and of no record.
pub(super) const ACCOUNT_STARTS: &[u8] = b"{\"account\":";
/// The beginning of every last line, and of no record.
pub(super) const STARTS: &[u8] = b"{\"end\":";
