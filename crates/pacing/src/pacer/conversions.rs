//! Conversions: what campaigns that pay per conversion have open, and how long theirs take.
//!
//! | when | what |
//! |---|---|
//! | each minute | what was admitted is counted by the hour (`conversion_day`), for 14 days |
//! | each minute for campaigns that are asked for, every ten for all | what is open, and what of it is due today and tomorrow (`conversion`): grants keep that back |
//! | at midnight | the closed day teaches delays, κ and the chance of a conversion |
//! | when a day is planned | what is due by the end of the week: it is projected around |
//!
//! Due is what admissions bring whose tokens are over: the others are inside slices. A token is taken
//! to be over a minute early, so that nothing is in neither while a turn is awaited. κ is made of what
//! came and what was due to come: that of a day would take delay for loss. Without a caller's chance
//! every admission counts as a conversion until one is learned; then what is open is scaled to it.
//!
//! Not here: the formulas (`controller::conversion`, `controller::projection`), booking (`charges`).

use std::collections::HashMap;
use std::time::Duration;

use adspend_common::db::{self, Row, Tx};
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use crate::budgets::Entity;
use crate::controller::conversion::{Came, DelayCurve, OpenClicks};

/// For how many days what was admitted is remembered.
pub(super) const OPEN_DAYS: i32 = 14;
const HOURS_PER_DAY: usize = 24;
const HOUR_SECONDS: f64 = 3_600.0;
/// So much before its end a token is taken to be over.
const TURN: Duration = Duration::from_secs(60);
/// κ is stored in `pace` within these bounds.
const KAPPA: std::ops::RangeInclusive<f64> = 0.25..=4.0;

const CARRY: &str = "-- pacer.carry_conversions
WITH seen AS (
    SELECT r.account_no, r.campaign_no, sum(r.admitted_micros)::bigint AS micros,
        sum(r.admitted_count)::bigint AS count
    FROM demand_report r JOIN campaign c USING (account_no, campaign_no)
    WHERE r.day = $1 AND c.payment_model = 3
    GROUP BY r.account_no, r.campaign_no HAVING sum(r.admitted_count) > 0
), known AS (
    INSERT INTO conversion (account_no, campaign_no, delays, learned_day, day)
    SELECT account_no, campaign_no, array_fill(0::float8, ARRAY[336]), $1, $1
    FROM seen ORDER BY account_no, campaign_no
    ON CONFLICT DO NOTHING
)
INSERT INTO conversion_day AS d (account_no, campaign_no, day, admitted_micros, admitted_count,
    total_micros, total_count)
SELECT account_no, campaign_no, $1,
    array_fill(0::bigint, ARRAY[$2 - 1]) || micros || array_fill(0::bigint, ARRAY[24 - $2]),
    array_fill(0::bigint, ARRAY[$2 - 1]) || count || array_fill(0::bigint, ARRAY[24 - $2]), micros, count
FROM seen ORDER BY account_no, campaign_no
ON CONFLICT ON CONSTRAINT conversion_day_pkey DO UPDATE
SET admitted_micros[$2] = d.admitted_micros[$2] + EXCLUDED.total_micros - d.total_micros,
    admitted_count[$2] = d.admitted_count[$2] + EXCLUDED.total_count - d.total_count,
    total_micros = EXCLUDED.total_micros, total_count = EXCLUDED.total_count
WHERE EXCLUDED.total_count > d.total_count";

/// Adds to an hour of a day (0 to 23) what was admitted since the last turn.
pub(super) async fn carry(tx: &Tx<'_>, day: Day, hour: i16) -> Result<(), db::Error> {
    tx.execute(CARRY, &[&day, &(i32::from(hour) + 1)]).await.map(|_| ())
}

const LEARNED: &str = "-- pacer.conversions_learned
SELECT v.account_no, v.campaign_no, v.delays, v.came_micros, v.came_charges, v.expected_micros,
    v.expected_count, v.learned_day, v.chance
FROM conversion v JOIN campaign c USING (account_no, campaign_no)
WHERE c.payment_model = 3 AND ($1::bigint[] IS NULL OR v.account_no = ANY ($1))
    AND ($2::timestamptz IS NULL OR EXISTS (SELECT FROM demand_report r WHERE r.account_no = v.account_no
        AND r.campaign_no = v.campaign_no AND r.day = $3 AND r.reported_at >= $2))";

