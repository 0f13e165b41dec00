//! Random worlds: a number becomes a scenario, always the same one.
//!
//! Machines with up to four GPUs, ladders of up to eight rungs with up to four companions, every kind of fault,
//! requests, orders, and settings far from their defaults. Each part draws from its own stream, so that a change to one
//! leaves the others as they were.

use std::fmt::Write as _;

use crate::sim::rng::Stream;
use crate::study::hunt::id::{Part, WorldId};

/// Returns the scenario file of a world, under a policy with its options, which may be empty.
pub fn scenario(world: &WorldId, policy: &str, options: &str) -> String {
    let mut world = World::new(world);
    let minutes = world.minutes + world.quiet_minutes;
    let seed = world.id.number_of(Part::Luck);
    let mut text = format!("seed = {seed}\nduration = \"{minutes}m\"\n");
    world.write_machine(&mut text);
    world.write_policy(&mut text, policy, options);
    world.write_models(&mut text);
    world.write_companions(&mut text);
    world.write_others(&mut text);
    world.write_workloads(&mut text);
    world.write_faults(&mut text);
    world.write_rarer_faults(&mut text);
    world.write_orders(&mut text);
    world.write_release(&mut text);
    text
}

/// What the parts share.
struct World<'a> {
    id: &'a WorldId,
    minutes: u64,
    /// The quiet time at the end: no use by others, no requests, no orders and no faults. Most worlds have none.
    quiet_minutes: u64,
    memory_mib: u64,
    gpus_mib: Vec<u64>,
    rungs: u64,
    companions: u64,
    sampling_ms: u64,
}

impl<'a> World<'a> {
    fn new(id: &'a WorldId) -> Self {
        let stream = |label| id.stream(Part::Machine, label);
        let mut luck = stream("world");
        let companions = pick(&mut stream("world.companions.count"), &[0, 0, 0, 0, 1, 2, 3, 4]);
        let gpus = pick(&mut luck, &[0, 0, 0, 1, 1, 2, 3, 4]);
        let mut quiet = stream("world.quiet");
        let is_quiet = one_in(&mut quiet, QUIET_RARITY);
        let quiet_minutes = if is_quiet { pick(&mut quiet, &QUIET_MINUTES) } else { 0 };
        Self {
            minutes: pick(&mut luck, &[10, 20, 40, 90, 240]),
            memory_mib: 1024 * pick(&mut luck, &[6, 8, 16, 16, 32, 64, 128]),
            gpus_mib: (0..gpus).map(|_| 1024 * pick(&mut luck, &[4, 8, 12, 24, 48])).collect(),
            rungs: between(&mut luck, 1, 8),
            companions,
            quiet_minutes,
            sampling_ms: pick(&mut luck, &[200, 1000, 2000, 2000, 2000, 5000, 15000]),
            id,
        }
    }

    fn write_machine(&self, text: &mut String) {
        let memory = self.memory_mib;
        line(text, format_args!("\n[machine]\nmemory = \"{memory}MiB\""));
        if !self.gpus_mib.is_empty() {
            let gpus: Vec<String> =
                self.gpus_mib.iter().map(|mib| format!("\"{mib}MiB\"")).collect();
            line(text, format_args!("gpus = [{}]", gpus.join(", ")));
        }
        let mut luck = self.id.stream(Part::Machine, "world.physics");
        if one_in(&mut luck, 3) {
            let warm = one_in(&mut luck, 2);
            let gain = between(&mut luck, 0, 100);
            line(
                text,
                format_args!("\n[physics]\npage-cache-warm = {warm}\nbatch-gain = \"{gain}%\""),
            );
        }
    }

