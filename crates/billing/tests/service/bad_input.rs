//! Bad input: all wrong fields at once, and nothing changes.

use adspend_common::proto::{adspend::billing::v1 as pb, google::r#type as google};
use tonic::Code;

use crate::support::*;

fn wrong(refused: &Refused, fields: &[&str]) {
    refused.is(Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(refused.fields, fields);
}

#[tokio::test]
async fn an_account_names_all_its_wrong_fields() {
    let world = World::start().await;
    let request = pb::CreateAccountRequest {
        account_id: "North!".to_owned(),
        account: Some(pb::Account {
            kind: 99,
            display_name: " ".to_owned(),
            currency_code: "RUR".to_owned(),
            legal_entity: Some(pb::LegalEntity {
                country_code: "RU".to_owned(),
                name: String::new(),
                inn: "7707083894".to_owned(),
                kpp: "77".to_owned(),
                ogrn: "1027739850963".to_owned(),
                address: "a\u{202e}b".to_owned(),
            }),
            notification_email: "nobody".to_owned(),
            ..Default::default()
        }),
        request_id: "a b".to_owned(),
    };
    let refused = refused(world.operator().accounts().create_account(request).await);
    wrong(
        &refused,
        &[
            "account_id",
            "account.kind",
            "account.display_name",
            "account.currency_code",
            "account.legal_entity.name",
            "account.legal_entity.address",
            "account.legal_entity.inn",
            "account.legal_entity.kpp",
            "account.legal_entity.ogrn",
            "account.notification_email",
            "request_id",
        ],
    );
    let list = pb::ListAccountsRequest::default();
    let listed = world.operator().accounts().list_accounts(list).await.unwrap().into_inner();
    assert!(listed.accounts.is_empty());
    world.end().await;
}

#[tokio::test]
async fn requests_without_anything_name_what_they_lack() {
    let world = World::start().await;
    let operator = world.operator();
    macro_rules! lacks {
        ($client:ident.$call:ident($request:ident), $fields:expr) => {{
            let result = operator.$client().$call(pb::$request::default()).await;
            wrong(&refused(result), &$fields);
        }};
    }
    lacks!(accounts.create_account(CreateAccountRequest), ["account", "request_id"]);
    lacks!(accounts.get_account(GetAccountRequest), ["name"]);
    lacks!(
        accounts.update_account(UpdateAccountRequest),
        ["update_mask", "account", "account.name", "request_id"]
    );
    lacks!(accounts.attach_client(AttachClientRequest), ["name", "agency", "request_id"]);
    lacks!(accounts.detach_client(DetachClientRequest), ["name", "request_id"]);
    lacks!(accounts.block_account(BlockAccountRequest), ["name", "request_id"]);
    lacks!(accounts.unblock_account(UnblockAccountRequest), ["name", "request_id"]);
    lacks!(accounts.get_balance(GetBalanceRequest), ["name"]);
    let invoice = ["parent", "amount", "terms", "request_id"];
    lacks!(invoices.create_invoice(CreateInvoiceRequest), invoice);
    lacks!(invoices.get_invoice(GetInvoiceRequest), ["name"]);
    lacks!(invoices.list_invoices(ListInvoicesRequest), ["parent"]);
    lacks!(invoices.cancel_invoice(CancelInvoiceRequest), ["name", "request_id"]);
    let payment = ["amount", "payer", "purpose", "request_id"];
    lacks!(payments.record_payment(RecordPaymentRequest), payment);
    lacks!(payments.get_payment(GetPaymentRequest), ["name"]);
    lacks!(payments.allocate_payment(AllocatePaymentRequest), ["name", "account", "request_id"]);
    lacks!(promises.get_promised_payment_terms(GetPromisedPaymentTermsRequest), ["parent"]);
    let promise = ["parent", "amount", "request_id"];
    lacks!(promises.take_promised_payment(TakePromisedPaymentRequest), promise);
    lacks!(promises.repay_promised_payment(RepayPromisedPaymentRequest), ["name", "request_id"]);
    lacks!(promises.get_promised_payment(GetPromisedPaymentRequest), ["name"]);
    lacks!(promises.list_promised_payments(ListPromisedPaymentsRequest), ["parent"]);
    lacks!(transactions.list_transactions(ListTransactionsRequest), ["parent"]);
    world.end().await;
}

#[tokio::test]
async fn amounts_that_are_no_amounts_are_refused() {
    let world = World::start().await;
    world.with_agency("north").await;
    let rub =
        |units: i64, nanos: i32| google::Money { currency_code: "RUB".to_owned(), units, nanos };
    for (amount, field) in [
        (rub(0, 0), "amount"),
        (rub(-5, 0), "amount"),
        (rub(5, -10_000_000), "amount"),
        (rub(5, 1), "amount.nanos"),
        (rub(5, 1_000_000_000), "amount.units"),
        (rub(5, 1_000_000), "amount.nanos"),
        (rub(i64::MAX, 0), "amount.units"),
        (rub(1_000_000_001, 0), "amount.units"),
        (google::Money { currency_code: "rub".to_owned(), ..rub(5, 0) }, "amount.currency_code"),
        (google::Money { currency_code: String::new(), ..rub(5, 0) }, "amount.currency_code"),
    ] {
        let request = pb::TakePromisedPaymentRequest {
            parent: name("north"),
            amount: Some(amount.clone()),
            request_id: fresh(),
        };
        let refused = refused(world.operator().promises().take_promised_payment(request).await);
        assert_eq!(refused.code, Code::InvalidArgument, "{amount:?}");
        assert_eq!(refused.fields, [field], "{amount:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_payment_names_all_its_wrong_fields() {
    let world = World::start().await;
    let request = pb::RecordPaymentRequest {
        amount: rub("0"),
        payer: Some(pb::Payer {
            name: String::new(),
            inn: "77070838x3".to_owned(),
            kpp: "1".to_owned(),
            bank_account: "4070 2810".to_owned(),
            bik: "144525225".to_owned(),
        }),
        purpose: "x".repeat(513),
        document_number: "n".repeat(65),
        document_date: Some(google::Date { year: 2026, month: 2, day: 30 }),
        request_id: String::new(),
        method: 7,
    };
    let refused = refused(world.operator().payments().record_payment(request).await);
    assert_eq!(refused.code, Code::InvalidArgument);
    for field in [
        "amount",
        "payer.name",
        "payer.inn",
        "payer.kpp",
        "payer.bank_account",
        "payer.bik",
        "purpose",
        "document_number",
        "request_id",
        "method",
    ] {
        assert!(refused.fields.iter().any(|found| found == field), "{field}: {:?}", refused.fields);
    }
    assert!(refused.fields.iter().any(|found| found.starts_with("document_date")));
    world.end().await;
}

#[tokio::test]
async fn names_and_pages_from_elsewhere_are_refused() {
    let world = World::start().await;
    world.with_agency("north").await;
    for malformed in ["north", "accounts/", "accounts/North", "campaigns/x", "accounts/x/y"] {
        let request = pb::GetAccountRequest { name: malformed.to_owned() };
        let refused = refused(world.operator().accounts().get_account(request).await);
        wrong(&refused, &["name"]);
    }
    let list = |page_size, token: &str| pb::ListTransactionsRequest {
        parent: name("north"),
        page_size,
        page_token: token.to_owned(),
        ..Default::default()
    };
    let mut transactions = world.operator().transactions();
    wrong(
        &refused(transactions.list_transactions(list(-1, "AAAA")).await),
        &["page_size", "page_token"],
    );
    let window = |start: &str, end: &str, types: Vec<i32>| pb::ListTransactionsRequest {
        start_time: stamp(start),
        end_time: stamp(end),
        types,
        ..list(0, "")
    };
    let backwards = window("2026-11-20T12:00:00+03:00", "2026-11-20T12:00:00+03:00", vec![1]);
    wrong(&refused(transactions.list_transactions(backwards).await), &["end_time"]);
    let long = window("2025-01-01T00:00:00Z", "2026-11-20T12:00:00+03:00", vec![99]);
    wrong(&refused(transactions.list_transactions(long).await), &["types[0]", "start_time"]);
    world.end().await;
}

#[tokio::test]
async fn ids_that_are_not_ours_are_not_found() {
    let world = World::start().await;
    world.with_agency("north").await;
    for id in ["x", "0193e9a000007000800000000000000a", "0193e9a0-0000-7000-8000-000000000000"] {
        let invoice = pb::GetInvoiceRequest { name: format!("accounts/north/invoices/{id}") };
        refused(world.operator().invoices().get_invoice(invoice).await)
            .is(Code::NotFound, "NOT_FOUND");
        let promise =
            pb::GetPromisedPaymentRequest { name: format!("accounts/north/promisedPayments/{id}") };
        refused(world.operator().promises().get_promised_payment(promise).await)
            .is(Code::NotFound, "NOT_FOUND");
        let payment = pb::GetPaymentRequest { name: format!("payments/{id}") };
        refused(world.operator().payments().get_payment(payment).await)
            .is(Code::NotFound, "NOT_FOUND");
    }
    world.end().await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_whole() {
    let world = World::start().await;
    let request = payment(&"x".repeat(5 * 1024 * 1024), "1", NORTH_INN);
    let refused = refused(world.operator().payments().record_payment(request).await);
    refused.is(Code::ResourceExhausted, "TOO_LARGE");
    world.end().await;
}