const ADMITTED: &str = "-- pacer.conversions_admitted
SELECT d.account_no, d.campaign_no, d.day, d.admitted_micros, d.admitted_count, d.scale
FROM conversion_day d
JOIN UNNEST($1::bigint[], $2::bigint[]) AS k (account_no, campaign_no) USING (account_no, campaign_no)
WHERE d.day >= $3
ORDER BY d.account_no, d.campaign_no, d.day";

/// A campaign that pays per conversion.
#[derive(Debug, Clone)]
pub(crate) struct Conversions {
    account_no: i64,
    campaign_no: i64,
    pub(super) curve: DelayCurve,
    came: Came,
    learned_day: Day,
    chance: Option<f64>,
    days: Vec<Admitted>,
}

/// What was admitted on a day, by hours.
#[derive(Debug, Clone)]
struct Admitted {
    day: Day,
    micros: Vec<i64>,
    count: Vec<i64>,
    scale: f64,
}

/// Whose conversions are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose<'a> {
    /// Everybody's.
    All,
    /// Of campaigns that were asked for since then.
    AskedSince(DateTime<Utc>),
    /// Of the campaigns of these accounts.
    Accounts(&'a [i64]),
}

/// What is known of campaigns that pay per conversion, as of `now`.
pub(super) async fn load(
    tx: &Tx<'_>,
    whose: Whose<'_>,
    now: DateTime<Utc>,
) -> Result<Vec<Conversions>, db::Error> {
    let today = Day::of(now);
    let (accounts, since) = match whose {
        Whose::All => (None, None),
        Whose::AskedSince(since) => (None, Some(since)),
        Whose::Accounts(accounts) => (Some(accounts), None),
    };
    let rows = tx.query(LEARNED, &[&accounts, &since, &today]).await?;
    let mut found = Vec::with_capacity(rows.len());
    let mut places = HashMap::with_capacity(rows.len());
    for row in &rows {
        let conversions = from_row(row)?;
        places.insert((conversions.account_no, conversions.campaign_no), found.len());
        found.push(conversions);
    }
    if found.is_empty() {
        return Ok(found);
    }
    let (account_nos, campaign_nos): (Vec<i64>, Vec<i64>) =
        found.iter().map(Conversions::key).unzip();
    let from = today.plus_days(-OPEN_DAYS);
    for row in &tx.query(ADMITTED, &[&account_nos, &campaign_nos, &from]).await? {
        let key = (row.try_get("account_no")?, row.try_get("campaign_no")?);
        let place = places.get(&key).and_then(|place| found.get_mut(*place));
        let Some(conversions) = place else { continue };
        conversions.days.push(Admitted {
            day: row.try_get("day")?,
            micros: row.try_get("admitted_micros")?,
            count: row.try_get("admitted_count")?,
            scale: row.try_get("scale")?,
        });
    }
    Ok(found)
}

fn from_row(row: &Row) -> Result<Conversions, db::Error> {
    Ok(Conversions {
        account_no: row.try_get("account_no")?,
        campaign_no: row.try_get("campaign_no")?,
        curve: DelayCurve::of(row.try_get("delays")?),
        came: Came {
            micros: row.try_get("came_micros")?,
            charges: row.try_get("came_charges")?,
            expected_micros: row.try_get("expected_micros")?,
            expected_count: row.try_get("expected_count")?,
        },
        learned_day: row.try_get("learned_day")?,
        chance: row.try_get("chance")?,
        days: Vec::new(),
    })
}

fn seconds(moment: DateTime<Utc>) -> f64 {
    moment.timestamp_micros() as f64 / 1e6
}

impl Admitted {
    /// The hours in which something was admitted: start, estimates, admissions.
    fn hours(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let midnight = seconds(self.day.start());
        self.micros.iter().zip(&self.count).take(HOURS_PER_DAY).enumerate().filter_map(
            move |(hour, (micros, count))| {
                let start = midnight + hour as f64 * HOUR_SECONDS;
                (*count > 0).then_some((start, *micros as f64 * self.scale, *count as f64))
            },
        )
    }
}

/// What open admissions are expected to bring, micro-units.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Outlook {
    /// In all.
    pub(super) open: f64,
    /// Of it, by the end of the day and on the next, where tokens are over.
    due: f64,
    next_due: f64,
}

