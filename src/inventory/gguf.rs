//! Reads from a model file what its memory depends on, and whether it is complete, but none of its weights.
//!
//! # Source
//! The format's specification, version 2 and 3: magic, version, two counts, each key with the type of its value, then
//! each tensor's name, shape, type and place among the data, which begin at the next multiple of the alignment. Block
//! sizes: `ggml.c`.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use tiershift_core::units::Bytes;

/// What a file states about its model. What it does not state is `None`.
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
    alignment: Option<u64>,
}

impl Dimensions {
    /// Reads a file's head, and from its table of tensors how long the file must be.
    ///
    /// # Errors
    /// When it is not a GGUF file, or ends too early.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut input = Counted { inner: BufReader::new(file), read: 0 };
        let read = Self::read_from(&mut input).and_then(|(found, tensors)| {
            let end = end_of_tensors(&mut input, tensors, found.alignment)?;
            Ok((found, end))
        });
        let (found, end) = read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                broken("it ends in its head: it was not downloaded whole")
            }
            _ => error,
        })?;
        if end > length {
            let why = format!(
                "it ends after {} of {}: it was not downloaded whole",
                Bytes::new(length),
                Bytes::new(end)
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(found)
    }

    /// Returns the content of its head, and the number of tensors.
    fn read_from(input: &mut impl Read) -> io::Result<(Self, u64)> {
        let mut magic = [0; 4];
        input.read_exact(&mut magic)?;
        if &magic != b"GGUF" {
            return Err(broken("it is not a GGUF file"));
        }
        if !(2..=3).contains(&number(input, 4)?) {
            return Err(broken("its version of GGUF is not known"));
        }
        let tensors = number(input, 8)?;
        let mut found = Self::default();
        for _ in 0..number(input, 8)? {
            let key = text(input)?;
            let kind = number(input, 4)?;
            let value = value(input, kind)?;
            found.keep(&key, value);
        }
        Ok((found, tensors))
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
            "alignment" => &mut self.alignment,
            _ => return,
        };
        *field = value;
    }

    /// Returns whether the model was made to turn a whole text into one vector.
    pub(super) fn has_pooling(&self) -> bool {
        self.pooling.is_some_and(|kind| kind != NO_POOLING)
    }

    /// Returns whether that is for ranking texts.
    pub(super) fn ranks(&self) -> bool {
        self.pooling == Some(POOLING_TO_RANK)
    }

    /// Returns the content of a file whose model was trained for this many tokens; 0: the file does not state it.
    #[cfg(test)]
    pub(super) fn trained_for(tokens: u64) -> Self {
        Self { context_tokens: Some(tokens).filter(|&tokens| tokens > 0), ..Self::default() }
    }

    /// Returns the KV cache of one token; `None` if the file does not state it, as for architectures that keep
    /// something else.
    pub(super) fn kv_per_token(&self, types: CacheTypes) -> Option<Bytes> {
        let heads = self.heads.filter(|&heads| heads > 0)?;
        let usual = self.width.map(|width| width / heads);
        let per_width = self.layers?.checked_mul(self.kv_heads.unwrap_or(heads))?;
        let of = |width: Option<u64>, (numbers, bytes): (u64, u64)| {
            let all = per_width.checked_mul(width.or(usual)?)?.checked_mul(bytes)?;
            Some(all.div_ceil(numbers))
        };
        of(self.key_width, types.keys)?
            .checked_add(of(self.value_width, types.values)?)
            .map(Bytes::new)
    }
}

/// The types in which a cache keeps its keys and values: the numbers in a block, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CacheTypes {
    keys: (u64, u64),
    values: (u64, u64),
}

impl CacheTypes {
    /// Returns the types in a server's arguments; 16-bit numbers, the server's default, if they are absent or unknown.
    pub(super) fn of(arguments: &[String]) -> Self {
        let said = |long: &str, short: &str| {
            let is_it = |word: &String| word.replace('_', "-") == long || word == short;
            let at = arguments.iter().rposition(is_it)?;
            let kind = match arguments.get(at + 1)?.as_str() {
                "f32" => 0,
                "q4_0" => 2,
                "q4_1" => 3,
                "q5_0" => 6,
                "q5_1" => 7,
                "q8_0" => 8,
                "iq4_nl" => 20,
                _ => return None,
            };
            block_of(kind)
        };
        Self {
            keys: said("--cache-type-k", "-ctk").unwrap_or(SIXTEEN_BITS),
            values: said("--cache-type-v", "-ctv").unwrap_or(SIXTEEN_BITS),
        }
    }
}

