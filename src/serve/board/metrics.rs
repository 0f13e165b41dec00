//! `/metrics`: the board's figures in Prometheus' format, named by its conventions (base units, `_total` for counters).
//! Written here because every figure is already on the board: a client library would keep them twice.

use std::fmt::{Display, Write};

use tiershift_core::request::Rejection;
use tiershift_core::sample::Space;
use tiershift_core::units::Percent;

use crate::serve::board::Board;
use crate::serve::board::figures::{Histogram, ORDER_NEWS};
use crate::serve::status::{Companion, Recording, Requests, ResourceUse};

impl Board {
    /// Returns the answer of `/metrics`.
    pub(in crate::serve) fn metrics(&self) -> String {
        let mut page = Page(String::new());
        page.begin("tiershift_build_info", "gauge", "The version that runs; always 1.");
        page.put("tiershift_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.one(
            "tiershift_uptime_seconds",
            "gauge",
            "Time since the start.",
            self.now.as_secs_f64(),
        );
        self.put_models(&mut page);
        self.put_resources(&mut page);
        self.put_decisions(&mut page);
        self.put_requests(&mut page);
        page.0
    }

    fn put_models(&self, page: &mut Page) {
        let help = "Rung of the tier that serves, counted from 1; 0 while none does.";
        page.one("tiershift_serving_rung", "gauge", help, self.serving.0);
        let help = "Highest rung that fits by the last reading, with everything of ours but companions gone first.";
        page.one("tiershift_best_fitting_rung", "gauge", help, self.best_fitting.rung().0);
        let help = "Time in which a smaller model served than would have fitted.";
        let below = self.best_fitting.below(self.now).as_secs_f64();
        page.one("tiershift_below_best_fitting_seconds_total", "counter", help, below);
        let name = "tiershift_model_serving";
        page.begin(name, "gauge", "1 for the model that serves, 0 for the others.");
        let serving = self.catalog.primary(self.serving).map(|model| &model.id);
        for model in self.catalog.ladder_models() {
            let labels = [("tier", model.tier.as_str()), ("model", model.id.as_str())];
            page.put(name, &labels, u8::from(serving == Some(&model.id)));
        }
        for Companion { model, serves } in self.companions() {
            page.put(name, &[("model", model.as_str())], u8::from(serves));
        }
        let name = "tiershift_model_outcomes_total";
        page.begin(
            name,
            "counter",
            "Changes in the state of models: loaded, load-failed, unloaded, crashed.",
        );
        for ((model, outcome), count) in &self.figures.models {
            page.put(name, &[("model", model.as_str()), ("outcome", outcome)], count);
        }
    }

    fn put_resources(&self, page: &mut Page) {
        let lines = self.resource_use();
        let mut gauge = |name, help, value: fn(&ResourceUse) -> Option<Percent>| {
            page.begin(name, "gauge", help);
            for line in &lines {
                if let Some(share) = value(line) {
                    page.put(name, &[("resource", &line.name)], share.fraction());
                }
            }
        };
        let help = "Share in use by all programs.";
        gauge("tiershift_resource_used_ratio", help, |line| Some(line.used));
        let help = "Share in use by the models.";
        gauge("tiershift_resource_own_ratio", help, |line| Some(line.own));
        let help =
            "Upgrades need use below this. Absent for a resource that the policy does not use.";
        gauge("tiershift_resource_upgrade_line_ratio", help, |line| {
            line.constrains.then_some(line.upgrade_line)
        });
        let help =
            "The policy steps down above this. Absent for a resource that the policy does not use.";
        gauge("tiershift_resource_degrade_line_ratio", help, |line| {
            line.constrains.then_some(line.degrade_line)
        });
        let Some(sample) = &self.sample else { return };
        let name = "tiershift_memory_used_bytes";
        page.begin(
            name,
            "gauge",
            "Main memory in use: by the models (own) and by other programs (others).",
        );
        put_space(page, name, &[], sample.memory);
        let name = "tiershift_vram_used_bytes";
        page.begin(name, "gauge", "Video memory in use, by GPU and owner.");
        for (number, gpu) in sample.gpus.iter().enumerate() {
            put_space(page, name, &[("gpu", &number.to_string())], gpu.vram);
        }
        let name = "tiershift_vram_total_bytes";
        page.begin(name, "gauge", "Video memory of each GPU.");
        for (number, gpu) in sample.gpus.iter().enumerate() {
            if let Some(vram) = gpu.vram {
                page.put(name, &[("gpu", &number.to_string())], vram.total.get());
            }
        }
        if let Some(memory) = sample.memory {
            let help = "Main memory of the machine.";
            page.one("tiershift_memory_total_bytes", "gauge", help, memory.total.get());
        }
    }

