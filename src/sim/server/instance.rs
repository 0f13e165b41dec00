//! One model on the simulated server, and the requests that it works on.

use std::time::Duration;

use tiershift_core::event::Outcome;
use tiershift_core::model::{Footprint, Model};
use tiershift_core::request::RequestId;
use tiershift_core::time::{Timestamp, nanos};
use tiershift_core::units::{Bytes, Percent};

/// One model.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) presence: Presence,
    /// When the presence changes, or the next request reaches its next stage.
    pub(super) due: Option<Timestamp>,
    pub(super) gpu: Option<u8>,
    /// Requests in the order in which they were started.
    pub(super) active: Vec<Active>,
    /// Whether the file has been read before, and so may be cached.
    pub(super) cached: bool,
    /// Whether the scenario states that files are cached from the start, whatever the free memory.
    pub(super) warm_start: bool,
    /// Growth per minute, while a leak lasts.
    pub(super) leak: Option<Bytes>,
    /// Part of its speed that a bad placement leaves.
    pub(super) stickiness: f64,
    /// When it began to load.
    pub(super) since: Timestamp,
    /// While it loads: when it is next seen to make progress, and until when it does.
    pub(super) gets_on: Option<Timestamp>,
    pub(super) gets_on_until: Timestamp,
    /// When a try-out is over, and how long its tokens took.
    pub(super) tried: Option<(Timestamp, Duration)>,
    progressed_to: Timestamp,
}

/// The state of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Absent,
    Loading {
        fails: bool,
    },
    /// Half loaded, and silent until it is unloaded.
    Stuck {
        share: Percent,
    },
    Ready,
    Unloading,
}

/// A request in progress.
#[derive(Clone, Debug)]
pub(super) struct Active {
    pub(super) id: RequestId,
    started: Timestamp,
    first_token: Option<Timestamp>,
    /// Tokens left in its present stage: the prompt, including the request's overhead, then the reply.
    left: f64,
    prompt_tokens: u32,
    output_tokens: u32,
    /// This request's factor on every speed.
    speed: f64,
    /// Set if it never gets another token.
    pub(super) hang: Option<Hang>,
}

/// A request that hangs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hang {
    /// Whether it cannot be cancelled either.
    pub(super) deaf: bool,
}

impl Instance {
    pub(super) fn new(warm: bool) -> Self {
        Self {
            presence: Presence::Absent,
            due: None,
            gpu: None,
            active: Vec::new(),
            cached: warm,
            warm_start: warm,
            leak: None,
            stickiness: 1.0,
            since: Timestamp::ZERO,
            gets_on: None,
            tried: None,
            gets_on_until: Timestamp::ZERO,
            progressed_to: Timestamp::ZERO,
        }
    }

    /// Returns to absent; the file stays cached.
    pub(super) fn clear(&mut self) {
        *self = Self { cached: self.cached, warm_start: self.warm_start, ..Self::new(false) };
    }

    pub(super) fn shift(&mut self, span: Duration) {
        for due in [&mut self.due, &mut self.gets_on].into_iter().flatten() {
            *due += span;
        }
        self.gets_on_until += span;
        if let Some((at, _)) = &mut self.tried {
            *at += span;
        }
        self.progressed_to += span;
    }

    /// Returns the memory that it holds; `None` when absent. A load holds all of it from its first moment, plus the
    /// transient.
    pub(super) fn holds(&self, model: &Model, now: Timestamp) -> Option<Footprint> {
        let tokens = self.active.iter().map(Active::held_tokens).sum();
        let mut footprint = model.footprint_with(tokens);
        match self.presence {
            Presence::Absent => return None,
            Presence::Loading { .. } => footprint.ram += model.load_transient,
            Presence::Stuck { share } => {
                footprint = Footprint {
                    ram: footprint.ram.share(share),
                    vram: footprint.vram.share(share),
                };
            }
            Presence::Ready | Presence::Unloading => {}
        }
        if let Some(per_minute) = self.leak {
            let grown = u128::from(per_minute.get()) * u128::from(nanos(now.since(self.since)))
                / u128::from(nanos(Duration::from_mins(1)));
            let grown = Bytes::new(u64::try_from(grown).unwrap_or(u64::MAX));
            if model.vram == Bytes::ZERO { footprint.ram += grown } else { footprint.vram += grown }
        }
        Some(footprint)
    }

    /// Returns when its try-out is over.
    pub(super) fn tried_at(&self) -> Option<Timestamp> {
        self.tried.map(|(at, _)| at)
    }

    /// Returns whether a load is seen now to make progress.
    pub(super) fn is_seen_to_get_on(&mut self, now: Timestamp) -> bool {
        let Some(at) = self.gets_on.filter(|&at| at <= now) else { return false };
        let is_loading = matches!(self.presence, Presence::Loading { .. } | Presence::Stuck { .. });
        let next = at + PROGRESS_PAUSE;
        self.gets_on = Some(next).filter(|&next| is_loading && next < self.gets_on_until);
        is_loading
    }

