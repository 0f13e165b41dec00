//! What was measured of the models on a machine: each figure with its spread, and the catalog that it makes.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;
use tiershift_core::catalog::{Catalog, RawCatalog};
use tiershift_core::machine::Machine;
use tiershift_core::model::{Model, RawModel};
use tiershift_core::time::{duration_ns, from_secs_f64};
use tiershift_core::units::Bytes;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// The machine.
    pub machine: Machine,
    /// What the model server says of itself.
    pub engine: String,
    /// In the catalog's order; not empty.
    pub models: Vec<Measured>,
}

/// What was measured of one model.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What the catalog says of it already: name, tier, file, slots. Its sizes and speeds are guesses.
    #[serde(skip)]
    pub model: Model,
    /// Its name.
    pub id: String,
    /// From the command to ready, the file read from storage, in seconds; or why that could not be had.
    pub load_cold: Result<Figure, String>,
    /// The same with the file in the page cache, in seconds.
    pub load_warm: Figure,
    /// From the command to the end of the process, in seconds.
    pub unload: Figure,
    /// From the end of the process until its memory was free, in seconds; empty where it was not seen.
    pub release_lag: Option<Figure>,
    /// Memory at several sizes of context, ascending.
    pub footprints: Vec<Held>,
    /// The line through them.
    pub fit: Fit,
    /// Memory at its highest while loading, above what is held in the end.
    pub load_transient: Bytes,
    /// Prompt tokens a second, of a long prompt.
    pub prefill: Speeds,
    /// The time to the first token alone, of a short prompt and of a long one.
    pub first_token: [FirstToken; 2],
    /// Reply tokens a second, behind little context.
    pub decode: Speeds,
    /// The same alone, behind little context and behind more.
    pub decode_behind: [Decoding; 2],
}

/// How soon a reply began.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FirstToken {
    /// The prompt.
    pub prompt_tokens: f64,
    /// From the request to the first token.
    pub seconds: f64,
}

impl FirstToken {
    /// Returns the seconds that a request takes whatever its prompt, and the prompt tokens a second beyond them.
    fn line_through([short, long]: [Self; 2]) -> (f64, f64) {
        let point = |it: Self| (it.prompt_tokens, it.seconds);
        match line_through(point(short), point(long)) {
            Some((overhead, each)) => (overhead, 1.0 / each),
            None => (0.0, long.prompt_tokens / long.seconds),
        }
    }
}

/// How fast a reply was behind some context.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Decoding {
    /// The prompt and half of the reply.
    pub context_tokens: f64,
    /// Reply tokens a second.
    pub tokens_per_second: f64,
}

impl Decoding {
    /// Returns the tokens a second with no context, and the context behind which they are half as many, by the line
    /// through the time of a token behind `little` and behind `much`.
    fn line_through([little, much]: [Self; 2]) -> (f64, Option<u32>) {
        let point = |it: Self| (it.context_tokens, 1.0 / it.tokens_per_second);
        match line_through(point(little), point(much)) {
            // `as` saturates.
            Some((at_none, each)) => (1.0 / at_none, Some((at_none / each).max(1.0) as u32)),
            // Noise, where the model is so large that context does not tell.
            None => (little.tokens_per_second, None),
        }
    }
}

/// Returns the seconds at no tokens, and those that each token adds, by the line through two measurements (tokens,
/// seconds). `None` where that line says what cannot be: a token that takes no time, or less than none.
fn line_through(few: (f64, f64), many: (f64, f64)) -> Option<(f64, f64)> {
    let apart = many.0 - few.0;
    let each = (many.1 - few.1) / apart;
    let at_none = few.1 - each * few.0;
    (apart > 0.0 && each > 0.0 && at_none > 0.0).then_some((at_none, each))
}

/// Memory that a model's process held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Context of all slots together.
    pub tokens: u64,
    /// Its resident memory, file pages included.
    #[serde(rename = "resident_bytes")]
    pub resident: Bytes,
}

/// The speed of each of the requests that run.
#[derive(Clone, Debug, Serialize)]
pub struct Speeds {
    /// Nothing else runs.
    pub alone: Figure,
    /// Another request runs on the same model; none where the model has one slot.
    pub side_by_side: Option<Figure>,
    /// Another program keeps this share of the processors busy, in thousandths of a percent: [`BUSY_NEIGHBOUR`].
    pub with_neighbour: Figure,
}

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Half are below, half above.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// How many.
    pub count: usize,
}

