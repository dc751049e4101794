//! The handshake, server side: fixed newstyle, from the greeting to the moment transmission begins.
//!
//! ```text
//!            greeting sent
//!                  |
//!           [ClientFlags] --unknown flags--------------------> Failed
//!                  |
//!   +------> [OptionHeader] --bad magic, budget spent--------> Failed
//!   |              |
//!   |        [OptionData] / [Skipping]  (too long to look at)
//!   |              |
//!   +--Replied-----+--GO, EXPORT_NAME--> Transmission
//!   |              +--ABORT------------> Aborted
//!   +--StartTls----+  (all that was negotiated is forgotten)
//! ```
//!
//! It is not a clock: a client that dawdles is the shell's to cut off (`is_over` tells whether it still negotiates).
//! What it does bound is bytes, options and memory, see [`crate::limits`].
//!
//! Invariants
//! 1. `NeedMore` is only said when all input was taken.
//! 2. Never a byte beyond the option that ends the negotiation is taken.
//! 3. At most [`OPTION_DATA_MAX`] bytes are kept.
//! 4. After `Transmission`, `Aborted` or `Failed` nothing is taken any more.

mod options;

#[cfg(test)]
mod tests;

use crate::error::NegotiationError;
use crate::export::{ExportCatalog, ExportId};
use crate::fields::{Fields, take_up_to};
use crate::limits::{NEGOTIATION_BYTES_MAX, OPTION_DATA_MAX, OPTIONS_MAX};
use crate::protocol::{GREETING_LENGTH, INIT_MAGIC, OPTION_HEADER_LENGTH, OPTION_MAGIC, handshake_flag};
use options::{Ends, Settings};
use std::ops::ControlFlow;

/// What is done about TLS on this connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsPolicy {
    /// There is none: `STARTTLS` is not supported.
    #[default]
    Off,
    /// Nothing but `STARTTLS` and `ABORT` is answered until TLS stands.
    Required,
}

/// What a negotiation came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// The export the client chose.
    pub export: ExportId,
    /// Structured replies.
    pub structured: bool,
    /// The client selected `base:allocation` for this export.
    pub block_status: bool,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NegotiationStep {
    /// All input is taken; receive more.
    NeedMore,
    /// An option was answered: send what is in `out`, then go on with the rest of the input.
    Replied,
    /// Send what is in `out`, then go on in TLS: what is received from here on is decrypted before it comes here.
    StartTls,
    /// Send what is in `out`; the rest of the input belongs to [`crate::Transmission`].
    Transmission(Negotiated),
    /// Send what is in `out` and hang up: the client left.
    Aborted,
    /// Send what is in `out` and hang up.
    Failed(NegotiationError),
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    ClientFlags,
    OptionHeader,
    OptionData { option: u32, length: usize },
    Skipping { option: u32, left: u32 },
    Over,
}

/// A handshake under way.
#[derive(Debug)]
pub struct Negotiation {
    stage: Stage,
    settings: Settings,
    kept: Vec<u8>,
    bytes_left: u32,
    options_left: u32,
}

impl Negotiation {
    /// A handshake; the shell sends [`Negotiation::greeting`] first.
    pub fn new(tls: TlsPolicy) -> Self {
        Negotiation {
            stage: Stage::ClientFlags,
            settings: Settings::new(tls),
            kept: Vec::new(),
            bytes_left: NEGOTIATION_BYTES_MAX,
            options_left: OPTIONS_MAX,
        }
    }

