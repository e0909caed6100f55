//! Who may do and see what (I-8): foreign is absent, byte for byte.

use adspend_common::proto::adspend::billing::v1 as pb;
use tonic::Code;

use crate::support::*;

/// Two agencies with a client, an invoice, a payment and a promise each.
async fn two_agencies() -> (World, pb::Invoice, pb::Payment, pb::PromisedPayment) {
    let world = World::start().await;
    world.with_agency("north").await;
    world.create(account("south", pb::AccountKind::Agency, OTHER_INN)).await;
    world.with_client("south", "shop").await;
    let payment = world.pay("south", "100000").await;
    let invoice = world.invoice("south", "2000").await;
    let promise = world.promise("south", "1000").await.unwrap();
    (world, invoice, payment, promise)
}

/// The refusal of a foreign object with its name taken out, and that of an absent one, must be one.
fn same(foreign: (Refused, &str), absent: (Refused, &str)) {
    let without = |(refused, name): (Refused, &str)| {
        refused.is(Code::NotFound, "NOT_FOUND");
        assert!(refused.bytes.0.contains(name), "{refused:?}");
        let details = String::from_utf8_lossy(&refused.bytes.1).replace(name, "NAME");
        (refused.bytes.0.replace(name, "NAME"), details, refused.bytes.1.len() - 2 * name.len())
    };
    assert_eq!(without(foreign), without(absent));
}