    /// Advances the requests to `now`, each at this part of its own speed, and returns the outcomes of those that are
    /// done, in order of start.
    pub(super) fn progress(&mut self, now: Timestamp, model: &Model, speed: f64) -> Vec<Outcome> {
        let worked = now.since(self.progressed_to).as_secs_f64();
        self.progressed_to = now;
        let mut done = Vec::new();
        if self.active.is_empty() {
            return done;
        }
        self.active.retain_mut(|active| {
            if active.hang.is_some() {
                return true;
            }
            active.left -= worked * active.rate(model) * speed;
            if active.left > DONE {
                return true;
            }
            if active.first_token.is_none() {
                active.first_token = Some(now);
                active.left = f64::from(active.output_tokens);
                if active.output_tokens > 0 {
                    return true;
                }
            }
            let first_token =
                active.first_token.map_or(Duration::ZERO, |at| at.since(active.started));
            let (request, output_tokens) = (active.id, active.output_tokens);
            done.push(Outcome::Done { request, first_token, prompt_tokens: None, output_tokens });
            false
        });
        done
    }

    /// Sets the moment at which the next request reaches its next stage.
    pub(super) fn reschedule(&mut self, now: Timestamp, model: &Model, speed: f64) {
        if self.presence != Presence::Ready {
            return;
        }
        let moving = self.active.iter().filter(|active| active.hang.is_none());
        let next = moving.map(|active| active.left.max(0.0) / (active.rate(model) * speed));
        let next = next.min_by(f64::total_cmp);
        // Rounded up, so that the stage is over at the appointed moment.
        self.due =
            next.map(|seconds| now + tiershift_core::time::from_secs_f64(seconds) + ROUNDING);
    }
}

impl Active {
    pub(super) fn new(
        id: RequestId,
        (prompt, output): (u32, u32),
        model: &Model,
        now: Timestamp,
        speed: f64,
    ) -> Self {
        let overhead = model.request_overhead.as_secs_f64() * model.prefill_per_second;
        Self {
            id,
            started: now,
            first_token: None,
            left: f64::from(prompt) + overhead,
            prompt_tokens: prompt,
            output_tokens: output,
            speed,
            hang: None,
        }
    }

    /// Returns tokens per second in the present stage, alone on the machine.
    fn rate(&self, model: &Model) -> f64 {
        let rate = if self.first_token.is_none() {
            model.prefill_per_second
        } else {
            // After the prompt and, on average, half of the reply.
            let context = f64::from(self.prompt_tokens) + f64::from(self.output_tokens) / 2.0;
            let slower = model.decode_halves_at.map_or(0.0, |half| context / f64::from(half));
            model.decode_per_second / (1.0 + slower)
        };
        rate * self.speed
    }

    /// Returns the tokens in the KV cache: the rest of the present stage is not there yet.
    fn held_tokens(&self) -> u64 {
        let left = self.left.max(0.0) as u64;
        match self.first_token {
            None => u64::from(self.prompt_tokens).saturating_sub(left),
            Some(_) => {
                u64::from(self.prompt_tokens) + u64::from(self.output_tokens).saturating_sub(left)
            }
        }
    }
}

/// How often a load is seen to make progress, as in `llama_server/progress.rs`.
const PROGRESS_PAUSE: Duration = Duration::from_secs(20);

/// Less than this of a token is rounding.
const DONE: f64 = 1e-6;

/// Appointments are rounded to the nanosecond; one more ensures that the stage is over.
const ROUNDING: Duration = Duration::from_nanos(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_takes_its_overhead_its_prompt_and_its_tokens_behind_their_context() {
        let model = Model {
            request_overhead: Duration::from_millis(50),
            prefill_per_second: 100.0,
            decode_per_second: 10.0,
            decode_halves_at: Some(100),
            ..Model::of_size("a", "small", Percent::new(50), Bytes::from_gib(1))
        };
        let mut instance = Instance { presence: Presence::Ready, ..Instance::new(true) };
        let id = RequestId(1);
        instance.active.push(Active::new(id, (90, 20), &model, Timestamp::ZERO, 1.0));
        instance.reschedule(Timestamp::ZERO, &model, 1.0);
        // 50 ms, and 90 tokens of 10 ms each.
        let first = Timestamp::ZERO + Duration::from_millis(950) + ROUNDING;
        assert_eq!(instance.due, Some(first));
        assert!(instance.progress(first, &model, 1.0).is_empty());
        instance.reschedule(first, &model, 1.0);
        // 20 tokens of 100 ms each, after 90 and half of 20: each takes twice as long.
        let last = first + Duration::from_secs(4) + ROUNDING;
        assert_eq!(instance.due, Some(last));
        let first_token = first.since(Timestamp::ZERO);
        let done =
            Outcome::Done { request: id, first_token, prompt_tokens: None, output_tokens: 20 };
        assert_eq!(instance.progress(last, &model, 1.0), [done]);
    }
}
