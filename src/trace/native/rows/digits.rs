//! The ends of cells, and the numbers in them, eight bytes at a time.

/// Finds the ends of cells: commas and line ends, a block at a time.
pub(super) struct Ends<'a> {
    ahead: &'a [u8],
    /// Where the next block begins.
    next: usize,
    /// One bit for each byte of the previous block that is an end and was not taken out, from the lowest.
    marks: u64,
}

impl<'a> Ends<'a> {
    #[inline(always)]
    pub(super) fn of(ahead: &'a [u8]) -> Self {
        Self { ahead, next: 0, marks: 0 }
    }

    /// Takes out the first; `None` if too few bytes are left for a block.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<usize> {
        while self.marks == 0 {
            let block: &[u8; BLOCK] =
                self.ahead.get(self.next..self.next + BLOCK)?.try_into().ok()?;
            for (index, eight) in block.chunks_exact(8).enumerate() {
                let word = u64::from_le_bytes(eight.try_into().expect("a chunk has eight bytes"));
                let found = equal_bytes(word, b',') | equal_bytes(word, b'\n');
                // Gathers the highest bit of each byte into the highest byte, in order.
                self.marks |=
                    ((found >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * index);
            }
            self.next += BLOCK;
        }
        let first = self.marks.trailing_zeros() as usize;
        self.marks &= self.marks - 1;
        Some(self.next - BLOCK + first)
    }
}

/// Returns the highest bit of each byte that is `wanted`.
///
/// # Source
/// H. S. Warren, "Hacker's Delight" (2012), section 6-1: exact, where shorter ways may mark a neighbour too.
#[inline(always)]
fn equal_bytes(word: u64, wanted: u8) -> u64 {
    let low = ONES * 0x7f;
    let differs = word ^ (ONES * u64::from(wanted));
    !(((differs & low) + low) | differs | low)
}

/// Reads the digits from `at` to `end`: `Some(None)` for none. Returns nothing if there is anything else among them,
/// there are more than eighteen, or too few bytes are left to read eight at once.
#[inline(always)]
pub(super) fn plain_number(ahead: &[u8], at: usize, end: usize) -> Option<Option<i64>> {
    let length = end - at;
    let value = match length {
        0 => return Some(None),
        1..=8 => digits(word_at(ahead, at)?, length)?,
        9..=16 => {
            let (first, rest) = (word_at(ahead, at)?, word_at(ahead, at + 8)?);
            digits(first, 8)? * TEN_TO[length - 8] + digits(rest, length - 8)?
        }
        // A time after 115 days. Eighteen digits fit into 63 bits; a nineteenth might not.
        17..=18 => {
            let (first, then) = (word_at(ahead, at)?, word_at(ahead, at + 8)?);
            let sixteen = digits(first, 8)? * TEN_TO[8] + digits(then, 8)?;
            sixteen * TEN_TO[length - 16] + digits(word_at(ahead, at + 16)?, length - 16)?
        }
        _ => return None,
    };
    Some(Some(value as i64))
}

#[inline(always)]
fn word_at(ahead: &[u8], at: usize) -> Option<u64> {
    let eight = ahead.get(at..at + 8)?;
    Some(u64::from_le_bytes(eight.try_into().expect("the range is eight bytes long")))
}

/// Returns the number in the first `length` characters (one to eight) of a word, from its lowest byte; nothing if one
/// of them is not a digit.
///
/// # Source
/// D. Lemire, "Quickly parsing eight digits" (2018): neighbours are joined in pairs, fours and eights.
#[inline(always)]
fn digits(word: u64, length: usize) -> Option<u64> {
    // Shifting in zeros from below puts zeros before the number.
    let nibbles = (word ^ (ONES * 0x30)) << (8 * (8 - length as u32));
    // A digit is 0..=9 here and stays below 16 with six added.
    if (nibbles.wrapping_add(ONES * 0x06) | nibbles) & (ONES * 0xf0) != 0 {
        return None;
    }
    let pairs = nibbles.wrapping_mul(10).wrapping_add(nibbles >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
}

/// Bytes whose ends are looked for at once: one bit of a word each.
const BLOCK: usize = 64;
/// One in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;
const TEN_TO: [u64; 9] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_eight_at_a_time_as_one_at_a_time() {
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                let mut bytes = *b"98765432";
                bytes[place] = byte;
                let word = u64::from_le_bytes(bytes);
                for length in 1..=8 {
                    let text = &bytes[..length];
                    let number = text.iter().fold(0, |n, b| n * 10 + u64::from(b & 0x0f));
                    let want = text.iter().all(u8::is_ascii_digit).then_some(number);
                    assert_eq!(digits(word, length), want, "{bytes:?}, {length} of them");
                }
                let marks = (0..8).filter(|&at| bytes[at] == b',').map(|at| 0x80 << (8 * at));
                assert_eq!(equal_bytes(word, b','), marks.sum::<u64>(), "{bytes:?}");
            }
        }
    }
}
