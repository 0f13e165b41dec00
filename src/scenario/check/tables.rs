//! Checks the tables that a scenario may have several of: background, workload, fault, action.

use std::time::Duration;

use tiershift_core::catalog::Catalog;
use tiershift_core::machine::Machine;
use tiershift_core::model::ModelId;
use tiershift_core::request::{ClientId, Target};
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Percent};
use toml::Spanned;

use crate::files::document::DocumentError;
use crate::scenario::ScenarioError;
use crate::scenario::check::{Check, MOST_EVENTS};
use crate::scenario::file::RawAction;
use crate::sim::action::{Action, ActionKind};
use crate::sim::background::{Layer, OthersUse, RawBackground, RawShape};
use crate::sim::fault::{Fault, RawFault};
use crate::sim::workload::{Arrivals, RawWorkload, Tokens, Workload};

impl Check<'_> {
    pub(super) fn background(
        &self,
        raw: &Spanned<RawBackground>,
        machine: &Machine,
    ) -> Result<Layer, ScenarioError> {
        let span = raw.span();
        let raw = raw.get_ref();
        let refuse = |key: &str, want: &str| self.refuse_key_of(&span, key, want);
        let (at, until) = self.window(&span, raw.at, raw.until)?;
        let is_trace = matches!(raw.shape, RawShape::Trace(_));
        if let Some((key, want)) = raw.reaction_mistake() {
            return Err(refuse(key, want).into());
        }
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
        // A ramp needs an end; every other shape lasts beyond the last sample.
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
            reaction: raw.reaction(),
        }
    }

    pub(super) fn workload(
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
                return Err(refuse("model", "left out if `tier` is given").into());
            }
        };
        let task = raw.task.unwrap_or_default();
        let usual_reply = if task.has_reply() { USUAL_REPLY } else { Tokens::Fixed(0) };
        Ok(Workload {
            arrivals: raw.arrivals.clone(),
            prompt_tokens: raw.prompt_tokens.clone().unwrap_or(USUAL_PROMPT),
            output_tokens: raw.output_tokens.clone().unwrap_or(usual_reply),
            task,
            target,
            priority: raw.priority.unwrap_or(0),
            client: raw.client.map(ClientId),
            patience: raw.patience.map(|span| span.0),
            connected: raw.connected.unwrap_or(false),
            cancel,
            cancel_after: raw.cancel_after.map_or(USUAL_HANG_UP, |span| span.0),
            at,
            until,
            recorded: None,
        })
    }

    /// Checks a fault.
    pub(super) fn fault(
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
        if let Some((key, gpu)) = raw.kind.gpu()
            && usize::from(gpu) >= machine.gpus.len()
        {
            let want =
                format!("a GPU of the machine: {gpu} is not among its {}", machine.gpus.len());
            return refuse(key, &want);
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

    pub(super) fn action(
        &self,
        raw: &Spanned<RawAction>,
        catalog: &Catalog,
    ) -> Result<Action, DocumentError> {
        let span = raw.span();
        let raw = raw.get_ref();
        let (at, _) = self.window(&span, Some(raw.at), None)?;
        let kind = match (&raw.switch, raw.shutdown) {
            (Some(tier), None) => {
                if tier != "none" && tier != "auto" {
                    self.known_tier(&span, "switch", tier, catalog)?;
                }
                ActionKind::Switch { tier: tier.clone(), for_: raw.for_.map(Into::into) }
            }
            (None, Some(true)) if raw.for_.is_none() => ActionKind::Shutdown,
            _ => {
                let title = "an action is either `switch = \"tier\"` or `shutdown = true`";
                return Err(self.document.refuse(span, "shutdown", title, "give exactly one"));
            }
        };
        Ok(Action { at, kind })
    }
}

/// A question with a page of context, and a paragraph in reply.
const USUAL_PROMPT: Tokens = Tokens::Fixed(500);
const USUAL_REPLY: Tokens = Tokens::Fixed(200);

/// The time in which a user notices that the reply is not what was wanted.
const USUAL_HANG_UP: Duration = Duration::from_secs(2);
