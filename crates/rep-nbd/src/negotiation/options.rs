//! What is answered to each option.

use super::{Negotiated, TlsPolicy};
use crate::error::NegotiationError;
use crate::export::{Export, ExportCatalog, ExportId};
use crate::fields::Fields;
use crate::limits::{META_QUERIES_MAX, STRING_LENGTH_MAX};
use crate::protocol::{BASE_ALLOCATION, BASE_ALLOCATION_ID, OPTION_REPLY_MAGIC, info, option, option_reply as reply};

/// How an option leaves the negotiation.
pub(super) enum Ends {
    Goes,
    StartTls,
    Transmission(Negotiated),
    Aborted,
    Failed(NegotiationError),
}

/// Why an option is refused, with words for the client's log.
struct Refused(u32, &'static str);

const MALFORMED: Refused = Refused(reply::ERR_INVALID, "the option is malformed");
const NO_DATA_WANTED: Refused = Refused(reply::ERR_INVALID, "this option takes no data");
const NAME_TOO_LONG: Refused = Refused(reply::ERR_INVALID, "a string is longer than 4096 bytes");
const NOT_STRUCTURED: Refused = Refused(reply::ERR_INVALID, "negotiate structured replies first");
const TOO_MANY_QUERIES: Refused = Refused(reply::ERR_TOO_BIG, "too many queries");
const TOO_LONG: Refused = Refused(reply::ERR_TOO_BIG, "the option is too long");
const UNSUPPORTED: Refused = Refused(reply::ERR_UNSUP, "");
const TLS_REQUIRED: Refused = Refused(reply::ERR_TLS_REQD, "start TLS first");
const TLS_STANDS: Refused = Refused(reply::ERR_INVALID, "TLS is already in use");
const NO_SUCH_EXPORT: Refused = Refused(reply::ERR_UNKNOWN, "no such export");
const NOTHING_EXPORTED: Refused =
    Refused(reply::ERR_UNKNOWN, "nothing is exported here: the resource is not Primary on this node");

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tls {
    Off,
    Required,
    Stands,
}

/// What the client has set so far.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) no_zeroes: bool,
    tls: Tls,
    structured: bool,
    /// The export for which `base:allocation` was selected last.
    allocation_of: Option<ExportId>,
}

impl Settings {
    pub(super) fn new(tls: TlsPolicy) -> Self {
        let tls = match tls {
            TlsPolicy::Off => Tls::Off,
            TlsPolicy::Required => Tls::Required,
        };
        Settings { no_zeroes: false, tls, structured: false, allocation_of: None }
    }

    /// Answers an option.
    pub(super) fn answer(&mut self, option: u32, data: &[u8], catalog: &ExportCatalog, out: &mut Vec<u8>) -> Ends {
        match option {
            option::EXPORT_NAME => return self.export_name(data, catalog, out),
            option::ABORT => {
                put_reply(out, option, reply::ACK, &[]);
                return Ends::Aborted;
            }
            _ => {}
        }
        let result = match option {
            option::STARTTLS => self.start_tls(data, out),
            _ if self.tls == Tls::Required => Err(TLS_REQUIRED),
            option::LIST => list(data, catalog, out),
            option::INFO | option::GO => self.info(option, data, catalog, out),
            option::STRUCTURED_REPLY => self.structured_reply(data, out),
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.meta_context(option, data, catalog, out),
            _ => Err(UNSUPPORTED),
        };
        result.unwrap_or_else(|Refused(kind, message)| {
            put_reply(out, option, kind, message.as_bytes());
            Ends::Goes
        })
    }

    /// Answers an option whose data was skipped. `EXPORT_NAME` can't be answered; `ABORT` may carry anything.
    pub(super) fn answer_too_long(&mut self, option: u32, out: &mut Vec<u8>) -> Option<NegotiationError> {
        if option == option::EXPORT_NAME {
            return Some(NegotiationError::UnknownExport);
        }
        if option == option::SET_META_CONTEXT {
            self.allocation_of = None;
        }
        put_reply(out, option, TOO_LONG.0, TOO_LONG.1.as_bytes());
        None
    }

    fn negotiated(&self, export: &Export) -> Negotiated {
        let block_status = self.structured && self.allocation_of == Some(export.id());
        Negotiated { export: export.id(), structured: self.structured, block_status }
    }

    fn export_name(&self, name: &[u8], catalog: &ExportCatalog, out: &mut Vec<u8>) -> Ends {
        if self.tls == Tls::Required {
            return Ends::Failed(NegotiationError::TlsRequired);
        }
        let Some(export) = catalog.find(name) else {
            return Ends::Failed(NegotiationError::UnknownExport);
        };
        out.extend_from_slice(&export.size_bytes().to_be_bytes());
        out.extend_from_slice(&export.transmission_flags(self.structured).to_be_bytes());
        if !self.no_zeroes {
            out.extend_from_slice(&[0; 124]);
        }
        Ends::Transmission(self.negotiated(export))
    }

