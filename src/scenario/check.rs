//! From the file to a checked [`Scenario`]: what parses but cannot be meant is refused here.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use tiershift_core::catalog::Catalog;
use tiershift_core::decision::Code;
use tiershift_core::machine::Machine;
use tiershift_core::model::ModelId;
use tiershift_core::policy::Registry;
use tiershift_core::request::Target;
use tiershift_core::settings::{RawSettings, Settings};
use tiershift_core::setup::Setup;
use tiershift_core::time::{SpanText, Timestamp};
use tiershift_core::units::{Bytes, Percent};
use toml::Spanned;

use crate::files::catalog;
use crate::files::document::{Document, DocumentError, suggestion};
use crate::files::whole_file::read_small_text;
use crate::scenario::file::{RawAction, RawScenario, read};
use crate::scenario::{Scenario, ScenarioError};
use crate::sim::action::{Action, ActionKind};
use crate::sim::background::{Background, Layer, OthersUse, RawBackground, RawShape};
use crate::sim::fault::{Fault, RawFault};
use crate::sim::rng::Seed;
use crate::sim::workload::{Arrivals, RawWorkload, Tokens, Workload};

mod traces;

pub(super) fn parse(
    text: &str,
    name: &str,
    base_dir: &Path,
    policies: &Registry,
) -> Result<Scenario, ScenarioError> {
    let document = Document::new(name, text);
    let raw = read(&document)?;
    let check = Check { document, raw: &raw, base_dir, policies };
    let mut digest = blake3::Hasher::new_derive_key("tiershift 2026-11 digest of a scenario");
    digest.update(raw.to_toml().expect("what was read can be written").as_bytes());
    let machine = check.machine()?;
    let settings = check.settings(&machine)?;
    let duration = check.duration()?;
    let catalog = check.catalog(&machine, &mut digest)?;
    check.named_tiers(&catalog)?;
    let codes = check.policy(&settings, &machine, &catalog)?;
    let seed = Seed(raw.seed);
    let mut layers: Vec<Layer> = raw
        .backgrounds
        .iter()
        .map(|layer| check.background(layer, &machine))
        .collect::<Result<_, _>>()?;
    let mut workloads: Vec<Workload> = raw
        .workloads
        .iter()
        .map(|workload| check.workload(workload, &catalog))
        .collect::<Result<_, _>>()?;
    let warnings = check.load_traces(&mut layers, &mut workloads, &machine, &mut digest)?;
    let faults =
        raw.faults.iter().map(|f| check.fault(f, &catalog, &machine)).collect::<Result<_, _>>()?;
    let mut actions =
        raw.actions.iter().map(|a| check.action(a, &catalog)).collect::<Result<Vec<_>, _>>()?;
    actions.sort_by_key(|action| action.at);
    let physics =
        raw.physics.check().map_err(|(key, want)| check.refuse_in("physics", key, want))?;
    check.expect(&catalog, codes)?;
    check.baseline()?;
    Ok(Scenario {
        name: Path::new(name)
            .file_stem()
            .map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned()),
        description: raw.description.clone().unwrap_or_else(|| head_comment(text)),
        background: Background::new(machine.clone(), layers, seed),
        setup: Setup { machine, catalog, settings, seed: raw.seed },
        duration,
        workloads,
        faults,
        physics,
        actions,
        expect: raw.expect.clone(),
        baseline: raw.baseline.clone(),
        warnings,
        digest: digest.finalize().to_hex().to_string(),
    })
}

struct Check<'a> {
    document: Document<'a>,
    raw: &'a RawScenario,
    base_dir: &'a Path,
    policies: &'a Registry,
}

