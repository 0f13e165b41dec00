//! Lines through measurements: memory by context, the first token by prompt, the time of a token by context.

use serde::Serialize;
use tiershift_core::units::Bytes;

/// A line: memory = weights + `kv_per_token` x tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// At no context: the weights and what the server needs besides them.
    #[serde(rename = "weights_bytes")]
    pub weights: Bytes,
    /// For each token of context.
    #[serde(rename = "kv_per_token_bytes")]
    pub kv_per_token: Bytes,
    /// The largest distance of a measurement from the line.
    #[serde(rename = "residual_bytes")]
    pub residual: Bytes,
}

impl Fit {
    /// Returns the line of least squares through these points; flat if they all have one size of context, or if it
    /// would fall.
    pub fn through(points: &[Held]) -> Option<Self> {
        let count = points.len() as f64;
        let x = |held: &Held| held.tokens as f64;
        let y = |held: &Held| held.resident.get() as f64;
        let mean_x = points.iter().map(x).sum::<f64>() / count;
        let mean_y = points.iter().map(y).sum::<f64>() / count;
        let spread: f64 = points.iter().map(|it| (x(it) - mean_x) * (x(it) - mean_x)).sum();
        let product: f64 = points.iter().map(|it| (x(it) - mean_x) * (y(it) - mean_y)).sum();
        let slope = if spread > 0.0 { (product / spread).max(0.0) } else { 0.0 };
        let weights = (mean_y - slope * mean_x).max(0.0);
        let off = |held: &Held| (y(held) - weights - slope * x(held)).abs();
        let residual = points.iter().map(off).max_by(f64::total_cmp)?;
        let bytes = |value: f64| Bytes::new(value.round() as u64);
        Some(Self {
            weights: bytes(weights),
            kv_per_token: bytes(slope),
            residual: bytes(residual),
        })
    }
}

/// Memory that a model's process held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Context of all slots together.
    pub tokens: u64,
    /// Its resident memory, including file pages.
    #[serde(rename = "resident_bytes")]
    pub resident: Bytes,
}

/// How soon a reply began.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FirstToken {
    /// The prompt.
    pub prompt_tokens: f64,
    /// From the request to the first token.
    pub seconds: f64,
}

impl FirstToken {
    /// Returns the seconds that a request takes whatever its prompt, and the prompt tokens per second beyond them.
    pub(super) fn line_through([short, long]: [Self; 2]) -> (f64, f64) {
        let point = |it: Self| (it.prompt_tokens, it.seconds);
        match line_through(point(short), point(long)) {
            Some((overhead, each)) => (overhead, 1.0 / each),
            None => (0.0, long.prompt_tokens / long.seconds),
        }
    }
}

/// The speed of a reply after some context.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Decoding {
    /// The prompt and half of the reply.
    pub context_tokens: f64,
    /// Reply tokens per second.
    pub tokens_per_second: f64,
}

impl Decoding {
    /// Returns the tokens per second with no context, and the context after which they are half as many, by the line
    /// through the time of a token after `little` and after `much`.
    pub(super) fn line_through([little, much]: [Self; 2]) -> (f64, Option<u32>) {
        let point = |it: Self| (it.context_tokens, 1.0 / it.tokens_per_second);
        match line_through(point(little), point(much)) {
            // `as` saturates.
            Some((at_none, each)) => (1.0 / at_none, Some((at_none / each).max(1.0) as u32)),
            // Noise, if the model is so large that context has no effect.
            None => (little.tokens_per_second, None),
        }
    }
}

/// Returns the seconds at no tokens, and those that each token adds, by the line through two measurements (tokens,
/// seconds). `None` if that line is impossible: a token that takes no time, or less.
fn line_through(few: (f64, f64), many: (f64, f64)) -> Option<(f64, f64)> {
    let apart = many.0 - few.0;
    let each = (many.1 - few.1) / apart;
    let at_none = few.1 - each * few.0;
    (apart > 0.0 && each > 0.0 && at_none > 0.0).then_some((at_none, each))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_through_points_on_a_line_is_that_line() {
        let points = [1024, 2048, 4096]
            .map(|tokens| Held { tokens, resident: Bytes::from_mib(600 + tokens / 16) });
        let fit = Fit::through(&points).unwrap();
        assert_eq!((fit.weights, fit.residual), (Bytes::from_mib(600), Bytes::ZERO));
        assert_eq!(fit.kv_per_token, Bytes::from_kib(64));
        let one = [Held { tokens: 9, resident: Bytes::new(7) }];
        let flat = Fit::through(&one).unwrap();
        assert_eq!((flat.weights, flat.kv_per_token), (Bytes::new(7), Bytes::ZERO));
        assert_eq!(Fit::through(&[]), None);
    }

    #[test]
    fn context_without_an_effect_costs_nothing() {
        let [little, much] =
            [(10.0, 20.0), (110.0, 20.1)].map(|(context_tokens, tokens_per_second)| Decoding {
                context_tokens,
                tokens_per_second,
            });
        assert_eq!(Decoding::line_through([little, much]), (20.0, None));
        assert_eq!(Decoding::line_through([little, little]), (20.0, None));
    }

    #[test]
    fn first_tokens_that_make_no_sense_are_taken_as_prompt_alone() {
        let first = |prompt_tokens, seconds| FirstToken { prompt_tokens, seconds };
        // The short prompt took longer; and so little that less than nothing would be left for the request.
        for short in [first(4.0, 0.9), first(4.0, 0.01)] {
            assert_eq!(FirstToken::line_through([short, first(100.0, 0.5)]), (0.0, 200.0));
        }
    }
}