    fn start_tls(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<Ends, Refused> {
        match self.tls {
            Tls::Off => Err(UNSUPPORTED),
            Tls::Stands => Err(TLS_STANDS),
            Tls::Required if !data.is_empty() => Err(NO_DATA_WANTED),
            Tls::Required => {
                *self = Settings { no_zeroes: self.no_zeroes, tls: Tls::Stands, ..Settings::new(TlsPolicy::Off) };
                put_reply(out, option::STARTTLS, reply::ACK, &[]);
                Ok(Ends::StartTls)
            }
        }
    }

    fn structured_reply(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<Ends, Refused> {
        if !data.is_empty() {
            return Err(NO_DATA_WANTED);
        }
        self.structured = true;
        put_reply(out, option::STRUCTURED_REPLY, reply::ACK, &[]);
        Ok(Ends::Goes)
    }

    fn info(&self, option: u32, data: &[u8], catalog: &ExportCatalog, out: &mut Vec<u8>) -> Result<Ends, Refused> {
        let mut fields = Fields(data);
        let name = fields.string().ok_or(MALFORMED)?;
        let count = usize::from(fields.u16().ok_or(MALFORMED)?);
        if fields.len() != 2 * count {
            return Err(MALFORMED);
        }
        let export = find(catalog, name)?;
        put_info_export(out, option, export, self.structured);
        put_info_block_size(out, option, export);
        let (mut name_told, mut description_told) = (false, false);
        while let Some(wanted) = fields.u16() {
            if wanted == info::NAME && !std::mem::replace(&mut name_told, true) {
                put_info(out, option, info::NAME, export.name().as_bytes());
            }
            if wanted == info::DESCRIPTION && !std::mem::replace(&mut description_told, true) {
                put_info(out, option, info::DESCRIPTION, export.description().as_bytes());
            }
        }
        put_reply(out, option, reply::ACK, &[]);
        Ok(if option == option::GO { Ends::Transmission(self.negotiated(export)) } else { Ends::Goes })
    }

    fn meta_context(
        &mut self,
        option: u32,
        data: &[u8],
        catalog: &ExportCatalog,
        out: &mut Vec<u8>,
    ) -> Result<Ends, Refused> {
        let setting = option == option::SET_META_CONTEXT;
        if setting {
            self.allocation_of = None;
        }
        if !self.structured {
            return Err(NOT_STRUCTURED);
        }
        let mut fields = Fields(data);
        let name = fields.string().ok_or(MALFORMED)?;
        let asked = asks_for_allocation(&mut fields, setting)?;
        let export = find(catalog, name)?;
        if asked && export.features.block_status {
            let id = if setting { BASE_ALLOCATION_ID } else { 0 };
            put_reply_parts(out, option, reply::META_CONTEXT, &[&id.to_be_bytes(), BASE_ALLOCATION.as_bytes()]);
            if setting {
                self.allocation_of = Some(export.id());
            }
        }
        put_reply(out, option, reply::ACK, &[]);
        Ok(Ends::Goes)
    }
}

/// Whether the queries name `base:allocation`. When listing, no query at all and the bare namespace do too; queries
/// for other contexts and namespaces are passed over.
fn asks_for_allocation(fields: &mut Fields<'_>, setting: bool) -> Result<bool, Refused> {
    let count = fields.u32().ok_or(MALFORMED)?;
    if count > META_QUERIES_MAX {
        return Err(TOO_MANY_QUERIES);
    }
    let mut asked = count == 0 && !setting;
    for _ in 0..count {
        let query = fields.string().ok_or(MALFORMED)?;
        if query.len() > STRING_LENGTH_MAX {
            return Err(NAME_TOO_LONG);
        }
        asked |= query == BASE_ALLOCATION.as_bytes() || (!setting && query == b"base:");
    }
    if fields.is_empty() { Ok(asked) } else { Err(MALFORMED) }
}

fn find<'a>(catalog: &'a ExportCatalog, name: &[u8]) -> Result<&'a Export, Refused> {
    if name.len() > STRING_LENGTH_MAX {
        return Err(NAME_TOO_LONG);
    }
    let nothing = catalog.exports().is_empty();
    catalog.find(name).ok_or(if nothing { NOTHING_EXPORTED } else { NO_SUCH_EXPORT })
}

fn list(data: &[u8], catalog: &ExportCatalog, out: &mut Vec<u8>) -> Result<Ends, Refused> {
    if !data.is_empty() {
        return Err(NO_DATA_WANTED);
    }
    for export in catalog.exports() {
        let length = (export.name().len() as u32).to_be_bytes();
        let parts = [&length, export.name().as_bytes(), export.description().as_bytes()];
        put_reply_parts(out, option::LIST, reply::SERVER, &parts);
    }
    put_reply(out, option::LIST, reply::ACK, &[]);
    Ok(Ends::Goes)
}

fn put_info_export(out: &mut Vec<u8>, option: u32, export: &Export, structured: bool) {
    let mut payload = [0; 10];
    payload[..8].copy_from_slice(&export.size_bytes().to_be_bytes());
    payload[8..].copy_from_slice(&export.transmission_flags(structured).to_be_bytes());
    put_info(out, option, info::EXPORT, &payload);
}

fn put_info_block_size(out: &mut Vec<u8>, option: u32, export: &Export) {
    let [min, preferred, max] = export.block_sizes().map(u32::to_be_bytes);
    let kind = info::BLOCK_SIZE.to_be_bytes();
    put_reply_parts(out, option, reply::INFO, &[&kind, &min, &preferred, &max]);
}

fn put_info(out: &mut Vec<u8>, option: u32, kind: u16, payload: &[u8]) {
    put_reply_parts(out, option, reply::INFO, &[&kind.to_be_bytes(), payload]);
}

fn put_reply(out: &mut Vec<u8>, option: u32, kind: u32, data: &[u8]) {
    put_reply_parts(out, option, kind, &[data]);
}

fn put_reply_parts(out: &mut Vec<u8>, option: u32, kind: u32, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(length as u32).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
