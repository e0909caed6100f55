//! wip
fn main() {
    let mut a = std::env::args().skip(1);
    let seeds = a.next().and_then(|s| s.parse().ok()).unwrap_or(1);
    let weeks = a.next().and_then(|s| s.parse().ok()).unwrap_or(1);
    e2e::eval::run(seeds, weeks).unwrap();
}
