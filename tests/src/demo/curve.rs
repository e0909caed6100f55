//! The course of the week as pacing reports it: what was charged beside what was due, as a plot and as one
//! figure.

use std::{fmt::Write as _, fs, path::Path, sync::Arc, time::Duration};

use adspend_common::{
    proto::adspend::pacing::v1::{GetSpendCurveRequest, GetSpendCurveResponse},
    rpc,
    time::Day,
};
use prost_types::Duration as WireDuration;

use super::{
    book::{Book, Ceiling, Who},
    calls::within,
    fleet::{Fleet, request},
    table::roubles,
    watch::parent,
};
use crate::{
    eval::plot::{COLOURS, heading, open, rule, text, vertical_text},
    processes::Failure,
};

const STEP_MINUTES: u32 = 5;
const STEPS_A_DAY: usize = 24 * 60 / STEP_MINUTES as usize;
/// How often a curve is asked for before the run fails; replicas come and go in it.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// The course of one account or campaign that has a budget.
#[derive(Debug)]
pub(crate) struct Course {
    who: Who,
    curve: GetSpendCurveResponse,
}

/// Asks for the courses of all that have a budget, from the first day to the end of the last.
pub(crate) async fn ask(fleet: &Arc<Fleet>, first: Day, last: Day) -> Result<Vec<Course>, Failure> {
    let mut courses = Vec::new();
    for who in Who::all().into_iter().filter(|who| who.has_budget()) {
        let message = GetSpendCurveRequest {
            parent: parent(who),
            start_time: Some(rpc::timestamp(first.start())),
            end_time: Some(rpc::timestamp(last.end())),
            step: Some(WireDuration { seconds: i64::from(STEP_MINUTES) * 60, nanos: 0 }),
        };
        courses.push(Course { who, curve: one(fleet, message).await? });
    }
    Ok(courses)
}

async fn one(
    fleet: &Arc<Fleet>,
    message: GetSpendCurveRequest,
) -> Result<GetSpendCurveResponse, Failure> {
    let mut why = String::new();
    for _ in 0..TRIES {
        let replica = fleet.pick();
        let mut member = fleet.member(replica);
        match within(member.reports.get_spend_curve(request(message.clone()))).await {
            Ok(curve) => return Ok(curve),
            Err(status) => why = status.to_string(),
        }
        fleet.rest(replica);
        tokio::time::sleep(PAUSE).await;
    }
    Err(format!("the curve of {}: {why}", message.parent).into())
}

impl Course {
    /// Root mean square of charged less due over the steps in which anything was due, in shares of what is
    /// due at the end of each day, over all days; none where nothing was.
    fn distance(&self) -> Option<f64> {
        let GetSpendCurveResponse { charged_micros, due_micros, .. } = &self.curve;
        let days = charged_micros.chunks(STEPS_A_DAY).zip(due_micros.chunks(STEPS_A_DAY));
        let mut squares = Vec::new();
        for (charged, due) in days {
            let Some(target) = due.iter().copied().max().filter(|target| *target > 0) else {
                continue;
            };
            let both = charged.iter().zip(due).filter(|(_, due)| **due >= 0);
            squares.extend(
                both.map(|(charged, due)| ((charged - due) as f64 / target as f64).powi(2)),
            );
        }
        let count = squares.len();
        (count > 0).then(|| (squares.iter().sum::<f64>() / count as f64).sqrt())
    }
}

/// The mean distance from the curve over the accounts, in shares of a day's target; none without any. A
/// campaign's own curve is not followed where its account has less to spend.
pub(crate) fn distance(courses: &[Course]) -> Option<f64> {
    let accounts = courses.iter().filter(|course| matches!(course.who, Who::Account(_)));
    let distances: Vec<f64> = accounts.filter_map(Course::distance).collect();
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    (!distances.is_empty()).then_some((mean * 10_000.0).round() / 10_000.0)
}

const WIDTH: f64 = 1_100.0;
const LEFT: f64 = 90.0;
const PANEL: f64 = 150.0;
const GAP: f64 = 50.0;
const TOP: f64 = 64.0;

