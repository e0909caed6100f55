//! Recorded traffic as days of minutes.
//!
//! An hourly record becomes a line through the middles of its hours, so that traffic has no steps at
//! full hours that nobody recorded. Departures and impressions keep their minutes. A day that the
//! record leaves out, or of which it lacks an hour, stays in the list and is marked: it must teach
//! nothing. Clocks are those of the record; here they stand for Moscow's.

use std::{collections::BTreeMap, fs, path::Path};

use chrono::{Datelike as _, NaiveDate, NaiveDateTime, Timelike as _};

use super::Outcome;

/// Minutes in a day.
pub(crate) const MINUTES: usize = 1_440;

/// One day of a record.
#[derive(Debug, Clone)]
pub(crate) struct Day {
    /// Traffic per minute, in the record's own unit.
    pub(crate) minutes: Vec<f64>,
    /// False: the record lacks this day or a part of it.
    pub(crate) whole: bool,
}

impl Day {
    pub(crate) fn total(&self) -> f64 {
        self.minutes.iter().sum()
    }
}

/// A record: whole weeks, Monday first; of Open Bandit, which is one week, the days as they come.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) days: Vec<Day>,
    /// The only past that this record has is its first day.
    pub(crate) is_short: bool,
}

impl Series {
    /// First days of spans of a week that can be tried: the week itself is whole, and four weeks lie
    /// before it, each at least half there.
    pub(crate) fn weeks(&self) -> Vec<usize> {
        if self.is_short {
            return vec![1];
        }
        let whole = |from: usize| {
            (from..from.saturating_add(7))
                .filter(|day| self.days.get(*day).is_some_and(|day| day.whole))
                .count()
        };
        let weeks = self.days.len() / 7;
        (4..weeks)
            .map(|week| week * 7)
            .filter(|first| whole(*first) == 7)
            .filter(|first| (1..=4).all(|back| whole(first - back * 7) >= 4))
            .collect()
    }

    /// At most `count` of the weeks, evenly spread over the record.
    pub(crate) fn some_weeks(&self, count: usize) -> Vec<usize> {
        let weeks = self.weeks();
        if weeks.len() <= count {
            return weeks;
        }
        (0..count)
            .filter_map(|index| weeks.get((2 * index + 1) * weeks.len() / (2 * count)))
            .copied()
            .collect()
    }

    /// Days of a trial that begins with `first`.
    pub(crate) fn span(&self, first: usize, days: usize) -> &[Day] {
        self.days.get(first..(first + days).min(self.days.len())).unwrap_or_default()
    }

    /// The four weeks before `first`, oldest first; of a short record its one past day, as if every
    /// day of them had been like it.
    pub(crate) fn past(&self, first: usize) -> Vec<Day> {
        match self.days.first() {
            Some(day) if self.is_short => vec![day.clone(); 28],
            _ => self.days.get(first.saturating_sub(28)..first).unwrap_or_default().to_vec(),
        }
    }
}

/// What `fetch.py` puts into the folder, in the order of the report.
const FETCHED: [(&str, &str); 5] = [
    ("bike sharing", "hourly_bikesharing.csv"),
    ("car parks", "hourly_parking.csv"),
    ("I-94 road traffic", "hourly_traffic_volume.csv"),
    ("SF road traffic", "hourly_sf_traffic.csv"),
    ("flight departures", "flights.csv"),
];

/// Reads what is there. Also names what is not; Open Bandit, which the repository keeps, must be.
pub(crate) fn read(data: &Path, open_bandit: &Path) -> Outcome<(Vec<Series>, Vec<&'static str>)> {
    let mut found = vec![impressions(&text(open_bandit)?)?];
    let mut missing = Vec::new();
    for (name, file) in FETCHED {
        let path = data.join(file);
        if !path.is_file() {
            missing.push(name);
            continue;
        }
        let text = text(&path)?;
        let days = match name {
            "bike sharing" => hourly(&text, 1, 2)?,
            "car parks" => parking(&text)?,
            "I-94 road traffic" => hourly(&text, 7, 8)?,
            "SF road traffic" => hourly(&text, 0, 1)?,
            _ => departures(&text)?,
        };
        let series = Series { name, days, is_short: false };
        if series.weeks().is_empty() {
            return Err(
                format!("{}: no whole week with four weeks before it", path.display()).into()
            );
        }
        found.push(series);
    }
    Ok((found, missing))
}

