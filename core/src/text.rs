//! Decisions, reasons and notices as sentences, the same in every report, header and page.

use std::time::Duration;

use crate::catalog::{Catalog, Rung};
use crate::decision::{Action, Gate, GateName, Measure, Odds, Reason, Urgency};
use crate::event::{CompanionNews, Notice, OrderNews, Unanswered};
use crate::model::ModelId;
use crate::sample::Resource;
use crate::time;
use crate::units::{Bytes, Percent};

/// Returns a reason with its numbers, as a clause: `memory 14.9 GiB is above 14.4 GiB`.
pub fn reason(reason: &Reason, catalog: &Catalog) -> String {
    let tier = |rung: &Rung| catalog.tier_name(*rung);
    match reason {
        Reason::NoData => "no reading yet".to_owned(),
        Reason::Stale { age } => format!("the last reading is {} old", span(*age)),
        Reason::Switching => "a switch is in progress".to_owned(),
        Reason::Settling { since } => {
            format!("memory is still settling, {} after the switch", span(*since))
        }
        Reason::AtTop => "the highest tier serves".to_owned(),
        Reason::Fixed => "the policy stays on its tier".to_owned(),
        Reason::Stopping => "the run is being stopped".to_owned(),
        Reason::Window { to, remaining } => {
            format!("{} fits; it must fit for another {}", tier(to), span(*remaining))
        }
        Reason::Cooldown { to, remaining } => {
            format!("cooldown before {}: {} left", tier(to), span(*remaining))
        }
        Reason::Backoff { to, remaining } => {
            format!("{} failed before; next try in {}", tier(to), span(*remaining))
        }
        Reason::AboveUpgradeLine { resource, used, line, .. } => format!(
            "{} {} is {} the upgrade line {}",
            resource_name(*resource),
            percent(*used),
            // The original gives no other reason, even if it only waits.
            if used > line { "above" } else { "not above" },
            percent(*line)
        ),
        Reason::WouldNotFit { to, resource, projected, limit, .. } => format!(
            "{} would bring {} to {}, limit {}",
            tier(to),
            resource_name(*resource),
            bytes(*projected),
            bytes(*limit)
        ),
        Reason::WouldBeSlow { to, predicted, limit } => {
            format!(
                "{} would need {} per reply, limit {}",
                tier(to),
                span(*predicted),
                span(*limit)
            )
        }
        Reason::WouldNotServe { to } => {
            format!("{} cannot serve the requests that came in", tier(to))
        }
        Reason::Room { resource, projected, limit, good_for, odds, .. } => {
            let long = long(*good_for);
            let (name, projected, limit) =
                (resource_name(*resource), bytes(*projected), bytes(*limit));
            let odds = odds.map(|odds| format!("; {}", self::odds(&odds, None)));
            format!(
                "fits{long}: {name} would be {projected}, limit {limit}{}",
                odds.unwrap_or_default()
            )
        }
        Reason::TooRisky { to, good_for, odds, .. } => {
            format!("{} fits, with {}", tier(to), self::odds(odds, Some(*good_for)))
        }
        Reason::NotRead { to, resource, .. } => {
            format!("{} needs {}, which is not measured", tier(to), resource_name(*resource))
        }
        Reason::AboveDegradeLine { resource, used, limit, .. } => {
            format!("{} {} is above {}", resource_name(*resource), bytes(*used), bytes(*limit))
        }
        Reason::SustainedLoad { resource, used, line, high_for, .. } => format!(
            "{} {} is above {}{}",
            resource_name(*resource),
            percent(*used),
            percent(*line),
            long(*high_for)
        ),
        Reason::Exhaustion { resource, full_in, lead, .. } => format!(
            "{} will be full in {}, and a step down takes {}",
            resource_name(*resource),
            span(*full_in),
            span(*lead)
        ),
        Reason::Slow { measured, limit } => {
            format!("95% of replies take up to {}, limit {}", span(*measured), span(*limit))
        }
        Reason::Failing { failures } => format!("the model failed {}", times(*failures)),
        Reason::SlowLoad { took, by_catalog } => format!(
            "slow after loading: a short reply took {}, and should take {} by the catalog",
            span(*took),
            span(*by_catalog)
        ),
        Reason::Asked => "someone asked for it".to_owned(),
        Reason::Idle { for_ } => format!("no request for {}", span(*for_)),
        Reason::Ordered { to, remaining } => {
            let how_long = remaining.map_or_else(
                || "until `auto` is requested".to_owned(),
                |remaining| format!("for another {}", span(remaining)),
            );
            format!("an order asks for {}, {how_long}", tier(to))
        }
        Reason::Named { to, remaining } => {
            format!(
                "requests name the model of {}, which stays for another {}",
                tier(to),
                span(*remaining)
            )
        }
        Reason::Own { code, resource, value, limit, lasted } => {
            let code = code.as_str().replace('-', " ");
            let resource = resource.map(|resource| format!(": {}", resource_name(resource)));
            let value = value.map(|value| format!(" {}", measure(value)));
            let limit = limit.map(|limit| format!(", limit {}", measure(limit)));
            let lasted = lasted.map(|lasted| format!(" for {}", span(lasted)));
            let parts = [resource, value, limit, lasted];
            parts.into_iter().flatten().fold(code, |text, part| text + &part)
        }
    }
}