impl Conversions {
    /// Of a campaign without an admission so far.
    pub(super) fn nothing(campaign: Entity, today: Day) -> Conversions {
        Conversions {
            account_no: campaign.account_no.0,
            campaign_no: campaign.entity_no,
            curve: DelayCurve::default(),
            came: Came::default(),
            learned_day: today,
            chance: None,
            days: Vec::new(),
        }
    }

    pub(super) fn key(&self) -> (i64, i64) {
        (self.account_no, self.campaign_no)
    }

    /// What a conversion costs; 0 when not known.
    pub(super) fn charge(&self) -> f64 {
        self.came.charge(self.chance)
    }

    /// κ of what is open.
    fn kappa(&self) -> f64 {
        self.came.ratio(self.chance)
    }

    /// κ as admissions of today are projected with it.
    fn kappa_of_pace(&self) -> f64 {
        self.kappa().clamp(*KAPPA.start(), *KAPPA.end())
    }

    /// What today's admissions are expected to bring, whenever it comes.
    pub(super) fn projected(&self, day: Day) -> f64 {
        let today = self.days.iter().filter(|admitted| admitted.day == day);
        let estimates: f64 = today.flat_map(|admitted| &admitted.micros).map(|m| *m as f64).sum();
        estimates * self.kappa_of_pace()
    }

    /// What all open admissions are expected to bring by a moment.
    pub(super) fn due_by(&self, now: DateTime<Utc>, until: DateTime<Utc>) -> f64 {
        self.open(now, seconds(now)).due(&self.curve, seconds(now), seconds(until)).by_midnight
    }

    /// Open admissions up to a moment (seconds): of the hour in which it lies a part.
    fn open(&self, now: DateTime<Utc>, up_to: f64) -> OpenClicks {
        let (kappa, now) = (self.kappa(), seconds(now));
        let mut open = OpenClicks::default();
        for (start, micros, _) in self.days.iter().flat_map(Admitted::hours) {
            let lasts = (now - start).clamp(1.0, HOUR_SECONDS);
            let part = ((up_to - start) / lasts).clamp(0.0, 1.0);
            open.click(start, micros * kappa * part);
        }
        open.forget(now);
        open
    }

    fn outlook(&self, now: DateTime<Utc>, token_life: Duration) -> Outlook {
        let at = seconds(now);
        let (midnight, next) = (seconds(Day::of(now).end()), seconds(Day::of(now).next().end()));
        let over = at - token_life.saturating_sub(TURN).as_secs_f64();
        let settled = self.open(now, over);
        let by_midnight = settled.due(&self.curve, at, midnight).by_midnight;
        Outlook {
            open: self.open(now, at).due(&self.curve, at, midnight).open,
            due: by_midnight,
            next_due: settled.due(&self.curve, at, next).by_midnight - by_midnight,
        }
    }

    /// Days are over: takes in what came on them, and gives what what is open is to be scaled by.
    fn learn(&mut self, today: Day, came: &[CameOn]) -> f64 {
        let counts: Vec<(usize, f64)> = came
            .iter()
            .filter_map(|came| Some((usize::try_from(came.hours).ok()?, came.charges as f64)))
            .collect();
        self.curve.learn_hours(&counts);
        let (from, to) = (seconds(self.learned_day.start()), seconds(today.start()));
        let mut day = Came {
            micros: came.iter().map(|came| came.micros as f64).sum(),
            charges: came.iter().map(|came| came.charges as f64).sum(),
            ..Came::default()
        };
        for (start, micros, count) in self.days.iter().flat_map(Admitted::hours) {
            let middle = start + HOUR_SECONDS / 2.0;
            if middle < to {
                let share = self.curve.share_by(to - middle) - self.curve.share_by(from - middle);
                day.expected_micros += micros * share;
                day.expected_count += count * share;
            }
        }
        self.came = self.came.learn(&day);
        self.learned_day = today;
        if self.chance.is_some() {
            return 1.0;
        }
        let Some(chance) = self.came.chance() else { return 1.0 };
        // Estimates that came true as rarely as admissions convert were whole prices.
        let whole = self.came.ratio(None) < chance.sqrt();
        self.chance = Some(chance);
        if !whole {
            return 1.0;
        }
        self.came.expected_micros *= chance;
        for day in &mut self.days {
            day.scale *= chance;
        }
        chance
    }
}

