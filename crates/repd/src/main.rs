//! repd (being written)
fn main() {}
