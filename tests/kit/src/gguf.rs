//! Writes real model files with random weights: llama-server loads them with its ordinary loader, runs its kernels
//! on them and streams real tokens. Only the words mean nothing. The same size gives the same bytes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The size of a model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    width: u32,
    feed_forward: u32,
    layers: u32,
    heads: u32,
    kv_heads: u32,
    vocabulary: u32,
    context: u32,
}

impl Shape {
    /// Returns what distinguishes it from other shapes, for its file name.
    pub fn name(self) -> String {
        let Self { width, heads, kv_heads, context, .. } = self;
        match (heads / kv_heads, context) {
            (2 | 3, USUAL_CONTEXT) => format!("random-{width}"),
            _ => format!("random-{width}-{kv_heads}-{context}"),
        }
    }

    /// Returns one with the smallest possible cache, and this many tokens as its training context.
    #[must_use]
    pub const fn for_long_context(self, context: u32) -> Self {
        Self { kv_heads: 1, context, ..self }
    }
}

/// The training context of a model.
const USUAL_CONTEXT: u32 = 4096;

/// A file of 0.2 MB, for tests in which only the server matters: loaded in 35 ms, thousands of tokens a second.
pub const NANO: Shape = Shape {
    width: 64,
    feed_forward: 192,
    layers: 2,
    heads: 4,
    kv_heads: 2,
    vocabulary: 512,
    context: USUAL_CONTEXT,
};

/// A file of 20 MB: about 500 tokens a second on two processors.
pub const TINY: Shape = Shape {
    width: 256,
    feed_forward: 1024,
    layers: 17,
    heads: 8,
    kv_heads: 4,
    vocabulary: 4096,
    context: USUAL_CONTEXT,
};

/// A file of 153 MB: about 60 tokens a second on two processors.
pub const SMALL: Shape = Shape {
    width: 768,
    feed_forward: 2304,
    layers: 19,
    heads: 12,
    kv_heads: 4,
    vocabulary: 8192,
    context: USUAL_CONTEXT,
};

/// A file of 629 MB: about 20 tokens a second on two processors.
pub const MEDIUM: Shape = Shape {
    width: 1536,
    feed_forward: 4608,
    layers: 20,
    heads: 16,
    kv_heads: 8,
    vocabulary: 8192,
    context: USUAL_CONTEXT,
};

/// Writes a model of this shape.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, shape: Shape) -> io::Result<()> {
    let words = vocabulary(shape.vocabulary as usize);
    let metadata = metadata(shape, &words);
    let tensors = tensors(shape, words.first_word);
    let mut out = BufWriter::new(File::create(path)?);
    let mut head = b"GGUF".to_vec();
    put_u32(&mut head, 3);
    put_u64(&mut head, tensors.len() as u64);
    put_u64(&mut head, metadata.count);
    head.extend(metadata.bytes);
    let mut offset = 0;
    for tensor in &tensors {
        put_text(&mut head, &tensor.name);
        // The fastest dimension first; vectors have one.
        let dimensions: &[u32] =
            if tensor.rows == 1 { &[tensor.columns] } else { &[tensor.columns, tensor.rows] };
        put_u32(&mut head, dimensions.len() as u32);
        dimensions.iter().for_each(|&length| put_u64(&mut head, length.into()));
        put_u32(&mut head, if tensor.rows == 1 { F32 } else { Q8_0 });
        put_u64(&mut head, offset);
        offset += padded(tensor.size());
    }
    head.resize(padded(head.len() as u64) as usize, 0);
    out.write_all(&head)?;
    let mut random = Random(1);
    for tensor in &tensors {
        tensor.write(&mut out, &mut random)?;
    }
    out.flush()
}

struct Tensor {
    name: String,
    rows: u32,
    columns: u32,
    deviation: f32,
    /// Number of first rows whose weights are zero.
    zero_rows: u32,
}

impl Tensor {
    fn size(&self) -> u64 {
        let weights = u64::from(self.rows) * u64::from(self.columns);
        if self.rows == 1 { weights * 4 } else { weights / BLOCK * BLOCK_BYTES }
    }

