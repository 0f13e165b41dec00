//! Codes: the names of the kinds of reasons.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a kind of reason, built-in or a policy's own: small letters, digits and dashes, at most 24.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code([u8; Self::LONGEST]);

impl Code {
    /// The most letters of a code.
    pub const LONGEST: usize = 24;

    /// Returns the code with this text.
    ///
    /// # Panics
    /// When the text is not a code: in a constant, the program does not compile.
    pub const fn new(text: &str) -> Self {
        match Self::checked(text) {
            Some(code) => code,
            None => panic!("a code has small letters, digits and dashes, at most 24"),
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|&letter| letter == 0).unwrap_or(Self::LONGEST);
        str::from_utf8(&self.0[..length]).expect("a code is ASCII")
    }

    const fn checked(text: &str) -> Option<Self> {
        let (text, mut code) = (text.as_bytes(), [0; Self::LONGEST]);
        if text.is_empty() || text.len() > Self::LONGEST {
            return None;
        }
        let mut index = 0;
        while index < text.len() {
            if !matches!(text[index], b'a'..=b'z' | b'0'..=b'9' | b'-') {
                return None;
            }
            code[index] = text[index];
            index += 1;
        }
        Some(Self(code))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Code {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Code".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[a-z0-9-]{1,24}$" })
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({})", self.as_str())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Code {
    type Error = CodeError;

    fn try_from(text: String) -> Result<Self, CodeError> {
        Self::checked(&text).ok_or(CodeError { text })
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.as_str().to_owned()
    }
}

/// The text that was given in place of a code.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "\"{text}\" is not the code of a reason: a code has small letters, digits and dashes, at most 24"
)]
pub struct CodeError {
    text: String,
}
