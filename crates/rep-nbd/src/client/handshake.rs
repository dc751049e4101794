//! From the greeting into transmission: structured replies and the metadata context if wanted, then `GO`.

use super::{ClientOptions, HandshakeError, ProtocolError, Welcome};
use crate::fields::{Fields, take_up_to};
use crate::limits::STRING_LENGTH_MAX;
use crate::protocol::{
    BASE_ALLOCATION, GREETING_LENGTH, INIT_MAGIC, OPTION_MAGIC, OPTION_REPLY_HEADER_LENGTH, OPTION_REPLY_MAGIC,
    handshake_flag, info, option, option_reply as reply,
};

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HandshakeStep {
    /// Send what is in `out`, then receive more.
    NeedMore,
    /// Transmission begins.
    Done(Welcome),
    /// It failed; hang up.
    Failed(HandshakeError),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Greeting,
    Structured,
    Context,
    Go,
    Over,
}

/// A handshake under way.
#[derive(Debug)]
pub struct ClientHandshake {
    options: ClientOptions,
    asked: Asked,
    kept: Vec<u8>,
    structured: bool,
    allocation_context: Option<u32>,
    size_and_flags: Option<(u64, u16)>,
    block_sizes: [u32; 3],
}

impl ClientHandshake {
    /// The longest option reply taken, in bytes of data.
    const REPLY_LENGTH_MAX: u32 = 2 * STRING_LENGTH_MAX as u32 + 8;

    /// A handshake; the server speaks first.
    pub fn new(options: ClientOptions) -> Self {
        ClientHandshake {
            options,
            asked: Asked::Greeting,
            kept: Vec::new(),
            structured: false,
            allocation_context: None,
            size_and_flags: None,
            block_sizes: [512, 4096, 32 << 20],
        }
    }