/// Returns a resource as it is called in sentences. Settings, files and figures use [`Resource::name`].
pub fn resource_name(resource: Resource) -> &'static str {
    match resource {
        Resource::Memory => "memory",
        Resource::Vram => "video memory",
        Resource::Cpu => "processor",
        Resource::Gpu => "GPU",
        Resource::Pressure => "memory pressure",
    }
}

/// Returns how long something has lasted; nothing if it was not waited for.
fn long(span: Duration) -> String {
    if span.is_zero() { String::new() } else { format!(" for {}", self::span(span)) }
}

/// Returns the odds as a clause: `8.7% to spare for 12m; others moved 3% recently; risk of losing
/// it soon 4%, acceptable up to 57%`.
fn odds(odds: &Odds, good_for: Option<Duration>) -> String {
    let [spare, moved, risk, worth] = [odds.spare, odds.moved, odds.risk, odds.worth].map(percent);
    let long = good_for.map(long).unwrap_or_default();
    format!(
        "{spare} to spare{long}; others moved {moved} recently; \
         risk of losing it soon {risk}, acceptable up to {worth}"
    )
}

/// Returns an action: `hold`, `upgrade to large`, `downgrade to small (immediate)`.
pub fn action(action: Action, catalog: &Catalog) -> String {
    match action {
        Action::Hold => "hold".to_owned(),
        Action::Upgrade { to } => format!("upgrade to {}", catalog.tier_name(to)),
        Action::Downgrade { to, urgency } => {
            format!("downgrade to {} ({})", catalog.tier_name(to), self::urgency(urgency))
        }
    }
}

/// Returns a decision as a sentence: `hold on small: medium fits; it must fit for another 48s`.
pub fn decision(action: Action, on: Rung, reason: &Reason, catalog: &Catalog) -> String {
    let action = self::action(action, catalog);
    format!("{action} on {}: {}", catalog.tier_name(on), self::reason(reason, catalog))
}

/// Returns the name of an urgency.
pub fn urgency(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Graceful => "graceful",
        Urgency::Immediate => "immediate",
        Urgency::Critical => "critical",
    }
}

