//! What must be true: while it runs, and when all is quiet.

use std::collections::HashMap;

use adspend_common::time::Day;
use adspend_pacing::billing::HoldState;
use adspend_pacing::charges::audit;

use crate::world::{Fate, UNIT, World};

/// I-5 in the database: every row of headroom is within the limit of its entity, and every
/// reserved micro-unit inside a hold.
pub(crate) async fn limits_hold(world: &World) {
    let client = world.database.pool.get().await.unwrap();
    let rows = client
        .query(
            "SELECT level, entity_no, day, reserved_micros + charged_micros - late_micros AS used
            FROM headroom",
            &[],
        )
        .await
        .unwrap();
    for row in rows {
        let (level, entity): (i16, i64) = (row.get("level"), row.get("entity_no"));
        let (day, used): (Day, i64) = (row.get("day"), row.get("used"));
        let mut campaigns = world.campaigns.iter();
        let limit = if level == 1 {
            campaigns.find(|campaign| campaign.campaign_no == entity).unwrap().limit
        } else {
            campaigns.find(|campaign| campaign.account_no == entity).unwrap().account_limit
        };
        assert!(limit.is_none_or(|limit| used <= limit), "{level}/{entity} on {day}: {used}");
    }
    let outside: i64 = client
        .query_one(
            "SELECT count(*) AS outside FROM hold
            WHERE reserved_micros + charged_micros - late_micros > opened_micros",
            &[],
        )
        .await
        .unwrap()
        .get("outside");
    assert_eq!(outside, 0, "reserved outside a hold");
}

/// When all is over: nothing reserved, nothing lost, nothing twice.
pub(crate) async fn everything_adds_up(world: &World) {
    limits_hold(world).await;
    let mut client = world.database.pool.get().await.unwrap();
    let differences = audit::audit(&mut client).await.unwrap();
    assert!(differences.is_empty(), "{differences:?}");

    let number = async |sql: &str| -> i64 { client.query_one(sql, &[]).await.unwrap().get(0) };
    let reserved = number("SELECT coalesce(sum(reserved_micros), 0)::bigint FROM headroom").await;
    assert_eq!(reserved, 0, "reserved when all is resolved");
    let open = number("SELECT count(*) FROM slice WHERE state <> 3").await;
    assert_eq!(open, 0, "slices that are not resolved");
    let holds =
        number("SELECT count(*) FROM hold WHERE state NOT IN (4, 5) OR reserved_micros <> 0").await;
    assert_eq!(holds, 0, "holds that are not closed");

    // I-6: what callers were told is what stands in the books, once.
    let told: HashMap<&str, (i64, bool)> = world
        .admitted
        .iter()
        .filter_map(|admitted| match admitted.fate {
            Fate::Charged { price, late } => Some((admitted.charge_id.as_str(), (price, late))),
            Fate::Open | Fate::Cancelled => None,
        })
        .collect();
    let rows = client.query("SELECT charge_id, price_micros, late FROM charge", &[]).await.unwrap();
    assert_eq!(rows.len(), told.len(), "charges acknowledged and charges stored");
    for row in &rows {
        let id: &str = row.get("charge_id");
        assert_eq!(told.get(id), Some(&(row.get("price_micros"), row.get("late"))), "{id}");
    }
    let charged: i64 = told.values().map(|(price, _)| price).sum();

    // I-7: to the micro-unit, at billing.
    let bank = world.bank.lock().unwrap();
    assert_eq!(bank.spent(), charged, "settled at billing and charged here");
    for (name, hold) in &bank.holds {
        assert_ne!(hold.state, HoldState::Open, "{name}");
        assert_eq!(hold.opened, hold.settled + hold.released, "{name}");
    }
    let balances: i64 = bank.balances.values().sum();
    assert_eq!(balances + bank.spent(), (2_000 + 150) * UNIT, "money is kept");
    let late: i64 = told.values().filter(|(_, late)| *late).map(|(price, _)| price).sum();
    eprintln!(
        "  seed {}: admitted {}, charged {} ({} micros, {late} late), cold {}, holds {}, denied {:?}",
        world.seed,
        world.admitted.len(),
        told.len(),
        charged,
        world.cold,
        bank.holds.len(),
        world.denied,
    );
    assert!(world.admitted.len() > 50, "a run that admits nothing proves nothing");
}