    fn write_policy(&self, text: &mut String, policy: &str, options: &str) {
        let mut luck = self.id.stream(Part::Policy, "world.policy");
        let (sampling, stale) = (self.sampling_ms, self.sampling_ms * between(&mut luck, 2, 6));
        line(
            text,
            format_args!(
                "\n[policy]\npolicy = \"{policy}\"\nsampling-interval = \"{sampling}ms\"\nstale-after = \"{stale}ms\""
            ),
        );
        let choices: &[(&str, &[&str])] = &[
            ("stabilization", &["0s", "20s", "1m", "5m", "auto"]),
            ("preset", &["eager", "balanced", "steady"]),
            ("price", &["0s", "20s", "5m"]),
            ("calm", &["0s", "2m"]),
            ("reversal-window", &["1s", "2m", "15m"]),
            ("settle-limit", &["1s", "5s", "20s"]),
            ("degrade-line", &["90%", "95%"]),
            ("free-floor", &["0B", "2GiB"]),
            ("trend-half-life", &["10s", "2m"]),
            ("rate-sustained", &["4s", "30s"]),
            ("latency-limit", &["5s", "30s"]),
            ("failure-limit", &["1", "3"]),
            ("constrain", &["[\"memory\"]", "[\"vram\"]", "[\"memory\", \"vram\"]"]),
        ];
        write_choices(text, &mut luck, choices, 4);
        line(text, format_args!("\n[policy.manager]"));
        let choices: &[(&str, &[&str])] = &[
            ("drain-deadline", &["0s", "10s", "2m"]),
            ("critical-drain-deadline", &["0s", "5s", "30s"]),
            ("at-drain-deadline", &["cancel"]),
            ("at-critical-drain-deadline", &["wait"]),
            ("reply-limit", &["30s", "5m"]),
            ("queue-limit", &["0", "3"]),
            ("patience", &["1s", "20s", "5m"]),
            ("load-retry", &["1s", "30s"]),
            ("load-attempts", &["1", "3"]),
            ("switch-cooldown", &["0s", "2m"]),
        ];
        write_choices(text, &mut luck, choices, 4);
        for (key, rarity) in [("start", 8), ("pin", 16)] {
            if one_in(&mut luck, rarity) {
                let rung = luck.below(self.rungs);
                line(text, format_args!("{key} = \"t{rung}\""));
            }
        }
        let mut luck = self.id.stream(Part::Policy, "world.policy.idle");
        write_choices(text, &mut luck, &[("idle-unload", &["1m", "10m"])], 8);
        if self.companions > 0
            && one_in(&mut self.id.stream(Part::Policy, "world.companions.go"), 4)
        {
            line(text, format_args!("companions-go = \"before-a-step-down\""));
        }
        if !options.is_empty() {
            line(text, format_args!("\n[policy.options]\n{options}"));
        }
    }

    fn write_models(&mut self, text: &mut String) {
        let mut luck = self.id.stream(Part::Models, "world.models");
        let rungs = self.rungs;
        // The share of the machine that the largest model takes; mostly one that fits at times.
        let largest = between(&mut luck, 20, 100);
        let on_gpu = !self.gpus_mib.is_empty() && !one_in(&mut luck, 4);
        for rung in 0..rungs {
            let share = (largest * (rung + 1) / rungs).max(1);
            let share = between(&mut luck, share.saturating_sub(5).max(1), share + 5);
            let quality = (100 * (rung + 1) / rungs).max(1);
            line(
                text,
                format_args!(
                    "\n[[model]]\nid = \"m{rung}\"\ntier = \"t{rung}\"\nquality = \"{quality}%\""
                ),
            );
            let gpu =
                self.gpus_mib.iter().max().copied().filter(|_| on_gpu && !one_in(&mut luck, 5));
            match gpu {
                Some(gpu) => {
                    let ram = pick(&mut luck, &[1, 512, 2048]);
                    let vram = (gpu * share / 100).max(1);
                    line(text, format_args!("ram = \"{ram}MiB\"\nvram = \"{vram}MiB\""));
                }
                None => {
                    let ram = (self.memory_mib * share / 100).max(1);
                    line(text, format_args!("ram = \"{ram}MiB\""));
                }
            }
            let load = pick(&mut luck, &[1, 4, 12, 40]);
            let (warm, cold) = (load, load * between(&mut luck, 1, 4));
            line(text, format_args!("load-warm = \"{warm}s\"\nload-cold = \"{cold}s\""));
            let speed = pick(&mut luck, &[2, 10, 60]);
            line(
                text,
                format_args!(
                    "prefill-tokens-per-second = {speed}0.0\ndecode-tokens-per-second = {speed}.0"
                ),
            );
            if one_in(&mut luck, 2) {
                let slots = between(&mut luck, 1, 8);
                let kv = pick(&mut luck, &[0, 16, 64]);
                line(
                    text,
                    format_args!(
                        "slots = {slots}\nkv-per-token = \"{kv}KiB\"\ncontext-tokens = 4096"
                    ),
                );
            }
            if one_in(&mut luck, 3) {
                let transient = between(&mut luck, 1, 1024);
                line(text, format_args!("load-transient = \"{transient}MiB\""));
            }
            if one_in(&mut luck, 4) {
                let timeout = pick(&mut luck, &[20, 300]);
                line(text, format_args!("load-timeout = \"{timeout}s\""));
            }
            if rung > 0 && one_in(&mut luck, 3) {
                let fallback = luck.below(rung);
                line(text, format_args!("fallbacks = [\"m{fallback}\"]"));
            }
        }
    }

