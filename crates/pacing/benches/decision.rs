//! The decision core with 100 000 campaigns: nanoseconds and allocations per decision.
//!
//! ```text
//! cargo bench -p adspend-pacing --bench decision             criterion's report
//! cargo bench -p adspend-pacing --bench decision -- --json   and one line of JSON at the end
//! ```
//!
//! Campaigns are asked in random order, so every decision finds a cold line of the directory, as
//! in service; the questions themselves lie in the order in which they are asked, for a request
//! that was just decoded is warm. A third of the campaigns has a schedule.
//!
//! Criterion takes the samples. The figures of the last line are means over blocks of about a
//! tenth of a millisecond, and of these the median: a machine that does other work as well takes
//! the processor away for whole milliseconds, which is not the decision's time.

use std::hint::black_box;
use std::time::{Duration, Instant};

use adspend_common::id::{AccountId, CampaignId};
use adspend_common::time::Clock;
use adspend_pacing::admission::slice::{MAX_SLICE_MICROS, Terms};
use adspend_pacing::admission::{
    Admission, Asked, Decision, Facts, Moment, Opportunity, Standing, View, Viewer,
};
use adspend_pacing::calendar::schedule::{Interval, Schedule, WeeklyHours};
use criterion::{Bencher, Criterion};
use rand::{Rng, SeedableRng};

const CAMPAIGNS: i64 = 100_000;
const ACCOUNTS: i64 = 1_000;
const NAME: usize = 14;
/// Longer than the caches remember.
const OPPORTUNITIES: usize = 1 << 20;
const COUNTED: usize = 1_000_000;
const BLOCK: u64 = 512;

struct World {
    clock: Clock,
    admission: Admission,
    /// Names of [`NAME`] bytes each, in the order in which they are asked for.
    asked: String,
    opportunities: Vec<String>,
}

fn main() {
    let json = std::env::args().any(|arg| arg == "--json");
    let world = World::new();
    world.check();
    let mut criterion = Criterion::default().sample_size(20);
    if !json {
        criterion = criterion.configure_from_args();
    }
    let mut core = Blocks::default();
    criterion.bench_function("decision core, 100 000 campaigns", |bencher| {
        let view = world.admission.view();
        let moment = Moment::of(&world.clock);
        world.sample(bencher, &mut core, |index| world.admit(&view, &moment, index));
    });
    let mut whole = Blocks::default();
    criterion.bench_function("with its own snapshot and clock reading", |bencher| {
        world.sample(bencher, &mut whole, |index| {
            world.admit(&world.admission.view(), &Moment::of(&world.clock), index)
        });
    });
    let mut denied = Blocks::default();
    criterion.bench_function("denial by schedule", |bencher| {
        let view = world.admission.view();
        let night = Moment::at("2025-04-05T23:30:00Z".parse().expect("a moment"), 0);
        world.sample(bencher, &mut denied, |index| world.admit(&view, &night, index / 3 * 3));
    });
    criterion.final_summary();
    let allocations = world.allocations();
    println!(
        "{{\"decision_ns\":{:.1},\"decision_with_clock_ns\":{:.1},\"denial_ns\":{:.1},\
         \"allocations_per_decision\":{:.6},\"campaigns\":{CAMPAIGNS}}}",
        core.median(),
        whole.median(),
        denied.median(),
        allocations as f64 / COUNTED as f64,
    );
}

/// The times of blocks.
#[derive(Default)]
struct Blocks(Vec<Duration>);

impl Blocks {
    /// Nanoseconds of a decision.
    fn median(&mut self) -> f64 {
        self.0.sort_unstable();
        let median = self.0.get(self.0.len() / 2).copied().unwrap_or_default();
        median.as_nanos() as f64 / BLOCK as f64
    }
}

impl World {
    fn new() -> World {
        let clock = Clock::system();
        let admission = Admission::new(1 << 20, Duration::from_secs(600));
        let campaigns: Vec<_> = (0..CAMPAIGNS).map(|no| format!("campaign-{no:05x}")).collect();
        let facts: Vec<_> = campaigns.iter().zip(0..).map(|(name, no)| facts(name, no)).collect();
        let moment = Moment::of(&clock);
        assert_eq!(admission.apply(&facts, moment.day), 0);
        for no in 0..CAMPAIGNS {
            let entity = admission.entity(no % ACCOUNTS, no).expect("it was just applied");
            entity.replace(&Terms {
                slice_no: no,
                amount_micros: MAX_SLICE_MICROS,
                day_no: moment.day_no,
                expires_at_micros: i64::MAX,
                deadline_monotonic_micros: i64::MAX,
                low_water_micros: 1_000,
                largest_micros: 0,
            });
        }
        let mut random = rand::rngs::StdRng::seed_from_u64(1);
        let asked: String = (0..OPPORTUNITIES)
            .map(|_| campaigns[random.random_range(0..campaigns.len())].as_str())
            .collect();
        assert_eq!(asked.len(), OPPORTUNITIES * NAME);
        let opportunities = (0..4_096).map(|no| format!("0193e9a0-0000-7000-8000-{no:012x}"));
        World { clock, admission, asked, opportunities: opportunities.collect() }
    }

    fn admit(&self, view: &View<'_>, moment: &Moment, index: usize) -> Decision {
        let at = index % OPPORTUNITIES * NAME;
        let opportunity = Opportunity {
            id: &self.opportunities[index % 4_096],
            campaign: &self.asked[at..at + NAME],
            max_price_micros: 1_000,
            chance_ppm: None,
        };
        view.admit(moment, Viewer::All, Asked::First, &opportunity)
    }

    fn sample(
        &self,
        bencher: &mut Bencher<'_>,
        blocks: &mut Blocks,
        decide: impl Fn(usize) -> Decision,
    ) {
        let mut index = 0;
        bencher.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let now = left.min(BLOCK);
                let started = Instant::now();
                for _ in 0..now {
                    index += 1;
                    black_box(decide(index));
                }
                let took = started.elapsed();
                if now == BLOCK {
                    blocks.0.push(took);
                }
                spent += took;
                left -= now;
            }
            spent
        });
    }

    /// A benchmark of denials would be quick and worthless.
    fn check(&self) {
        let (view, moment) = (self.admission.view(), Moment::of(&self.clock));
        let admitted = (0..OPPORTUNITIES)
            .filter(|&index| matches!(self.admit(&view, &moment, index), Decision::Admitted(_)))
            .count();
        assert_eq!(admitted, OPPORTUNITIES, "every opportunity is admitted");
    }

    fn allocations(&self) -> u64 {
        let counted = allocation_counter::measure(|| {
            for index in 0..COUNTED {
                let view = self.admission.view();
                black_box(self.admit(&view, &Moment::of(&self.clock), index));
            }
        });
        counted.count_total
    }
}

fn facts(name: &str, no: i64) -> Facts {
    // Always open, but with a mask to look at.
    let days = (0..7).map(|weekday0| Interval { weekday0, from_minute: 0, to_minute: 1_440 });
    let hours = if no % 3 == 0 { WeeklyHours::new(days) } else { Ok(WeeklyHours::always()) };
    Facts {
        account_no: no % ACCOUNTS,
        campaign_no: no,
        name: CampaignId::parse(name).expect("a campaign id"),
        tenant: AccountId::parse("agency").expect("an account id"),
        standing: Standing::Active,
        pays_per_click: false,
        pays_per_conversion: false,
        schedule: Schedule {
            hours: hours.expect("whole days"),
            zone: chrono_tz::Europe::Moscow,
            start: None,
            end: None,
        },
    }
}
