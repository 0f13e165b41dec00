//! Time under memory pressure, as a simulated machine counted it: it knows what happened between two samples, and who was swapped
//! out so that the others fitted.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tiershift_core::sample::Sample;
use tiershift_core::time::duration_ns;

/// What the machine of a simulated run counted. Samples alone do not show it, so that a log has a line with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Time with any space above the degrade line.
    #[serde(rename = "above_degrade_line_ns", with = "duration_ns")]
    pub above_degrade_line: Duration,
    /// Time with memory use above the machine's memory.
    #[serde(rename = "over_memory_ns", with = "duration_ns")]
    pub over_memory: Duration,
    /// How much of it no policy could have avoided; [`Summary::seconds_over_memory_unavoidable`] has the rule.
    ///
    /// [`Summary::seconds_over_memory_unavoidable`]: crate::summary::Summary::seconds_over_memory_unavoidable
    #[serde(rename = "over_memory_unavoidable_ns", with = "duration_ns")]
    pub over_memory_unavoidable: Duration,
    /// Time with use of video memory above a GPU's.
    #[serde(default, skip_serializing_if = "OverVram::has_no_gpu")]
    pub over_vram: OverVram,
    /// Times memory and swap were both exhausted.
    pub out_of_memory_events: u64,
}

/// Time with use of video memory above what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverVram {
    /// That of any GPU.
    #[serde(rename = "any_ns", with = "duration_ns")]
    pub any: Duration,
    /// That of each GPU of the machine; empty where it has none.
    #[serde(rename = "by_gpu_ns", serialize_with = "to_nanos", deserialize_with = "from_nanos")]
    #[schemars(with = "Vec<u64>")]
    pub by_gpu: Vec<Duration>,
}

impl OverVram {
    /// Counts a time in which the GPUs were as a sample says.
    pub(crate) fn count(&mut self, span: Duration, sample: &Sample) {
        if self.by_gpu.len() < sample.gpus.len() {
            self.by_gpu.resize(sample.gpus.len(), Duration::ZERO);
        }
        let mut any = false;
        for (over, gpu) in self.by_gpu.iter_mut().zip(&sample.gpus) {
            if gpu.vram.is_some_and(|vram| vram.used() > vram.total) {
                *over += span;
                any = true;
            }
        }
        if any {
            self.any += span;
        }
    }

    fn has_no_gpu(&self) -> bool {
        self.by_gpu.is_empty()
    }
}

fn to_nanos<S: Serializer>(spans: &[Duration], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(spans.iter().map(|span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
}

fn from_nanos<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Duration>, D::Error> {
    Ok(Vec::<u64>::deserialize(input)?.into_iter().map(Duration::from_nanos).collect())
}