    fn write_companions(&self, text: &mut String) {
        let mut luck = self.id.stream(Part::Companions, "world.companions");
        for companion in 0..self.companions {
            let share = between(&mut luck, 1, 20);
            let tasks = pick(&mut luck, &["embedding", "rerank"]);
            line(
                text,
                format_args!(
                    "\n[[model]]\nid = \"c{companion}\"\ncompanion = true\ntasks = [\"{tasks}\"]"
                ),
            );
            match self.gpus_mib.iter().max().filter(|_| one_in(&mut luck, 2)) {
                Some(gpu) => {
                    let vram = (gpu * share / 100).max(1);
                    line(text, format_args!("ram = \"64MiB\"\nvram = \"{vram}MiB\""));
                }
                None => {
                    let ram = (self.memory_mib * share / 100).max(1);
                    line(text, format_args!("ram = \"{ram}MiB\""));
                }
            }
            let load = pick(&mut luck, &[1, 4, 12]);
            line(text, format_args!("load-warm = \"{load}s\"\nload-cold = \"{load}s\""));
            let (prefill, slots) = (pick(&mut luck, &[20, 500]), between(&mut luck, 1, 4));
            line(
                text,
                format_args!(
                    "prefill-tokens-per-second = {prefill}.0\ndecode-tokens-per-second = 1.0\nslots = {slots}"
                ),
            );
            let (rate, prompt) = (between(&mut luck, 1, 20), pick(&mut luck, &[20, 300, 3000]));
            line(
                text,
                format_args!(
                    "\n[[workload]]\nkind = \"poisson\"\nrate = \"{rate}/min\"\ntask = \"{tasks}\"\nprompt-tokens = {prompt}"
                ),
            );
            self.write_end(text);
        }
    }

    fn write_others(&self, text: &mut String) {
        let mut luck = self.id.stream(Part::Others, "world.others");
        for _ in 0..between(&mut luck, 0, 5) {
            let resources: &[&str] = match self.gpus_mib.is_empty() {
                true => &["memory", "memory", "memory", "cpu", "pressure"],
                false => &["memory", "vram", "vram", "cpu", "gpu", "pressure"],
            };
            let resource = pick(&mut luck, resources);
            let [low, high] = [luck.below(60), luck.below(100)];
            let seconds = pick(&mut luck, &[10, 60, 300, 1800]);
            let length = between(&mut luck, 1, seconds);
            let shape = match luck.below(7) {
                0 => format!("constant\"\nlevel = \"{low}%"),
                1 => format!("step\"\nfrom = \"{low}%\"\nto = \"{high}%"),
                2 => format!("ramp\"\nfrom = \"{low}%\"\nto = \"{high}%"),
                3 => format!("saw\"\nfrom = \"{low}%\"\nto = \"{high}%\"\nperiod = \"{seconds}s"),
                4 => format!("sine\"\nfrom = \"{low}%\"\nto = \"{high}%\"\nperiod = \"{seconds}s"),
                5 => format!(
                    "burst\"\nfrom = \"{low}%\"\nto = \"{high}%\"\nperiod = \"{seconds}s\"\nlength = \"{length}s"
                ),
                _ => format!("noise\"\namplitude = \"{}%\"\nevery = \"{seconds}s", low / 4),
            };
            line(
                text,
                format_args!("\n[[background]]\nresource = \"{resource}\"\nshape = \"{shape}\""),
            );
            if matches!(resource, "vram" | "gpu") {
                let gpu = luck.below(self.gpus_mib.len() as u64);
                line(text, format_args!("gpu = {gpu}"));
            }
            if one_in(&mut luck, 2) {
                let (at, until) = self.span(&mut luck);
                line(text, format_args!("at = \"{at}s\"\nuntil = \"{until}s\""));
            } else {
                self.write_end(text);
            }
        }
    }

