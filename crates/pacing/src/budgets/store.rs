//! The tables `budget` and `budget_change`, and the rows of `headroom` that a change reads and locks.

use adspend_common::db::{self, Client, Row, Tx};
use adspend_common::money::Money;
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::rules::{Decided, Usage, Warning};
use super::{Change, Dated, Entity, Limits, Mode};
use crate::calendar::changes::{Began, BudgetState, Event, Kind, Marks, Pending, Segment};
use crate::calendar::policy::{Figure, Level, PaymentModel, Preset, Terms, Unit};
use crate::calendar::week::WeekSpent;
use crate::campaigns::payment_from_number;

/// What is stored of one entity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    pub(super) limits: Limits,
    pub(super) usage: Usage,
}

const fn mode_number(mode: Mode) -> i16 {
    match mode {
        Mode::Even => 1,
        Mode::Traffic => 2,
        Mode::Asap => 3,
    }
}

/// The mode of a stored number.
pub(crate) fn mode_from_number(number: i16) -> Result<Mode, db::Error> {
    [Mode::Even, Mode::Traffic, Mode::Asap]
        .into_iter()
        .find(|mode| mode_number(*mode) == number)
        .ok_or_else(|| db::Error::other(format!("{number} is no mode of a budget")))
}

/// A stored word that its type must know.
fn word<T>(parsed: Option<T>, text: &str) -> Result<T, db::Error> {
    parsed.ok_or_else(|| db::Error::other(format!("{text} is not a word that budgets store")))
}

/// The figure in three columns that are null together.
fn figure_from_row(
    row: &Row,
    [preset, unit, micros]: [&str; 3],
) -> Result<Option<Figure>, db::Error> {
    let Some(preset) = row.try_get::<_, Option<&str>>(preset)? else { return Ok(None) };
    let unit: &str = row.try_get(unit)?;
    let amount: Money = row.try_get(micros)?;
    let preset = word(Preset::parse(preset), preset)?;
    Ok(Some(Figure { preset, unit: word(Unit::parse(unit), unit)?, amount }))
}

fn state_from_row(row: &Row) -> Result<BudgetState, db::Error> {
    let began: &str = row.try_get("segment_began")?;
    let changes: i16 = row.try_get("changes")?;
    let pending = figure_from_row(row, ["pending_preset", "pending_unit", "pending_micros"])?;
    let pending = match pending {
        Some(figure) => Some(Pending { figure, from_day: row.try_get("pending_day")? }),
        None => None,
    };
    Ok(BudgetState {
        in_force: figure_from_row(row, ["in_force_preset", "in_force_unit", "in_force_micros"])?,
        segment: Segment {
            start: row.try_get("segment_day")?,
            began: word(Began::parse(began), began)?,
        },
        today: Marks {
            day: row.try_get("marks_day")?,
            changes: u8::try_from(changes).unwrap_or(u8::MAX),
            daily_high_micros: row.try_get("daily_high_micros")?,
            weekly_old_micros: row.try_get("weekly_old_micros")?,
        },
        pending,
    })
}

fn terms_from_row(row: &Row) -> Result<Terms, db::Error> {
    let Some(payment) = row.try_get("payment_model")? else { return Ok(Terms::UNSCHEDULED) };
    let days: i16 = row.try_get("scheduled_days")?;
    let scheduled_days = u8::try_from(days).unwrap_or_default();
    Ok(Terms { scheduled_days, payment: payment_from_number(payment)? })
}

fn limits_from_row(row: &Row, day: Day) -> Result<Limits, db::Error> {
    let terms = terms_from_row(row)?;
    let Some(mode) = row.try_get("mode")? else { return Ok(Limits::none(day, terms)) };
    Ok(Limits {
        state: state_from_row(row)?,
        terms,
        mode: mode_from_number(mode)?,
        in_force_day: row.try_get("in_force_day")?,
    })
}

/// Entities as columns, for UNNEST.
fn columns(entities: &[Entity]) -> (Vec<i64>, Vec<i16>, Vec<i64>) {
    let accounts = entities.iter().map(|entity| entity.account_no.0).collect();
    let levels = entities.iter().map(|entity| entity.level).collect();
    (accounts, levels, entities.iter().map(|entity| entity.entity_no).collect())
}

