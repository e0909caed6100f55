//! The `adspend-pacing` binary.
fn main() {}
