//! repctl (being written)
fn main() {}
