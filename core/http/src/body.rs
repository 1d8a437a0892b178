//! The content of messages, and its chunks, however they are cut.

use semfio_machine::Input;

use crate::error::{Broken, Rule};
use crate::field::Fields;
use crate::framing::Known;
use crate::limits::{Leniency, Limits};
use crate::lines::{Bounds, Found, Line, Lines};
use crate::message::BodyLength;
use crate::scan::{is_tchar, is_text};

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// More digits cannot be a size that fits in 64 bits, but for leading zeros; nobody writes these.
const SIZE_DIGITS: u32 = 16;

/// Reads the content of one message. What frames chunks is taken as it comes and dropped, extensions
/// too; a trailer section waits untaken until it is whole.
#[derive(Clone, Debug)]
pub struct BodyReader {
    stage: Stage,
    /// Octets of the body, or of the chunk, that have not come; while a size is read, the size.
    left: u64,
    /// Digits of the size.
    digits: u32,
    /// Octets of extensions so far, of all chunks.
    extensions: usize,
    lines: Lines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Known,
    UntilClose,
    Size,
    /// A blank behind the size, where that is forgiven.
    SizeBlank,
    Extension(Extension),
    /// The LF of a line with a size.
    SizeFeed,
    Data,
    DataReturn,
    DataFeed,
    Trailers,
    /// The end was told.
    Done,
}

/// `chunk-ext = *( ";" chunk-ext-name [ "=" ( token / quoted-string ) ] )`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// A name has to begin.
    Begin,
    Name,
    /// A value has to begin.
    Equals,
    Token,
    Quoted,
    Escaped,
    /// Behind a quoted value.
    Closed,
}

