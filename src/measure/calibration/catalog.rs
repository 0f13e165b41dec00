//! The catalog from a calibration, with comments on how each figure was measured.

use std::fmt::Write as _;
use std::time::Duration;

use tiershift_core::catalog::{Catalog, RawCatalog};
use tiershift_core::machine::Machine;
use tiershift_core::model::{Model, RawModel};
use tiershift_core::time::from_secs_f64;
use tiershift_core::units::Bytes;

use crate::measure::calibration::{Calibration, Constancy, Measured};
use crate::measure::fit::{Decoding, FirstToken};

/// The beginning of a catalog from a calibration, which identifies it.
pub const MARK: &str = "# Measured by tiershift calibrate";

impl Calibration {
    /// Returns the catalog file, which states how each figure was measured.
    ///
    /// # Errors
    /// When a figure cannot be written.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut text = String::new();
        let Machine { cpus, memory, .. } = &self.machine;
        let _ = writeln!(
            text,
            "{MARK} with {} on {cpus} processors and {:.1} GiB of memory.\n\
             # Each figure: the median (least to most, how often).",
            self.engine,
            memory.as_gib()
        );
        let _ = writeln!(text, "# {}", self.about_the_machine());
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
        if !self.kept.is_empty() {
            text += "\n# Unchanged.\n";
            let models = self.kept.iter().map(RawModel::from).collect();
            text += &toml::to_string(&RawCatalog { models })?;
        }
        Ok(text)
    }

    /// Returns how constant the machine was, and the resulting error.
    pub fn about_the_machine(&self) -> String {
        let Constancy { computation, others_cpu } = &self.constancy;
        let others = match others_cpu {
            Some(share) => format!(
                "others took {:.1} % of the processors ({:.1} to {:.1} %)",
                share.median * 100.0,
                share.least * 100.0,
                share.most * 100.0
            ),
            None => "the processor use of other programs could not be measured".to_owned(),
        };
        let millis =
            [computation.median, computation.least, computation.most].map(|it| it * 1000.0);
        format!(
            "During the measurement a fixed computation took {:.2} ms ({:.2} to {:.2}, {} times), and {others}: speeds are good to {:.0} %.",
            millis[0],
            millis[1],
            millis[2],
            computation.count,
            self.error() * 100.0
        )
    }
}

impl Measured {
    fn raw(&self) -> Option<RawModel> {
        let mut model = self.model.clone();
        // Rounded up to a readable number: a catalog may state a little too much, never too little.
        let kib = |bytes: Bytes| Bytes::from_kib(bytes.get().div_ceil(1 << 10));
        let speed = |per_second: f64| (per_second * 10.0).round().max(1.0) / 10.0;
        model.ram = kib(self.fit.weights + self.fit.residual);
        model.kv_per_token = self.fit.kv_per_token;
        model.load_transient = kib(self.load_transient);
        model.load_warm = self.load_warm.span();
        // If storage could not be measured, the guess stays, unless it is shorter.
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
        model.speeds_guessed = false;
        let catalog = Catalog::new(vec![Model { fallbacks: Vec::new(), ..model }]).ok()?;
        let mut raw = RawCatalog::from(&catalog).models.pop()?;
        raw.fallbacks = self.model.fallbacks.iter().map(ToString::to_string).collect();
        Some(raw)
    }

    /// Returns how each figure was measured.
    fn comments(&self) -> Vec<String> {
        let cold = match &self.load_cold {
            Ok(figure) => format!("load-cold: {figure} s, the file read from storage"),
            Err(why) => format!("load-cold: estimated from the size, because {why}"),
        };
        let held: Vec<String> = self
            .footprints
            .iter()
            .map(|held| format!("{:.1} MiB at {}", mib(held.resident), held.tokens))
            .collect();
        let lag = self.release_lag.map_or("not seen".to_owned(), |lag| format!("{lag} s"));
        let mut lines = vec![
            format!(
                "ram, kv-per-token: the line through {} tokens, off by at most {:.1} MiB, which is added to ram",
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
                speeds.alone, speeds.beside_busy_load.median
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

fn mib(bytes: Bytes) -> f64 {
    bytes.get() as f64 / (1u64 << 20) as f64
}