const STATES: &str = "-- budgets.states
SELECT b.mode, b.in_force_preset, b.in_force_unit, b.in_force_micros, b.in_force_day, b.segment_day,
    b.segment_began, b.marks_day, b.changes, b.daily_high_micros, b.weekly_old_micros,
    b.pending_preset, b.pending_unit, b.pending_micros, b.pending_day, c.payment_model, c.scheduled_days
FROM UNNEST($1::bigint[], $2::smallint[], $3::bigint[])
    WITH ORDINALITY AS e (account_no, level, entity_no, n)
LEFT JOIN budget b USING (account_no, level, entity_no)
LEFT JOIN campaign c ON e.level = 1 AND c.account_no = e.account_no AND c.campaign_no = e.entity_no
ORDER BY e.n";

/// The budgets of these entities, in their order; `day` is where an entity without one stands.
///
/// Not locked: a grant locks the headroom rows first, in a statement of its own, and that is what
/// keeps it and a change apart. The states are as stored; `limit` and `ceiling` roll them.
pub async fn states_for(
    tx: &Tx<'_>,
    entities: &[Entity],
    day: Day,
) -> Result<Vec<Limits>, db::Error> {
    let (accounts, levels, numbers) = columns(entities);
    let rows = tx.query(STATES, &[&accounts, &levels, &numbers]).await?;
    rows.iter().map(|row| limits_from_row(row, day)).collect()
}

const WEEKS: &str = "-- budgets.weeks
SELECT e.n, h.day, h.reserved_micros + h.charged_micros AS used_micros
FROM UNNEST($1::bigint[], $2::smallint[], $3::bigint[])
    WITH ORDINALITY AS e (account_no, level, entity_no, n)
JOIN headroom h USING (account_no, level, entity_no)
WHERE h.day BETWEEN $4 AND $5";

/// What each of these entities has charged and reserved on the days of `day`'s week, in their
/// order. What is only reserved counts as spent: its charge may be on its way.
pub async fn weeks_for(
    tx: &Tx<'_>,
    entities: &[Entity],
    day: Day,
) -> Result<Vec<WeekSpent>, db::Error> {
    let (accounts, levels, numbers) = columns(entities);
    let (monday, sunday) = (day.week_start(), day.week_end().prev());
    let rows = tx.query(WEEKS, &[&accounts, &levels, &numbers, &monday, &sunday]).await?;
    let mut weeks = vec![WeekSpent::default(); entities.len()];
    for row in &rows {
        let (n, day): (i64, Day) = (row.try_get("n")?, row.try_get("day")?);
        let index = usize::try_from(n - 1).unwrap_or(usize::MAX);
        let week = weeks.get_mut(index).ok_or_else(|| db::Error::other("a week of nobody"))?;
        week[usize::from(day.weekday0())] = row.try_get("used_micros")?;
    }
    Ok(weeks)
}

const PAYS_PER_CONVERSION: &str = "-- budgets.pays_per_conversion
SELECT EXISTS (SELECT FROM campaign WHERE account_no = $1 AND payment_model = 3 AND state = 1) AS it_does";

/// All that is stored of one entity, as three reads of one transaction.
pub(super) async fn read(tx: &Tx<'_>, entity: Entity, day: Day) -> Result<Stored, db::Error> {
    let limits = states_for(tx, &[entity], day).await?;
    let week = weeks_for(tx, &[entity], day).await?;
    let (Some(limits), Some(week)) = (limits.first().copied(), week.first().copied()) else {
        return Err(db::Error::other("budgets.states gave no row for an entity"));
    };
    let pays_per_conversion = match entity.level() {
        Level::Campaign => limits.terms.payment == PaymentModel::PerConversion,
        Level::Account => {
            let row = tx.query_one(PAYS_PER_CONVERSION, &[&entity.account_no.0]).await?;
            row.try_get("it_does")?
        }
    };
    Ok(Stored { limits, usage: Usage { week, pays_per_conversion } })
}