/// Returns what a gate looks at: `fresh`, `projection of memory`.
pub fn gate(name: GateName) -> String {
    match name {
        GateName::Fresh => "fresh".to_owned(),
        GateName::Idle => "idle".to_owned(),
        GateName::Cooldown => "cooldown".to_owned(),
        GateName::Window => "window".to_owned(),
        GateName::Backoff => "backoff".to_owned(),
        GateName::UpgradeLine(resource) => format!("upgrade line of {}", resource_name(resource)),
        GateName::Projection(resource) => format!("projection of {}", resource_name(resource)),
        GateName::Risk => "risk".to_owned(),
        GateName::Latency => "latency".to_owned(),
        GateName::Unserved => "requests that it cannot serve".to_owned(),
    }
}

/// Returns a gate with its numbers, as a clause: `window is 48s, at least 5m`.
pub fn gate_found(gate: &Gate) -> String {
    let bound = match gate.name {
        GateName::Cooldown | GateName::Window | GateName::Backoff => "at least",
        GateName::Fresh
        | GateName::Idle
        | GateName::UpgradeLine(_)
        | GateName::Projection(_)
        | GateName::Risk
        | GateName::Latency
        | GateName::Unserved => "at most",
    };
    let (value, limit) = (measure(gate.value), measure(gate.limit));
    format!("{} is {value}, {bound} {limit}", self::gate(gate.name))
}

/// Returns a gate's number with its unit.
pub fn measure(measure: Measure) -> String {
    match measure {
        Measure::Bytes(amount) => bytes(amount),
        Measure::MilliPercent(share) => percent(share),
        Measure::Nanos(nanos) => span(Duration::from_nanos(nanos)),
        Measure::Count(count) => count.to_string(),
    }
}

/// Returns a notice as a sentence for the user.
pub fn notice(notice: &Notice, catalog: &Catalog) -> String {
    match notice {
        Notice::Degraded { from, to, reason } => format!(
            "{} now serves instead of {}: {}",
            catalog.tier_name(*to),
            catalog.tier_name(*from),
            self::reason(reason, catalog)
        ),
        Notice::LongOnSmallest { for_, reason } => format!(
            "the smallest tier has served for {}; blocked from the next tier: {}",
            span(*for_),
            self::reason(reason, catalog)
        ),
        Notice::SlowLoad { rung, took, by_catalog } => format!(
            "{} was slow after loading and is loaded again: a short reply took {}, and should take {} by the catalog",
            catalog.tier_name(*rung),
            span(*took),
            span(*by_catalog)
        ),
        Notice::NotRead { rung, resource } => {
            let (tier, name) = (catalog.tier_name(*rung), resource_name(*resource));
            format!(
                "{tier} needs {name}, which is not measured: nothing is loaded there until it is, or until \
                 `constrain` excludes it"
            )
        }
        Notice::KeepsFailing { model, failures } => format!(
            "{model} failed to load or died {} in a row: it is retried less and less often",
            times(*failures)
        ),
        Notice::Unanswered { model, what } => {
            let what = match what {
                Unanswered::Load => "the load of",
                Unanswered::Unload => "the unload of",
                Unanswered::Request => "a request to",
            };
            format!("the server did not answer {what} {model} in time; no longer waiting for it")
        }
    }
}

/// Returns the news of an order as a sentence.
pub fn order(tier: &str, news: &OrderNews, catalog: &Catalog) -> String {
    match news {
        OrderNews::Taken { wait, until } => {
            let when = match wait {
                Some(wait) => format!("switching to {tier} in {}", span(*wait)),
                None => format!("switching to {tier}"),
            };
            match until {
                Some(until) => {
                    format!("{when}; in effect until {} of the run", seconds(until.as_secs_f64()))
                }
                None => format!("{when}; in effect until `auto` is requested"),
            }
        }
        OrderNews::Refused { reason, retry_after } => format!(
            "the order for {tier} is refused: {}; try again in {}",
            self::reason(reason, catalog),
            span(*retry_after)
        ),
        OrderNews::Unknown => format!("no tier is called {tier}"),
        OrderNews::Released => format!("{tier} is released"),
    }
}