    fn write(&self, out: &mut impl Write, random: &mut Random) -> io::Result<()> {
        if self.rows == 1 {
            // Norms change nothing.
            for _ in 0..self.columns {
                out.write_all(&1.0_f32.to_le_bytes())?;
            }
        } else {
            // Uniform from -127 to 127: the standard deviation is 73.3 steps.
            let scale = half(self.deviation / 73.3).to_le_bytes();
            let blocks = u64::from(self.columns) / BLOCK;
            for row in 0..self.rows {
                for _ in 0..blocks {
                    let mut block = [0; BLOCK_BYTES as usize];
                    if row >= self.zero_rows {
                        block[..2].copy_from_slice(&scale);
                        for part in block[2..].chunks_exact_mut(8) {
                            part.copy_from_slice(&random.next().to_le_bytes());
                        }
                    }
                    out.write_all(&block)?;
                }
            }
        }
        let padding = padded(self.size()) - self.size();
        out.write_all(&vec![0; padding as usize])
    }
}

fn tensors(shape: Shape, first_word: usize) -> Vec<Tensor> {
    let Shape { width, feed_forward, layers, heads, kv_heads, vocabulary, .. } = shape;
    let matrix = |name: &str, rows, columns, deviation| Tensor {
        name: format!("{name}.weight"),
        rows,
        columns,
        deviation,
        zero_rows: 0,
    };
    let kv_width = width / heads * kv_heads;
    let inner = 1.0 / (width as f32).sqrt();
    let mut tensors = vec![
        matrix("token_embd", vocabulary, width, 1.0),
        matrix("output_norm", 1, width, 1.0),
        // Zero rows never win: only words, valid UTF-8, and no end before the requested number of tokens.
        Tensor { zero_rows: first_word as u32, ..matrix("output", vocabulary, width, 3.0 * inner) },
    ];
    for layer in 0..layers {
        let matrix = |name: &str, rows, columns, deviation| {
            matrix(&format!("blk.{layer}.{name}"), rows, columns, deviation)
        };
        tensors.extend([
            matrix("attn_norm", 1, width, 1.0),
            matrix("ffn_norm", 1, width, 1.0),
            matrix("attn_q", width, width, inner),
            matrix("attn_k", kv_width, width, inner),
            matrix("attn_v", kv_width, width, inner),
            matrix("attn_output", width, width, inner),
            matrix("ffn_gate", feed_forward, width, inner),
            matrix("ffn_up", feed_forward, width, inner),
            matrix("ffn_down", width, feed_forward, 1.0 / (feed_forward as f32).sqrt()),
        ]);
    }
    tensors
}

struct Vocabulary {
    /// Each with its type: normal, unknown, control, byte.
    tokens: Vec<(String, u32)>,
    first_word: usize,
}

fn vocabulary(size: usize) -> Vocabulary {
    let (normal, unknown, control, byte) = (1, 2, 3, 6);
    let mut tokens = vec![
        ("<unk>".to_owned(), unknown),
        ("<s>".to_owned(), control),
        ("</s>".to_owned(), control),
    ];
    tokens.extend((0..=255).map(|value| (format!("<0x{value:02X}>"), byte)));
    let letters = ('!'..='~').map(String::from);
    let beginnings = ('a'..='z').map(|letter| format!("{SPACE}{letter}"));
    let singles = std::iter::once(SPACE.to_owned()).chain(letters).chain(beginnings);
    tokens.extend(singles.map(|text| (text, normal)));
    let first_word = tokens.len();
    let mut seen = BTreeSet::new();
    let mut random = Random(7);
    let onsets =
        ["b", "c", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "br", "st", "tr"];
    let vowels = ["a", "e", "i", "o", "u", "ai", "ou", "ea"];
    let codas = ["", "n", "r", "s", "l", "t", "m", "nd"];
    while tokens.len() < size {
        let syllables = 1 + random.below(3);
        let word: String = (0..syllables)
            .flat_map(|_| [random.one_of(&onsets), random.one_of(&vowels), random.one_of(&codas)])
            .collect();
        if word.len() > 1 && seen.insert(word.clone()) {
            tokens.push((format!("{SPACE}{word}"), normal));
        }
    }
    Vocabulary { tokens, first_word }
}

#[derive(Default)]
struct Metadata {
    count: u64,
    bytes: Vec<u8>,
}

