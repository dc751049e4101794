//! rep-control (being written)