/// Returns the news of a companion: `embedder is to be loaded: fits: memory would be 9.1 GiB, limit 14.4 GiB`.
pub fn companion(model: &ModelId, news: CompanionNews, catalog: &Catalog) -> String {
    match news {
        CompanionNews::Wanted { reason } => {
            format!("{model} is to be loaded: {}", self::reason(&reason, catalog))
        }
        CompanionNews::GivenUp { reason } => {
            format!("{model} is unloaded: {}", self::reason(&reason, catalog))
        }
        CompanionNews::Serves => format!("{model} serves"),
        CompanionNews::ServesNoMore => format!("{model} no longer serves"),
    }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Returns a span to two or three digits, for people: `350ms`, `1.2s`, `12s`, `5m 3s`, `27h 36m`, `30d 2h`.
pub fn span(span: Duration) -> String {
    let millis = span.as_millis();
    let secs = (millis + 500) / 1000;
    match millis {
        0 if span.is_zero() => "0s".to_owned(),
        0..1000 => format!("{millis}ms"),
        1000..9950 => {
            let tenths = (millis + 50) / 100;
            if tenths.is_multiple_of(10) {
                format!("{}s", tenths / 10)
            } else {
                format!("{}.{}s", tenths / 10, tenths % 10)
            }
        }
        _ if secs < 60 => format!("{secs}s"),
        _ if secs < 3600 => two(secs / 60, "m", secs % 60, "s"),
        _ if secs < 2 * 86_400 => two(secs / 3600, "h", secs % 3600 / 60, "m"),
        _ => two(secs / 86_400, "d", secs % 86_400 / 3600, "h"),
    }
}

/// Returns seconds as a span, for people.
pub fn seconds(seconds: f64) -> String {
    span(time::from_secs_f64(seconds))
}

/// Returns a count of things: `1 switch`, `2 switches`, `0 loads`.
pub fn count(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ if one.ends_with("ch") => format!("{count} {one}es"),
        _ => format!("{count} {one}s"),
    }
}

fn two(large: u128, large_unit: &str, small: u128, small_unit: &str) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    }
}

/// Returns an amount of memory to three digits or so, for people: `9.31 GiB`, `512 MiB`.
pub fn bytes(amount: Bytes) -> String {
    let gib = amount.as_gib();
    if gib >= 10.0 {
        format!("{gib:.1} GiB")
    } else if gib >= 1.0 || amount == Bytes::ZERO {
        format!("{gib:.2} GiB")
    } else {
        format!("{:.0} MiB", gib * 1024.0)
    }
}

/// Returns a share to a tenth of a percent, for people.
pub fn percent(share: Percent) -> String {
    let text = format!("{:.1}", share.as_f64());
    format!("{}%", text.trim_end_matches(".0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Code;

    #[test]
    fn an_own_reason_reads_as_a_clause() {
        let catalog = Catalog::relative_to(Bytes::from_gib(16));
        let reason = Reason::Own {
            code: Code::new("risk-too-high"),
            resource: Some(Resource::Memory),
            value: Some(Measure::MilliPercent(Percent::new(12))),
            limit: Some(Measure::MilliPercent(Percent::new(10))),
            lasted: Some(Duration::from_secs(90)),
        };
        let text = |reason| super::reason(&reason, &catalog);
        assert_eq!(text(reason), "risk too high: memory 12%, limit 10% for 1m 30s");
        assert_eq!(text(Reason::own(Code::new("calm"))), "calm");
    }

    #[test]
    fn spans_are_short_and_never_lose_a_unit() {
        let spans = [
            0,
            350,
            1000,
            1250,
            9949,
            9950,
            59_499,
            59_500,
            303_000,
            3_600_000,
            99_360_000,
            2_600_000_000,
        ];
        let got = spans.map(|millis| span(Duration::from_millis(millis))).join(", ");
        assert_eq!(got, "0s, 350ms, 1s, 1.3s, 9.9s, 10s, 59s, 1m, 5m 3s, 1h, 27h 36m, 30d 2h");
    }
}
