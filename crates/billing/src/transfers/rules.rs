//! Who may transfer to whom: pure.

use adspend_common::money::Currency;

use super::Error;
use crate::accounts::{AccountFacts, AccountKind};

/// An agency and its own client, in either direction, in their one currency.
pub fn check(
    source: &AccountFacts,
    destination: &AccountFacts,
    currency: Currency,
) -> Result<(), Error> {
    if !is_pair(source, destination) && !is_pair(destination, source) {
        return Err(Error::NotAnAgencyClient);
    }
    for account in [source, destination] {
        if account.currency != currency {
            return Err(Error::Currency { account: account.currency, asked: currency });
        }
    }
    Ok(())
}

fn is_pair(agency: &AccountFacts, client: &AccountFacts) -> bool {
    match (agency.kind, client.kind) {
        (AccountKind::Agency, AccountKind::Client) => {
            client.agency.as_ref().is_some_and(|(_, number)| *number == agency.key.account)
        }
        (AccountKind::Agency, AccountKind::Agency | AccountKind::Advertiser)
        | (AccountKind::Client | AccountKind::Advertiser, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use adspend_common::id::AccountId;

    use super::*;
    use crate::ledger::{AccountKey, AccountNo, TenantNo};

    fn account(
        number: i64,
        kind: AccountKind,
        agency: Option<i64>,
        currency: Currency,
    ) -> AccountFacts {
        let id = |number: i64| AccountId::parse(&format!("a{number}")).unwrap();
        AccountFacts {
            id: id(number),
            key: AccountKey {
                tenant: TenantNo(agency.unwrap_or(number)),
                account: AccountNo(number),
            },
            kind,
            currency,
            agency: agency.map(|number| (id(number), AccountNo(number))),
        }
    }

    #[test]
    fn money_moves_between_an_agency_and_its_own_clients_only() {
        let agency = account(1, AccountKind::Agency, None, Currency::RUB);
        let own = account(2, AccountKind::Client, Some(1), Currency::RUB);
        let other_own = account(3, AccountKind::Client, Some(1), Currency::RUB);
        let foreign = account(5, AccountKind::Client, Some(4), Currency::RUB);
        let direct = account(6, AccountKind::Advertiser, None, Currency::RUB);
        let other_agency = account(4, AccountKind::Agency, None, Currency::RUB);
        for (name, source, destination, allowed) in [
            ("to a client", &agency, &own, true),
            ("back from a client", &own, &agency, true),
            ("between clients", &own, &other_own, false),
            ("to a foreign client", &agency, &foreign, false),
            ("to a direct advertiser", &agency, &direct, false),
            ("to another agency", &agency, &other_agency, false),
            ("to itself", &agency, &agency, false),
        ] {
            let verdict = check(source, destination, Currency::RUB);
            assert_eq!(verdict.is_ok(), allowed, "{name}");
            if !allowed {
                assert_eq!(verdict, Err(Error::NotAnAgencyClient), "{name}");
            }
        }
    }

    #[test]
    fn another_currency_is_refused() {
        let agency = account(1, AccountKind::Agency, None, Currency::RUB);
        let client = account(2, AccountKind::Client, Some(1), Currency::RUB);
        let verdict = check(&agency, &client, Currency::USD);
        assert_eq!(verdict, Err(Error::Currency { account: Currency::RUB, asked: Currency::USD }));
    }
}
