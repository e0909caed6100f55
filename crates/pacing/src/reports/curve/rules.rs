//! From stored hours to the points of a curve. Pure.
//!
//! A record says what a minute came to; a minute without one was as the minute before, and every
//! sum begins at 0 at Moscow midnight. The rate is no sum and goes on over midnight; what is due
//! belongs to a day.

use adspend_common::time::Day;
use chrono::{DateTime, TimeDelta, Utc};

use crate::reports::reading::WHOLE_PPM;

/// The bytes of a minute (`pace_hour.minutes`).
const RECORD_BYTES: usize = 44;
/// Minutes of a day.
pub(super) const MINUTES_PER_DAY: u32 = 1_440;

/// One minute's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    charged: i64,
    offered: i64,
    offered_count: i64,
    admitted_count: i64,
    /// -1 without a curve.
    due: i64,
    rate_ppm: i32,
}

impl Point {
    fn midnight(rate_ppm: i32) -> Point {
        Point { charged: 0, offered: 0, offered_count: 0, admitted_count: 0, due: -1, rate_ppm }
    }

    /// `None` for a minute that was not written.
    fn decode(record: &[u8]) -> Option<Point> {
        let mut rest = record;
        let mut long = || {
            let (bytes, after) = rest.split_first_chunk()?;
            rest = after;
            Some(i64::from_be_bytes(*bytes))
        };
        let charged = long()?;
        let (offered, offered_count, admitted_count, due) = (long()?, long()?, long()?, long()?);
        let rate_ppm = i32::from_be_bytes(*rest.first_chunk()?);
        let point = Point { charged, offered, offered_count, admitted_count, due, rate_ppm };
        (charged >= 0).then_some(point)
    }
}

/// The columns of a curve; element n of each is the end of step n.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Charged since midnight, micro-units.
    pub charged: Vec<i64>,
    /// Offered since midnight, micro-units.
    pub offered: Vec<i64>,
    /// Opportunities offered since midnight.
    pub offered_count: Vec<i64>,
    /// Opportunities admitted since midnight.
    pub admitted_count: Vec<i64>,
    /// Due by the day's curve, micro-units; -1 without one.
    pub due: Vec<i64>,
    /// The rate in parts of a million.
    pub rate_ppm: Vec<i32>,
}

impl Columns {
    fn with_capacity(points: usize) -> Columns {
        Columns {
            charged: Vec::with_capacity(points),
            offered: Vec::with_capacity(points),
            offered_count: Vec::with_capacity(points),
            admitted_count: Vec::with_capacity(points),
            due: Vec::with_capacity(points),
            rate_ppm: Vec::with_capacity(points),
        }
    }

    fn push(&mut self, point: &Point) {
        self.charged.push(point.charged);
        self.offered.push(point.offered);
        self.offered_count.push(point.offered_count);
        self.admitted_count.push(point.admitted_count);
        self.due.push(point.due);
        self.rate_ppm.push(point.rate_ppm);
    }
}

/// Which points are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Where the first step begins: a multiple of the step since its Moscow midnight.
    pub start: DateTime<Utc>,
    /// Minutes of a step; divides a day.
    pub step_minutes: u32,
    /// How many.
    pub steps: u32,
}

impl Grid {
    /// The steps that are over by `end`, from the one that holds `start` on.
    pub(super) fn new(start: DateTime<Utc>, end: DateTime<Utc>, step_minutes: u32) -> Grid {
        let day = Day::of(start).start();
        let step = TimeDelta::minutes(i64::from(step_minutes));
        let into = (start - day).num_minutes() / i64::from(step_minutes);
        let start = day + TimeDelta::minutes(into * i64::from(step_minutes));
        let steps = (end - start).num_minutes() / step.num_minutes().max(1);
        Grid { start, step_minutes, steps: u32::try_from(steps.max(0)).unwrap_or(0) }
    }

    /// From where on hours are needed: the midnight before the first step.
    pub(super) fn first_hour(&self) -> DateTime<Utc> {
        Day::of(self.start).start()
    }

    /// Where the last step ends.
    pub(super) fn end(&self) -> DateTime<Utc> {
        self.start + TimeDelta::minutes(i64::from(self.step_minutes) * i64::from(self.steps))
    }
}

/// Lays hours out on a grid. Counts minutes and not moments: there are 80 640 of them.
#[derive(Debug)]
pub(super) struct Layout {
    grid: Grid,
    columns: Columns,
    last: Point,
    /// Minutes that are done since the first hour's midnight.
    done: i64,
    /// Minutes before the first step, and before the end.
    skipped: i64,
    end: i64,
}

impl Layout {
    pub(super) fn new(grid: Grid) -> Layout {
        let minutes = |to: DateTime<Utc>| (to - grid.first_hour()).num_minutes();
        Layout {
            grid,
            columns: Columns::with_capacity(usize::try_from(grid.steps).unwrap_or(0)),
            last: Point::midnight(WHOLE_PPM),
            done: 0,
            skipped: minutes(grid.start),
            end: minutes(grid.end()),
        }
    }