/// A line: memory = weights + `kv_per_token` x tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// At no context: the weights and what the server needs beside them.
    #[serde(rename = "weights_bytes")]
    pub weights: Bytes,
    /// For each token of context.
    #[serde(rename = "kv_per_token_bytes")]
    pub kv_per_token: Bytes,
    /// The farthest that a measurement lies from the line.
    #[serde(rename = "residual_bytes")]
    pub residual: Bytes,
}

/// What the simulated machine should be like, for a scenario's `[physics]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Physics {
    /// The least time until memory is back.
    #[serde(rename = "release_lag_min_ns", with = "duration_ns")]
    pub release_lag_min: Duration,
    /// The most.
    #[serde(rename = "release_lag_max_ns", with = "duration_ns")]
    pub release_lag_max: Duration,
    /// How much of others' use of the processors is taken from tokens [0 to 1].
    pub cpu_contention: f64,
    /// What a second request adds to the throughput of one [0 to 1].
    pub batch_gain: f64,
}

impl Figure {
    /// Returns the figure of these measurements; `None` where there is none.
    pub fn of(measurements: &[f64]) -> Option<Self> {
        let mut sorted = measurements.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let count = sorted.len();
        let median = f64::midpoint(sorted[(count - 1) / 2], sorted[count / 2]);
        Some(Self { median, least, most, count })
    }

    fn span(self) -> Duration {
        let millis = (self.median * 1000.0).ceil();
        from_secs_f64(millis / 1000.0)
    }
}

impl fmt::Display for Figure {
    /// Prints `0.125 (0.120 to 0.131, 3 times)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, least, most, count } = self;
        let places = if *most < 10.0 { 3 } else { 1 };
        write!(f, "{median:.places$} ({least:.places$} to {most:.places$}, {count} times)")
    }
}

impl Fit {
    /// Returns the line of least squares through these points; flat where they all have one size of context, or where
    /// it would fall.
    pub fn through(points: &[Held]) -> Option<Self> {
        let count = points.len() as f64;
        let x = |held: &Held| held.tokens as f64;
        let y = |held: &Held| held.resident.get() as f64;
        let mean_x = points.iter().map(x).sum::<f64>() / count;
        let mean_y = points.iter().map(y).sum::<f64>() / count;
        let spread: f64 = points.iter().map(|it| (x(it) - mean_x) * (x(it) - mean_x)).sum();
        let product: f64 = points.iter().map(|it| (x(it) - mean_x) * (y(it) - mean_y)).sum();
        let slope = if spread > 0.0 { (product / spread).max(0.0) } else { 0.0 };
        let weights = (mean_y - slope * mean_x).max(0.0);
        let off = |held: &Held| (y(held) - weights - slope * x(held)).abs();
        let residual = points.iter().map(off).max_by(f64::total_cmp)?;
        let bytes = |value: f64| Bytes::new(value.round() as u64);
        Some(Self {
            weights: bytes(weights),
            kv_per_token: bytes(slope),
            residual: bytes(residual),
        })
    }
}

impl Measured {
    fn raw(&self) -> Option<RawModel> {
        let mut model = self.model.clone();
        // Rounded up to what a person can read: a catalog may promise a little too much, never too little.
        let kib = |bytes: Bytes| Bytes::from_kib(bytes.get().div_ceil(1 << 10));
        let speed = |per_second: f64| (per_second * 10.0).round().max(1.0) / 10.0;
        model.ram = kib(self.fit.weights + self.fit.residual);
        model.kv_per_token = self.fit.kv_per_token;
        model.load_transient = kib(self.load_transient);
        model.load_warm = self.load_warm.span();
        // Where storage was not to be seen, the guess stays, if it is no shorter.
        model.load_cold = match &self.load_cold {
            Ok(figure) => figure.span(),
            Err(_) => model.load_cold,
        }
        .max(model.load_warm);
        model.unload = self.unload.span();
        let (overhead, prefill) = FirstToken::line_through(self.first_token);
        model.request_overhead = from_secs_f64((overhead * 1e6).round() / 1e6);
        model.prefill_per_second = speed(prefill);
        let (at_none, halves_at) = Decoding::line_through(self.decode_behind);
        (model.decode_per_second, model.decode_halves_at) = (speed(at_none), halves_at);
        let catalog = Catalog::new(vec![Model { fallbacks: Vec::new(), ..model }]).ok()?;
        let mut raw = RawCatalog::from(&catalog).models.pop()?;
        raw.fallbacks = self.model.fallbacks.iter().map(ToString::to_string).collect();
        Some(raw)
    }

