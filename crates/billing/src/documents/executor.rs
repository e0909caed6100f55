//! Our own requisites: who renders the services and issues the documents. They are configuration, and what is
//! wrong with them is said at the start, not in the first invoice.

use adspend_common::requisites::{Holder, account, bik, inn, is_kpp};
use serde::{Deserialize, Serialize};

/// Documents (R-162..R-177).
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Documents {
    /// Our legal entity. Without it there are no documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor: Option<Executor>,
}

/// Our requisites, as documents print them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Executor {
    /// The name as it stands in the register.
    pub name: String,
    /// 10 digits; 12 of a sole proprietor.
    pub inn: String,
    /// Empty for a sole proprietor.
    #[serde(default)]
    pub kpp: String,
    /// The legal address.
    pub address: String,
    /// The bank.
    pub bank: String,
    /// The bank's identification code.
    pub bik: String,
    /// The bank's correspondent account; empty when it has none.
    #[serde(default)]
    pub correspondent_account: String,
    /// The account that is paid to.
    pub account: String,
    /// What the director is.
    #[serde(default = "director_title")]
    pub director_title: String,
    /// Who signs, by surname and initials.
    pub director: String,
    /// Who signs as the accountant; empty for a sole proprietor.
    #[serde(default)]
    pub accountant: String,
    /// The contract or offer that services are rendered under, in the genitive: `оферты от 01.01.2025`.
    pub contract: String,
}

fn director_title() -> String {
    "Генеральный директор".to_owned()
}

impl Executor {
    /// The names of the fields that cannot be right (R-184..R-186).
    pub(crate) fn wrong(&self) -> Vec<&'static str> {
        let holder = inn(&self.inn);
        let (entity, person) = (Some(Holder::Entity), Some(Holder::Person));
        let kpp_fits = (holder == entity && is_kpp(&self.kpp))
            || (holder == person && self.kpp.is_empty())
            || holder.is_none();
        let empty = |text: &str| text.trim().is_empty();
        let checks = [
            ("name", empty(&self.name)),
            ("inn", holder.is_none()),
            ("kpp", !kpp_fits),
            ("address", empty(&self.address)),
            ("bank", empty(&self.bank)),
            ("bik", bik(&self.bik).is_none()),
            (
                "correspondent_account",
                !self.correspondent_account.is_empty()
                    && account(&self.correspondent_account, &self.bik).is_none(),
            ),
            ("account", account(&self.account, &self.bik).is_none()),
            ("director", empty(&self.director)),
            ("accountant", holder == entity && empty(&self.accountant)),
            ("contract", empty(&self.contract)),
        ];
        checks.into_iter().filter_map(|(field, wrong)| wrong.then_some(field)).collect()
    }

    /// A legal entity has a KPP, a sole proprietor has none.
    pub(crate) fn is_entity(&self) -> bool {
        self.inn.len() == 10
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An executor whose requisites are right; nobody's.
    pub(crate) fn executor() -> Executor {
        Executor {
            name: "ООО «Адспенд»".to_owned(),
            inn: "7736207543".to_owned(),
            kpp: "770401001".to_owned(),
            address: "119021, г. Москва, ул. Льва Толстого, д. 16".to_owned(),
            bank: "ПАО СБЕРБАНК г. Москва".to_owned(),
            bik: "044525225".to_owned(),
            correspondent_account: "30101810400000000225".to_owned(),
            account: "40702810138250123017".to_owned(),
            director_title: director_title(),
            director: "Соколова М. А.".to_owned(),
            accountant: "Беляев К. Д.".to_owned(),
            contract: "оферты на размещение рекламы от 01.01.2025".to_owned(),
        }
    }

    #[test]
    fn wrong_requisites_are_named() {
        assert_eq!(executor().wrong(), [""; 0]);
        let proprietor = Executor {
            inn: "500100732259".to_owned(),
            kpp: String::new(),
            accountant: String::new(),
            ..executor()
        };
        assert_eq!(proprietor.wrong(), [""; 0]);
        let broken = Executor {
            inn: "7707083894".to_owned(),
            bik: "44525225".to_owned(),
            director: " ".to_owned(),
            ..executor()
        };
        assert_eq!(broken.wrong(), ["inn", "bik", "correspondent_account", "account", "director"]);
        let entity_without = Executor { kpp: String::new(), ..executor() };
        assert_eq!(entity_without.wrong(), ["kpp"]);
    }
}
