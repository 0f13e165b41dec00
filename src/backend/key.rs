//! The key that a model's process requires of its clients. It listens on loopback, for every page in a browser there
//! (llama-server allows all origins) and every user of the machine; with a key, it answers only its daemon.

use std::fmt;

/// A key, made for one process. It is passed in the environment, which no other user can read, and never into a log.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// The variable in which llama-server finds it.
    pub(super) const VARIABLE: &str = "LLAMA_API_KEY";

    /// Makes a key that cannot be guessed.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes)?;
        // In hexadecimal digits, which a header and a variable can contain.
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Takes the key that an earlier daemon made.
    #[cfg(target_os = "linux")]
    pub(super) fn of(text: String) -> Option<Self> {
        (text.len() == 2 * LENGTH).then_some(Self(text))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Chosen: 256 bits.
const LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_long_new_each_time_and_never_shown() {
        let (one, other) = (Key::new().unwrap(), Key::new().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), 64);
        assert!(one.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(!format!("{one:?}").contains(one.as_str()));
        #[cfg(target_os = "linux")]
        {
            assert_eq!(Key::of(one.as_str().to_owned()), Some(one));
            assert_eq!(Key::of("short".to_owned()), None);
        }
    }
}