fn text(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn column(line: &str, index: usize) -> Outcome<&str> {
    line.split(',').nth(index).ok_or_else(|| format!("too few columns in `{line}`").into())
}

fn moment(text: &str) -> Outcome<NaiveDateTime> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S")
        .map_err(|error| format!("`{text}`: {error}").into())
}

/// A record with one row an hour (a second row of the same hour, which I-94 has, says the same).
fn hourly(text: &str, time: usize, value: usize) -> Outcome<Vec<Day>> {
    let mut hours: BTreeMap<NaiveDateTime, f64> = BTreeMap::new();
    for line in text.lines().skip(1) {
        hours.entry(moment(column(line, time)?)?).or_insert(column(line, value)?.parse()?);
    }
    let (Some(first), Some(last)) = (hours.keys().next(), hours.keys().next_back()) else {
        return Err("the record is empty".into());
    };
    let monday = first_monday(first.date());
    let mut days = Vec::new();
    let mut date = monday;
    while date <= last.date() {
        let at = |hour: i64| {
            let hour = chrono::TimeDelta::hours(hour);
            hours.get(&(date.and_time(chrono::NaiveTime::MIN) + hour)).copied()
        };
        days.push(Day {
            minutes: (0..24)
                .flat_map(|hour| line_of(at(hour - 1), at(hour), at(hour + 1)))
                .collect(),
            whole: (0..24).all(|hour| at(hour).is_some()),
        });
        date = date + chrono::Days::new(1);
    }
    Ok(whole_weeks(days))
}

/// The sixty minutes of an hour between its neighbours; what is not recorded counts as alike.
fn line_of(before: Option<f64>, this: Option<f64>, after: Option<f64>) -> Vec<f64> {
    let this = this.unwrap_or(0.0);
    let (before, after) = (before.unwrap_or(this), after.unwrap_or(this));
    (0..60)
        .map(|minute| {
            let off = (f64::from(minute) - 29.5) / 60.0;
            let neighbour = if off < 0.0 { before } else { after };
            (this + off.abs() * (neighbour - this)) / 60.0
        })
        .collect()
}

/// Occupied places of all car parks, every half hour from 8:00 to 16:30; closed otherwise.
fn parking(text: &str) -> Outcome<Vec<Day>> {
    let mut parks: BTreeMap<NaiveDate, [f64; 48]> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let time = moment(column(line, 3)?)?;
        // Readings are a few minutes off their half hour.
        let half = (time.num_seconds_from_midnight() + 900) / 1_800;
        let day = parks.entry(time.date()).or_insert([0.0; 48]);
        if let Some(slot) = day.get_mut(half as usize) {
            *slot += column(line, 2)?.parse::<f64>()?;
        }
    }
    let (Some(first), Some(last)) = (parks.keys().next(), parks.keys().next_back()) else {
        return Err("the record is empty".into());
    };
    let mut days = Vec::new();
    let mut date = first_monday(*first);
    while date <= *last {
        let halves = parks.get(&date);
        let minutes = match halves {
            Some(halves) => halves.iter().flat_map(|value| [value / 30.0; 30]).collect(),
            None => vec![0.0; MINUTES],
        };
        days.push(Day { minutes, whole: halves.is_some() });
        date = date + chrono::Days::new(1);
    }
    Ok(whole_weeks(days))
}