impl Metadata {
    fn key(&mut self, key: &str, kind: u32) -> &mut Vec<u8> {
        self.count += 1;
        put_text(&mut self.bytes, key);
        put_u32(&mut self.bytes, kind);
        &mut self.bytes
    }

    fn number(&mut self, key: &str, value: u32) {
        put_u32(self.key(key, UINT32), value);
    }

    fn float(&mut self, key: &str, value: f32) {
        self.key(key, FLOAT32).extend(value.to_le_bytes());
    }

    fn truth(&mut self, key: &str, value: bool) {
        self.key(key, BOOL).push(value.into());
    }

    fn text(&mut self, key: &str, value: &str) {
        put_text(self.key(key, STRING), value);
    }

    fn list<T>(
        &mut self,
        key: &str,
        kind: u32,
        items: &[T],
        put: impl Fn(&mut Vec<u8>, usize, &T),
    ) {
        let bytes = self.key(key, ARRAY);
        put_u32(bytes, kind);
        put_u64(bytes, items.len() as u64);
        items.iter().enumerate().for_each(|(place, item)| put(bytes, place, item));
    }
}

fn metadata(shape: Shape, words: &Vocabulary) -> Metadata {
    let mut all = Metadata::default();
    all.text("general.architecture", "llama");
    all.text("general.name", "random");
    all.text("general.description", "random weights, to try things with");
    all.number("llama.context_length", shape.context);
    all.number("llama.embedding_length", shape.width);
    all.number("llama.block_count", shape.layers);
    all.number("llama.feed_forward_length", shape.feed_forward);
    all.number("llama.attention.head_count", shape.heads);
    all.number("llama.attention.head_count_kv", shape.kv_heads);
    all.float("llama.attention.layer_norm_rms_epsilon", 1e-5);
    all.number("llama.rope.dimension_count", shape.width / shape.heads);
    all.float("llama.rope.freq_base", 10_000.0);
    all.number("llama.vocab_size", shape.vocabulary);
    all.number("general.file_type", 7);
    all.number("general.quantization_version", 2);
    all.text("tokenizer.ggml.model", "llama");
    all.text("tokenizer.ggml.pre", "default");
    let tokens = &words.tokens;
    all.list("tokenizer.ggml.tokens", STRING, tokens, |bytes, _, (text, _)| put_text(bytes, text));
    all.list("tokenizer.ggml.scores", FLOAT32, tokens, |bytes, place, _| {
        // Earlier tokens go first; special ones have no score.
        let score = if place < SPECIAL_TOKENS { 0.0 } else { -(place as f32) };
        bytes.extend(score.to_le_bytes());
    });
    all.list("tokenizer.ggml.token_type", INT32, tokens, |bytes, _, (_, kind)| {
        put_u32(bytes, *kind);
    });
    all.number("tokenizer.ggml.bos_token_id", 1);
    all.number("tokenizer.ggml.eos_token_id", 2);
    all.number("tokenizer.ggml.unknown_token_id", 0);
    all.truth("tokenizer.ggml.add_bos_token", true);
    all.truth("tokenizer.ggml.add_eos_token", false);
    all.truth("tokenizer.ggml.add_space_prefix", true);
    all.text("tokenizer.chat_template", CHAT);
    all
}

/// A generator of which only speed and repeatability matter (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// Returns a positive number as 16-bit float; subnormal numbers are not supported.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 15;
    assert!((1..31).contains(&exponent), "{value} is not a normal 16-bit number");
    (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16
}

fn padded(size: u64) -> u64 {
    size.next_multiple_of(32)
}

fn put_u32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend(value.to_le_bytes());
}

fn put_u64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend(value.to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_u64(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

/// How a vocabulary of this kind writes a space.
const SPACE: &str = "\u{2581}";
/// The three control tokens and the 256 bytes.
const SPECIAL_TOKENS: usize = 259;
const CHAT: &str = "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + '\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

// The format's numbers for types of values and of tensors, and the blocks of Q8_0.
const UINT32: u32 = 4;
const INT32: u32 = 5;
const FLOAT32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const F32: u32 = 0;
const Q8_0: u32 = 8;
const BLOCK: u64 = 32;
const BLOCK_BYTES: u64 = 34;
