//! The header as in version 1, converted to the present form.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::log::header::digest_of;
use crate::log::{Header, LogLevel, LogVersion, Played, Segment, Source};
use crate::wall::WallTime;

/// The first line of a log of version 1. What determines the run is kept exactly: its fingerprint is the digest of
/// that.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderV1<'a> {
    #[serde(rename = "tiershift_log")]
    version: LogVersion,
    level: LogLevel,
    name: String,
    #[serde(rename = "policy")]
    _policy: String,
    #[serde(borrow)]
    hardware_tier: &'a RawValue,
    #[serde(borrow)]
    machine: &'a RawValue,
    seed: u64,
    #[serde(default)]
    sources: Vec<SourceV1>,
    #[serde(borrow)]
    settings: &'a RawValue,
    #[serde(borrow)]
    catalog: &'a RawValue,
    started_at: Option<WallTime>,
    segment: Option<Segment>,
    fingerprint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceV1 {
    name: String,
    digest: String,
    played: Option<Played>,
}

/// The input of version 1's fingerprint.
#[derive(Serialize)]
struct DeterminantsV1<'a> {
    tiershift_log: LogVersion,
    hardware_tier: &'a RawValue,
    machine: &'a RawValue,
    seed: u64,
    sources: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    played: Vec<Played>,
    settings: &'a RawValue,
    catalog: &'a RawValue,
}

/// Reads a first line of version 1; `None` if its fingerprint is not the one that it states.
pub(super) fn read(line: &str) -> Result<Option<Header>, serde_json::Error> {
    let old: HeaderV1<'_> = serde_json::from_str(line)?;
    let fingerprint = digest_of(&DeterminantsV1 {
        tiershift_log: old.version,
        hardware_tier: old.hardware_tier,
        machine: old.machine,
        seed: old.seed,
        sources: old.sources.iter().map(|source| source.digest.as_str()).collect(),
        played: old.sources.iter().filter_map(|source| source.played).collect(),
        settings: old.settings,
        catalog: old.catalog,
    });
    if fingerprint != old.fingerprint {
        return Ok(None);
    }
    let source = |source: SourceV1| Source { name: source.name, played: source.played, part: None };
    Ok(Some(Header {
        version: old.version,
        level: old.level,
        name: old.name,
        machine: serde_json::from_str(old.machine.get())?,
        seed: old.seed,
        sources: old.sources.into_iter().map(source).collect(),
        settings: serde_json::from_str(old.settings.get())?,
        catalog: serde_json::from_str(old.catalog.get())?,
        started_at: old.started_at,
        segment: old.segment,
        setup_digest: fingerprint,
    }))
}