    /// Ends at the beginning of the quiet time what would otherwise last for the whole run.
    fn write_end(&self, text: &mut String) {
        if self.quiet_minutes > 0 {
            let minutes = self.minutes;
            line(text, format_args!("until = \"{minutes}m\""));
        }
    }

    /// Releases an order that holds until it is released: what must follow in the quiet time is checked by rule L5.
    fn write_release(&self, text: &mut String) {
        if self.quiet_minutes > 0 {
            let minutes = self.minutes;
            line(text, format_args!("\n[[action]]\nat = \"{minutes}m\"\nswitch = \"auto\""));
        }
    }

    fn write_workloads(&self, text: &mut String) {
        let mut luck = self.id.stream(Part::Workloads, "world.workloads");
        for _ in 0..between(&mut luck, 0, 3) {
            let arrivals = match luck.below(3) {
                0 => format!("poisson\"\nrate = \"{}/min\"", between(&mut luck, 1, 30)),
                1 => format!(
                    "burst\"\ncount = {}\nevery = \"{}s\"\nspread = \"{}s\"",
                    between(&mut luck, 1, 60),
                    between(&mut luck, 20, 600),
                    luck.below(20)
                ),
                _ => format!(
                    "closed-loop\"\nusers = {}\nthink = \"{}s\"",
                    between(&mut luck, 1, 8),
                    between(&mut luck, 1, 60)
                ),
            };
            let [prompt, output] =
                [pick(&mut luck, &[20, 300, 3000]), pick(&mut luck, &[1, 60, 500])];
            line(
                text,
                format_args!(
                    "\n[[workload]]\nkind = \"{arrivals}\nprompt-tokens = {prompt}\noutput-tokens = {output}"
                ),
            );
            self.write_end(text);
            match luck.below(8) {
                0 => line(text, format_args!("tier = \"t{}\"", luck.below(self.rungs))),
                1 => line(text, format_args!("model = \"m{}\"", luck.below(self.rungs))),
                2 => line(text, format_args!("task = \"vision\"")),
                3 => line(text, format_args!("priority = {}", luck.below(5))),
                4 => line(text, format_args!("patience = \"{}s\"", between(&mut luck, 1, 100))),
                5 => line(text, format_args!("cancel = \"{}%\"", between(&mut luck, 1, 100))),
                _ => {}
            }
        }
    }

    fn write_faults(&self, text: &mut String) {
        let mut luck = self.id.stream(Part::Faults, "world.faults");
        for _ in 0..pick(&mut luck, &[0, 1, 1, 2, 3, 5]) {
            let model = match one_in(&mut luck, 2) {
                true => format!("\nmodel = \"m{}\"", luck.below(self.rungs)),
                false => String::new(),
            };
            let grab = between(&mut luck, 1, self.memory_mib / 2);
            let hold = pick(&mut luck, &[5, 120]);
            let count = match one_in(&mut luck, 2) {
                true => format!("\ncount = {}", between(&mut luck, 1, 3)),
                false => String::new(),
            };
            let (kind, is_moment) = match luck.below(15) {
                0 => ("probe-gap\"".to_owned(), false),
                1 => ("probe-stale\"".to_owned(), false),
                2 => ("probe-wrong\"\nfactor = 1024.0".to_owned(), false),
                3 => ("probe-wrong\"\nfactor = 0.0009765625".to_owned(), false),
                4 => ("release-lag\"".to_owned(), false),
                5 => (
                    format!("outside-grab\"{model}\namount = \"{grab}MiB\"\nhold = \"{hold}s\""),
                    false,
                ),
                6 => (format!("load-slow\"{model}\nfactor = 10.0"), false),
                7 => (format!("load-fail\"{model}{count}"), false),
                8 => (format!("load-half\"{model}{count}"), false),
                9 => (format!("unload-lies\"{model}\nhold = \"{hold}s\""), false),
                10 => ("backend-hang\"".to_owned(), false),
                11 => (format!("leak\"{model}\nper-minute = \"256MiB\""), false),
                12 => ("sticky-slow\"\nresource = \"memory\"".to_owned(), false),
                13 => (format!("suspend\"\nasleep = \"{}s\"", between(&mut luck, 1, 1200)), true),
                _ => (format!("crash\"{model}"), true),
            };
            let (at, until) = self.span(&mut luck);
            line(text, format_args!("\n[[fault]]\nkind = \"{kind}\nat = \"{at}s\""));
            if !is_moment {
                line(text, format_args!("until = \"{until}s\""));
            }
            let probability = pick(&mut luck, &[100, 100, 60, 20]);
            line(text, format_args!("probability = \"{probability}%\""));
        }
    }