#[tokio::test]
async fn what_belongs_to_another_tenant_is_absent() {
    let (world, invoice, payment, promise) = two_agencies().await;
    let north = world.agency("north");
    macro_rules! hidden {
        ($client:ident.$call:ident, $foreign:expr, $absent:expr, |$name:ident| $request:expr) => {{
            let (foreign, absent): (&str, &str) = (&$foreign, &$absent);
            assert_eq!(foreign.len(), absent.len(), "names of one length: details are compared");
            let ask = async |$name: String| refused(north.$client().$call($request).await);
            same((ask(foreign.to_owned()).await, foreign), (ask(absent.to_owned()).await, absent));
        }};
    }
    let (south, nobody, shop, none) =
        ("accounts/south", "accounts/zzzzz", "accounts/shop", "accounts/zzzz");
    let request_id = fresh;
    hidden!(accounts.get_account, south, nobody, |name| pb::GetAccountRequest { name });
    hidden!(accounts.get_account, shop, none, |name| pb::GetAccountRequest { name });
    hidden!(accounts.get_balance, shop, none, |name| pb::GetBalanceRequest { name, as_of: None });
    hidden!(accounts.list_accounts, south, nobody, |agency| pb::ListAccountsRequest {
        agency,
        ..Default::default()
    });
    hidden!(accounts.detach_client, shop, none, |name| pb::DetachClientRequest {
        name,
        request_id: request_id()
    });
    hidden!(accounts.update_account, shop, none, |name| pb::UpdateAccountRequest {
        account: Some(pb::Account { name, display_name: "x".to_owned(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["display_name".to_owned()] }),
        request_id: request_id(),
    });
    hidden!(invoices.create_invoice, south, nobody, |parent| pb::CreateInvoiceRequest {
        parent,
        amount: rub("2000"),
        terms: pb::InvoiceTerms::Prepaid.into(),
        request_id: request_id(),
    });
    hidden!(invoices.list_invoices, south, nobody, |parent| pb::ListInvoicesRequest {
        parent,
        ..Default::default()
    });
    let absent = |name: &str| format!("{}0000", &name[..name.len() - 4]);
    hidden!(invoices.get_invoice, invoice.name, absent(&invoice.name), |name| {
        pb::GetInvoiceRequest { name }
    });
    hidden!(invoices.cancel_invoice, invoice.name, absent(&invoice.name), |name| {
        pb::CancelInvoiceRequest { name, request_id: request_id() }
    });
    hidden!(payments.get_payment, payment.name, absent(&payment.name), |name| {
        pb::GetPaymentRequest { name }
    });
    hidden!(payments.list_payments, south, nobody, |account| pb::ListPaymentsRequest {
        account,
        ..Default::default()
    });
    hidden!(promises.get_promised_payment_terms, south, nobody, |parent| {
        pb::GetPromisedPaymentTermsRequest { parent }
    });
    hidden!(promises.take_promised_payment, south, nobody, |parent| {
        pb::TakePromisedPaymentRequest { parent, amount: rub("1000"), request_id: request_id() }
    });
    hidden!(promises.get_promised_payment, promise.name, absent(&promise.name), |name| {
        pb::GetPromisedPaymentRequest { name }
    });
    hidden!(promises.repay_promised_payment, promise.name, absent(&promise.name), |name| {
        pb::RepayPromisedPaymentRequest { name, request_id: request_id() }
    });
    hidden!(transactions.list_transactions, shop, none, |parent| pb::ListTransactionsRequest {
        parent,
        ..Default::default()
    });
    hidden!(transfers.create_transfer, shop, none, |destination| pb::CreateTransferRequest {
        source: name("north"),
        destination,
        amount: rub("1"),
        request_id: request_id(),
    });
    let all = north.payments().list_payments(pb::ListPaymentsRequest::default()).await.unwrap();
    assert!(all.into_inner().payments.is_empty());
    assert_eq!(world.available("south").await, "101000", "nothing has changed");
    world.end().await;
}

/// Permission is decided before anything else is looked at.
#[tokio::test]
async fn a_method_of_others_is_denied_before_its_input_is_read() {
    let world = World::start().await;
    world.with_agency("north").await;
    macro_rules! denied {
        ($role:expr, $tenant:expr, $client:ident.$call:ident($request:ident)) => {{
            let caller = world.role($role, $tenant);
            let result = caller.$client().$call(pb::$request::default()).await;
            refused(result).is(Code::PermissionDenied, "PERMISSION_DENIED");
        }};
    }
    let north = Some("north");
    denied!("agency", north, payments.record_payment(RecordPaymentRequest));
    denied!("agency", north, payments.allocate_payment(AllocatePaymentRequest));
    denied!("agency", north, accounts.attach_client(AttachClientRequest));
    denied!("agency", north, accounts.block_account(BlockAccountRequest));
    denied!("agency", north, accounts.unblock_account(UnblockAccountRequest));
    denied!("agency", north, holds.open_holds(OpenHoldsRequest));
    denied!("agency", north, audit.verify_ledger(VerifyLedgerRequest));
    denied!("advertiser", north, accounts.create_account(CreateAccountRequest));
    denied!("advertiser", north, promises.take_promised_payment(TakePromisedPaymentRequest));
    denied!("auditor", None, accounts.update_account(UpdateAccountRequest));
    denied!("auditor", None, transfers.create_transfer(CreateTransferRequest));
    denied!("pacing", None, invoices.create_invoice(CreateInvoiceRequest));
    denied!("pacing", None, payments.list_payments(ListPaymentsRequest));
    denied!("ad_server", None, accounts.get_balance(GetBalanceRequest));
    world.end().await;
}

#[tokio::test]
async fn a_caller_whose_tenant_does_not_exist_finds_nothing() {
    let world = World::start().await;
    let ghost = world.agency("ghost");
    let request = pb::CreateInvoiceRequest {
        parent: name("ghost"),
        amount: rub("2000"),
        terms: pb::InvoiceTerms::Prepaid.into(),
        request_id: fresh(),
    };
    refused(ghost.invoices().create_invoice(request).await).is(Code::NotFound, "NOT_FOUND");
    let list = pb::ListAccountsRequest::default();
    refused(ghost.accounts().list_accounts(list).await).is(Code::NotFound, "NOT_FOUND");
    world.end().await;
}
