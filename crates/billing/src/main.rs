//! The `adspend-billing` binary.
fn main() {}
