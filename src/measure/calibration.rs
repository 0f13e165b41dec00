//! The measurements of the models on a machine, and what follows for the machine itself.

mod catalog;

use std::time::Duration;

use serde::Serialize;
use tiershift_core::machine::Machine;
use tiershift_core::model::Model;
use tiershift_core::time::{duration_ns, from_secs_f64};
use tiershift_core::units::Bytes;

use crate::measure::figure::Figure;
use crate::measure::fit::{Decoding, FirstToken, Fit, Held};

pub use catalog::MARK;

/// All measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// The machine.
    pub machine: Machine,
    /// The model server's version text.
    pub engine: String,
    /// In the catalog's order.
    pub models: Vec<Measured>,
    /// The part of the catalog that was already known, and stays as it is.
    #[serde(skip)]
    pub kept: Vec<Model>,
    /// How constant the machine was.
    pub constancy: Constancy,
}

/// How constant a machine was while it was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Constancy {
    /// How long a fixed computation took, between the measurements, in seconds.
    pub computation: Figure,
    /// The share of the processors that others used [0 to 1], if it could be read.
    pub others_cpu: Option<Figure>,
}

/// The measurements of one model.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What the catalog already states: name, tier, file, slots. Its sizes and speeds are guesses.
    #[serde(skip)]
    pub model: Model,
    /// Its name.
    pub id: String,
    /// From the command to ready, with the file read from storage, in seconds; or why that could not be measured.
    pub load_cold: Result<Figure, String>,
    /// The same with the file in the page cache, in seconds.
    pub load_warm: Figure,
    /// From the command to the end of the process, in seconds.
    pub unload: Figure,
    /// From the end of the process until its memory was free, in seconds; empty if that was not seen.
    pub release_lag: Option<Figure>,
    /// Memory at several sizes of context, ascending.
    pub footprints: Vec<Held>,
    /// The line through them.
    pub fit: Fit,
    /// Peak memory while loading, above what is held in the end.
    pub load_transient: Bytes,
    /// Prompt tokens per second, for a long prompt.
    pub prefill: Speeds,
    /// The time to the first token alone, for a short prompt and for a long one.
    pub first_token: [FirstToken; 2],
    /// Reply tokens per second, with little context.
    pub decode: Speeds,
    /// The same alone, with little context and with more.
    pub decode_behind: [Decoding; 2],
}

/// The speed of each of the running requests.
#[derive(Clone, Debug, Serialize)]
pub struct Speeds {
    /// Nothing else runs.
    pub alone: Figure,
    /// Another request runs on the same model; none if the model has one slot.
    pub side_by_side: Option<Figure>,
    /// Another program keeps a share of the processors busy: [`BUSY_LOAD`].
    pub beside_busy_load: Figure,
}

/// The settings of the simulated machine, for a scenario's `[physics]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeasuredPhysics {
    /// The shortest time until memory is back.
    #[serde(rename = "release_lag_min_ns", with = "duration_ns")]
    pub release_lag_min: Duration,
    /// The longest.
    #[serde(rename = "release_lag_max_ns", with = "duration_ns")]
    pub release_lag_max: Duration,
    /// How much others' use of the processors slows tokens [0 to 1].
    pub cpu_contention: f64,
    /// What a second request adds to the throughput of one [0 to 1].
    pub batch_gain: f64,
}

impl Calibration {
    /// Returns the possible error of the speeds, as a share: half of the range of the measurements of one, or of the
    /// fixed computations, whichever is larger.
    pub fn error(&self) -> f64 {
        let speeds = self.models.iter().flat_map(|it| [it.prefill.alone, it.decode.alone]);
        let all = speeds.chain([self.constancy.computation]);
        all.map(|figure| (figure.most - figure.least) / 2.0 / figure.median).fold(0.0, f64::max)
    }

