//! Load on loopback: callers in closed loops for throughput, a schedule for latency.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use super::Outcome;

/// Enough for a batch of a thousand, so that no stream waits for a window of the client's.
const WINDOW: u32 = 4 * 1024 * 1024;
/// The longest latency that is told apart.
const LONGEST: Duration = Duration::from_secs(60);

/// Connections to one server. The same for every server that is measured.
pub(crate) async fn connect(uri: &str, connections: usize) -> Outcome<Vec<Channel>> {
    let mut channels = Vec::with_capacity(connections);
    for _ in 0..connections {
        let endpoint = Endpoint::from_shared(uri.to_owned())?
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        channels.push(endpoint.connect().await?);
    }
    Ok(channels)
}

/// A request in the name of an ad server, which is who asks for admissions and reports charges.
pub(crate) fn as_ad_server<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("adspend-role", MetadataValue::from_static("ad_server"));
    request
}

/// What callers that run side by side got done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) count: u64,
    pub(crate) took: Duration,
}

impl Done {
    pub(crate) fn per_second(self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }
}

/// Runs callers side by side, each until it ends, and sums what they counted.
pub(crate) async fn together<F>(callers: impl IntoIterator<Item = F>) -> Outcome<Done>
where
    F: Future<Output = Outcome<u64>> + Send + 'static,
{
    let began = Instant::now();
    let mut running = JoinSet::new();
    for caller in callers {
        running.spawn(caller);
    }
    let mut count = 0_u64;
    while let Some(ended) = running.join_next().await {
        count = count.saturating_add(ended??);
    }
    Ok(Done { count, took: began.elapsed() })
}

/// Latencies of calls that were begun by a schedule, counted from when each was due: a server that
/// stalls is charged with everything that waited meanwhile.
#[derive(Debug)]
pub(crate) struct Latencies {
    pub(crate) histogram: Histogram<u64>,
    /// Due, but not begun because too many were open.
    pub(crate) unsent: u64,
    pub(crate) failed: u64,
}

impl Latencies {
    pub(crate) fn micros_at(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// Begins `rate` calls a second for `during`, whatever becomes of those before, with at most
/// `most_open` in progress. The schedule is kept by a thread of its own: the runtime's timer is not
/// fine enough.
pub(crate) async fn open_loop<F>(
    rate: u32,
    during: Duration,
    most_open: usize,
    call: impl Fn(u64) -> F + Send + 'static,
) -> Outcome<Latencies>
where
    F: Future<Output = bool> + Send + 'static,
{
    let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
    let histogram = Arc::new(Mutex::new(Histogram::new_with_bounds(1_000, longest, 3)?));
    let open = Arc::new(AtomicUsize::new(0));
    let failed = Arc::new(AtomicU64::new(0));
    let unsent = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Handle::current();
    let schedule = {
        let (histogram, open) = (Arc::clone(&histogram), Arc::clone(&open));
        let (failed, unsent) = (Arc::clone(&failed), Arc::clone(&unsent));
        move || {
            let began = Instant::now();
            let gap = Duration::from_secs(1) / rate.max(1);
            let mut due = began;
            let mut number = 0_u64;
            while due.duration_since(began) < during {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if open.fetch_add(1, Ordering::Relaxed) >= most_open {
                    open.fetch_sub(1, Ordering::Relaxed);
                    unsent.fetch_add(1, Ordering::Relaxed);
                } else {
                    let answer = call(number);
                    let (histogram, open) = (Arc::clone(&histogram), Arc::clone(&open));
                    let failed = Arc::clone(&failed);
                    runtime.spawn(async move {
                        if answer.await {
                            let took = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
                            let mut histogram =
                                histogram.lock().unwrap_or_else(PoisonError::into_inner);
                            histogram.saturating_record(took);
                        } else {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                        open.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                number = number.saturating_add(1);
                due += gap;
            }
        }
    };
    tokio::task::spawn_blocking(schedule).await?;
    let deadline = Instant::now() + LONGEST;
    while open.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Latencies {
        histogram,
        unsent: unsent.load(Ordering::Relaxed),
        failed: failed.load(Ordering::Relaxed),
    })
}

/// A cheap source of numbers for workloads: xorshift64*.
#[derive(Debug, Clone)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        let mut draw = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        draw.next();
        draw
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let wide = u128::from(self.next()) * end as u128;
        usize::try_from(wide >> 64).unwrap_or_default()
    }
}

/// Zipf's law over `0..n`: the first is drawn most.
#[derive(Debug, Clone)]
pub(crate) struct Zipf(Arc<[f64]>);

impl Zipf {
    pub(crate) fn new(n: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=n).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Self(sums.collect())
    }

    pub(crate) fn draw(&self, draw: &mut Draw) -> usize {
        let all = self.0.last().copied().unwrap_or_default();
        let at = draw.next() as f64 / u64::MAX as f64 * all;
        self.0.partition_point(|sum| *sum < at).min(self.0.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_of_two_gives_the_first_six_tenths() {
        let zipf = Zipf::new(1_000, 2.0);
        let mut draw = Draw::new(7);
        let first = (0..100_000).filter(|_| zipf.draw(&mut draw) == 0).count();
        assert!((59_000..63_000).contains(&first), "{first}");
    }

    #[tokio::test]
    async fn what_is_due_while_too_much_is_open_counts_as_unsent() {
        // Longer than any machine stands still while the schedule of 50 ms runs.
        let slow = |_| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            true
        };
        let latencies = open_loop(1_000, Duration::from_millis(50), 10, slow).await.unwrap();
        assert_eq!((latencies.histogram.len(), latencies.unsent), (10, 40));
        assert!(latencies.micros_at(0.5) >= 1_999_000.0, "counted from when it was due");
    }
}
