//! How many tokens a text has: estimated by what model servers counted of earlier requests, whose language and
//! tokenizer are usually the same.

use std::sync::{Mutex, PoisonError};

/// The texts that were counted.
#[derive(Debug)]
pub(super) struct TokenLength {
    seen: Mutex<Seen>,
}

/// Sums over them.
#[derive(Debug)]
struct Seen {
    bytes: u64,
    tokens: u64,
}

impl Default for TokenLength {
    fn default() -> Self {
        let tokens = FIRST_GUESS_COUNTS;
        Self { seen: Mutex::new(Seen { bytes: tokens * USUAL_BYTES_PER_TOKEN, tokens }) }
    }
}

impl TokenLength {
    /// Returns about how many tokens a text of this many bytes has.
    pub(super) fn tokens(&self, bytes: u64) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = u128::from(bytes) * u128::from(seen.tokens) / u128::from(seen.bytes.max(1));
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }

    /// Takes a server's count of a text.
    pub(super) fn learn(&self, bytes: u64, tokens: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.bytes = seen.bytes.saturating_add(bytes);
        seen.tokens = seen.tokens.saturating_add(tokens);
        while seen.tokens > MOST_COUNTED {
            (seen.bytes, seen.tokens) = (seen.bytes / 2, seen.tokens / 2);
        }
    }
}

/// English text has about four bytes per token with the tokenizers of current models.
const USUAL_BYTES_PER_TOKEN: u64 = 4;

/// How many counted tokens that guess is worth. Chosen: a few requests outweigh it.
const FIRST_GUESS_COUNTS: u64 = 500;

/// Counts up to this are remembered in full; beyond it, earlier ones fade. Chosen: some dozens of long prompts, so that
/// another language or model is noticed within an hour of work.
const MOST_COUNTED: u64 = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bytes_are_a_token_until_servers_have_counted_otherwise() {
        let length = TokenLength::default();
        assert_eq!([0, 3, 4, 4000].map(|bytes| length.tokens(bytes)), [0, 0, 1, 1000]);
        // One short request says little, a long one much.
        length.learn(20, 20);
        assert_eq!(length.tokens(4000), 1029);
        length.learn(40_000, 20_000);
        assert_eq!(length.tokens(4000), 1953);
    }

    #[test]
    fn what_was_counted_long_ago_fades() {
        let length = TokenLength::default();
        length.learn(8_000_000, 1_000_000);
        assert_eq!(length.tokens(8000), 1000);
        for _ in 0..20 {
            length.learn(100_000, 50_000);
        }
        assert!((3900..=4000).contains(&length.tokens(8000)), "{}", length.tokens(8000));
    }

    #[test]
    fn any_count_is_taken() {
        let length = TokenLength::default();
        length.learn(0, 1_000_000_000);
        length.learn(0, u64::MAX);
        assert!(length.tokens(u64::MAX) > 0);
        length.learn(u64::MAX, 0);
        assert!(length.tokens(100) <= 100);
    }
}