/// What a campaign that pays so should know of budgets that it is under.
pub(crate) async fn warnings_over(
    tx: &Tx<'_>,
    entities: &[Entity],
    payment: PaymentModel,
    now: DateTime<Utc>,
) -> Result<Vec<Warning>, db::Error> {
    let day = Day::of(now);
    let budgets = states_for(tx, entities, day).await?;
    Ok(super::rules::warnings_over(&budgets, day, payment))
}

const CREATE_HEADROOM: &str = "-- budgets.create_headroom
INSERT INTO headroom (account_no, level, entity_no, day)
SELECT $1, $2, $3, day FROM UNNEST($4::date[]) AS days (day) ORDER BY day
ON CONFLICT ON CONSTRAINT headroom_pkey DO NOTHING";

const LOCK_HEADROOM: &str = "-- budgets.lock_headroom
SELECT day FROM headroom
WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND day = ANY ($4)
ORDER BY account_no, level, entity_no, day FOR NO KEY UPDATE";

/// Locks the rows of these days, in order; makes those that are missing.
pub(super) async fn lock_headroom(
    tx: &Tx<'_>,
    entity: Entity,
    days: [Day; 2],
) -> Result<(), db::Error> {
    let Entity { account_no, level, entity_no } = entity;
    let days = days.as_slice();
    tx.execute(CREATE_HEADROOM, &[&account_no.0, &level, &entity_no, &days]).await?;
    tx.query(LOCK_HEADROOM, &[&account_no.0, &level, &entity_no, &days]).await?;
    Ok(())
}

const WRITE: &str = "-- budgets.write
INSERT INTO budget AS known (account_no, level, entity_no, mode, in_force_preset, in_force_unit,
    in_force_micros, in_force_day, segment_day, segment_began, marks_day, changes, daily_high_micros,
    weekly_old_micros, pending_preset, pending_unit, pending_micros, pending_day, last_change_no)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
ON CONFLICT ON CONSTRAINT budget_pkey DO UPDATE
SET mode = EXCLUDED.mode, in_force_preset = EXCLUDED.in_force_preset,
    in_force_unit = EXCLUDED.in_force_unit, in_force_micros = EXCLUDED.in_force_micros,
    in_force_day = EXCLUDED.in_force_day, segment_day = EXCLUDED.segment_day,
    segment_began = EXCLUDED.segment_began, marks_day = EXCLUDED.marks_day,
    changes = EXCLUDED.changes, daily_high_micros = EXCLUDED.daily_high_micros,
    weekly_old_micros = EXCLUDED.weekly_old_micros, pending_preset = EXCLUDED.pending_preset,
    pending_unit = EXCLUDED.pending_unit, pending_micros = EXCLUDED.pending_micros,
    pending_day = EXCLUDED.pending_day, last_change_no = known.last_change_no + $19
RETURNING last_change_no";

/// Writes a budget, and its line of the log when there is one.
pub(super) async fn write(
    tx: &Tx<'_>,
    entity: Entity,
    decided: &Decided,
    actor: &str,
) -> Result<(), db::Error> {
    let Entity { account_no, level, entity_no } = entity;
    let Limits { state, terms: _, mode, in_force_day } = &decided.limits;
    let BudgetState { in_force, segment, today, pending } = state;
    let (preset, unit, micros) = words(in_force.as_ref());
    let in_force_day = in_force.map(|_| in_force_day.unwrap_or(today.day));
    let pending_figure = pending.map(|pending| pending.figure);
    let (pending_preset, pending_unit, pending_micros) = words(pending_figure.as_ref());
    let pending_day = pending.map(|pending| pending.from_day);
    let lines = i64::from(decided.logged.is_some());
    let row = tx
        .query_one(
            WRITE,
            &[
                &account_no.0,
                &level,
                &entity_no,
                &mode_number(*mode),
                &preset,
                &unit,
                &micros,
                &in_force_day,
                &segment.start,
                &segment.began.as_str(),
                &today.day,
                &i16::from(today.changes),
                &today.daily_high_micros,
                &today.weekly_old_micros,
                &pending_preset,
                &pending_unit,
                &pending_micros,
                &pending_day,
                &lines,
            ],
        )
        .await?;
    match &decided.logged {
        Some((event, previous)) => {
            log(tx, entity, row.try_get("last_change_no")?, event, *previous, actor).await
        }
        None => Ok(()),
    }
}