impl Check<'_> {
    fn duration(&self) -> Result<Duration, DocumentError> {
        let duration = self.raw.duration.0;
        if duration.is_zero() || duration > LONGEST_RUN {
            let title = "`duration` must be more than nothing and at most ten years";
            return Err(self.document.refuse_key("duration", title, "give a span such as \"2h\""));
        }
        let readings = duration.as_secs_f64() / self.raw.policy.sampling_interval.0.as_secs_f64();
        if readings > MOST_EVENTS {
            let title =
                format!("{readings:.0} readings are more than a run can have ({MOST_EVENTS})");
            let remedy = "make `duration` shorter or `policy.sampling-interval` longer";
            return Err(self.document.refuse_key("duration", &title, remedy));
        }
        Ok(duration)
    }

    fn machine(&self) -> Result<Machine, DocumentError> {
        let raw = &self.raw.machine;
        let refuse = |key, want| Err(self.refuse_in("machine", key, want));
        if raw.memory.0 == Bytes::ZERO {
            return refuse("memory", "more than nothing");
        }
        if raw.memory.0 > LARGEST_MEMORY {
            return refuse("memory", "at most 1024TiB");
        }
        if raw.cpus == 0 {
            return refuse("cpus", "at least 1");
        }
        if raw.gpus.len() > MOST_GPUS || raw.gpus.iter().any(|gpu| gpu.0 == Bytes::ZERO) {
            return refuse("gpus", "at most 64 amounts of video memory, each more than nothing");
        }
        Ok(Machine {
            memory: raw.memory.0,
            swap: raw.swap.map_or(Bytes::ZERO, Bytes::from),
            cpus: raw.cpus,
            gpus: raw.gpus.iter().map(|gpu| gpu.0).collect(),
        })
    }

    fn catalog(
        &self,
        machine: &Machine,
        digest: &mut blake3::Hasher,
    ) -> Result<Catalog, ScenarioError> {
        match (self.raw.catalog.as_deref(), self.raw.models.is_empty()) {
            (None | Some("relative"), true) => Ok(Catalog::relative_to(machine.memory)),
            (None, false) => Ok(catalog::check_models(&self.document, self.raw.models.clone())?),
            (Some(_), false) => {
                let title = "the file has `[[model]]` tables of its own and names a `catalog`";
                Err(self.document.refuse_key("catalog", title, "keep one of the two").into())
            }
            (Some(file), true) => {
                let path = self.base_dir.join(file);
                let text = read_small_text(&path).map_err(|error| {
                    let title = format!("cannot read the catalog {}: {error}", path.display());
                    let remedy = "name a file beside the scenario, or `relative`";
                    self.document.refuse_key("catalog", &title, remedy)
                })?;
                digest.update(text.as_bytes());
                Ok(catalog::parse(&text, &path.display().to_string())?)
            }
        }
    }

    fn settings(&self, machine: &Machine) -> Result<RawSettings, DocumentError> {
        let settings = self.raw.policy.clone();
        Settings::new(settings.clone(), machine.class()).map_err(|error| {
            let remedy = format!("the machine is {}", machine.class().name());
            self.document.refuse_table("policy", &error.to_string(), &remedy)
        })?;
        Ok(settings)
    }

    /// Builds the policy as the run will, which checks its own options, and returns the codes of its own reasons.
    fn policy(
        &self,
        raw: &RawSettings,
        machine: &Machine,
        catalog: &Catalog,
    ) -> Result<&'static [Code], DocumentError> {
        self.document.check_policy(Some("policy"), &raw.policy, self.policies)?;
        let settings = Settings::new(raw.clone(), machine.class());
        let settings = settings.expect("these settings have been checked for this machine");
        self.policies.build(&settings, catalog).map(|policy| policy.codes()).map_err(|error| {
            let remedy = format!("this is the policy `{}`", raw.policy.name());
            self.document.refuse_part(("policy", "options"), &error.to_string(), &remedy)
        })
    }

    /// Checks the tiers that the policy names, which only the catalog can tell.
    fn named_tiers(&self, catalog: &Catalog) -> Result<(), DocumentError> {
        let manager = &self.raw.policy.manager;
        for (key, tier) in [("start", &manager.start), ("pin", &manager.pin)] {
            let Some(tier) = tier else { continue };
            if tier != "none" && catalog.rung_of_tier(tier).is_none() {
                let title = format!("`{key}` names the tier \"{tier}\", which the catalog has not");
                let known = known_tiers(tier, catalog);
                return Err(self.document.refuse_in("policy.manager", key, &title, &known));
            }
        }
        Ok(())
    }

    fn background(
        &self,
        raw: &Spanned<RawBackground>,
        machine: &Machine,
    ) -> Result<Layer, ScenarioError> {
        let span = raw.span();
        let raw = raw.get_ref();
        let refuse = |key: &str, want: &str| self.refuse_key_of(&span, key, want);
        let (at, until) = self.window(&span, raw.at, raw.until)?;
        let is_trace = matches!(raw.shape, RawShape::Trace(_));
        if is_trace && raw.gpu.is_some() {
            return Err(
                refuse("gpu", "left out: a trace's GPUs are the machine's, one by one").into()
            );
        }
        let Some(resource) = raw.resource else {
            if is_trace {
                return Ok(self.layer(raw, at, until));
            }
            return Err(refuse("resource", "given, for every shape but a trace").into());
        };
        let gpu = raw.gpu.unwrap_or(0);
        let is_space = matches!(resource, OthersUse::Memory | OthersUse::Swap | OthersUse::Vram);
        match resource {
            OthersUse::Vram | OthersUse::Gpu if usize::from(gpu) >= machine.gpus.len() => {
                let want =
                    format!("one of the machine's {} GPUs, counted from 0", machine.gpus.len());
                return Err(
                    refuse(if raw.gpu.is_some() { "gpu" } else { "resource" }, &want).into()
                );
            }
            OthersUse::Swap if machine.swap == Bytes::ZERO => {
                return Err(refuse("resource", "something the machine has: it has no swap").into());
            }
            _ => {}
        }
        if let Some((key, want)) = raw.shape.mistake(is_space) {
            return Err(refuse(key, want).into());
        }
        Ok(self.layer(raw, at, until))
    }

    fn layer(&self, raw: &RawBackground, at: Timestamp, until: Option<Timestamp>) -> Layer {
        // A ramp needs an end to slope to; every other shape lasts, past the very last reading.
        let until = until.unwrap_or(match raw.shape {
            RawShape::Ramp { .. } => Timestamp::ZERO + self.raw.duration.0,
            _ => Timestamp::MAX,
        });
        Layer {
            resource: raw.resource,
            gpu: raw.gpu.unwrap_or(0),
            at,
            until,
            shape: raw.shape.clone(),
            series: None,
        }
    }

    fn workload(
        &self,
        raw: &Spanned<RawWorkload>,
        catalog: &Catalog,
    ) -> Result<Workload, ScenarioError> {
        let span = raw.span();
        let raw = raw.get_ref();
        let refuse = |key: &str, want: &str| self.refuse_key_of(&span, key, want);
        let (at, until) = self.window(&span, raw.at, raw.until)?;
        let until = until.unwrap_or(Timestamp::ZERO + self.raw.duration.0);
        if let Some((key, want)) = raw.arrivals.mistake() {
            return Err(refuse(key, want).into());
        }
        let expected = raw.arrivals.expected(until.since(at));
        if expected > MOST_EVENTS {
            let title =
                format!("{expected:.0} requests are more than a run can have ({MOST_EVENTS})");
            let remedy = "lower the rate or shorten the run";
            return Err(self.document.refuse(span, "kind", &title, remedy).into());
        }
        let sizes = [("prompt-tokens", &raw.prompt_tokens), ("output-tokens", &raw.output_tokens)];
        for (key, tokens) in sizes {
            if tokens.is_some() && matches!(raw.arrivals, Arrivals::Trace { .. }) {
                return Err(refuse(key, "left out: the trace brings its own").into());
            }
            if let Some(want) = tokens.as_ref().and_then(Tokens::mistake) {
                return Err(refuse(key, want).into());
            }
        }
        let cancel = raw.cancel.map_or(Percent::ZERO, Percent::from);
        if cancel > Percent::ONE_HUNDRED {
            return Err(refuse("cancel", "at most 100%").into());
        }
        let target = match (&raw.tier, &raw.model) {
            (None, None) => Target::Auto,
            (Some(tier), None) => {
                self.known_tier(&span, "tier", tier, catalog)?;
                Target::Tier(tier.clone())
            }
            (None, Some(model)) => {
                self.known_model(&span, model, catalog)?;
                Target::Model(ModelId::from(model.as_str()))
            }
            (Some(_), Some(_)) => {
                return Err(refuse("model", "left out where `tier` is given").into());
            }
        };
        Ok(Workload {
            arrivals: raw.arrivals.clone(),
            prompt_tokens: raw.prompt_tokens.clone().unwrap_or(USUAL_PROMPT),
            output_tokens: raw.output_tokens.clone().unwrap_or(USUAL_REPLY),
            task: raw.task.unwrap_or_default(),
            target,
            priority: raw.priority.unwrap_or(0),
            patience: raw.patience.map(|span| span.0),
            cancel,
            cancel_after: raw.cancel_after.map_or(USUAL_HANG_UP, |span| span.0),
            at,
            until,
            recorded: None,
        })
    }

    /// Loads the traces of backgrounds and workloads; returns what a reader should know about them.
    fn fault(
        &self,
        raw: &Spanned<RawFault>,
        catalog: &Catalog,
        machine: &Machine,
    ) -> Result<Fault, DocumentError> {
        let span = raw.span();
        let raw = raw.get_ref();
        let refuse = |key: &str, want: &str| Err(self.refuse_key_of(&span, key, want));
        let (at, until) = self.window(&span, raw.at, raw.until)?;
        if raw.kind.is_moment() && raw.at.is_none() {
            return refuse("at", "given: this happens at a moment");
        }
        if raw.kind.is_moment() && raw.until.is_some() {
            return refuse("until", "left out: this happens at a moment");
        }
        if let Some((key, want)) = raw.kind.mistake() {
            return refuse(key, want);
        }
        if let Some(gpu) = raw.kind.gpu().filter(|gpu| usize::from(*gpu) >= machine.gpus.len()) {
            let want =
                format!("a GPU of the machine: {gpu} is not among its {}", machine.gpus.len());
            return refuse("resource", &want);
        }
        let probability = raw.probability.map_or(Percent::ONE_HUNDRED, Percent::from);
        if probability > Percent::ONE_HUNDRED {
            return refuse("probability", "at most 100%");
        }
        if let Some(model) = raw.kind.model() {
            self.known_model(&span, model, catalog)?;
        }
        let until = until.unwrap_or(Timestamp::MAX);
        Ok(Fault { at, until, probability, kind: raw.kind.clone() })
    }

    fn action(&self, raw: &Spanned<RawAction>, catalog: &Catalog) -> Result<Action, DocumentError> {
        let span = raw.span();
        let raw = raw.get_ref();
        let (at, _) = self.window(&span, Some(raw.at), None)?;
        let kind = match (&raw.switch, raw.shutdown) {
            (Some(tier), None) => {
                if tier != "none" {
                    self.known_tier(&span, "switch", tier, catalog)?;
                }
                ActionKind::Switch(tier.clone())
            }
            (None, Some(true)) => ActionKind::Shutdown,
            _ => {
                let title = "an action is either `switch = \"tier\"` or `shutdown = true`";
                return Err(self.document.refuse(span, "shutdown", title, "give exactly one"));
            }
        };
        Ok(Action { at, kind })
    }

    fn expect(&self, catalog: &Catalog, codes: &[Code]) -> Result<(), DocumentError> {
        let expect = &self.raw.expect;
        let refuse = |key: &str, title: &str, remedy: &str| {
            Err(self.document.refuse_in("expect", key, title, remedy))
        };
        if let Some(key) = expect.void_bound() {
            let title = format!("the bound on `{key}` allows everything or nothing");
            return refuse(key, &title, "give `min`, `max` or both, in that order");
        }
        for (key, tier) in expect.tiers() {
            if tier != "none" && catalog.rung_of_tier(tier).is_none() {
                let title = format!("`{tier}` is no tier of the catalog");
                return refuse(key, &title, &known_tiers(tier, catalog));
            }
        }
        for (key, pattern) in expect.patterns() {
            if let Some(mistake) = pattern.mistake(catalog, codes) {
                let title = format!("`{pattern}` can never happen");
                return refuse(key, &title, &mistake);
            }
        }
        for (key, moment) in expect.moments() {
            if moment.0 > self.raw.duration.0 {
                let title = format!("`{key}` speaks of a moment after the run's end");
                return refuse(key, &title, "bring it forward or make `duration` longer");
            }
        }
        Ok(())
    }

    fn baseline(&self) -> Result<(), DocumentError> {
        let Some(baseline) = &self.raw.baseline else { return Ok(()) };
        self.document.check_policy(Some("baseline"), &baseline.policy, self.policies)?;
        let keys = self.raw.expect.keys();
        let unknown = baseline.fails.iter().find(|key| !keys.contains(key));
        let (title, remedy) = match unknown {
            Some(key) => (
                format!("`{key}` is not among the keys of `[expect]`"),
                suggestion(key, keys.iter().map(String::as_str)),
            ),
            None if baseline.fails.is_empty() => (
                "a baseline that fails nothing proves nothing".to_owned(),
                "name the keys of `[expect]` that it must violate".to_owned(),
            ),
            None => return Ok(()),
        };
        Err(self.document.refuse_in("baseline", "fails", &title, &remedy))
    }

    /// Checks the window that a table is open in.
    fn window(
        &self,
        span: &Range<usize>,
        at: Option<SpanText>,
        until: Option<SpanText>,
    ) -> Result<(Timestamp, Option<Timestamp>), DocumentError> {
        let at = at.map_or(Duration::ZERO, |at| at.0);
        if at > self.raw.duration.0 {
            return Err(self.refuse_key_of(span, "at", "within the run's `duration`"));
        }
        if until.is_some_and(|until| until.0 <= at) {
            return Err(self.refuse_key_of(span, "until", "later than `at`"));
        }
        Ok((Timestamp::ZERO + at, until.map(|until| Timestamp::ZERO + until.0)))
    }

    fn known_model(
        &self,
        span: &Range<usize>,
        model: &str,
        catalog: &Catalog,
    ) -> Result<(), DocumentError> {
        if catalog.model(&ModelId::from(model)).is_some() {
            return Ok(());
        }
        let title = format!("`{model}` is no model of the catalog");
        let remedy = suggestion(model, catalog.models().iter().map(|known| known.id.as_str()));
        Err(self.document.refuse(span.clone(), "model", &title, &remedy))
    }

    fn known_tier(
        &self,
        span: &Range<usize>,
        key: &str,
        tier: &str,
        catalog: &Catalog,
    ) -> Result<(), DocumentError> {
        if catalog.rung_of_tier(tier).is_some() {
            return Ok(());
        }
        let title = format!("`{tier}` is no tier of the catalog");
        Err(self.document.refuse(span.clone(), key, &title, &known_tiers(tier, catalog)))
    }

    fn refuse_key_of(&self, span: &Range<usize>, key: &str, want: &str) -> DocumentError {
        self.document.refuse(span.clone(), key, &format!("`{key}` must be {want}"), REMEDY)
    }

    fn refuse_in(&self, table: &str, key: &str, want: &str) -> DocumentError {
        self.document.refuse_in(table, key, &format!("`{key}` must be {want}"), REMEDY)
    }
}

