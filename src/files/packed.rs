//! Files that may be compressed with gzip or Zstandard. The first bytes decide, because an extension may be wrong.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::path::Path;

/// Returns a reader of the uncompressed content. A file that ends within its first bytes counts as compressed if these
/// match.
///
/// # Errors
/// When the first bytes cannot be read.
pub(crate) fn unpack(mut input: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut start = Vec::with_capacity(ZSTD_MAGIC.len());
    input.by_ref().take(ZSTD_MAGIC.len() as u64).read_to_end(&mut start)?;
    let is_gzip = start.starts_with(&GZIP_MAGIC);
    let is_zstd = !start.is_empty() && ZSTD_MAGIC.starts_with(&start);
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(input));
    Ok(if is_gzip {
        Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(whole)))
    } else if is_zstd {
        Box::new(BufReader::with_capacity(BUFFER, zstd::Decoder::with_buffer(whole)?))
    } else {
        Box::new(whole)
    })
}

/// A writer that compresses according to the file's name: if it ends in `.gz` or `.zst`.
pub(crate) enum Packer<W: Write> {
    Plain(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Packer<W> {
    /// Begins to compress into `out`.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn named(name: &Path, out: W) -> io::Result<Self> {
        let end = name.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
        Ok(match end.as_deref() {
            Some("gz") => Self::Gzip(flate2::write::GzEncoder::new(out, Default::default())),
            Some("zst") => Self::Zstd(zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?),
            _ => Self::Plain(out),
        })
    }

    /// Writes what is left, and returns the inner writer.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(mut out) => out.flush().map(|()| out),
            Self::Gzip(packer) => packer.finish(),
            Self::Zstd(packer) => packer.finish(),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(packer) => packer.write(bytes),
            Self::Zstd(packer) => packer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(packer) => packer.flush(),
            Self::Zstd(packer) => packer.flush(),
        }
    }
}

/// RFC 1952, section 2.3.1.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// RFC 8878, section 3.1.1.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Chosen: larger reads were not faster.
const BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Returns a byte at a time, as a slow pipe may.
    struct Drops(Cursor<Vec<u8>>);

    impl Read for Drops {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let one = into.len().min(1);
            self.0.read(&mut into[..one])
        }
    }

    #[track_caller]
    fn check(packed: &[u8], want: &[u8]) {
        let mut got = Vec::new();
        let input = Drops(Cursor::new(packed.to_vec()));
        unpack(input).unwrap().read_to_end(&mut got).unwrap();
        assert_eq!(got, want);
    }

    #[test]
    fn plain_and_packed_files_read_the_same() {
        let gzip = |text: &[u8]| {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            writer.write_all(text).unwrap();
            writer.finish().unwrap()
        };
        for text in [&b""[..], b"a", b"abc\n", &[b'x'; 200_000]] {
            check(text, text);
            check(&gzip(text), text);
            check(&zstd::encode_all(text, 1).unwrap(), text);
        }
        // Several compressed parts, as after `cat a.gz b.gz`, are one text.
        check(&[gzip(b"a\n"), gzip(b"b\n")].concat(), b"a\nb\n");
    }

    #[test]
    fn a_file_is_packed_as_its_name_says() {
        for (name, start) in
            [("a.csv", &b"te"[..]), ("a.GZ", &GZIP_MAGIC), ("a.csv.zst", &ZSTD_MAGIC)]
        {
            let mut packer = Packer::named(Path::new(name), Vec::new()).unwrap();
            packer.write_all(b"text").unwrap();
            let packed = packer.finish().unwrap();
            assert!(packed.starts_with(start), "{name}");
            check(&packed, b"text");
        }
    }

    #[test]
    fn what_is_cut_off_is_an_error_and_not_a_short_text() {
        let packed = zstd::encode_all(&b"some text"[..], 1).unwrap();
        for length in 1..packed.len() {
            let input = Cursor::new(packed[..length].to_vec());
            let read = unpack(input).and_then(|mut input| input.read_to_end(&mut Vec::new()));
            let error = read.expect_err("it is cut off");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length} bytes");
        }
    }
}
