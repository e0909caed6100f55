//! What the requests of AccountService say, and everything that is wrong with them at once.

use adspend_common::{
    id::{AccountId, RequestId},
    identity::Caller,
    proto::adspend::billing::v1 as pb,
    rpc::{Refusal, Violations},
};
use chrono::{DateTime, Utc};

use crate::accounts::{AccountKind, Changes, LegalEntity, NewAccount, rules};

/// The longest name of an account or a payer, and the longest address, in bytes.
const NAME_BYTES: usize = 256;
const LEGAL_NAME_BYTES: usize = 512;
const ADDRESS_BYTES: usize = 1_024;

const MASK: &[&str] = &[
    "display_name",
    "notification_email",
    "legal_entity",
    "legal_entity.name",
    "legal_entity.kpp",
    "legal_entity.ogrn",
    "legal_entity.address",
];

/// A payer, with its requisites checked.
pub(in crate::grpc) fn legal_entity(
    v: &mut Violations,
    entity: &pb::LegalEntity,
) -> Option<LegalEntity> {
    let country = rules::is_country(&entity.country_code);
    if !country {
        v.add("country_code", "must be two capital letters, such as RU");
    }
    let name = v.text("name", &entity.name, LEGAL_NAME_BYTES);
    let address = v.optional_text("address", &entity.address, ADDRESS_BYTES);
    let decoded = LegalEntity {
        country: entity.country_code.clone(),
        name: name.clone().unwrap_or_default(),
        inn: entity.inn.clone(),
        kpp: entity.kpp.clone(),
        ogrn: entity.ogrn.clone(),
        address: address.clone().unwrap_or_default(),
    };
    let wrong = rules::wrong_requisites(&decoded);
    for (field, what) in &wrong {
        v.add(field, *what);
    }
    let sound = country && name.is_some() && address.is_some() && wrong.is_empty();
    sound.then_some(decoded)
}

fn email(v: &mut Violations, text: &str) -> Option<String> {
    if text.is_empty() || rules::is_email(text) {
        return Some(text.to_owned());
    }
    v.add("notification_email", "must be an e-mail address");
    None
}

/// The agency belongs to a client and to nobody else. A client that an agency creates is its own.
fn agency(
    v: &mut Violations,
    account: &pb::Account,
    kind: Option<AccountKind>,
    caller: &Caller,
) -> Option<Option<AccountId>> {
    match kind {
        Some(AccountKind::Client) => match &caller.tenant {
            Some(own) if account.agency.is_empty() => Some(Some(own.clone())),
            Some(_) | None => v.name("agency", &account.agency).map(Some),
        },
        Some(AccountKind::Agency | AccountKind::Advertiser) if !account.agency.is_empty() => {
            v.add("agency", "must be empty unless the kind is ACCOUNT_KIND_CLIENT");
            None
        }
        Some(AccountKind::Agency | AccountKind::Advertiser) => Some(None),
        // The kind is missing: the name is still looked at.
        None => v.optional_name("agency", &account.agency),
    }
}

fn kind(v: &mut Violations, value: i32) -> Option<AccountKind> {
    match v.enumeration::<pb::AccountKind>("kind", value)? {
        pb::AccountKind::Unspecified => None,
        pb::AccountKind::Agency => Some(AccountKind::Agency),
        pb::AccountKind::Client => Some(AccountKind::Client),
        pb::AccountKind::Advertiser => Some(AccountKind::Advertiser),
    }
}

/// A new account. A request without an id gets a new one each time it is read; its repeat is answered with
/// the first one.
pub(super) fn new(
    request: &pb::CreateAccountRequest,
    caller: &Caller,
    now: DateTime<Utc>,
) -> Result<(NewAccount, RequestId), Refusal> {
    let mut v = Violations::new();
    let id = v.id_or_new("account_id", &request.account_id, now);
    let account = v.required("account", request.account.as_ref());
    let account = account.and_then(|account| {
        v.within("account", |v| {
            let kind = kind(v, account.kind);
            let agency = agency(v, account, kind, caller);
            let display_name = v.text("display_name", &account.display_name, NAME_BYTES);
            let currency = v.currency("currency_code", &account.currency_code);
            let entity = match &account.legal_entity {
                Some(entity) => v.within("legal_entity", |v| legal_entity(v, entity)).map(Some),
                None => Some(None),
            };
            let email = email(v, &account.notification_email);
            Some(NewAccount {
                id: id.clone()?,
                kind: kind?,
                agency: agency?,
                display_name: display_name?,
                currency: currency?,
                legal_entity: entity?,
                email: email?,
            })
        })
    });
    let request_id = v.request_id(&request.request_id);
    v.check()?;
    Violations::new().all((account, request_id))
}