/// Departures from New York's airports in 2013 at their scheduled minutes; cancelled ones left out.
fn departures(text: &str) -> Outcome<Vec<Day>> {
    let year = NaiveDate::from_ymd_opt(2013, 1, 1).ok_or("no such year")?;
    let monday = first_monday(year);
    let mut days: Vec<Day> = Vec::new();
    for line in text.lines().skip(1) {
        let field = |index| column(line, index);
        if matches!(field(5)?, "" | "NA") {
            continue;
        }
        let date =
            NaiveDate::from_ymd_opt(field(0)?.parse()?, field(1)?.parse()?, field(2)?.parse()?)
                .ok_or_else(|| format!("no such day in `{line}`"))?;
        let Ok(day) = usize::try_from((date - monday).num_days()) else { continue };
        let minute = field(3)?.parse::<usize>()? * 60 + field(4)?.parse::<usize>()?;
        while days.len() <= day {
            days.push(Day { minutes: vec![0.0; MINUTES], whole: true });
        }
        if let Some(slot) = days.get_mut(day).and_then(|day| day.minutes.get_mut(minute)) {
            *slot += 1.0;
        }
    }
    Ok(whole_weeks(days))
}

/// The impressions of all six logs of the Open Bandit sample, days of UTC.
fn impressions(text: &str) -> Outcome<Series> {
    let mut days: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let minute = column(line, 0)?.parse::<i64>()? / 60_000;
        let day = days.entry(minute.div_euclid(1_440)).or_insert_with(|| vec![0.0; MINUTES]);
        if let Some(slot) = day.get_mut(usize::try_from(minute.rem_euclid(1_440))?) {
            *slot += 1.0;
        }
    }
    // The sample's first and last day may be cut off in the middle: such a day is not one.
    let whole = |minutes: &[f64]| {
        let edge = |part: &[f64]| part.iter().sum::<f64>() > 0.0;
        edge(minutes.get(..180).unwrap_or_default())
            && edge(minutes.get(1_260..).unwrap_or_default())
    };
    let days = days.into_values().filter(|minutes| whole(minutes));
    let days: Vec<Day> = days.map(|minutes| Day { minutes, whole: true }).collect();
    if days.len() < 3 {
        return Err("the Open Bandit sample has fewer than three whole days".into());
    }
    Ok(Series { name: "Open Bandit", days, is_short: true })
}

fn first_monday(date: NaiveDate) -> NaiveDate {
    let ahead = (7 - date.weekday().num_days_from_monday()) % 7;
    date + chrono::Days::new(u64::from(ahead))
}

fn whole_weeks(mut days: Vec<Day>) -> Vec<Day> {
    days.truncate(days.len() / 7 * 7);
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_keeps_its_traffic_between_equal_neighbours_and_leans_towards_a_busier_one() {
        let even = line_of(Some(60.0), Some(60.0), Some(60.0));
        assert!(even.iter().all(|minute| (minute - 1.0).abs() < 1e-12));
        let rising = line_of(Some(60.0), Some(60.0), Some(120.0));
        assert!(rising[59] > 1.4 && rising[0] == 1.0);
    }

    #[test]
    fn a_day_without_an_hour_is_marked() {
        let mut text = String::from("ts,y\n");
        for hour in 0..(24 * 14) {
            if hour != 30 {
                text += &format!("2024-01-{:02} {:02}:00:00,5\n", 1 + hour / 24, hour % 24);
            }
        }
        let days = hourly(&text, 0, 1).unwrap();
        assert_eq!(days.len(), 14);
        assert_eq!(days.iter().filter(|day| !day.whole).count(), 1);
        assert!(!days[1].whole);
    }

    #[test]
    fn the_sample_in_the_repository_has_its_days() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = text(&package.join("data/open-bandit/events.csv")).unwrap();
        let series = impressions(&text).unwrap();
        assert!(series.days.len() >= 6, "{}", series.days.len());
        assert_eq!(series.weeks(), vec![1]);
        assert_eq!(series.past(1).len(), 28);
    }
}