/// A reader that knows its position.
struct Counted<R> {
    inner: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.read += count as u64;
        Ok(count)
    }
}

/// Reads the table of tensors, and returns where the last of them ends in the file: a lower bound, if one has a type
/// that is not known yet.
fn end_of_tensors(
    input: &mut Counted<impl Read>,
    tensors: u64,
    alignment: Option<u64>,
) -> io::Result<u64> {
    let mut end = 0_u64;
    for _ in 0..tensors {
        text(input)?;
        let mut elements = 1_u64;
        for _ in 0..number(input, 4)?.min(MOST_DIMENSIONS) {
            elements = elements.saturating_mul(number(input, 8)?);
        }
        let (kind, offset) = (number(input, 4)?, number(input, 8)?);
        let size = block_of(kind)
            .map_or(0, |(numbers, bytes)| elements.div_ceil(numbers).saturating_mul(bytes));
        end = end.max(offset.saturating_add(size));
    }
    if tensors == 0 {
        return Ok(0);
    }
    let alignment = alignment.filter(|&it| it > 0).unwrap_or(USUAL_ALIGNMENT);
    Ok(input.read.next_multiple_of(alignment).saturating_add(end))
}

/// Returns the numbers in a block of a tensor's type, and its bytes; `None` for an unknown type.
fn block_of(kind: u64) -> Option<(u64, u64)> {
    Some(match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        24 => (1, 1),
        27 | 28 => (1, 8),
        2 | 20 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 | 21 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 | 35 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        22 => (256, 82),
        23 => (256, 136),
        29 => (256, 56),
        34 => (256, 54),
        39 => (32, 17),
        _ => return None,
    })
}

/// Reads a value: an integer as it is, the largest of an array of integers (layers may differ), the length of any other
/// array, and nothing for anything else.
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

/// Returns whether a type is a whole number. Signed ones are never negative if they count something.
fn is_whole(kind: u64) -> bool {
    matches!(kind, 0..=5 | 10 | 11)
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

const STRING: u64 = 8;
const ARRAY: u64 = 9;

/// For tensors, as in `ggml.h`.
const MOST_DIMENSIONS: u64 = 4;

/// If a file does not state it.
const USUAL_ALIGNMENT: u64 = 32;

/// The kind of pooling that keeps a vector for each token.
const NO_POOLING: u64 = 0;

const POOLING_TO_RANK: u64 = 4;

const SIXTEEN_BITS: (u64, u64) = (1, 2);

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
        let (found, _) = Dimensions::read_from(&mut bytes.as_slice()).unwrap();
        // An 8B model of the Llama 3 family.
        let types = |words: &str| {
            CacheTypes::of(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(found.kv_per_token(types("")), Some(Bytes::from_kib(128)));
        assert_eq!(
            found.kv_per_token(types("-ctk q8_0 --cache-type-v q8_0")),
            Some(Bytes::from_kib(68))
        );
        assert_eq!(found.kv_per_token(types("-ctk")), Some(Bytes::from_kib(128)));
        assert_eq!((found.vocabulary, found.context_tokens), (Some(2), Some(131_072)));
        for end in 0..bytes.len() {
            Dimensions::read_from(&mut &bytes[..end]).unwrap_err();
        }
        assert_eq!(Dimensions::default().kv_per_token(types("")), None);
    }

    #[test]
    fn a_file_that_is_shorter_than_its_tensors_was_not_downloaded_whole() {
        let mut bytes = file(&[]);
        bytes[8..16].copy_from_slice(&2_u64.to_le_bytes());
        for (name, kind, offset) in [("a", 2_u32, 0_u64), ("b", 0, 64)] {
            put_text(&mut bytes, name);
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend(64_u64.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        // Two blocks of 18 bytes, padding to the next multiple of 32, and 64 numbers of four bytes.
        let whole = bytes.len().next_multiple_of(32) + 64 + 256;
        bytes.resize(whole, 0);
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.gguf");
        let read = |length: usize| {
            std::fs::write(&path, &bytes[..length]).unwrap();
            Dimensions::read(&path).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(read(whole), Ok(()));
        for length in [whole - 1, whole - 256, bytes.len() - 300] {
            let error = read(length).unwrap_err();
            assert!(error.ends_with("it was not downloaded whole"), "{error}");
        }
    }
}
