//! rep-nbd (being written)