/// Conversions of days that are over, by hours of delay; -1 where it is not known.
#[derive(Debug, Clone, Copy)]
struct CameOn {
    hours: i16,
    charges: i64,
    micros: i64,
}

const DELAYS: &str = "-- pacer.conversion_delays
SELECT d.account_no, d.campaign_no, d.hours, sum(d.charges)::bigint AS charges,
    sum(d.micros)::bigint AS micros
FROM conversion_delay d JOIN conversion v USING (account_no, campaign_no)
WHERE d.day >= v.learned_day AND d.day < $1
GROUP BY d.account_no, d.campaign_no, d.hours";

const WRITE_LEARNED: &str = "-- pacer.write_conversions_learned
WITH learned AS (
    SELECT * FROM UNNEST($2::bigint[], $3::bigint[], $4::float8[], $5::float8[], $6::float8[],
            $7::float8[], $8::float8[], $9::float8[], $10::float8[])
        AS l (account_no, campaign_no, came_micros, came_charges, expected_micros, expected_count,
            kappa, chance, scale)
), paced AS (
    INSERT INTO pace AS p (account_no, level, entity_no, kappa, chance)
    SELECT account_no, 1, campaign_no, kappa, chance FROM learned ORDER BY account_no, campaign_no
    ON CONFLICT ON CONSTRAINT pace_pkey DO UPDATE
    SET kappa = EXCLUDED.kappa, chance = EXCLUDED.chance
), scaled AS (
    UPDATE conversion_day d SET scale = d.scale * l.scale
    FROM learned l
    WHERE l.scale <> 1 AND d.account_no = l.account_no AND d.campaign_no = l.campaign_no
)
UPDATE conversion v
SET came_micros = l.came_micros, came_charges = l.came_charges, expected_micros = l.expected_micros,
    expected_count = l.expected_count, chance = l.chance, learned_day = $1
FROM learned l
WHERE v.account_no = l.account_no AND v.campaign_no = l.campaign_no";

// An array of arrays is not unnested by rows.
const WRITE_DELAYS: &str = "-- pacer.write_delays
UPDATE conversion SET delays = $3 WHERE account_no = $1 AND campaign_no = $2";

/// The days before `today` teach.
pub(super) async fn close_days(tx: &Tx<'_>, now: DateTime<Utc>) -> Result<(), db::Error> {
    let today = Day::of(now);
    let mut came: HashMap<(i64, i64), Vec<CameOn>> = HashMap::new();
    for row in &tx.query(DELAYS, &[&today]).await? {
        let key = (row.try_get("account_no")?, row.try_get("campaign_no")?);
        came.entry(key).or_default().push(CameOn {
            hours: row.try_get("hours")?,
            charges: row.try_get("charges")?,
            micros: row.try_get("micros")?,
        });
    }
    let mut learned = Vec::new();
    for mut conversions in load(tx, Whose::All, now).await? {
        if conversions.learned_day < today {
            let came = came.remove(&conversions.key()).unwrap_or_default();
            let scale = conversions.learn(today, &came);
            learned.push((conversions, scale));
        }
    }
    let column = |value: fn(&Conversions) -> f64| -> Vec<f64> {
        learned.iter().map(|(conversions, _)| value(conversions)).collect()
    };
    let (accounts, campaigns): (Vec<i64>, Vec<i64>) =
        learned.iter().map(|(learned, _)| learned.key()).unzip();
    let chances: Vec<Option<f64>> = learned.iter().map(|(learned, _)| learned.chance).collect();
    let scales: Vec<f64> = learned.iter().map(|(_, scale)| *scale).collect();
    tx.execute(
        WRITE_LEARNED,
        &[
            &today,
            &accounts,
            &campaigns,
            &column(|learned| learned.came.micros),
            &column(|learned| learned.came.charges),
            &column(|learned| learned.came.expected_micros),
            &column(|learned| learned.came.expected_count),
            &column(Conversions::kappa_of_pace),
            &chances,
            &scales,
        ],
    )
    .await?;
    for (conversions, _) in &learned {
        let delays = conversions.curve.counts().to_vec();
        let (account_no, campaign_no) = conversions.key();
        tx.execute(WRITE_DELAYS, &[&account_no, &campaign_no, &delays]).await?;
    }
    Ok(())
}

