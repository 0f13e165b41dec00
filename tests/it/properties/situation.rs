//! Situations as scenario files, composed of small parts, by which a failing one can be minimised.

use std::fmt;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::{Just, any};
use proptest::sample::select;
use proptest::strategy::Strategy;

/// A situation; shown as the scenario's text.
#[derive(Clone)]
pub(super) struct Invented {
    seed: u64,
    minutes: u32,
    memory_gib: u32,
    gpu_gib: Option<u32>,
    models: Vec<Model>,
    settings: Vec<String>,
    manager: Vec<String>,
    /// Others' use: resource, first minute, minutes, share of the resource.
    others: Vec<(&'static str, u32, u32, u32)>,
    workloads: Vec<String>,
    faults: Vec<Fault>,
    actions: Vec<(u32, Option<usize>)>,
}

/// A model, in shares of the machine.
#[derive(Clone, Debug)]
struct Model {
    ram_percent: u32,
    vram_percent: u32,
    kv_kib: u32,
    slots: u32,
    load_seconds: u32,
    transient_percent: u32,
    speed: u32,
    falls_back: bool,
}

/// A fault; times in seconds.
#[derive(Clone, Debug)]
struct Fault {
    /// The kind with its closing quote, and its other keys.
    kind: &'static str,
    at: u32,
    length: u32,
    probability: u32,
}

impl fmt::Display for Invented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, minutes, memory_gib, .. } = self;
        writeln!(
            f,
            "seed = {seed}\nduration = \"{minutes}m\"\n\n[machine]\nmemory = \"{memory_gib}GiB\""
        )?;
        if let Some(gib) = self.gpu_gib {
            writeln!(f, "gpus = [\"{gib}GiB\"]")?;
        }
        writeln!(
            f,
            "\n[policy]\n{}\n\n[policy.manager]\n{}",
            self.settings.join("\n"),
            self.manager.join("\n")
        )?;
        for (i, model) in self.models.iter().enumerate() {
            writeln!(
                f,
                "\n[[model]]\nid = \"m{i}\"\ntier = \"t{i}\"\nquality = \"{}%\"",
                20 + 10 * i
            )?;
            model.write(f, self, i)?;
        }
        for (resource, from, length, share) in &self.others {
            if *resource == "vram" && self.gpu_gib.is_none() {
                continue;
            }
            let from = from % self.minutes;
            let until = from + length.max(&1);
            writeln!(
                f,
                "\n[[background]]\nresource = \"{resource}\"\nshape = \"constant\"\nlevel = \"{share}%\""
            )?;
            writeln!(f, "at = \"{from}m\"\nuntil = \"{until}m\"")?;
        }
        for workload in &self.workloads {
            writeln!(f, "\n[[workload]]\n{workload}")?;
        }
        for fault in &self.faults {
            fault.write(f, self.minutes)?;
        }
        for (minute, model) in &self.actions {
            writeln!(f, "\n[[action]]\nat = \"{}m\"", minute % self.minutes)?;
            match model {
                Some(model) if *model < self.models.len() => writeln!(f, "switch = \"t{model}\"")?,
                Some(_) => writeln!(f, "switch = \"none\"")?,
                None => writeln!(f, "shutdown = true")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Invented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl Model {
    fn write(&self, f: &mut fmt::Formatter<'_>, machine: &Invented, place: usize) -> fmt::Result {
        let mib = |gib: u32, percent: u32| (gib * 1024 * percent / 100).max(1);
        writeln!(f, "ram = \"{}MiB\"", mib(machine.memory_gib, self.ram_percent))?;
        if let Some(gib) = machine.gpu_gib.filter(|_| self.vram_percent > 0) {
            writeln!(f, "vram = \"{}MiB\"", mib(gib, self.vram_percent))?;
        }
        let transient = mib(machine.memory_gib, self.transient_percent) - 1;
        writeln!(f, "kv-per-token = \"{}KiB\"\nslots = {}", self.kv_kib, self.slots)?;
        writeln!(f, "context-tokens = 4096\nload-transient = \"{transient}MiB\"")?;
        writeln!(
            f,
            "load-warm = \"{}s\"\nload-cold = \"{}s\"",
            self.load_seconds,
            2 * self.load_seconds
        )?;
        writeln!(
            f,
            "prefill-tokens-per-second = {0}0.0\ndecode-tokens-per-second = {0}.0",
            self.speed
        )?;
        if self.falls_back && place > 0 {
            writeln!(f, "fallbacks = [\"m{}\"]", place - 1)?;
        }
        Ok(())
    }
}

impl Fault {
    fn write(&self, f: &mut fmt::Formatter<'_>, minutes: u32) -> fmt::Result {
        let at = self.at % (60 * minutes);
        writeln!(f, "\n[[fault]]\nkind = \"{}\nat = \"{at}s\"", self.kind)?;
        if !self.kind.starts_with("suspend") && !self.kind.starts_with("crash") {
            writeln!(f, "until = \"{}s\"", at + self.length)?;
        }
        writeln!(f, "probability = \"{}%\"", self.probability)
    }
}

/// Returns the strategy.
pub(super) fn invented() -> impl Strategy<Value = Invented> {
    let machine = (0_u64..1000, 3_u32..30, 4_u32..48, of(6_u32..24));
    let policy = (settings(), manager());
    let world = (vec(others(), 0..6), vec(workload(), 0..3), vec(fault(), 0..4));
    let actions = vec((0_u32..30, of(0_usize..6)), 0..3);
    (machine, vec(model(), 1..5), policy, world, actions).prop_map(
        |((seed, minutes, memory_gib, gpu_gib), models, (settings, manager), world, actions)| {
            let (others, workloads, faults) = world;
            Invented {
                seed,
                minutes,
                memory_gib,
                gpu_gib,
                models,
                settings,
                manager,
                others,
                workloads,
                faults,
                actions,
            }
        },
    )
}

fn model() -> impl Strategy<Value = Model> {
    (1_u32..110, 0_u32..110, 0_u32..128, 1_u32..4, 1_u32..60, 0_u32..12, 1_u32..60, any::<bool>())
        .prop_map(
            |(
                ram_percent,
                vram_percent,
                kv_kib,
                slots,
                load_seconds,
                transient_percent,
                speed,
                falls_back,
            )| Model {
                ram_percent,
                vram_percent,
                kv_kib,
                slots,
                load_seconds,
                transient_percent,
                speed,
                falls_back,
            },
        )
}

fn others() -> impl Strategy<Value = (&'static str, u32, u32, u32)> {
    let resources = vec!["memory", "memory", "memory", "vram", "cpu", "pressure"];
    (select(resources), 0_u32..30, 1_u32..20, 0_u32..100)
}

/// Lines of the policy: each is present or absent.
fn settings() -> impl Strategy<Value = Vec<String>> {
    let span = |key: &'static str, seconds: std::ops::Range<u32>| {
        of(seconds).prop_map(move |s| s.map(|s| format!("{key} = \"{s}s\"")))
    };
    let policy =
        select(vec!["proactive", "proactive", "proactive", "projecting", "original", "fixed"])
            .prop_map(|name| (name != "proactive").then(|| format!("policy = \"{name}\"")));
    let constrain =
        of(select(vec!["[\"memory\"]", "[\"memory\", \"vram\"]", "[\"memory\", \"cpu\"]"]))
            .prop_map(|list| list.map(|list| format!("constrain = {list}")));
    let lines = (
        policy,
        constrain,
        span("sampling-interval", 1..10),
        span("stale-after", 1..30),
        span("stabilization", 0..300),
        span("reversal-window", 1..900),
        span("backoff-limit", 0..3600),
        span("settle-limit", 0..20),
        span("latency-limit", 1..60),
        span("rate-sustained", 1..60),
    );
    lines.prop_map(|(a, b, c, d, e, f, g, h, i, j)| {
        [a, b, c, d, e, f, g, h, i, j].into_iter().flatten().collect()
    })
}

fn manager() -> impl Strategy<Value = Vec<String>> {
    let span = |key: &'static str, seconds: std::ops::Range<u32>| {
        of(seconds).prop_map(move |s| s.map(|s| format!("{key} = \"{s}s\"")))
    };
    let number = |key: &'static str, range: std::ops::Range<u32>| {
        of(range).prop_map(move |n| n.map(|n| format!("{key} = {n}")))
    };
    let tier = |key: &'static str| {
        of(Just("t0")).prop_map(move |tier| tier.map(|tier| format!("{key} = \"{tier}\"")))
    };
    let cancel =
        any::<bool>().prop_map(|yes| yes.then(|| "at-drain-deadline = \"cancel\"".to_owned()));
    let lines = (
        tier("start"),
        (0_u32..8).prop_map(|n| (n == 7).then(|| "pin = \"t0\"".to_owned())),
        span("drain-deadline", 0..120),
        span("critical-drain-deadline", 0..20),
        cancel,
        number("queue-limit", 0..20),
        span("patience", 1..120),
        span("load-retry", 1..30),
        number("load-attempts", 1..4),
        span("switch-cooldown", 0..60),
    );
    lines.prop_map(|(a, b, c, d, e, f, g, h, i, j)| {
        [a, b, c, d, e, f, g, h, i, j].into_iter().flatten().collect()
    })
}