    /// Says how each figure was measured.
    fn comments(&self) -> Vec<String> {
        let cold = match &self.load_cold {
            Ok(figure) => format!("load-cold: {figure} s, the file read from storage"),
            Err(why) => format!("load-cold: a guess by size, for {why}"),
        };
        let held: Vec<String> = self
            .footprints
            .iter()
            .map(|held| format!("{:.1} MiB at {}", mib(held.resident), held.tokens))
            .collect();
        let lag = self.release_lag.map_or("not seen".to_owned(), |lag| format!("{lag} s"));
        let mut lines = vec![
            format!(
                "ram, kv-per-token: the line through {} tokens, off by {:.1} MiB at most, which ram has on top",
                held.join(", "),
                mib(self.fit.residual)
            ),
            format!("load-warm: {} s, the file in the page cache", self.load_warm),
            cold,
            format!("unload: {} s; memory back after: {lag}", self.unload),
        ];
        for (name, speeds) in [("prefill", &self.prefill), ("decode", &self.decode)] {
            let beside = speeds.side_by_side.map_or_else(String::new, |figure| {
                format!("; each of two side by side: {:.1}", figure.median)
            });
            lines.push(format!(
                "{name}: {} tokens/s alone{beside}; beside a program on half the processors: {:.1}",
                speeds.alone, speeds.with_neighbour.median
            ));
        }
        let [short, long] = self
            .first_token
            .map(|it| format!("{:.1} ms of {:.0} tokens", it.seconds * 1000.0, it.prompt_tokens));
        lines.push(format!(
            "request-overhead, prefill-tokens-per-second: by the line through first tokens after {short} and {long}"
        ));
        let [little, much] = self.decode_behind.map(|it| {
            format!("{:.1} behind {:.0} tokens", it.tokens_per_second, it.context_tokens)
        });
        lines.push(format!("decode-halves-at-tokens: by the line through {little} and {much}"));
        lines
    }
}

impl Calibration {
    /// Returns what the measurements say of the machine itself; `None` where nothing was measured.
    pub fn physics(&self) -> Option<Physics> {
        let lags: Vec<Figure> = self.models.iter().filter_map(|it| it.release_lag).collect();
        let edge = |of: fn(&Figure) -> f64, pick: fn(f64, f64) -> f64| {
            lags.iter().map(of).reduce(pick).unwrap_or_default()
        };
        let contention: Vec<f64> = self
            .models
            .iter()
            .map(|it| {
                let left = it.decode.with_neighbour.median / it.decode.alone.median;
                ((1.0 - left) / BUSY_NEIGHBOUR).clamp(0.0, 1.0)
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
        Some(Physics {
            release_lag_min: from_secs_f64(edge(|lag| lag.least, f64::min)),
            release_lag_max: from_secs_f64(edge(|lag| lag.most, f64::max)),
            cpu_contention: Figure::of(&contention)?.median,
            batch_gain: Figure::of(&gain).map_or(0.0, |figure| figure.median),
        })
    }

    /// Returns the catalog file, which says how each figure was measured.
    ///
    /// # Errors
    /// Where a figure cannot be written.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut text = String::new();
        let Machine { cpus, memory, .. } = &self.machine;
        let _ = writeln!(
            text,
            "# Measured by tiershift calibrate with {} on {cpus} processors and {:.1} GiB of memory.\n\
             # Each figure: the median (least to most, how often).",
            self.engine,
            memory.as_gib()
        );
        if let Some(physics) = self.physics() {
            let millis = |span: Duration| span.as_secs_f64() * 1000.0;
            let _ = writeln!(
                text,
                "#\n# For a scenario on this machine:\n# [physics]\n# release-lag-min = \"{:.0}ms\"\n\
                 # release-lag-max = \"{:.0}ms\"\n# cpu-contention = \"{:.0}%\"\n# batch-gain = \"{:.0}%\"",
                millis(physics.release_lag_min).floor(),
                millis(physics.release_lag_max).ceil(),
                physics.cpu_contention * 100.0,
                physics.batch_gain * 100.0,
            );
        }
        for measured in &self.models {
            text.push('\n');
            for line in measured.comments() {
                let _ = writeln!(text, "# {line}");
            }
            let models = measured.raw().into_iter().collect();
            text += &toml::to_string(&RawCatalog { models })?;
        }
        Ok(text)
    }
}

fn mib(bytes: Bytes) -> f64 {
    bytes.get() as f64 / (1u64 << 20) as f64
}

/// The share of the processors that the neighbour keeps busy. Chosen: as much as others on a desktop do.
pub const BUSY_NEIGHBOUR: f64 = 0.5;

#[cfg(test)]
pub(crate) mod tests {
    use tiershift_core::units::Percent;