    /// Probes that see less than there is, servers that do not answer, GPUs that disappear: in one world of three.
    fn write_rarer_faults(&self, text: &mut String) {
        let mut luck = self.id.stream(Part::RarerFaults, "world.rarer-faults");
        if !one_in(&mut luck, 3) {
            return;
        }
        for _ in 0..between(&mut luck, 1, 2) {
            let spaces: &[&str] =
                if self.gpus_mib.is_empty() { &["memory"] } else { &["memory", "vram"] };
            let resource = pick(&mut luck, spaces);
            let model = luck.below(self.rungs);
            let count = between(&mut luck, 1, 3);
            let seconds = pick(&mut luck, &[20, 300, 1800]);
            let kinds = if self.gpus_mib.is_empty() { 6 } else { 7 };
            let kind = match luck.below(kinds) {
                0 => format!("probe-nan\"\nresource = \"{resource}\""),
                1 => format!("probe-blind\"\nresource = \"{resource}\""),
                2 => format!("probe-stale\"\nresource = \"{resource}\""),
                3 => format!("request-hang\"\ncount = {count}\nmodel = \"m{model}\""),
                4 => format!("unload-unconfirmed\"\ncount = {count}\nmodel = \"m{model}\""),
                5 => format!("crash\"\nevery = \"{seconds}s\"\njitter = \"20%\""),
                _ => format!("gpu-lost\"\ngpu = {}", luck.below(self.gpus_mib.len() as u64)),
            };
            let (at, until) = self.span(&mut luck);
            line(
                text,
                format_args!("\n[[fault]]\nkind = \"{kind}\nat = \"{at}s\"\nuntil = \"{until}s\""),
            );
        }
    }

    fn write_orders(&self, text: &mut String) {
        let mut luck = self.id.stream(Part::Orders, "world.orders");
        for _ in 0..pick(&mut luck, &[0, 0, 0, 1, 2, 4]) {
            let at = luck.below(60 * self.minutes);
            line(text, format_args!("\n[[action]]\nat = \"{at}s\""));
            match luck.below(12) {
                0 => line(text, format_args!("shutdown = true")),
                1 => line(text, format_args!("switch = \"none\"")),
                2 | 3 => line(text, format_args!("switch = \"auto\"")),
                _ => {
                    line(text, format_args!("switch = \"t{}\"", luck.below(self.rungs)));
                    if one_in(&mut luck, 2) {
                        line(text, format_args!("for = \"{}s\"", between(&mut luck, 5, 900)));
                    }
                }
            }
        }
    }

    /// Returns a window of the run, in seconds; in a world with a quiet time, one that is over by then.
    fn span(&self, luck: &mut Stream) -> (u64, u64) {
        let run = 60 * self.minutes;
        let at = luck.below(run);
        let most = pick(luck, &[10, 60, 600, run]);
        let until = at + between(luck, 1, most);
        (at, if self.quiet_minutes > 0 { until.min(run) } else { until })
    }
}

/// One world in this many has a quiet time, of one of these lengths [min]. Chosen: with the default settings the waits
/// after a model broke add up to an hour and a half.
const QUIET_RARITY: u64 = 3;
const QUIET_MINUTES: [u64; 2] = [60, 180];

/// Writes each key with one of its values, or, in most cases, not at all.
fn write_choices(text: &mut String, luck: &mut Stream, choices: &[(&str, &[&str])], rarity: u64) {
    for (key, values) in choices {
        if one_in(luck, rarity) {
            let value = pick(luck, values);
            let is_bare = value.starts_with('[') || value.bytes().all(|b| b.is_ascii_digit());
            match is_bare {
                true => line(text, format_args!("{key} = {value}")),
                false => line(text, format_args!("{key} = \"{value}\"")),
            }
        }
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("a string takes all");
}

fn pick<T: Copy>(luck: &mut Stream, choices: &[T]) -> T {
    choices[luck.below(choices.len() as u64) as usize]
}

fn between(luck: &mut Stream, least: u64, most: u64) -> u64 {
    least + luck.below(most.max(least) - least + 1)
}

fn one_in(luck: &mut Stream, rarity: u64) -> bool {
    luck.below(rarity) == 0
}