/// A figure as three columns.
fn words(figure: Option<&Figure>) -> (Option<&'static str>, Option<&'static str>, Option<Money>) {
    match figure {
        Some(figure) => {
            (Some(figure.preset.as_str()), Some(figure.unit.as_str()), Some(figure.amount))
        }
        None => (None, None, None),
    }
}

const LOG: &str = "-- budgets.log
INSERT INTO budget_change (account_no, level, entity_no, change_no, changed_at, day, kind, preset, unit,
    amount_micros, effective_day, previous_preset, previous_unit, previous_micros, previous_day, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";

async fn log(
    tx: &Tx<'_>,
    entity: Entity,
    change_no: i64,
    event: &Event,
    previous: Option<Dated>,
    actor: &str,
) -> Result<(), db::Error> {
    let Entity { account_no, level, entity_no } = entity;
    let Event { at, day, kind, figure, effective_day } = event;
    let (preset, unit, micros) = words(figure.as_ref());
    let previous_figure = previous.map(|previous| previous.figure);
    let (previous_preset, previous_unit, previous_micros) = words(previous_figure.as_ref());
    let previous_day = previous.map(|previous| previous.from_day);
    let count = tx
        .execute(
            LOG,
            &[
                &account_no.0,
                &level,
                &entity_no,
                &change_no,
                at,
                day,
                &kind.as_str(),
                &preset,
                &unit,
                &micros,
                effective_day,
                &previous_preset,
                &previous_unit,
                &previous_micros,
                &previous_day,
                &actor,
            ],
        )
        .await?;
    db::exactly_one(count, "budgets.log")
}

const CHANGES: &str = "-- budgets.changes
SELECT change_no, changed_at, kind, preset, unit, amount_micros, effective_day, previous_preset,
    previous_unit, previous_micros, previous_day, actor
FROM budget_change
WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND change_no < $4
ORDER BY change_no DESC LIMIT $5";

/// The log, newest first, below a number.
pub(super) async fn changes(
    db: &Client,
    entity: Entity,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Change>, db::Error> {
    let Entity { account_no, level, entity_no } = entity;
    let before = before.unwrap_or(i64::MAX);
    let rows = db.query(CHANGES, &[&account_no.0, &level, &entity_no, &before, &limit]).await?;
    rows.iter().map(change_from_row).collect()
}

fn change_from_row(row: &Row) -> Result<Change, db::Error> {
    let kind: &str = row.try_get("kind")?;
    let effective_day = row.try_get("effective_day")?;
    let figure = figure_from_row(row, ["preset", "unit", "amount_micros"])?;
    let previous = ["previous_preset", "previous_unit", "previous_micros"];
    let previous = match figure_from_row(row, previous)? {
        Some(figure) => Some(Dated { figure, from_day: row.try_get("previous_day")? }),
        None => None,
    };
    Ok(Change {
        no: row.try_get("change_no")?,
        at: row.try_get("changed_at")?,
        kind: word(Kind::parse(kind), kind)?,
        figure: figure.map(|figure| Dated { figure, from_day: effective_day }),
        previous,
        actor: row.try_get("actor")?,
    })
}

#[cfg(test)]
const EVENTS: &str = "-- budgets.events
SELECT changed_at, day, kind, preset, unit, amount_micros, effective_day FROM budget_change
WHERE account_no = $1 AND level = $2 AND entity_no = $3 ORDER BY change_no";

/// The whole log, oldest first, as the calendar replays it.
#[cfg(test)]
pub(crate) async fn events(db: &Client, entity: Entity) -> Result<Vec<Event>, db::Error> {
    let Entity { account_no, level, entity_no } = entity;
    let rows = db.query(EVENTS, &[&account_no.0, &level, &entity_no]).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let kind: &str = row.try_get("kind")?;
        events.push(Event {
            at: row.try_get("changed_at")?,
            day: row.try_get("day")?,
            kind: word(Kind::parse(kind), kind)?,
            figure: figure_from_row(row, ["preset", "unit", "amount_micros"])?,
            effective_day: row.try_get("effective_day")?,
        });
    }
    Ok(events)
}