    use super::*;

    fn figure(median: f64) -> Figure {
        Figure::of(&[median * 0.9, median, median * 1.2]).unwrap()
    }

    fn speeds(alone: f64) -> Speeds {
        Speeds {
            alone: figure(alone),
            side_by_side: Some(figure(alone * 0.6)),
            with_neighbour: figure(alone * 0.7),
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
        Calibration { machine, engine: "a server".to_owned(), models: vec![measured] }
    }

    #[test]
    fn the_line_through_points_on_a_line_is_that_line() {
        let fit = measured().models[0].fit;
        assert_eq!((fit.weights, fit.residual), (Bytes::from_mib(600), Bytes::ZERO));
        assert_eq!(fit.kv_per_token, Bytes::from_kib(64));
        let one = [Held { tokens: 9, resident: Bytes::new(7) }];
        let flat = Fit::through(&one).unwrap();
        assert_eq!((flat.weights, flat.kv_per_token), (Bytes::new(7), Bytes::ZERO));
        assert_eq!(Fit::through(&[]), None);
    }

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(Figure::of(&[3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Figure::of(&[3.0, 1.0]).unwrap().median, 2.0);
        assert_eq!(Figure::of(&[]), None);
    }

    #[test]
    fn the_catalog_is_one_that_the_simulator_reads() {
        let text = measured().to_toml().unwrap();
        let catalog = Catalog::try_from(toml::from_str::<RawCatalog>(&text).unwrap()).unwrap();
        let model = &catalog.models()[0];
        assert_eq!(model.footprint_with(1024).ram, Bytes::from_mib(664), "{text}");
        // 45 ms for 10 tokens and 405 ms for 100: 4 ms for each, and 5 ms whatever they are.
        assert_eq!(model.request_overhead, Duration::from_millis(5));
        // 50 ms behind 10 tokens, 100 ms behind 110: 45 ms with none, 90 ms behind 90.
        assert_eq!((model.prefill_per_second, model.decode_per_second), (250.0, 22.2));
        assert_eq!(model.decode_halves_at, Some(90));
        assert_eq!(model.load_warm, Duration::from_millis(250));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn context_that_does_not_tell_costs_nothing() {
        let [little, much] =
            [(10.0, 20.0), (110.0, 20.1)].map(|(context_tokens, tokens_per_second)| Decoding {
                context_tokens,
                tokens_per_second,
            });
        assert_eq!(Decoding::line_through([little, much]), (20.0, None));
        assert_eq!(Decoding::line_through([little, little]), (20.0, None));
    }

    #[test]
    fn first_tokens_that_make_no_sense_are_taken_for_prompt_alone() {
        let first = |prompt_tokens, seconds| FirstToken { prompt_tokens, seconds };
        // The short prompt took longer; and so little that less than nothing would be left for the request.
        for short in [first(4.0, 0.9), first(4.0, 0.01)] {
            assert_eq!(FirstToken::line_through([short, first(100.0, 0.5)]), (0.0, 200.0));
        }
    }

    #[test]
    fn the_machine_is_told_apart_from_its_models() {
        let physics = measured().physics().unwrap();
        assert!((physics.cpu_contention - 0.6).abs() < 1e-9, "{physics:?}");
        assert!((physics.batch_gain - 0.2).abs() < 1e-9, "{physics:?}");
    }
}
