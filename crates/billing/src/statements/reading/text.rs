//! From bytes to UTF-8 with places.
//!
//! The whole file is looked at before it is read: whether it is UTF-8 cannot be told from its beginning, and
//! a file that is not must say what it is. Two passes over a file on disk cost less than a wrong name.

use std::io::{self, BufRead, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, IBM866, UTF_8, WINDOWS_1251};

use super::{Place, Wrong, malformed};

/// Bytes that are read and decoded at a time.
const PIECE: usize = 32 * 1024;
/// The longest line or token; no field of a statement comes near.
const LONGEST: usize = 64 * 1024;
/// How far into a file its encoding is looked for.
const HEAD: usize = 4 * 1024;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    OneC,
    Camt,
}

/// What a file is, and how its text is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) format: Format,
    pub(crate) encoding: &'static Encoding,
}

/// What 1C's files begin with.
pub(super) const MAGIC: &str = "1CClientBankExchange";

/// Tells the format by the first characters and the encoding by all of them.
pub(crate) fn detect(file: &mut impl Read) -> Result<Found, Wrong> {
    let mut look = Look { place: Place::START, ..Look::default() };
    let mut piece = vec![0; PIECE];
    loop {
        let read = match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        look.at(piece.get(..read).unwrap_or_default())?;
    }
    look.end();
    let head = look.head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&look.head);
    let format = match head.iter().position(|byte| !byte.is_ascii_whitespace()) {
        Some(0) if head.starts_with(MAGIC.as_bytes()) => Format::OneC,
        Some(at) if head.get(at) == Some(&b'<') => Format::Camt,
        Some(_) | None => {
            let what = "neither a 1CClientBankExchange file nor an XML document";
            return malformed(Place::START, what);
        }
    };
    let Some(not_utf8) = look.not_utf8 else { return Ok(Found { format, encoding: UTF_8 }) };
    let said = match format {
        Format::OneC => said_by_one_c(head),
        Format::Camt => said_by_xml(head),
    };
    match said {
        Some(encoding) if encoding != UTF_8 => Ok(Found { format, encoding }),
        Some(_) | None => malformed(not_utf8, "not UTF-8, and no other encoding is named"),
    }
}

/// `Кодировка=Windows` or `Кодировка=DOS`, each readable in its own encoding only.
fn said_by_one_c(head: &[u8]) -> Option<&'static Encoding> {
    [(WINDOWS_1251, "Windows"), (IBM866, "DOS")].into_iter().find_map(|(encoding, name)| {
        let (text, _) = encoding.decode_without_bom_handling(head);
        let value = text.lines().find_map(|line| line.trim().strip_prefix("Кодировка="))?;
        (value.trim().eq_ignore_ascii_case(name)).then_some(encoding)
    })
}

/// The encoding of an XML declaration, when it is one of single bytes.
fn said_by_xml(head: &[u8]) -> Option<&'static Encoding> {
    let (text, _) = WINDOWS_1251.decode_without_bom_handling(head);
    let declaration = text.trim_start().strip_prefix("<?xml")?.split("?>").next()?;
    let (_, value) = declaration.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let label = value.split(quote).nth(1)?;
    Encoding::for_label(label.as_bytes()).filter(|encoding| encoding.is_single_byte())
}

/// A look at the whole file: its beginning, and where it stops being UTF-8.
#[derive(Debug, Default)]
struct Look {
    head: Vec<u8>,
    /// The beginning of a character whose rest comes with the next piece.
    rest: Vec<u8>,
    place: Place,
    not_utf8: Option<Place>,
}

impl Default for Place {
    fn default() -> Place {
        Place::START
    }
}

impl Look {
    fn at(&mut self, piece: &[u8]) -> Result<(), Wrong> {
        let room = HEAD.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(piece.get(..room).unwrap_or_default());
        if self.not_utf8.is_some() {
            // Where it stands does not matter any more, but that it is text does.
            return match piece.contains(&0) {
                true => malformed(self.place, "a NUL character further on: not a text"),
                false => Ok(()),
            };
        }
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(piece);
        let (valid, broken) = match std::str::from_utf8(&bytes) {
            Ok(_) => (bytes.len(), false),
            Err(error) => (error.valid_up_to(), error.error_len().is_some()),
        };
        let (valid, rest) = bytes.split_at(valid);
        for byte in valid {
            if *byte == 0 {
                return malformed(self.place, "a NUL character: not a text");
            }
            self.place.pass(*byte);
        }
        if broken {
            self.not_utf8 = Some(self.place);
        } else {
            self.rest = rest.to_vec();
        }
        Ok(())
    }