fn known_tiers(tier: &str, catalog: &Catalog) -> String {
    suggestion(tier, catalog.rungs_up().map(|rung| catalog.tier_name(rung)))
}

/// Returns the comment at the head of a file, its lines joined.
fn head_comment(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix('#'));
    lines.map(str::trim).filter(|line| !line.starts_with(":schema")).collect::<Vec<_>>().join(" ")
}

const REMEDY: &str = "`tiershift schema` lists every key with its meaning";

/// More than any question about a machine needs, and far from the 584 years that nanoseconds reach.
const LONGEST_RUN: Duration = Duration::from_hours(10 * 366 * 24);

/// At ten million a second, more would take longer than a minute.
const MOST_EVENTS: f64 = 500_000_000.0;

/// Sums of a few such amounts stay exact in a float of 53 bits.
const LARGEST_MEMORY: Bytes = Bytes::from_gib(1 << 20);

/// More than any single machine that is sold; a command names a GPU in one byte.
const MOST_GPUS: usize = 64;

/// A question with a page of context, and a paragraph in reply.
const USUAL_PROMPT: Tokens = Tokens::Fixed(500);
const USUAL_REPLY: Tokens = Tokens::Fixed(200);

/// The time in which a person sees that the reply is not what was wanted.
const USUAL_HANG_UP: Duration = Duration::from_secs(2);
