//! rep-ring (being written)
