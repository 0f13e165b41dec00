//! The scenario file, and its way to a checked [`Scenario`].

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::background::{self, Background, Layer, OthersUse, RawBackground, RawShape};
use super::expect::{Baseline, Expect};
use super::fault::{self, Fault, RawFault};
use super::physics::RawPhysics;
use super::workload::{self, Arrivals, RawWorkload, Tokens, Workload};
use super::{Action, ActionKind, Scenario, ScenarioError};
use crate::catalog::{Catalog, CatalogError, Model, ModelId, RawModel};
use crate::document::{Document, DocumentError, suggestion};
use crate::hardware::Machine;
use crate::request::Target;
use crate::rng::Seed;
use crate::settings::{RawSettings, Settings};
use crate::time::{SpanText, Timestamp};
use crate::units::{Bytes, BytesText, Percent};

/// A scenario file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawScenario {
    /// What must happen and why. Default: the comment at the head of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What all randomness is grown from. Default 1.
    #[serde(default = "first_seed")]
    pub seed: u64,
    /// How long the run lasts, in virtual time.
    pub duration: SpanText,
    /// `relative` for models of 12.5, 31.25 and 56.25 % of the machine's memory, or a catalog file beside the
    /// scenario. Default `relative`, unless the file has `[[model]]` tables of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// What the machine has.
    pub machine: RawMachine,
    /// The policy's settings.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: RawSettings,
    /// How the machine behaves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub physics: RawPhysics,
    /// The models.
    #[serde(default, rename = "model", skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<RawModel>,
    /// What everybody else uses; shapes add up.
    #[serde(default, rename = "background", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<RawBackground>")]
    pub backgrounds: Vec<Spanned<RawBackground>>,
    /// What users ask for.
    #[serde(default, rename = "workload", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<RawWorkload>")]
    pub workloads: Vec<Spanned<RawWorkload>>,
    /// What goes wrong.
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<RawFault>")]
    pub faults: Vec<Spanned<RawFault>>,
    /// What is done to the controller.
    #[serde(default, rename = "action", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<RawAction>")]
    pub actions: Vec<Spanned<RawAction>>,
    /// What must come of the run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expect: Expect,
    /// A policy that must not meet the expectations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
}

/// The `[machine]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawMachine {
    /// Main memory.
    pub memory: BytesText,
    /// Swap space. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<BytesText>,
    /// Processors. Default 8.
    #[serde(default = "usual_cpus")]
    pub cpus: u32,
    /// Video memory of each GPU. Default: no GPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<BytesText>,
}

/// One `[[action]]` table: exactly one of `switch` and `shutdown`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawAction {
    /// When.
    pub at: SpanText,
    /// Ask for this tier, past the scaler; `none` unloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
    /// Stop: finish what runs, unload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<bool>,
}

impl RawScenario {
    /// Returns the file that says the same, for tools that write scenarios.
    ///
    /// # Errors
    /// Never for what was read from a file.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// Reads a scenario's text without checking what it means.
///
/// # Errors
/// What is no TOML or has an unknown key, with its place.
pub(super) fn read(document: &Document<'_>) -> Result<RawScenario, DocumentError> {
    document.read(&[
        ("background", background::COMMON_KEYS),
        ("workload", workload::COMMON_KEYS),
        ("fault", fault::COMMON_KEYS),
    ])
}

pub(super) fn parse(text: &str, name: &str, base_dir: &Path) -> Result<Scenario, ScenarioError> {
    let document = Document::new(name, text);
    let raw = read(&document)?;
    let check = Check { document, raw: &raw, base_dir };
    let mut digest = blake3::Hasher::new_derive_key("tiershift 2026-11 digest of a scenario");
    digest.update(raw.to_toml().expect("what was read can be written").as_bytes());
    let machine = check.machine()?;
    let settings = check.settings(&machine)?;
    let duration = check.duration()?;
    let catalog = check.catalog(&machine, &mut digest)?;
    let seed = Seed(raw.seed);
    let layers = raw
        .backgrounds
        .iter()
        .map(|layer| check.background(layer, &machine))
        .collect::<Result<_, _>>()?;
    let workloads = raw
        .workloads
        .iter()
        .map(|workload| check.workload(workload, &catalog))
        .collect::<Result<_, _>>()?;
    let faults =
        raw.faults.iter().map(|f| check.fault(f, &catalog, &machine)).collect::<Result<_, _>>()?;
    let mut actions =
        raw.actions.iter().map(|a| check.action(a, &catalog)).collect::<Result<Vec<_>, _>>()?;
    actions.sort_by_key(|action| action.at);
    let physics =
        raw.physics.check().map_err(|(key, want)| check.refuse_in("physics", key, want))?;
    check.expect(&catalog)?;
    check.baseline()?;
    Ok(Scenario {
        name: Path::new(name)
            .file_stem()
            .map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned()),
        description: raw.description.clone().unwrap_or_else(|| head_comment(text)),
        background: Background::new(machine.clone(), layers, seed),
        machine,
        catalog,
        settings,
        seed,
        duration,
        workloads,
        faults,
        physics,
        actions,
        expect: raw.expect.clone(),
        baseline: raw.baseline.clone(),
        digest: digest.finalize().to_hex().to_string(),
    })
}

/// Checks the models of a catalog; the mark stands under the model that is wrong.
pub(super) fn check_models(
    document: &Document<'_>,
    models: Vec<RawModel>,
) -> Result<Catalog, DocumentError> {
    let refuse = |error: CatalogError| {
        let model = match &error {
            CatalogError::Twice { model }
            | CatalogError::UnknownFallback { model, .. }
            | CatalogError::Cycle { model, .. }
            | CatalogError::Field { model, .. } => model.as_str(),
            CatalogError::Scattered { tier } => tier.as_str(),
            CatalogError::Empty | CatalogError::TooManyTiers { .. } => "",
        };
        document.refuse_value("model", model, &error.to_string())
    };
    let models: Vec<Model> =
        models.into_iter().map(Model::try_from).collect::<Result<_, _>>().map_err(refuse)?;
    Catalog::new(models).map_err(refuse)
}

struct Check<'a> {
    document: Document<'a>,
    raw: &'a RawScenario,
    base_dir: &'a Path,
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
            (None, false) => Ok(check_models(&self.document, self.raw.models.clone())?),
            (Some(_), false) => {
                let title = "the file has `[[model]]` tables of its own and names a `catalog`";
                Err(self.document.refuse_key("catalog", title, "keep one of the two").into())
            }
            (Some(file), true) => {
                let path = self.base_dir.join(file);
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    let title = format!("cannot read the catalog {}: {error}", path.display());
                    let remedy = "name a file beside the scenario, or `relative`";
                    self.document.refuse_key("catalog", &title, remedy)
                })?;
                digest.update(text.as_bytes());
                Ok(super::parse_catalog(&text, &path.display().to_string())?)
            }
        }
    }

    fn settings(&self, machine: &Machine) -> Result<RawSettings, DocumentError> {
        let settings = self.raw.policy.clone();
        Settings::new(settings.clone(), machine.tier()).map_err(|error| {
            let remedy = format!("the machine is {}", machine.tier().name());
            self.document.refuse_key("policy", &error.to_string(), &remedy)
        })?;
        Ok(settings)
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

    fn expect(&self, catalog: &Catalog) -> Result<(), DocumentError> {
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
            if let Some(mistake) = pattern.mistake(catalog) {
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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn first_seed() -> u64 {
    1
}

fn usual_cpus() -> u32 {
    8
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