/// What was made of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStep<'i> {
    /// A piece of the content, not empty.
    Data(&'i [u8]),
    /// At least so many more octets, or the end of input, are needed.
    NeedInput(usize),
    /// All of it has come. The trailer section, empty unless there were chunks.
    End(Fields<'i>),
}

impl BodyReader {
    /// Content of that length.
    pub fn new(length: BodyLength) -> Self {
        let (stage, left) = match length {
            BodyLength::None => (Stage::Known, 0),
            BodyLength::Known(left) => (Stage::Known, left),
            BodyLength::Chunked => (Stage::Size, 0),
            BodyLength::UntilClose => (Stage::UntilClose, 0),
        };
        Self { stage, left, digits: 0, extensions: 0, lines: Lines::default() }
    }

    /// Takes the next piece. Content that ends with the input before it is whole is an error
    /// ([`Rule::ContentShort`]), never an end.
    ///
    /// Blanks around `;` and `=` of an extension are grammar (RFC 9112, 7.1.1: to be read, never to
    /// be written) and refused nevertheless, as is one behind a size: where readers disagree on what
    /// a size is, they disagree on where the next request begins.
    pub fn step<'i>(
        &mut self,
        limits: &Limits,
        leniency: &Leniency,
        input: &mut Input<'i>,
    ) -> Result<BodyStep<'i>, Broken> {
        loop {
            match self.stage {
                Stage::Known if self.left == 0 => return Ok(self.end()),
                Stage::UntilClose if input.is_empty() && input.at_eof() => return Ok(self.end()),
                Stage::Done => return Ok(self.end()),
                Stage::Trailers => return self.trailers(limits, leniency, input),
                _ => {}
            }
            if input.is_empty() {
                return match input.at_eof() {
                    true => Err(Rule::ContentShort.broken(0)),
                    false => Ok(BodyStep::NeedInput(1)),
                };
            }
            match self.stage {
                Stage::UntilClose => return Ok(BodyStep::Data(input.take(input.len()))),
                Stage::Known | Stage::Data => {
                    let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
                    self.left = self.left.saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
                    if self.left == 0 && self.stage == Stage::Data {
                        self.stage = Stage::DataReturn;
                    }
                    return Ok(BodyStep::Data(input.take(n)));
                }
                _ => {
                    let shown = input.peek();
                    let mut at = 0;
                    while let Some(octet) = shown.get(at) {
                        if matches!(self.stage, Stage::Data | Stage::Trailers) {
                            break;
                        }
                        self.handle_octet(*octet, limits, leniency)
                            .map_err(|rule| rule.broken(at))?;
                        at = at.saturating_add(1);
                    }
                    input.take(at);
                }
            }
        }
    }

    fn end<'i>(&mut self) -> BodyStep<'i> {
        self.stage = Stage::Done;
        BodyStep::End(Fields::default())
    }

    /// An octet that frames a chunk.
    fn handle_octet(
        &mut self,
        octet: u8,
        limits: &Limits,
        leniency: &Leniency,
    ) -> Result<(), Rule> {
        if let Stage::Extension(stage) = self.stage {
            return self.handle_extension(stage, octet, limits);
        }
        self.stage = match (self.stage, octet) {
            (Stage::Size, CR) if self.digits > 0 => Stage::SizeFeed,
            (Stage::Size, b';') if self.digits > 0 => return self.begin_extension(limits),
            (Stage::Size, LF) if self.digits > 0 => return Err(Rule::ChunkEnd),
            (Stage::Size, b' ' | b'\t') if leniency.blank_after_chunk_size && self.digits > 0 => {
                self.count_extension(limits)?;
                Stage::SizeBlank
            }
            (Stage::Size, _) => {
                let digit = char::from(octet).to_digit(16).ok_or(Rule::ChunkSize)?;
                self.digits = self.digits.saturating_add(1);
                if self.digits > SIZE_DIGITS {
                    return Err(Rule::ChunkSize);
                }
                // Sixteen digits of four bits each fit.
                self.left = self.left.wrapping_shl(4) | u64::from(digit);
                Stage::Size
            }
            (Stage::SizeBlank, b' ' | b'\t') => {
                self.count_extension(limits)?;
                Stage::SizeBlank
            }
            (Stage::SizeBlank, CR) => Stage::SizeFeed,
            (Stage::SizeBlank, b';') => return self.begin_extension(limits),
            (Stage::SizeBlank, _) => return Err(Rule::ChunkSize),
            (Stage::SizeFeed, LF) => {
                self.digits = 0;
                if self.left == 0 { Stage::Trailers } else { Stage::Data }
            }
            (Stage::DataReturn, CR) => Stage::DataFeed,
            (Stage::DataFeed, LF) => Stage::Size,
            (_, _) => return Err(Rule::ChunkEnd),
        };
        Ok(())
    }

    fn handle_extension(
        &mut self,
        stage: Extension,
        octet: u8,
        limits: &Limits,
    ) -> Result<(), Rule> {
        use Extension::{Begin, Closed, Equals, Escaped, Name, Quoted, Token};
        let next = match (stage, octet) {
            (Name | Token | Closed, CR) => {
                self.stage = Stage::SizeFeed;
                return Ok(());
            }
            (Name | Token | Closed, b';') => return self.begin_extension(limits),
            (Begin | Name, _) if is_tchar(octet) => Ok(Name),
            (Name, b'=') => Ok(Equals),
            (Equals | Token, _) if is_tchar(octet) => Ok(Token),
            (Equals, b'"') => Ok(Quoted),
            (Quoted, b'"') => Ok(Closed),
            (Quoted, b'\\') => Ok(Escaped),
            (Quoted | Escaped, _) if is_text(octet) => Ok(Quoted),
            (_, CR | LF) => Err(Rule::ChunkEnd),
            _ => Err(Rule::ChunkExtension),
        };
        self.count_extension(limits)?;
        self.stage = Stage::Extension(next?);
        Ok(())
    }

    fn begin_extension(&mut self, limits: &Limits) -> Result<(), Rule> {
        self.count_extension(limits)?;
        self.stage = Stage::Extension(Extension::Begin);
        Ok(())
    }

    /// An octet more of what is dropped.
    fn count_extension(&mut self, limits: &Limits) -> Result<(), Rule> {
        if self.extensions >= limits.extensions {
            return Err(Rule::ExtensionsTooLong);
        }
        self.extensions = self.extensions.saturating_add(1);
        Ok(())
    }

    fn trailers<'i>(
        &mut self,
        limits: &Limits,
        leniency: &Leniency,
        input: &mut Input<'i>,
    ) -> Result<BodyStep<'i>, Broken> {
        let shown = input.peek();
        let view = shown.get(..limits.trailers).unwrap_or(shown);
        let bounds = Bounds::new(limits, leniency, false);
        let tell = |line: Line| match Known::new(line.name(view)) {
            Some(_) => Err(Rule::TrailerField.broken(line.start)),
            None => Ok(()),
        };
        let Found::End { lines, end } = self.lines.read(view, &bounds, tell)? else {
            return match input.at_eof() {
                _ if shown.len() > limits.trailers => {
                    Err(Rule::TrailersTooLong.broken(limits.trailers))
                }
                true => Err(Rule::ContentShort.broken(shown.len())),
                false => Ok(BodyStep::NeedInput(1)),
            };
        };
        self.stage = Stage::Done;
        let section: &'i [u8] = input.take(end);
        Ok(BodyStep::End(Fields::judged(section.get(..lines).unwrap_or_default())))
    }
}
