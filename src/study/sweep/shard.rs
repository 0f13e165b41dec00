//! The shards of a sweep: the results of each as a file, and of all together.

use serde::{Deserialize, Serialize};

use crate::study::compare::{About, Compared, OnRecording, Run};
use crate::study::sweep::Plan;

/// The results of one shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    /// Its number, from zero.
    pub number: usize,
    /// The hash of the plan.
    pub plan: String,
    /// The hash of the program that computed it.
    pub program: String,
    /// Its runs, by recording and, within one, by catalog.
    pub parts: Vec<OnShard>,
}

/// The results of a shard on a recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnShard {
    /// The recording's index in the plan.
    pub recording: usize,
    /// Why it was not played; absent if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Facts about it; from the recording's first run, and absent if that belongs to another shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// The runs, in the plan's order.
    pub runs: Vec<Run>,
}

/// The first line of a shard's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    tiershift_shard: usize,
    plan: String,
    program: String,
    /// The hash of what follows.
    blake3: String,
}

impl Shard {
    /// Returns the shard's file: a line that identifies it, and one with its results.
    pub fn to_text(&self) -> String {
        let sunk = "plain data with text keys is always JSON";
        let body = serde_json::to_string(&self.parts).expect(sunk);
        let head = Head {
            tiershift_shard: self.number,
            plan: self.plan.clone(),
            program: self.program.clone(),
            blake3: blake3::hash(body.as_bytes()).to_hex().to_string(),
        };
        format!("{}\n{body}\n", serde_json::to_string(&head).expect(sunk))
    }

    /// Reads a shard's file.
    ///
    /// # Errors
    /// When it is not a shard, or was changed.
    pub fn parse(text: &str) -> Result<Self, ShardError> {
        let (head, body) = text.split_once('\n').ok_or(ShardError::NotOne)?;
        let head: Head = serde_json::from_str(head).map_err(|_| ShardError::NotOne)?;
        let body = body.trim_end();
        if blake3::hash(body.as_bytes()).to_hex().as_str() != head.blake3 {
            return Err(ShardError::Changed);
        }
        let parts = serde_json::from_str(body).map_err(|_| ShardError::Changed)?;
        let Head { tiershift_shard: number, plan, program, .. } = head;
        Ok(Self { number, plan, program, parts })
    }

    /// Returns whether it is this shard of the plan, computed by this program.
    pub fn is_of(&self, plan: &Plan, number: usize, program: &str) -> bool {
        (self.number, &*self.plan, &*self.program) == (number, &plan.hash, program)
    }
}

/// Combines the shards of a plan, in their order.
///
/// # Errors
/// When one belongs to another plan, or was computed by another program than the others.
pub fn merge(plan: &Plan, shards: &[Shard]) -> Result<Compared, MergeError> {
    let mut played: Vec<OnShard> = (0..plan.recordings.len())
        .map(|recording| OnShard { recording, ..OnShard::default() })
        .collect();
    for (number, shard) in shards.iter().enumerate() {
        if shard.plan != plan.hash || shard.number != number {
            return Err(MergeError::OtherPlan { number });
        }
        if shard.program != shards[0].program {
            return Err(MergeError::OtherProgram { number });
        }
        for part in &shard.parts {
            let Some(whole) = played.get_mut(part.recording) else {
                return Err(MergeError::Incomplete { number });
            };
            whole.skipped = whole.skipped.take().or_else(|| part.skipped.clone());
            whole.about = whole.about.take().or_else(|| part.about.clone());
            whole.runs.extend(part.runs.iter().cloned());
        }
    }
    let names: Vec<String> = plan.points.iter().map(|point| point.name.clone()).collect();
    let each = names.len() * plan.seeds.len();
    let mut recordings = Vec::with_capacity(played.len());
    for part in played {
        let name = plan.recordings[part.recording].path.display().to_string();
        recordings.push(match (part.skipped, part.about) {
            (Some(reason), _) => OnRecording::skipped(name, reason),
            (None, Some(about)) if part.runs.len() == each => {
                OnRecording::of_runs(name, about, &names, part.runs)
            }
            (None, _) => return Err(MergeError::Missing { recording: name }),
        });
    }
    Ok(Compared::new(names, plan.seeds.clone(), recordings))
}

/// Why a shard's file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum ShardError {
    #[error("it is not a shard of a sweep")]
    NotOne,
    #[error("it was changed since it was written: delete it, and run the shard again")]
    Changed,
}

/// Why shards cannot be combined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum MergeError {
    #[error("shard {number} belongs to another plan: delete it, and run it again")]
    OtherPlan { number: usize },
    #[error(
        "shard {number} was computed by another program than shard 0: run both with the same one"
    )]
    OtherProgram { number: usize },
    #[error("shard {number} has a recording that is not in the plan: delete it, and run it again")]
    Incomplete { number: usize },
    #[error("there are runs on {recording} that no shard has")]
    Missing { recording: String },
}
