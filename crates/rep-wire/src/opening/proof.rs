//! The proof that a node knows the shared secret.

use super::hello::Hello;
use super::{OpeningError, OpeningSide};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// What a proof begins with, by the side that gives it; nothing else in the protocol is signed with the secret.
const DIALER_LABEL: &[u8] = b"repd opening v1, proof of the dialer\0";
const LISTENER_LABEL: &[u8] = b"repd opening v1, proof of the listener\0";

/// Why a secret was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SecretError {
    /// It has no bytes.
    #[error("the shared secret is empty")]
    Empty,
}

/// The shared secret. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret of these very bytes (a line feed at the end of a file is the caller's to cut off).
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Secret, SecretError> {
        let bytes = bytes.into();
        if bytes.is_empty() { Err(SecretError::Empty) } else { Ok(Secret(bytes)) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What the proofs of one opening are about.
#[derive(Clone, Debug)]
pub(super) struct Proofs {
    secret: Option<Secret>,
    dialer_hello: Vec<u8>,
    listener_hello: Vec<u8>,
}

impl Proofs {
    pub(super) fn new(secret: Option<Secret>, own_side: OpeningSide, own: &Hello, peer: &Hello) -> Proofs {
        let (dialer, listener) = match own_side {
            OpeningSide::Dialer => (own, peer),
            OpeningSide::Listener => (peer, own),
        };
        Proofs { secret, dialer_hello: dialer.bytes.clone(), listener_hello: listener.bytes.clone() }
    }

    /// The proof that side gives; empty without a secret.
    pub(super) fn make(&self, side: OpeningSide) -> Vec<u8> {
        self.mac(side).map_or_else(Vec::new, |mac| mac.finalize().into_bytes().to_vec())
    }

    /// Checks the proof that side gave, in a time that doesn't depend on where it is wrong.
    pub(super) fn verify(&self, side: OpeningSide, proof: &[u8]) -> Result<(), OpeningError> {
        match self.mac(side) {
            Some(mac) => mac.verify_slice(proof).map_err(|_| OpeningError::WrongSecret),
            None if proof.is_empty() => Ok(()),
            None => Err(OpeningError::Malformed),
        }
    }

    fn mac(&self, side: OpeningSide) -> Option<Hmac<Sha256>> {
        let secret = self.secret.as_ref()?;
        // Not `ok()?`: a missing MAC means that no proof is asked for.
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes a key of any length");
        mac.update(match side {
            OpeningSide::Dialer => DIALER_LABEL,
            OpeningSide::Listener => LISTENER_LABEL,
        });
        for hello in [&self.dialer_hello, &self.listener_hello] {
            mac.update(&(hello.len() as u64).to_le_bytes());
            mac.update(hello);
        }
        Some(mac)
    }
}