const WRITE_OUTLOOKS: &str = "-- pacer.write_outlooks
UPDATE conversion v
SET day = $1, open_micros = o.open, due_micros = o.due, next_due_micros = o.next_due
FROM UNNEST($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS o (account_no, campaign_no, open, due, next_due)
WHERE v.account_no = o.account_no AND v.campaign_no = o.campaign_no";

/// Says what is open and due: grants keep it back.
pub(super) async fn look_ahead(
    tx: &Tx<'_>,
    whose: Whose<'_>,
    now: DateTime<Utc>,
    token_life: Duration,
) -> Result<(), db::Error> {
    let found = load(tx, whose, now).await?;
    if found.is_empty() {
        return Ok(());
    }
    let outlooks: Vec<Outlook> =
        found.iter().map(|conversions| conversions.outlook(now, token_life)).collect();
    let column = |value: fn(&Outlook) -> f64| -> Vec<i64> {
        outlooks.iter().map(|outlook| value(outlook).max(0.0) as i64).collect()
    };
    let (accounts, campaigns): (Vec<i64>, Vec<i64>) = found.iter().map(Conversions::key).unzip();
    tx.execute(
        WRITE_OUTLOOKS,
        &[
            &Day::of(now),
            &accounts,
            &campaigns,
            &column(|outlook| outlook.open),
            &column(|outlook| outlook.due),
            &column(|outlook| outlook.next_due),
        ],
    )
    .await
    .map(|_| ())
}

const PURGES: [&str; 2] = [
    "-- pacer.purge_conversion_days
DELETE FROM conversion_day WHERE day < $1",
    "-- pacer.purge_conversion_delays
DELETE FROM conversion_delay WHERE day < $1",
];

/// Forgets what can bring nothing any more, and delays that were learned.
pub(super) async fn purge(tx: &Tx<'_>, today: Day) -> Result<(), db::Error> {
    for sql in PURGES {
        tx.execute(sql, &[&today.plus_days(-OPEN_DAYS - 1)]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    const PRICE: i64 = 1_000_000;

    /// A campaign that was admitted so much in each hour of a day.
    fn campaign(day: Day, micros: i64, count: i64) -> Conversions {
        let micros = vec![micros; HOURS_PER_DAY];
        let admitted = Admitted { day, micros, count: vec![count; HOURS_PER_DAY], scale: 1.0 };
        let nobody = Entity::account(crate::accounts::AccountNo(1));
        Conversions { days: vec![admitted], ..Conversions::nothing(nobody, day) }
    }

    #[test]
    fn r149_only_what_is_in_no_slice_any_more_is_due() {
        let day: Day = "2025-06-11".parse().unwrap();
        let conversions = campaign(day, PRICE, 1);
        let life = Duration::from_secs(7_260);
        let hour = |hours| day.start() + TimeDelta::hours(hours);
        assert_eq!(conversions.outlook(hour(2), life).due, 0.0, "all tokens live");
        let [noon, evening] = [12, 23].map(|at| conversions.outlook(hour(at), life));
        assert!(noon.due > 0.0 && noon.open > noon.due + noon.next_due);
        assert!(evening.due < noon.due && evening.next_due > noon.next_due, "the night is near");
        let all = conversions.due_by(hour(23), day.end() + TimeDelta::days(30));
        assert!((all / evening.open - 1.0).abs() < 1e-5, "all of it comes at last");
    }

    #[test]
    fn r149_a_chance_that_is_learned_scales_what_is_open() {
        let day: Day = "2025-06-11".parse().unwrap();
        let came = [CameOn { hours: 3, charges: 5, micros: 5 * PRICE }];
        for (name, estimate, scaled) in
            [("whole prices", PRICE, true), ("chances", PRICE / 50, false)]
        {
            let mut conversions = campaign(day, 20 * estimate, 20);
            let scale = conversions.learn(day.next(), &came);
            let chance = conversions.chance.unwrap();
            assert!((0.01..0.05).contains(&chance), "{name}: 5 of some 200 that could have come");
            assert_eq!(scale != 1.0, scaled, "{name}");
            assert!((0.5..2.0).contains(&conversions.kappa()), "{name}: {}", conversions.kappa());
            assert_eq!(conversions.learn(day.next().next(), &[]), 1.0, "{name}: once");
        }
    }
}
