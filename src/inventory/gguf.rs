//! Reads of a model file what its memory depends on, and nothing of its weights.
//!
//! # Source
//! The format's specification, version 2 and 3: magic, version, two counts, then each key with the type of its value.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use tiershift_core::units::Bytes;

/// What a file says about its model. What it does not say is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dimensions {
    pub(super) context_tokens: Option<u64>,
    pub(super) vocabulary: Option<u64>,
    layers: Option<u64>,
    width: Option<u64>,
    heads: Option<u64>,
    kv_heads: Option<u64>,
    key_width: Option<u64>,
    value_width: Option<u64>,
    pooling: Option<u64>,
}

impl Dimensions {
    /// Reads a file's head.
    ///
    /// # Errors
    /// What is not a GGUF file, or ends too early.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Self::read_from(&mut BufReader::new(File::open(path)?))
    }

    fn read_from(input: &mut impl Read) -> io::Result<Self> {
        let mut magic = [0; 4];
        input.read_exact(&mut magic)?;
        if &magic != b"GGUF" {
            return Err(broken("it is not a GGUF file"));
        }
        if !(2..=3).contains(&number(input, 4)?) {
            return Err(broken("its version of GGUF is not known"));
        }
        let _tensors = number(input, 8)?;
        let mut found = Self::default();
        for _ in 0..number(input, 8)? {
            let key = text(input)?;
            let kind = number(input, 4)?;
            let value = value(input, kind)?;
            found.keep(&key, value);
        }
        Ok(found)
    }

    fn keep(&mut self, key: &str, value: Option<u64>) {
        // The architecture's name is the first part.
        let field = match key.split_once('.').map_or(key, |(_, rest)| rest) {
            "context_length" => &mut self.context_tokens,
            "ggml.tokens" => &mut self.vocabulary,
            "block_count" => &mut self.layers,
            "embedding_length" => &mut self.width,
            "attention.head_count" => &mut self.heads,
            "attention.head_count_kv" => &mut self.kv_heads,
            "attention.key_length" => &mut self.key_width,
            "attention.value_length" => &mut self.value_width,
            "pooling_type" => &mut self.pooling,
            _ => return,
        };
        *field = value;
    }

    /// Returns whether the model was made to turn a whole text into one vector.
    pub(super) fn has_pooling(&self) -> bool {
        self.pooling.is_some_and(|kind| kind != NO_POOLING)
    }

    /// Returns the KV cache of one token in 16-bit numbers, llama-server's default; `None` where the file does not
    /// say it, as for architectures that keep something else.
    pub(super) fn kv_per_token(&self) -> Option<Bytes> {
        let heads = self.heads.filter(|&heads| heads > 0)?;
        let usual = self.width.map(|width| width / heads);
        let widths = self.key_width.or(usual)?.checked_add(self.value_width.or(usual)?)?;
        let kv_heads = self.kv_heads.unwrap_or(heads);
        let numbers = self.layers?.checked_mul(kv_heads)?.checked_mul(widths)?;
        numbers.checked_mul(2).map(Bytes::new)
    }
}

/// Reads a value: an integer as it is, of an array of integers the largest (layers may differ), of any other array
/// its length, and of anything else nothing.
fn value(input: &mut impl Read, kind: u64) -> io::Result<Option<u64>> {
    if let Some(size) = size_of(kind) {
        let value = number(input, size)?;
        return Ok(is_whole(kind).then_some(value));
    }
    match kind {
        STRING => text(input).map(|_| None),
        ARRAY => {
            let (inner, count) = (number(input, 4)?, number(input, 8)?);
            let mut largest = None;
            for _ in 0..count {
                if inner == ARRAY {
                    return Err(broken("it has an array of arrays"));
                }
                largest = largest.max(value(input, inner)?);
            }
            Ok(if is_whole(inner) { largest } else { Some(count) })
        }
        _ => Err(broken("it has a value of an unknown type")),
    }
}

fn text(input: &mut impl Read) -> io::Result<String> {
    let length = number(input, 8)?;
    if length > LONGEST_TEXT {
        return Err(broken("it has a text that is too long"));
    }
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a little-endian number of `size` bytes, at most eight.
fn number(input: &mut impl Read, size: usize) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes[..size])?;
    Ok(u64::from_le_bytes(bytes))
}

fn size_of(kind: u64) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Whether a type is a whole number. Signed ones are never negative where they count something.
fn is_whole(kind: u64) -> bool {
    matches!(kind, 0..=5 | 10 | 11)
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

const STRING: u64 = 8;
const ARRAY: u64 = 9;

/// The kind of pooling that keeps a vector for each token.
const NO_POOLING: u64 = 0;

/// Chosen: chat templates have some kilobytes.
const LONGEST_TEXT: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn put_text(bytes: &mut Vec<u8>, text: &str) {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }

    fn file(entries: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend((entries.len() as u64).to_le_bytes());
        for (key, kind, value) in entries {
            put_text(&mut bytes, key);
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        bytes
    }

    #[test]
    fn the_cache_of_a_token_follows_from_the_file() {
        let number = |value: u32| value.to_le_bytes().to_vec();
        let mut tokens = [8_u32.to_le_bytes().as_slice(), &2_u64.to_le_bytes()].concat();
        put_text(&mut tokens, "a");
        put_text(&mut tokens, "b");
        let per_layer =
            [4_u32.to_le_bytes().as_slice(), &2_u64.to_le_bytes(), &number(0), &number(8)].concat();
        let entries = [
            ("tokenizer.ggml.tokens", 9, tokens),
            ("llama.block_count", 4, number(32)),
            ("llama.embedding_length", 4, number(4096)),
            ("llama.attention.head_count", 4, number(32)),
            ("llama.attention.head_count_kv", 9, per_layer),
            ("llama.context_length", 10, 131_072_u64.to_le_bytes().to_vec()),
            ("llama.rope.freq_base", 6, number(0)),
        ];
        let bytes = file(&entries);
        let found = Dimensions::read_from(&mut bytes.as_slice()).unwrap();
        // An 8B model of the Llama 3 family.
        assert_eq!(found.kv_per_token(), Some(Bytes::from_kib(128)));
        assert_eq!((found.vocabulary, found.context_tokens), (Some(2), Some(131_072)));
        for end in 0..bytes.len() {
            Dimensions::read_from(&mut &bytes[..end]).unwrap_err();
        }
        assert_eq!(Dimensions::default().kv_per_token(), None);
    }
}