    /// The next hour that is stored; hours come in order.
    pub(super) fn hour(&mut self, hour: DateTime<Utc>, minutes: &[u8]) {
        let before = (hour - self.grid.first_hour()).num_minutes();
        if before < 0 {
            // Before the first day: only the rate goes on.
            let last = minutes.chunks_exact(RECORD_BYTES).rev().find_map(Point::decode);
            self.last = Point::midnight(last.map_or(WHOLE_PPM, |point| point.rate_ppm));
            return;
        }
        self.until(before);
        for record in minutes.chunks_exact(RECORD_BYTES) {
            self.minute(Point::decode(record));
        }
    }

    /// The curve to the end of the grid.
    pub(super) fn finish(mut self) -> Columns {
        self.until(self.end);
        self.columns
    }

    /// Minutes of which nothing is stored.
    fn until(&mut self, minute: i64) {
        while self.done < minute.min(self.end) {
            self.minute(None);
        }
    }

    fn minute(&mut self, point: Option<Point>) {
        if self.done >= self.end {
            return;
        }
        if self.done % i64::from(MINUTES_PER_DAY) == 0 && self.done > 0 {
            self.last = Point::midnight(self.last.rate_ppm);
        }
        if let Some(point) = point {
            self.last = point;
        }
        self.done += 1;
        // A step divides a day, and days begin with the count.
        let ends_a_step = self.done % i64::from(self.grid.step_minutes) == 0;
        if ends_a_step && self.done > self.skipped {
            self.columns.push(&self.last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
    }

    fn hour(written: &[(usize, i64)]) -> Vec<u8> {
        let mut minutes = vec![0xff; 60 * RECORD_BYTES];
        for (minute, charged) in written {
            let record = [*charged, 10 * charged, 3, 2, charged + 1].map(i64::to_be_bytes).concat();
            let record = [record, 250_000i32.to_be_bytes().to_vec()].concat();
            minutes[minute * RECORD_BYTES..(minute + 1) * RECORD_BYTES].copy_from_slice(&record);
        }
        minutes
    }

    fn curve(grid: Grid, hours: &[(&str, Vec<u8>)]) -> Columns {
        let mut layout = Layout::new(grid);
        for (start, minutes) in hours {
            layout.hour(at(start), minutes);
        }
        layout.finish()
    }

    #[test]
    fn a_minute_that_was_not_written_is_as_the_one_before() {
        let grid = Grid::new(at("2025-06-11T10:58:00+03:00"), at("2025-06-11T11:03:30+03:00"), 1);
        let got = curve(grid, &[("2025-06-11T09:00:00+03:00", hour(&[(59, 7)]))]);
        assert_eq!(got.charged, [7; 5], "an hour without a row and half a minute more");
        let rows = [
            ("2025-06-11T10:00:00+03:00", hour(&[(0, 7), (59, 8)])),
            ("2025-06-11T11:00:00+03:00", hour(&[(1, 9)])),
        ];
        let got = curve(grid, &rows);
        assert_eq!(got.charged, [7, 8, 8, 9, 9]);
        assert_eq!(got.due, [8, 9, 9, 10, 10]);
        assert_eq!((got.offered[3], got.offered_count[3], got.admitted_count[3]), (90, 3, 2));
    }

    #[test]
    fn sums_begin_at_midnight_and_the_rate_goes_on() {
        let grid = Grid::new(at("2025-06-11T23:59:00+03:00"), at("2025-06-12T00:02:00+03:00"), 1);
        let rows = [
            ("2025-06-11T22:00:00+03:00", hour(&[(0, 5)])),
            ("2025-06-12T00:00:00+03:00", hour(&[(1, 1)])),
        ];
        let got = curve(grid, &rows);
        assert_eq!(got.charged, [5, 0, 1]);
        assert_eq!(got.due, [6, -1, 2]);
        assert_eq!(got.rate_ppm, [250_000; 3]);
        let never = curve(grid, &[]);
        assert_eq!((never.charged, never.rate_ppm), (vec![0; 3], vec![WHOLE_PPM; 3]));
        let before = curve(grid, &[("2025-06-10T12:00:00+03:00", hour(&[(30, 99)]))]);
        assert_eq!((before.charged, before.rate_ppm), (vec![0; 3], vec![250_000; 3]));
    }

    #[test]
    fn a_coarser_curve_has_the_same_points() {
        let span = (at("2025-06-11T09:00:00+03:00"), at("2025-06-11T12:00:00+03:00"));
        let row: Vec<(usize, i64)> = (0..60).map(|minute| (minute, minute as i64)).collect();
        let rows = [("2025-06-11T10:00:00+03:00", hour(&row))];
        let fine = curve(Grid::new(span.0, span.1, 1), &rows);
        let coarse = curve(Grid::new(span.0, span.1, 15), &rows);
        assert_eq!((fine.charged.len(), coarse.charged.len()), (180, 12));
        let every: Vec<i64> = fine.charged.iter().skip(14).step_by(15).copied().collect();
        assert_eq!(coarse.charged, every);
    }

    #[test]
    fn a_grid_begins_on_a_step_and_ends_with_what_is_over() {
        let grid = Grid::new(at("2025-06-11T10:22:33+03:00"), at("2025-06-11T11:44:59+03:00"), 15);
        assert_eq!(grid.start, at("2025-06-11T10:15:00+03:00"));
        assert_eq!((grid.steps, grid.end()), (5, at("2025-06-11T11:30:00+03:00")));
        assert_eq!(Grid::new(grid.end(), grid.start, 15).steps, 0);
    }
}