    fn put_decisions(&self, page: &mut Page) {
        let figures = &self.figures;
        let name = "tiershift_decisions_total";
        page.begin(name, "counter", "Decisions by action and reason.");
        for ((action, reason), count) in &figures.decisions {
            page.put(name, &[("action", action), ("reason", reason.as_str())], count);
        }
        let name = "tiershift_switches_total";
        page.begin(name, "counter", "Completed switches of models.");
        page.put(name, &[("direction", "up")], figures.upgrades);
        page.put(name, &[("direction", "down")], figures.downgrades);
        let name = "tiershift_orders_total";
        page.begin(name, "counter", "Orders for a tier, by outcome.");
        for became in ORDER_NEWS {
            let count = figures.orders.get(became).unwrap_or(&0);
            page.put(name, &[("became", became)], count);
        }
        let help = "1 while an order is in effect.";
        page.one("tiershift_order_active", "gauge", help, u8::from(self.order.is_some()));
        let help = "Times that the machine could not be read.";
        page.one("tiershift_samples_missing_total", "counter", help, figures.missing_samples);
        let stopped = matches!(self.recording, Recording::Stopped { .. } | Recording::Held { .. });
        let help = "1 while the event log cannot be written.";
        page.one("tiershift_recording_stopped", "gauge", help, u8::from(stopped));
    }

    fn put_requests(&self, page: &mut Page) {
        let figures = &self.figures;
        let Requests { waiting, running, done, failed, cancelled, rejected } = self.requests();
        page.one("tiershift_requests_waiting", "gauge", "Requests that wait.", waiting);
        page.one("tiershift_requests_running", "gauge", "Requests that run.", running);
        let name = "tiershift_requests_total";
        page.begin(name, "counter", "Requests by how they ended.");
        let ends =
            [("done", done), ("failed", failed), ("cancelled", cancelled), ("rejected", rejected)];
        for (end, count) in ends {
            page.put(name, &[("end", end)], count);
        }
        let name = "tiershift_rejections_total";
        page.begin(name, "counter", "Requests that were not served, by reason.");
        // A reason that has not occurred is present, as zero.
        for reason in Rejection::ALL {
            let count = figures.rejections.get(&reason).unwrap_or(&0);
            page.put(name, &[("reason", reason.name())], count);
        }
        let help = "Tokens of all complete replies.";
        page.one("tiershift_output_tokens_total", "counter", help, figures.output_tokens);
        let help = "From arrival to the first token.";
        page.histogram("tiershift_first_token_seconds", help, &figures.first_token);
        let help = "From arrival to the last token.";
        page.histogram("tiershift_request_duration_seconds", help, &figures.latency);
    }
}

fn put_space(page: &mut Page, name: &str, labels: &[(&str, &str)], space: Option<Space>) {
    let Some(space) = space else { return };
    for (owner, bytes) in [("own", space.own), ("others", space.others)] {
        page.put(name, &[labels, &[("owner", owner)]].concat(), bytes.get());
    }
}

/// The text format, version 0.0.4.
struct Page(String);

impl Page {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        self.add(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn put(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.add(format_args!("{name}"));
        for (place, (label, text)) in labels.iter().enumerate() {
            let opens = if place == 0 { '{' } else { ',' };
            let text = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            self.add(format_args!("{opens}{label}=\"{text}\""));
        }
        let closes = if labels.is_empty() { "" } else { "}" };
        self.add(format_args!("{closes} {value}\n"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.begin(name, kind, help);
        self.put(name, &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.begin(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.buckets() {
            self.put(&bucket, &[("le", &bound.as_secs_f64().to_string())], count);
        }
        self.put(&bucket, &[("le", "+Inf")], histogram.count());
        self.put(&format!("{name}_sum"), &[], histogram.sum().as_secs_f64());
        self.put(&format!("{name}_count"), &[], histogram.count());
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a String takes whatever is written to it");
    }
}
