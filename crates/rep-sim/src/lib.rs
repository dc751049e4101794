//! rep-sim (being written)
