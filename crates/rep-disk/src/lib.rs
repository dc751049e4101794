//! rep-disk (being written)
