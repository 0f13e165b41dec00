//! Text in UTF-16, as Windows PowerShell redirects it (`nvidia-smi .. > log.csv`), read as UTF-8.

use std::io::{self, Read};

use encoding_rs::{Decoder, UTF_16BE, UTF_16LE};

/// A reader of the same text in UTF-8: as it is, unless a byte order mark says that it is UTF-16. What is not valid there
/// becomes a replacement character.
pub(super) struct Utf8<R> {
    input: R,
    /// `None` before the first bytes are known.
    encoding: Option<Encoding>,
}

enum Encoding {
    Plain,
    Utf16(Box<Decoding>),
}

/// A text that is decoded piece by piece.
struct Decoding {
    decoder: Decoder,
    /// What was read and is still to be decoded.
    piece: Vec<u8>,
    /// What was decoded last, and how much of it was taken.
    ready: String,
    taken: usize,
    ended: bool,
}

impl<R: Read> Utf8<R> {
    pub(super) fn of(input: R) -> Self {
        Self { input, encoding: None }
    }

    /// Reads the first bytes, and returns those that are text as it is.
    fn begin(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut count = self.input.read(into)?;
        // One byte is half of a mark.
        while count == 1 && into.len() > 1 && matches!(into[0], 0xff | 0xfe) {
            match self.input.read(&mut into[1..])? {
                0 => break,
                more => count += more,
            }
        }
        let encoding = match into[..count] {
            [0xff, 0xfe, ..] => UTF_16LE,
            [0xfe, 0xff, ..] => UTF_16BE,
            _ => {
                self.encoding = Some(Encoding::Plain);
                return Ok(count);
            }
        };
        self.encoding = Some(Encoding::Utf16(Box::new(Decoding {
            decoder: encoding.new_decoder_with_bom_removal(),
            piece: into[..count].to_vec(),
            ready: String::new(),
            taken: 0,
            ended: false,
        })));
        self.read(into)
    }
}

impl<R: Read> Read for Utf8<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.encoding {
            None => self.begin(into),
            Some(Encoding::Plain) => self.input.read(into),
            Some(Encoding::Utf16(decoding)) => decoding.read(&mut self.input, into),
        }
    }
}

impl Decoding {
    fn read(&mut self, input: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.ready.len() && !self.ended {
            if self.piece.is_empty() {
                self.piece.resize(PIECE, 0);
                let read = input.read(&mut self.piece);
                self.piece.truncate(*read.as_ref().unwrap_or(&0));
                self.ended = read? == 0;
            }
            (self.taken, self.ready) = (0, String::new());
            let length = self.decoder.max_utf8_buffer_length(self.piece.len());
            self.ready.reserve(length.unwrap_or(self.piece.len() * 4));
            let (_, read, _) =
                self.decoder.decode_to_string(&self.piece, &mut self.ready, self.ended);
            self.piece.drain(..read);
        }
        let left = &self.ready.as_bytes()[self.taken..];
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        self.taken += count;
        Ok(count)
    }
}

/// The size of one read. Chosen: as that of other readers.
const PIECE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives three bytes at a time, which are not whole letters.
    struct Slowly(Vec<u8>);

    impl Read for Slowly {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(into.len()).min(3);
            into[..count].copy_from_slice(&self.0.drain(..count).collect::<Vec<_>>());
            Ok(count)
        }
    }

    #[track_caller]
    fn check(bytes: Vec<u8>, want: &str) {
        let mut text = String::new();
        Utf8::of(Slowly(bytes)).read_to_string(&mut text).unwrap();
        assert_eq!(text, want);
    }

    #[test]
    fn text_in_utf_16_is_read_in_either_order_of_bytes() {
        let text = "time, °C\r\n1, 𝟚\r\n";
        let units = || std::iter::once(0xfeff).chain(text.encode_utf16());
        check(units().flat_map(u16::to_le_bytes).collect(), text);
        check(units().flat_map(u16::to_be_bytes).collect(), text);
        check(text.as_bytes().to_vec(), text);
        // The last letter is cut off.
        check(vec![0xff, 0xfe, b'1', 0, b'2'], "1\u{fffd}");
        check(Vec::new(), "");
    }
}