    /// The server's first bytes.
    pub fn greeting() -> [u8; GREETING_LENGTH] {
        let flags = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
        let mut greeting = [0; GREETING_LENGTH];
        greeting[0..8].copy_from_slice(&INIT_MAGIC.to_be_bytes());
        greeting[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
        greeting[16..18].copy_from_slice(&flags.to_be_bytes());
        greeting
    }

    /// Whether it has ended, well or not.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// How many bytes of the client's are kept, at most [`OPTION_DATA_MAX`].
    pub fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    /// Takes bytes off the front of `input` up to the end of one option at most, and appends what is to be sent to
    /// `out`. The catalog may be another at each call: a node may be promoted or demoted meanwhile.
    pub fn receive(&mut self, catalog: &ExportCatalog, input: &mut &[u8], out: &mut Vec<u8>) -> NegotiationStep {
        use NegotiationStep as Step;
        let step = loop {
            if let ControlFlow::Break(step) = self.advance(catalog, input, out) {
                break step;
            }
        };
        if matches!(step, Step::Transmission(_) | Step::Aborted | Step::Failed(_)) {
            self.stage = Stage::Over;
            self.kept = Vec::new();
        }
        step
    }

    fn advance(&mut self, catalog: &ExportCatalog, input: &mut &[u8], out: &mut Vec<u8>) -> Flow {
        match self.stage {
            Stage::ClientFlags => self.client_flags(input),
            Stage::OptionHeader => self.option_header(input),
            Stage::OptionData { option, length } => {
                self.gather(input, length)?;
                self.option(option, catalog, input, out)
            }
            Stage::Skipping { option, left } => self.skip(option, left, input, out),
            Stage::Over => fail(NegotiationError::Ended),
        }
    }

    /// Takes up to `length` bytes, as far as the budget goes.
    fn take<'a>(&mut self, input: &mut &'a [u8], length: usize) -> Result<&'a [u8], NegotiationError> {
        let allowed = length.min(self.bytes_left as usize);
        if allowed == 0 && length > 0 && !input.is_empty() {
            return Err(NegotiationError::TooManyBytes);
        }
        let taken = take_up_to(input, allowed);
        self.bytes_left -= taken.len() as u32;
        Ok(taken)
    }

    /// Goes on once `length` bytes are kept.
    fn gather(&mut self, input: &mut &[u8], length: usize) -> Flow {
        while self.kept.len() < length {
            match self.take(input, length - self.kept.len()) {
                Ok([]) => return ControlFlow::Break(NegotiationStep::NeedMore),
                Ok(bytes) => self.kept.extend_from_slice(bytes),
                Err(error) => return fail(error),
            }
        }
        ControlFlow::Continue(())
    }

    fn client_flags(&mut self, input: &mut &[u8]) -> Flow {
        self.gather(input, 4)?;
        let flags = Fields(&self.kept).u32().unwrap_or_default(); // four bytes are there
        self.kept.clear();
        let known = u32::from(handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
        if flags & !known != 0 {
            return fail(NegotiationError::UnknownFlags(flags));
        }
        self.settings.no_zeroes = flags & u32::from(handshake_flag::NO_ZEROES) != 0;
        self.stage = Stage::OptionHeader;
        ControlFlow::Continue(())
    }

    fn option_header(&mut self, input: &mut &[u8]) -> Flow {
        self.gather(input, OPTION_HEADER_LENGTH)?;
        let mut fields = Fields(&self.kept); // sixteen bytes are there
        let magic = fields.u64().unwrap_or_default();
        let (option, length) = (fields.u32().unwrap_or_default(), fields.u32().unwrap_or_default());
        self.kept.clear();
        if magic != OPTION_MAGIC {
            return fail(NegotiationError::BadMagic(magic));
        }
        if length > self.bytes_left {
            return fail(NegotiationError::TooManyBytes);
        }
        let Some(options_left) = self.options_left.checked_sub(1) else {
            return fail(NegotiationError::TooManyOptions);
        };
        self.options_left = options_left;
        self.stage = match usize::try_from(length) {
            Ok(length) if length <= OPTION_DATA_MAX => Stage::OptionData { option, length },
            _ => Stage::Skipping { option, left: length },
        };
        ControlFlow::Continue(())
    }

    fn option(&mut self, option: u32, catalog: &ExportCatalog, input: &[u8], out: &mut Vec<u8>) -> Flow {
        let ends = self.settings.answer(option, &self.kept, catalog, out);
        self.kept.clear();
        self.stage = Stage::OptionHeader;
        ControlFlow::Break(match ends {
            Ends::Goes => NegotiationStep::Replied,
            Ends::StartTls if !input.is_empty() => NegotiationStep::Failed(NegotiationError::ClearTextAfterStartTls),
            Ends::StartTls => NegotiationStep::StartTls,
            Ends::Transmission(negotiated) => NegotiationStep::Transmission(negotiated),
            Ends::Aborted => NegotiationStep::Aborted,
            Ends::Failed(error) => NegotiationStep::Failed(error),
        })
    }

    fn skip(&mut self, option: u32, left: u32, input: &mut &[u8], out: &mut Vec<u8>) -> Flow {
        let taken = match self.take(input, left as usize) {
            Ok(taken) => taken.len() as u32,
            Err(error) => return fail(error),
        };
        if taken < left {
            self.stage = Stage::Skipping { option, left: left - taken };
            return ControlFlow::Break(NegotiationStep::NeedMore);
        }
        self.stage = Stage::OptionHeader;
        ControlFlow::Break(match self.settings.answer_too_long(option, out) {
            None => NegotiationStep::Replied,
            Some(error) => NegotiationStep::Failed(error),
        })
    }
}

/// `Continue`: the stage changed, go on with it; `Break`: tell the shell.
type Flow = ControlFlow<NegotiationStep>;

fn fail(error: NegotiationError) -> Flow {
    ControlFlow::Break(NegotiationStep::Failed(error))
}