    /// Returns what the measurements show about the machine itself; `None` if nothing was measured.
    pub fn physics(&self) -> Option<MeasuredPhysics> {
        let lags: Vec<Figure> = self.models.iter().filter_map(|it| it.release_lag).collect();
        let edge = |of: fn(&Figure) -> f64, pick: fn(f64, f64) -> f64| {
            lags.iter().map(of).reduce(pick).unwrap_or_default()
        };
        let contention: Vec<f64> = self
            .models
            .iter()
            .map(|it| {
                let left = it.decode.beside_busy_load.median / it.decode.alone.median;
                ((1.0 - left) / BUSY_LOAD).clamp(0.0, 1.0)
            })
            .collect();
        let gain: Vec<f64> = self
            .models
            .iter()
            .filter_map(|it| {
                let both = 2.0 * it.decode.side_by_side?.median;
                Some((both / it.decode.alone.median - 1.0).clamp(0.0, 1.0))
            })
            .collect();
        Some(MeasuredPhysics {
            release_lag_min: from_secs_f64(edge(|lag| lag.least, f64::min)),
            release_lag_max: from_secs_f64(edge(|lag| lag.most, f64::max)),
            cpu_contention: Figure::of(&contention)?.median,
            batch_gain: Figure::of(&gain).map_or(0.0, |figure| figure.median),
        })
    }
}

/// The share of the processors that another program keeps busy for this measurement. Chosen: as much as others use on a
/// desktop.
pub const BUSY_LOAD: f64 = 0.5;

#[cfg(test)]
pub(crate) mod tests {
    use tiershift_core::catalog::{Catalog, RawCatalog};
    use tiershift_core::units::Percent;

    use super::*;

    fn figure(median: f64) -> Figure {
        Figure::of(&[median * 0.9, median, median * 1.2]).unwrap()
    }

    fn speeds(alone: f64) -> Speeds {
        Speeds {
            alone: figure(alone),
            side_by_side: Some(figure(alone * 0.6)),
            beside_busy_load: figure(alone * 0.7),
        }
    }

    pub(crate) fn measured() -> Calibration {
        let model = Model::of_size("a", "small", Percent::new(50), Bytes::from_mib(700));
        let footprints = [1024, 2048, 4096]
            .map(|tokens| Held { tokens, resident: Bytes::from_mib(600 + tokens / 16) });
        let measured = Measured {
            id: model.id.to_string(),
            model,
            load_cold: Err("nothing was read from storage".to_owned()),
            load_warm: figure(0.25),
            unload: figure(0.03),
            release_lag: Some(figure(0.01)),
            fit: Fit::through(&footprints).unwrap(),
            footprints: footprints.to_vec(),
            load_transient: Bytes::from_kib(5),
            prefill: speeds(250.0),
            first_token: [(10.0, 0.045), (100.0, 0.405)]
                .map(|(prompt_tokens, seconds)| FirstToken { prompt_tokens, seconds }),
            decode: speeds(20.0),
            decode_behind: [(10.0, 20.0), (110.0, 10.0)].map(
                |(context_tokens, tokens_per_second)| Decoding {
                    context_tokens,
                    tokens_per_second,
                },
            ),
        };
        let machine = Machine { memory: Bytes::from_gib(16), cpus: 4, ..Machine::default() };
        let constancy = Constancy { computation: figure(0.01), others_cpu: Some(figure(0.02)) };
        let mut kept = Model::of_size("b", "medium", Percent::new(100), Bytes::from_mib(900));
        kept.speeds_guessed = false;
        let models = vec![measured];
        Calibration { machine, engine: "a server".to_owned(), models, kept: vec![kept], constancy }
    }

    #[test]
    fn the_catalog_is_one_that_the_simulator_reads() {
        let text = measured().to_toml().unwrap();
        let catalog = Catalog::try_from(toml::from_str::<RawCatalog>(&text).unwrap()).unwrap();
        let model = &catalog.models()[0];
        assert_eq!(model.footprint_with(1024).ram, Bytes::from_mib(664), "{text}");
        // 45 ms for 10 tokens and 405 ms for 100: 4 ms for each, and 5 ms whatever they are.
        assert_eq!(model.request_overhead, Duration::from_millis(5));
        // 50 ms after 10 tokens, 100 ms after 110: 45 ms with none, 90 ms after 90.
        assert_eq!((model.prefill_per_second, model.decode_per_second), (250.0, 22.2));
        assert_eq!((model.decode_halves_at, model.speeds_guessed), (Some(90), false));
        assert_eq!(model.load_warm, Duration::from_millis(250));
        assert_eq!(catalog.models()[1], measured().kept[0]);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_machine_is_kept_apart_from_its_models() {
        let physics = measured().physics().unwrap();
        assert!((physics.cpu_contention - 0.6).abs() < 1e-9, "{physics:?}");
        assert!((physics.batch_gain - 0.2).abs() < 1e-9, "{physics:?}");
    }
}