/// Which fields of which account become what.
pub(super) struct Update {
    pub(super) account: AccountId,
    pub(super) etag: String,
    pub(super) changes: Changes,
    pub(super) id: RequestId,
}

/// A change of an account.
pub(super) fn update(request: &pb::UpdateAccountRequest) -> Result<Update, Refusal> {
    let mut v = Violations::new();
    let none = pb::Account::default();
    let mask = v.required("update_mask", request.update_mask.as_ref());
    let mask = mask.and_then(|mask| v.mask("update_mask", Some(mask), MASK));
    let given = v.required("account", request.account.as_ref()).unwrap_or(&none);
    let (account, changes) = v.within("account", |v| {
        let account = v.name("name", &given.name);
        (account, changes(v, given, mask.as_deref().unwrap_or_default()))
    });
    let id = v.request_id(&request.request_id);
    v.check()?;
    let (account, changes, id) = Violations::new().all((account, changes, id))?;
    Ok(Update { account, etag: given.etag.clone(), changes, id })
}

fn changes(v: &mut Violations, given: &pb::Account, mask: &[&str]) -> Option<Changes> {
    let named = |path: &str| mask.contains(&path);
    let mut changes = Changes::default();
    if named("display_name") {
        changes.display_name = Some(v.text("display_name", &given.display_name, NAME_BYTES)?);
    }
    if named("notification_email") {
        changes.email = Some(email(v, &given.notification_email)?);
    }
    let none = pb::LegalEntity::default();
    let entity = given.legal_entity.as_ref();
    // The whole mask without a legal entity leaves it as it is.
    let whole = named("legal_entity") && (entity.is_some() || mask.len() < MASK.len());
    v.within("legal_entity", |v| {
        let entity = entity.unwrap_or(&none);
        if whole {
            changes.legal_entity = Some(legal_entity(v, entity)?);
            return Some(());
        }
        if named("legal_entity") {
            return Some(());
        }
        if named("legal_entity.name") {
            changes.legal_name = Some(v.text("name", &entity.name, LEGAL_NAME_BYTES)?);
        }
        if named("legal_entity.kpp") {
            changes.kpp = Some(entity.kpp.clone());
        }
        if named("legal_entity.ogrn") {
            changes.ogrn = Some(entity.ogrn.clone());
        }
        if named("legal_entity.address") {
            changes.address = Some(v.optional_text("address", &entity.address, ADDRESS_BYTES)?);
        }
        Some(())
    })?;
    Some(changes)
}

/// Which advertiser joins which agency.
pub(super) fn attach(
    request: &pb::AttachClientRequest,
) -> Result<(AccountId, AccountId, RequestId), Refusal> {
    let mut v = Violations::new();
    let name = v.name("name", &request.name);
    let agency = v.name("agency", &request.agency);
    let request_id = v.request_id(&request.request_id);
    v.all((name, agency, request_id))
}

/// A changing request that has nothing but a name.
pub(super) fn named(name: &str, request_id: &str) -> Result<(AccountId, RequestId), Refusal> {
    let mut v = Violations::new();
    let name = v.name("name", name);
    let request_id = v.request_id(request_id);
    v.all((name, request_id))
}

/// Whose figures, and when.
pub(super) fn balance(
    request: &pb::GetBalanceRequest,
    now: DateTime<Utc>,
) -> Result<(AccountId, Option<DateTime<Utc>>), Refusal> {
    let mut v = Violations::new();
    let name = v.name("name", &request.name);
    let as_of = v.optional_timestamp("as_of", request.as_of.as_ref());
    if as_of.flatten().is_some_and(|at| at > now) {
        v.add("as_of", "must not be in the future");
    }
    v.all((name, as_of))
}