    fn end(&mut self) {
        if !self.rest.is_empty() {
            self.not_utf8 = Some(self.place);
        }
    }
}

impl Place {
    /// The place after a byte of UTF-8.
    fn pass(&mut self, byte: u8) {
        if byte == b'\n' {
            *self = Place { line: self.line.saturating_add(1), column: 1 };
        } else if byte & 0xc0 != 0x80 {
            self.column = self.column.saturating_add(1);
        }
    }
}

/// A file as UTF-8, with the place of whatever is read next.
pub(super) struct Text<R> {
    bytes: R,
    decoder: Decoder,
    raw: Vec<u8>,
    /// What of `raw` waits to be decoded.
    waiting: std::ops::Range<usize>,
    text: Vec<u8>,
    /// What of `text` waits to be consumed.
    ready: std::ops::Range<usize>,
    ended: bool,
    /// After what is ready comes something that the encoding does not have.
    broken: bool,
    place: Place,
    /// Bytes since [`Text::mark`].
    since_mark: usize,
}

impl<R: Read> Text<R> {
    pub(super) fn new(bytes: R, encoding: &'static Encoding) -> Text<R> {
        Text {
            bytes,
            decoder: encoding.new_decoder_with_bom_removal(),
            raw: vec![0; PIECE],
            waiting: 0..0,
            text: vec![0; PIECE],
            ready: 0..0,
            ended: false,
            broken: false,
            place: Place::START,
            since_mark: 0,
        }
    }

    /// Where the next character stands.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Begins a new token: from here on at most [`LONGEST`] bytes come.
    pub(super) fn mark(&mut self) {
        self.since_mark = 0;
    }

    /// The next line without its end, and where it begins; none at the end of the file.
    pub(super) fn line(&mut self, line: &mut String) -> Result<Option<Place>, Wrong> {
        line.clear();
        let at = self.place;
        self.mark();
        let mut bytes = Vec::new();
        loop {
            let ready = self.fill_buf()?;
            if ready.is_empty() {
                break;
            }
            let (take, done) = match ready.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end.saturating_add(1), true),
                None => (ready.len(), false),
            };
            bytes.extend_from_slice(ready.get(..take).unwrap_or_default());
            self.consume(take);
            if bytes.len() > LONGEST {
                return malformed(at, format!("a line of more than {LONGEST} bytes"));
            }
            if done {
                break;
            }
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let end = bytes.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
        bytes.truncate(end.map_or(0, |end| end.saturating_add(1)));
        match String::from_utf8(bytes) {
            Ok(text) => *line = text,
            Err(_) => return malformed(at, "not a text"),
        }
        Ok(Some(at))
    }

    /// Decodes more, once nothing is ready.
    fn decode(&mut self) -> io::Result<()> {
        while self.ready.is_empty() && !(self.ended && self.waiting.is_empty()) {
            if self.broken {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a text"));
            }
            if self.waiting.is_empty() {
                let read = self.bytes.read(&mut self.raw)?;
                self.waiting = 0..read;
                self.ended = read == 0;
            }
            let raw = self.raw.get(self.waiting.clone()).unwrap_or_default();
            let (result, read, written) =
                self.decoder.decode_to_utf8_without_replacement(raw, &mut self.text, self.ended);
            self.waiting.start = self.waiting.start.saturating_add(read);
            self.ready = 0..written;
            match result {
                DecoderResult::InputEmpty | DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => self.broken = true,
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Text<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), ready.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Text<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.since_mark > LONGEST {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("an element of more than {LONGEST} bytes"),
            ));
        }
        self.decode()?;
        Ok(self.text.get(self.ready.clone()).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        let end = self.ready.start.saturating_add(count).min(self.ready.end);
        for byte in self.text.get(self.ready.start..end).unwrap_or_default() {
            self.place.pass(*byte);
        }
        self.since_mark = self.since_mark.saturating_add(count);
        self.ready.start = end;
    }
}
