//! From the file to a checked [`Scenario`]: a file that parses but is not valid is refused here.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use tiershift_core::catalog::Catalog;
use tiershift_core::decision::Code;
use tiershift_core::machine::Machine;
use tiershift_core::model::ModelId;
use tiershift_core::policy::Registry;
use tiershift_core::settings::{RawSettings, Settings};
use tiershift_core::setup::Setup;
use tiershift_core::time::{SpanText, Timestamp};
use tiershift_core::units::Bytes;

use crate::files::catalog;
use crate::files::document::{Document, DocumentError, suggestion};
use crate::files::whole_file::read_small_text;
use crate::scenario::file::{RawScenario, read};
use crate::scenario::{Scenario, ScenarioError};
use crate::sim::background::{Background, Layer};
use crate::sim::rng::Seed;
use crate::sim::workload::Workload;

mod tables;
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
    check.incident()?;
    Ok(Scenario {
        name: Path::new(name)
            .file_stem()
            .map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned()),
        incident: raw.incident.clone(),
        description: raw.description.clone().unwrap_or_else(|| head_comment(text)),
        background: match raw.machine.unified {
            true => Background::new(machine.clone(), layers, seed).unified(),
            false => Background::new(machine.clone(), layers, seed),
        },
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
        if raw.unified && raw.gpus.is_empty() {
            return refuse("unified", "left out: the machine has no GPU");
        }
        if raw.unified && raw.gpus.iter().any(|gpu| gpu.0 > raw.memory.0) {
            return refuse("gpus", "at most `memory` each, which a `unified` machine's GPUs use");
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
        let codes = match self.policies.build_control(&settings, catalog) {
            Ok(Some(_)) => Ok(&[][..]),
            Ok(None) => self.policies.build(&settings, catalog).map(|policy| policy.codes()),
            Err(error) => Err(error),
        };
        codes.map_err(|error| {
            let remedy = format!("this is the policy `{}`", raw.policy.name());
            self.document.refuse_part(("policy", "options"), &error.to_string(), &remedy)
        })
    }

    /// Checks the tiers that the policy names, which only the catalog knows.
    fn named_tiers(&self, catalog: &Catalog) -> Result<(), DocumentError> {
        let manager = &self.raw.policy.manager;
        for (key, tier) in [("start", &manager.start), ("pin", &manager.pin)] {
            let Some(tier) = tier else { continue };
            if tier != "none" && catalog.rung_of_tier(tier).is_none() {
                let title =
                    format!("`{key}` names the tier \"{tier}\", which is not in the catalog");
                let known = known_tiers(tier, catalog);
                return Err(self.document.refuse_in("policy.manager", key, &title, &known));
            }
        }
        Ok(())
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
                let title = format!("`{tier}` is not a tier of the catalog");
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
                let title = format!("`{key}` names a moment after the end of the run");
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

    fn incident(&self) -> Result<(), DocumentError> {
        let Some(incident) = &self.raw.incident else { return Ok(()) };
        if !is_report(incident) {
            let title = format!("`{incident}` names no public report");
            let remedy = "give it as \"owner/repository#number\"";
            return Err(self.document.refuse_key("incident", &title, remedy));
        }
        if self.raw.baseline.is_none() {
            let title = "an incident that no baseline fails proves nothing";
            let remedy = "add `[baseline]` with the idea behind the incident";
            return Err(self.document.refuse_key("incident", title, remedy));
        }
        Ok(())
    }

    /// Checks the time window of a table.
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
        let title = format!("`{model}` is not a model of the catalog");
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
        let title = format!("`{tier}` is not a tier of the catalog");
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

/// Returns whether a text has the form `owner/repository#number`.
fn is_report(text: &str) -> bool {
    let is_name = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !name.is_empty() && name.chars().all(allowed)
    };
    text.split_once('#').is_some_and(|(repository, number)| {
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        repository.split_once('/').is_some_and(|(owner, name)| is_name(owner) && is_name(name))
            && is_number
    })
}

/// Returns the comment at the head of a file, its lines joined.
fn head_comment(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix('#'));
    lines.map(str::trim).filter(|line| !line.starts_with(":schema")).collect::<Vec<_>>().join(" ")
}

const REMEDY: &str = "`tiershift schema` lists every key with its meaning";

/// More than any question about a machine needs, and far from the 584 years that nanoseconds can hold.
const LONGEST_RUN: Duration = Duration::from_hours(10 * 366 * 24);

/// At ten million per second, more would take longer than a minute.
const MOST_EVENTS: f64 = 500_000_000.0;

/// Sums of a few such amounts stay exact in a float of 53 bits.
const LARGEST_MEMORY: Bytes = Bytes::from_gib(1 << 20);

/// More than any single machine that is sold; a command names a GPU in one byte.
const MOST_GPUS: usize = 64;