    /// Takes what the server sent and appends what is to be sent. What is left in `input` after `Done` belongs to the
    /// session.
    pub fn receive(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> HandshakeStep {
        loop {
            match self.advance(input, out) {
                Ok(None) => {}
                Ok(Some(step)) => return step,
                Err(error) => {
                    self.asked = Asked::Over;
                    return HandshakeStep::Failed(error);
                }
            }
        }
    }

    fn gather(&mut self, input: &mut &[u8], length: usize) -> bool {
        let missing = length.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(take_up_to(input, missing));
        self.kept.len() >= length
    }

    fn advance(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Option<HandshakeStep>, HandshakeError> {
        match self.asked {
            Asked::Over => return Err(ProtocolError::Malformed.into()),
            Asked::Greeting => {
                if !self.gather(input, GREETING_LENGTH) {
                    return Ok(Some(HandshakeStep::NeedMore));
                }
                self.greeting(out)?;
                return Ok(None);
            }
            Asked::Structured | Asked::Context | Asked::Go => {}
        }
        if !self.gather(input, OPTION_REPLY_HEADER_LENGTH) {
            return Ok(Some(HandshakeStep::NeedMore));
        }
        let (kind, length) = self.reply_header()?;
        if !self.gather(input, OPTION_REPLY_HEADER_LENGTH + length) {
            return Ok(Some(HandshakeStep::NeedMore));
        }
        let kept = std::mem::take(&mut self.kept);
        self.reply(kind, &kept[OPTION_REPLY_HEADER_LENGTH..], out)
    }

    fn greeting(&mut self, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let kept = std::mem::take(&mut self.kept);
        let mut fields = Fields(&kept);
        let magic = (fields.u64(), fields.u64());
        let flags = fields.u16().unwrap_or_default();
        if magic != (Some(INIT_MAGIC), Some(OPTION_MAGIC)) || flags & handshake_flag::FIXED_NEWSTYLE == 0 {
            return Err(ProtocolError::BadGreeting);
        }
        let mine = flags & (handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
        out.extend_from_slice(&u32::from(mine).to_be_bytes());
        self.ask(if self.options.structured { Asked::Structured } else { Asked::Go }, out);
        Ok(())
    }

    fn ask(&mut self, what: Asked, out: &mut Vec<u8>) {
        self.asked = what;
        let name = self.options.export.as_bytes();
        let name_length = (name.len() as u32).to_be_bytes();
        match what {
            Asked::Structured => put_option(out, option::STRUCTURED_REPLY, &[]),
            Asked::Context => {
                let (one, query) = (1u32.to_be_bytes(), BASE_ALLOCATION.as_bytes());
                let query_length = (query.len() as u32).to_be_bytes();
                put_option(out, option::SET_META_CONTEXT, &[&name_length, name, &one, &query_length, query]);
            }
            Asked::Go => {
                let (one, wanted) = (1u16.to_be_bytes(), info::BLOCK_SIZE.to_be_bytes());
                put_option(out, option::GO, &[&name_length, name, &one, &wanted]);
            }
            Asked::Greeting | Asked::Over => {}
        }
    }

    fn asked_option(&self) -> u32 {
        match self.asked {
            Asked::Structured => option::STRUCTURED_REPLY,
            Asked::Context => option::SET_META_CONTEXT,
            Asked::Go | Asked::Greeting | Asked::Over => option::GO,
        }
    }

    fn reply_header(&self) -> Result<(u32, usize), ProtocolError> {
        let mut fields = Fields(&self.kept);
        let magic = fields.u64().unwrap_or_default();
        let option = fields.u32().unwrap_or_default();
        let (kind, length) = (fields.u32().unwrap_or_default(), fields.u32().unwrap_or_default());
        if magic != OPTION_REPLY_MAGIC {
            return Err(ProtocolError::BadMagic(magic));
        }
        if option != self.asked_option() {
            return Err(ProtocolError::UnexpectedOptionReply(option));
        }
        if length > Self::REPLY_LENGTH_MAX {
            return Err(ProtocolError::TooLong(length));
        }
        Ok((kind, length as usize))
    }

    fn reply(&mut self, kind: u32, data: &[u8], out: &mut Vec<u8>) -> Result<Option<HandshakeStep>, HandshakeError> {
        let failed = kind & reply::ERROR_BIT != 0;
        match (self.asked, kind) {
            (Asked::Structured, reply::ACK) => {
                self.structured = true;
                self.ask(if self.options.block_status { Asked::Context } else { Asked::Go }, out);
            }
            (Asked::Structured, _) if failed => self.ask(Asked::Go, out),
            (Asked::Context, reply::META_CONTEXT) => self.context(data)?,
            (Asked::Context, reply::ACK) => self.ask(Asked::Go, out),
            (Asked::Context, _) if failed => {
                self.allocation_context = None;
                self.ask(Asked::Go, out);
            }
            (Asked::Go, reply::INFO) => self.info(data)?,
            (Asked::Go, reply::ACK) => {
                self.asked = Asked::Over;
                return Ok(Some(HandshakeStep::Done(self.welcome()?)));
            }
            (Asked::Go, _) if failed => {
                let message = String::from_utf8_lossy(data).into_owned();
                return Err(HandshakeError::Refused { reply: kind, message });
            }
            _ => return Err(ProtocolError::Malformed.into()),
        }
        Ok(None)
    }

    fn context(&mut self, data: &[u8]) -> Result<(), ProtocolError> {
        let mut fields = Fields(data);
        let id = fields.u32().ok_or(ProtocolError::Malformed)?;
        if fields.0 == BASE_ALLOCATION.as_bytes() {
            self.allocation_context = Some(id);
        }
        Ok(())
    }

    fn info(&mut self, data: &[u8]) -> Result<(), ProtocolError> {
        let mut fields = Fields(data);
        match (fields.u16().ok_or(ProtocolError::Malformed)?, data.len()) {
            (info::EXPORT, 12) => self.size_and_flags = fields.u64().zip(fields.u16()),
            (info::BLOCK_SIZE, 14) => {
                for size in &mut self.block_sizes {
                    *size = fields.u32().unwrap_or_default();
                }
                let [min, _, max] = self.block_sizes;
                if min == 0 || !min.is_power_of_two() || max < min {
                    return Err(ProtocolError::Malformed);
                }
            }
            (info::EXPORT | info::BLOCK_SIZE, _) => return Err(ProtocolError::Malformed),
            _ => {}
        }
        Ok(())
    }

    fn welcome(&self) -> Result<Welcome, ProtocolError> {
        let (size_bytes, flags) = self.size_and_flags.ok_or(ProtocolError::Malformed)?;
        Ok(Welcome {
            size_bytes,
            flags,
            block_sizes: self.block_sizes,
            structured: self.structured,
            allocation_context: self.allocation_context,
        })
    }
}

fn put_option(out: &mut Vec<u8>, option: u32, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&(length as u32).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
