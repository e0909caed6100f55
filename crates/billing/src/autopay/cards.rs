//! Linking cards: by the token of a payment method that the provider's own page has saved.

use adspend_common::{
    config::Secret,
    db::{self, Pool},
    id::{AccountId, ResourceId},
    identity::Caller,
};
use chrono::{DateTime, Utc};

use super::{
    Autopay, Card, CardState, Cause, Error, Of, Provider, Refusal, locked, parent,
    rules::{self, MOST_CARDS, Why},
    store, switch_off,
    yookassa::{NoCard, is_id},
};
use crate::{
    accounts::Account,
    requests::{self, Begun, Call, Outcome},
    uuid_of,
};

/// Whether a text can be a token of the provider.
pub(crate) fn is_token(text: &str) -> bool {
    is_id(text)
}

/// The first of the five places that is free.
fn free_slot(cards: &[Card]) -> Result<i16, Refusal> {
    let taken = |slot: &i16| cards.iter().any(|card| card.slot == *slot);
    (1..=MOST_CARDS).find(|slot| !taken(slot)).ok_or(Refusal::TooManyCards)
}

/// Links a card after asking the provider whether it can be charged. The question is asked outside of the
/// transaction, so what forbids linking is looked at before and after it.
pub(crate) async fn link(
    autopay: &Autopay,
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Of<Card>>,
    caller: &Caller,
    (id, token): (&AccountId, &Secret),
) -> Result<Outcome<Of<Card>>, Error> {
    let before = db::retry("autopay.link.look", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Some(Outcome::Replayed(answer))),
        };
        let account = locked(&tx, caller, id, || id.name()).await?;
        let provider = allowed(autopay, &account)?;
        let cards = store::cards(&tx, account.key).await?;
        linkable(provider, &tx, &account, &cards, token).await?;
        tx.rollback().await?;
        Ok::<_, Error>(None)
    })
    .await?;
    if let Some(answered) = before {
        return Ok(answered);
    }
    let Some(provider) = &autopay.provider else {
        return Err(Refusal::NotAvailable(vec![Why::ProviderNotConfigured]).into());
    };
    let face = provider.api.card(token).await.map_err(|why| match why {
        NoCard::Unknown => Error::Refused(Refusal::CardNotUsable("UNKNOWN")),
        NoCard::NotChargeable => Error::Refused(Refusal::CardNotUsable("NOT_CHARGEABLE")),
        NoCard::Away => Error::ProviderAway,
    })?;
    db::retry("autopay.link", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let account = locked(&tx, caller, id, || id.name()).await?;
        allowed(autopay, &account)?;
        let cards = store::cards(&tx, account.key).await?;
        let slot = linkable(provider, &tx, &account, &cards, token).await?;
        let card = Card {
            id: adspend_common::id::new_uuid(now),
            slot,
            face: face.clone(),
            state: CardState::Active,
            linked_at: now,
        };
        let (sealed, hash) = (provider.seal.seal(card.id, token), provider.seal.hash(token));
        store::link(&tx, account.key, &card, (&sealed, &hash)).await?;
        Ok(requests::finish(tx, call, Of::new(&account, card)).await?)
    })
    .await
}

fn allowed<'a>(autopay: &'a Autopay, account: &Account) -> Result<&'a Provider, Refusal> {
    let why = rules::ineligible(&autopay.terms, account);
    match &autopay.provider {
        Some(provider) if why.is_empty() => Ok(provider),
        Some(_) | None => Err(Refusal::NotAvailable(why)),
    }
}

/// The place that the card gets.
async fn linkable(
    provider: &Provider,
    tx: &db::Tx<'_>,
    account: &Account,
    cards: &[Card],
    token: &Secret,
) -> Result<i16, Error> {
    if store::is_linked(tx, account.key, &provider.seal.hash(token)).await? {
        return Err(Refusal::LinkedAlready.into());
    }
    Ok(free_slot(cards)?)
}

/// The linked cards, oldest first.
pub(crate) async fn list(
    pool: &Pool,
    caller: &Caller,
    id: &AccountId,
) -> Result<Of<Vec<Card>>, Error> {
    let client = pool.get().await?;
    let account = parent(&client, caller, id, || id.name()).await?;
    let cards = store::cards(&client, account.key).await?;
    Ok(Of::new(&account, cards))
}

/// Unlinks a card and forgets its token; the autopayment with it goes off.
pub(crate) async fn unlink(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Of<Card>>,
    caller: &Caller,
    (id, card): (&AccountId, &ResourceId),
) -> Result<Outcome<Of<Card>>, Error> {
    db::retry("autopay.unlink", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let name = || format!("{}/cards/{card}", id.name());
        let absent = || Error::NotFound(name());
        let account = locked(&tx, caller, id, name).await?;
        let uuid = uuid_of(card).ok_or_else(absent)?;
        let card = store::card_of(&tx, account.key, uuid).await?.ok_or_else(absent)?;
        switch_off(&tx, now, &account, (Cause::CardUnlinked, Some(uuid))).await?;
        if !store::unlink(&tx, account.key, uuid, now).await? {
            return Err(absent());
        }
        let card = Card { state: CardState::Unlinked, ..card };
        Ok(requests::finish(tx, call, Of::new(&account, card)).await?)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autopay::Face;
    use uuid::Uuid;

    fn cards(slots: &[i16]) -> Vec<Card> {
        let face = Face {
            first6: "220000".into(),
            last4: "0053".into(),
            brand: "Mir".into(),
            expiry_month: 7,
            expiry_year: 2030,
        };
        let card = |slot: &i16| Card {
            id: Uuid::from_u128(u128::try_from(*slot).unwrap()),
            slot: *slot,
            face: face.clone(),
            state: CardState::Active,
            linked_at: DateTime::UNIX_EPOCH,
        };
        slots.iter().map(card).collect()
    }

    #[test]
    fn five_cards_are_linked_and_unlinking_one_makes_room_r_123() {
        for (taken, slot) in [
            (&[][..], Ok(1)),
            (&[1], Ok(2)),
            (&[2, 3], Ok(1)),
            (&[1, 2, 3, 4], Ok(5)),
            (&[1, 2, 4, 5], Ok(3)),
            (&[1, 2, 3, 4, 5], Err(Refusal::TooManyCards)),
        ] {
            assert_eq!(free_slot(&cards(taken)), slot, "{taken:?}");
        }
    }
}