fn workload() -> impl Strategy<Value = String> {
    let arrivals = proptest::prop_oneof![
        (1_u32..30).prop_map(|rate| format!("kind = \"poisson\"\nrate = \"{rate}/min\"")),
        (1_u32..40, 1_u32..300, 0_u32..20).prop_map(|(count, every, spread)| format!(
            "kind = \"burst\"\ncount = {count}\nevery = \"{}s\"\nspread = \"{spread}s\"",
            every + spread
        )),
        (1_u32..6, 1_u32..60).prop_map(|(users, think)| format!(
            "kind = \"closed-loop\"\nusers = {users}\nthink = \"{think}s\""
        )),
    ];
    let length = (1_u32..4000, 1_u32..400);
    let wish = select(vec![
        "",
        "\ntier = \"t0\"",
        "\nmodel = \"m0\"",
        "\ntask = \"code\"",
        "\ntask = \"vision\"",
    ]);
    (arrivals, length, wish, 0_u8..5, of(1_u32..100), of(1_u32..100)).prop_map(
        |(arrivals, (prompt, output), wish, priority, patience, cancel)| {
            let mut text = format!("{arrivals}\nprompt-tokens = {prompt}\noutput-tokens = {output}\npriority = {priority}{wish}");
            if let Some(patience) = patience {
                text.push_str(&format!("\npatience = \"{patience}s\""));
            }
            if let Some(cancel) = cancel {
                text.push_str(&format!("\ncancel = \"{cancel}%\""));
            }
            text
        },
    )
}

fn fault() -> impl Strategy<Value = Fault> {
    let window = (0_u32..1500, 1_u32..600);
    let kinds = select(vec![
        "probe-gap\"",
        "probe-stale\"",
        "probe-wrong\"\nfactor = 1024.0",
        "probe-wrong\"\nfactor = 0.0009765625",
        "release-lag\"",
        "outside-grab\"\namount = \"4GiB\"",
        "load-slow\"\nfactor = 10.0",
        "load-fail\"",
        "load-half\"",
        "unload-lies\"",
        "unload-unconfirmed\"",
        "request-hang\"",
        "probe-nan\"",
        "probe-stale\"\nresource = \"memory\"",
        "backend-hang\"",
        "leak\"\nper-minute = \"512MiB\"",
        "sticky-slow\"\nresource = \"memory\"",
        "suspend\"\nasleep = \"10m\"",
        "crash\"",
    ]);
    (kinds, window, 1_u32..=100).prop_map(|(kind, (at, length), probability)| Fault {
        kind,
        at,
        length,
        probability,
    })
}
