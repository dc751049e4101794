//! rep-peer (being written)