/// Writes the plot: a panel for each course, all above the same days.
pub(crate) fn plot(
    courses: &[Course],
    book: &Book,
    days: &[Day],
    to: &Path,
) -> Result<(), Failure> {
    let height = TOP + courses.len() as f64 * (PANEL + GAP) + 10.0;
    let mut svg = open(WIDTH, height);
    heading(&mut svg, 16.0, 28.0, "The week of the demonstration: charged since midnight");
    let [charged, _, due, limit, ..] = COLOURS;
    for (number, (name, colour)) in
        [("charged", charged), ("due by the curve", due), ("limit of the day", limit)]
            .into_iter()
            .enumerate()
    {
        let x = 620.0 + 160.0 * number as f64;
        rule(&mut svg, (x, 24.0), (x + 28.0, 24.0), colour, 3.0);
        text(&mut svg, x + 34.0, 28.0, "start", name);
    }
    for (number, course) in courses.iter().enumerate() {
        let top = TOP + number as f64 * (PANEL + GAP);
        panel(&mut svg, top, course, book, days);
    }
    fs::write(to, svg + "</svg>\n").map_err(|error| format!("{}: {error}", to.display()).into())
}

fn panel(svg: &mut String, top: f64, course: &Course, book: &Book, days: &[Day]) {
    let limits: Vec<Option<i64>> = days
        .iter()
        .map(|day| match book.cell(course.who, *day).map(|cell| cell.ceiling) {
            Some(Ceiling::Micros(micros)) => Some(micros),
            Some(Ceiling::NoLimit | Ceiling::Unknown) | None => None,
        })
        .collect();
    let curve = &course.curve;
    let highest = curve.charged_micros.iter().chain(limits.iter().flatten()).copied().max();
    let highest = highest.unwrap_or_default().max(1) as f64 * 1.05;
    let width = WIDTH - LEFT - 20.0;
    let x = |step: usize| LEFT + width * step as f64 / (days.len().max(1) * STEPS_A_DAY) as f64;
    let y = |micros: i64| top + PANEL * (1.0 - (micros.max(0) as f64 / highest).min(1.0));
    text(svg, LEFT, top - 8.0, "start", &parent(course.who));
    vertical_text(svg, 20.0, top + PANEL / 2.0, "roubles");
    let grid = "#dddddd";
    for quarter in 0..=2 {
        let micros = (highest * f64::from(quarter) / 2.0) as i64;
        rule(svg, (LEFT, y(micros)), (LEFT + width, y(micros)), grid, 1.0);
        text(svg, LEFT - 6.0, y(micros) + 4.0, "end", &roubles(micros));
    }
    for (number, day) in days.iter().enumerate() {
        let (from, to) = (number * STEPS_A_DAY, (number + 1) * STEPS_A_DAY);
        rule(svg, (x(from), top), (x(from), top + PANEL), grid, 1.0);
        let middle = f64::midpoint(x(from), x(to));
        let name = day.date().format("%a %d %b").to_string();
        text(svg, middle, top + PANEL + 17.0, "middle", &name);
        if let Some(Some(limit)) = limits.get(number) {
            let colour = COLOURS[3];
            rule(svg, (x(from), y(*limit)), (x(to), y(*limit)), colour, 1.5);
        }
        for (line, colour) in [(&curve.due_micros, COLOURS[2]), (&curve.charged_micros, COLOURS[0])]
        {
            let mut points = String::new();
            for step in from..to {
                // A point stands at the end of its step; -1 is nothing due.
                if let Some(micros) = line.get(step).filter(|micros| **micros >= 0) {
                    let _ = write!(points, "{:.1},{:.1} ", x(step + 1), y(*micros));
                }
            }
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>",
                points.trim_end()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(charged: &[i64], due: &[i64]) -> Course {
        let curve = GetSpendCurveResponse {
            charged_micros: charged.to_vec(),
            due_micros: due.to_vec(),
            ..GetSpendCurveResponse::default()
        };
        Course { who: Who::Account(0), curve }
    }

    #[test]
    fn the_distance_is_in_shares_of_what_the_day_was_to_spend() {
        let even = course(&[10, 20, 40], &[10, 20, 40]);
        assert_eq!(distance(&[even]), Some(0.0));
        let ahead = course(&[14, 24, 44], &[10, 20, 40]);
        assert_eq!(distance(&[ahead]), Some(0.1));
        let unpaced = course(&[5, 6, 7], &[-1, -1, -1]);
        assert_eq!(distance(&[unpaced]), None);
    }

    #[test]
    fn the_plot_has_a_panel_for_each_course_and_a_name_for_each_day() {
        let day = Day::from_ymd(2019, 11, 25).unwrap();
        let mut book = Book::default();
        book.rule(Who::Account(0), day, Ceiling::Micros(390_000_000));
        let path = std::env::temp_dir().join(format!("curve-{}.svg", std::process::id()));
        let course = course(&[1_000_000, 2_000_000], &[-1, 3_000_000]);
        plot(&[course], &book, &[day], &path).unwrap();
        let svg = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(svg.contains("accounts/atelier") && svg.contains("Mon 25 Nov"), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 2);
    }
}
