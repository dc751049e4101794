//! An HTTP/1.1 answer: its head, and its body as a reader. Pure: any reader will do.

use super::stream::DeadlineStream;
use std::io::{self, BufRead, BufReader, Read};

/// The longest head, in bytes.
const HEAD_LENGTH_MAX: u64 = 16 << 10;

/// How long the body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Length {
    Bytes(u64),
    Chunked,
    UntilClosed,
}

/// What stands before the body.
#[derive(Debug)]
pub(super) struct Head {
    pub status: u16,
    pub length: Length,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// A line without its end. The end of the stream is an error.
fn read_line(reader: &mut impl BufRead, length_max: u64) -> io::Result<String> {
    let mut line = Vec::new();
    reader.take(length_max).read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n")) {
        Some(text) => String::from_utf8(text.to_vec()).map_err(|_| bad("a header is not text")),
        None if line.len() as u64 == length_max => Err(bad("a header is too long")),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads up to the empty line.
pub(super) fn read_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let mut left = HEAD_LENGTH_MAX;
    let status = status_of(&read_line(reader, left)?)?;
    let mut length = Length::UntilClosed;
    loop {
        let line = read_line(reader, left)?;
        if line.is_empty() {
            return Ok(Head { status, length });
        }
        left = left.checked_sub(line.len() as u64 + 2).ok_or_else(|| bad("the headers are too long"))?;
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header has no colon"))?;
        if name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked") {
            length = Length::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") && length == Length::UntilClosed {
            length = Length::Bytes(value.trim().parse().map_err(|_| bad("a length is no number"))?);
        }
    }
}

fn status_of(line: &str) -> io::Result<u16> {
    let mut words = line.split(' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.parse().ok());
    match status {
        Some(status) if version.starts_with("HTTP/1.") => Ok(status),
        _ => Err(bad("not an HTTP answer")),
    }
}

/// The body. Ends where the head says; a stream that ends earlier is an error.
pub(super) struct Body<R> {
    reader: R,
    length: Length,
    /// Bytes left of the body or of the current chunk.
    left: u64,
    /// Whether a chunk was read before: its closing line break is due.
    in_chunks: bool,
}

impl<R: BufRead> Body<R> {
    pub fn new(reader: R, head: &Head) -> Self {
        let left = if let Length::Bytes(bytes) = head.length { bytes } else { 0 };
        Body { reader, length: head.length, left, in_chunks: false }
    }

    /// Reads the next chunk's head. A chunk of no bytes ends the body.
    fn next_chunk(&mut self) -> io::Result<()> {
        if self.in_chunks && !read_line(&mut self.reader, 2)?.is_empty() {
            return Err(bad("a chunk is too long"));
        }
        self.in_chunks = true;
        let line = read_line(&mut self.reader, 64)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(size, 16).map_err(|_| bad("a chunk has no length"))?;
        if self.left == 0 {
            self.length = Length::Bytes(0);
        }
        Ok(())
    }
}

impl Body<BufReader<DeadlineStream>> {
    pub fn stream(&self) -> &DeadlineStream {
        self.reader.get_ref()
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.length == Length::UntilClosed {
            return self.reader.read(buffer);
        }
        if self.length == Length::Chunked && self.left == 0 {
            self.next_chunk()?;
        }
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let got = self.reader.read(&mut buffer[..wanted])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(answer: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let mut reader = answer;
        let head = read_head(&mut reader)?;
        let mut bytes = Vec::new();
        Body::new(reader, &head).take(1 << 20).read_to_end(&mut bytes)?;
        Ok((head.status, bytes))
    }

    #[test]
    fn bodies_of_each_kind() {
        let sized = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef";
        assert_eq!(read(sized).unwrap(), (200, b"abc".to_vec()));
        let chunked = b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
        assert_eq!(read(chunked).unwrap(), (409, b"abcde".to_vec()));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\nall").unwrap(), (200, b"all".to_vec()));
    }

    #[test]
    fn damaged_answers_are_errors() {
        let damaged: [&[u8]; 7] = [
            b"",
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
        ];
        for answer in damaged {
            assert!(read(answer).is_err(), "{}", String::from_utf8_lossy(answer));
        }
        assert!(read(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(20_000)).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), chunked: bool) {
            let kind = if chunked { "transfer-encoding: chunked" } else { "content-length: 100" };
            let mut answer = format!("HTTP/1.1 200 OK\r\n{kind}\r\n\r\n").into_bytes();
            answer.extend(&bytes);
            let _ = (read(&answer), read(&bytes));
        }
    }
}
