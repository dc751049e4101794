//! What the unit tests share: the bytes a client sends, and taking a server's replies apart.

use crate::export::{Export, ExportCatalog, ExportId};
use crate::fields::Fields;
use crate::fuzz::{NegotiationTrace, catalog, negotiate};
use crate::negotiation::TlsPolicy;
use crate::protocol::{OPTION_MAGIC, OPTION_REPLY_MAGIC, REQUEST_MAGIC};

/// The flags every modern client sends.
pub(crate) const FLAGS: [u8; 4] = [0, 0, 0, 3];

/// An option's bytes.
pub(crate) fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// A string with its length before it.
pub(crate) fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text].concat()
}

/// The data of `INFO` and `GO`.
pub(crate) fn info_data(name: &[u8], wanted: &[u16]) -> Vec<u8> {
    let mut data = string(name);
    data.extend((wanted.len() as u16).to_be_bytes());
    wanted.iter().for_each(|wanted| data.extend(wanted.to_be_bytes()));
    data
}

/// The data of the two metadata context options.
pub(crate) fn context_data(name: &[u8], queries: &[&[u8]]) -> Vec<u8> {
    let mut data = string(name);
    data.extend((queries.len() as u32).to_be_bytes());
    queries.iter().for_each(|query| data.extend(string(query)));
    data
}

/// A server's reply to an option.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OptionReply {
    pub(crate) option: u32,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
}

/// Takes a server's replies apart; panics when they aren't whole.
pub(crate) fn option_replies(sent: &[u8]) -> Vec<OptionReply> {
    let mut fields = Fields(sent);
    let mut replies = Vec::new();
    while !fields.is_empty() {
        assert_eq!(fields.u64(), Some(OPTION_REPLY_MAGIC));
        let (option, kind) = (fields.u32().unwrap(), fields.u32().unwrap());
        replies.push(OptionReply { option, kind, data: fields.string().unwrap().to_vec() });
    }
    replies
}

/// A negotiation with the usual catalog: the flags, then these options.
pub(crate) fn negotiate_options(options: &[Vec<u8>]) -> NegotiationTrace {
    negotiate_with(&catalog(), TlsPolicy::Off, options)
}

/// A negotiation: the flags, then these options.
pub(crate) fn negotiate_with(catalog: &ExportCatalog, tls: TlsPolicy, options: &[Vec<u8>]) -> NegotiationTrace {
    let mut pieces: Vec<&[u8]> = vec![&FLAGS];
    pieces.extend(options.iter().map(Vec::as_slice));
    negotiate(catalog, tls, &pieces)
}

/// An export of the usual catalog.
pub(crate) fn export(id: u32) -> Export {
    catalog().get(ExportId(id)).unwrap().clone()
}

/// A request's bytes, legal or not.
pub(crate) fn raw_request(command: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}
