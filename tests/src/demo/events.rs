//! The recorded week: impressions of a shop's recommendation slots, and which of them were clicked.
//!
//! The data is that of tests/data/open-bandit (see the README there for its source and licence).
//! A log of the data stands for a campaign; its rows are the opportunities of that campaign.

use std::{fs, path::Path};

use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use crate::processes::Failure;

/// The six logs of the data, in the order in which campaigns are numbered.
pub(crate) const LOGS: [&str; 6] =
    ["all-bts", "all-random", "women-bts", "men-bts", "women-random", "men-random"];

/// More rows than the data has: a file that is not ours is refused before it fills the memory.
const MAX_EVENTS: usize = 1_000_000;
const HEADER: &str = "time_ms,campaign,item_id,position,click";

/// One impression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    /// When.
    pub(crate) at: DateTime<Utc>,
    /// Which log, as an index into [`LOGS`].
    pub(crate) log: usize,
    /// Whether it was clicked.
    pub(crate) click: bool,
}

/// Reads the file and keeps what lies between two Moscow days, both included.
pub(crate) fn read(path: &Path, first: Day, last: Day) -> Result<Vec<Event>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut events = parse(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    events.retain(|event| (first.start()..last.end()).contains(&event.at));
    Ok(events)
}

/// The rows of the file, which are sorted by time.
fn parse(text: &str) -> Result<Vec<Event>, String> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(format!("the first line is not `{HEADER}`"));
    }
    let mut events: Vec<Event> = Vec::new();
    for (line, number) in lines.zip(2_u32..) {
        let event = row(line).ok_or_else(|| format!("line {number} is not an event: {line}"))?;
        if events.last().is_some_and(|before| before.at > event.at) {
            return Err(format!("line {number} is earlier than the one before"));
        }
        if events.len() == MAX_EVENTS {
            return Err(format!("more than {MAX_EVENTS} events"));
        }
        events.push(event);
    }
    Ok(events)
}

fn row(line: &str) -> Option<Event> {
    let mut fields = line.split(',');
    let at = DateTime::from_timestamp_millis(fields.next()?.parse().ok()?)?;
    let name = fields.next()?;
    let log = LOGS.iter().position(|log| *log == name)?;
    let (_item, _position) = (fields.next()?, fields.next()?);
    let click = match fields.next()? {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    fields.next().is_none().then_some(Event { at, log, click })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_stand() {
        let text =
            format!("{HEADER}\n1574553617004,all-bts,79,2,0\n1574553619715,men-bts,14,1,1\n");
        let events = parse(&text).unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].at.to_rfc3339(), "2019-11-24T00:00:17.004+00:00");
        assert_eq!((LOGS[events[0].log], events[0].click), ("all-bts", false));
        assert_eq!((LOGS[events[1].log], events[1].click), ("men-bts", true));
    }

    #[test]
    fn what_is_not_an_event_is_named_by_its_line() {
        for (rows, line) in [
            ("1574553617004,all-bts,79,2", "line 2"),
            ("1574553617004,all-bts,79,2,2", "line 2"),
            ("1574553617004,all-bts,79,2,0,0", "line 2"),
            ("1574553617004,other,79,2,0", "line 2"),
            ("1574553617004,all-bts,79,2,0\n1574553617003,all-bts,79,2,0", "line 3"),
        ] {
            let refused = parse(&format!("{HEADER}\n{rows}\n")).unwrap_err();
            assert!(refused.contains(line), "{rows}: {refused}");
        }
        assert!(parse("time,campaign\n").is_err());
    }

    #[test]
    fn the_recorded_week_is_whole_and_can_be_cut_by_moscow_days() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/open-bandit/events.csv");
        let day = |month, day| Day::from_ymd(2019, month, day).unwrap();
        let week = read(&path, day(11, 24), day(12, 1)).unwrap();
        assert_eq!(week.len(), 60_000);
        assert_eq!(week.iter().filter(|event| event.click).count(), 287);
        let wednesday = read(&path, day(11, 27), day(11, 27)).unwrap();
        assert_eq!(wednesday.len(), 9_058);
        assert!(wednesday.iter().all(|event| Day::of(event.at) == day(11, 27)));
    }
}
