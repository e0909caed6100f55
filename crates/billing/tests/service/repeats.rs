//! Every changing call takes effect once (I-4): the matrix of request ids.

use adspend_common::proto::adspend::billing::v1 as pb;
use tonic::Code;

use crate::support::*;

/// The answer is the first one again, marked; the same id with another payload is refused.
macro_rules! repeats {
    ($client:expr, $call:ident, $request:expr, $other:expr) => {{
        let request = $request;
        let first = $client.$call(request.clone()).await.unwrap().into_inner();
        assert!(!first.replayed);
        let mut second = $client.$call(request.clone()).await.unwrap().into_inner();
        assert!(second.replayed, "{second:?}");
        second.replayed = false;
        assert_eq!(second, first);
        let mut other = request.clone();
        ($other)(&mut other);
        refused($client.$call(other).await).is(Code::AlreadyExists, "REQUEST_ID_REUSED");
        first
    }};
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_another_payload_is_refused() {
    let world = World::start().await;
    let operator = world.operator();

    let request = account("north", pb::AccountKind::Agency, NORTH_INN);
    repeats!(operator.accounts(), create_account, request, |r: &mut pb::CreateAccountRequest| {
        r.account_id = "south".to_owned();
    });
    let nameless = account("", pb::AccountKind::Advertiser, OTHER_INN);
    repeats!(operator.accounts(), create_account, nameless, |r: &mut pb::CreateAccountRequest| {
        r.account.as_mut().unwrap().display_name = "x".to_owned();
    });
    world.create(account("shop", pb::AccountKind::Advertiser, OTHER_INN)).await;
    let update = pb::UpdateAccountRequest {
        account: Some(pb::Account {
            name: name("north"),
            display_name: "North Media".to_owned(),
            etag: "r1".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["display_name".to_owned()] }),
        request_id: fresh(),
    };
    repeats!(operator.accounts(), update_account, update, |r: &mut pb::UpdateAccountRequest| {
        r.account.as_mut().unwrap().display_name = "x".to_owned();
    });
    let block = pb::BlockAccountRequest { name: name("shop"), request_id: fresh() };
    repeats!(operator.accounts(), block_account, block, |r: &mut pb::BlockAccountRequest| {
        r.name = name("north");
    });
    let unblock = pb::UnblockAccountRequest { name: name("shop"), request_id: fresh() };
    repeats!(operator.accounts(), unblock_account, unblock, |r: &mut pb::UnblockAccountRequest| {
        r.name = name("north");
    });
    let attach =
        pb::AttachClientRequest { name: name("shop"), agency: name("north"), request_id: fresh() };
    repeats!(operator.accounts(), attach_client, attach, |r: &mut pb::AttachClientRequest| {
        r.agency = name("shop");
    });
    let detach = pb::DetachClientRequest { name: name("shop"), request_id: fresh() };
    repeats!(operator.accounts(), detach_client, detach, |r: &mut pb::DetachClientRequest| {
        r.name = name("north");
    });
    world.end().await;
}

#[tokio::test]
async fn money_that_is_asked_for_twice_moves_once() {
    let world = World::start().await;
    world.with_agency("north").await;
    let operator = world.operator();

    let invoice = pb::CreateInvoiceRequest {
        parent: name("north"),
        amount: rub("50000"),
        terms: pb::InvoiceTerms::Prepaid.into(),
        request_id: fresh(),
    };
    let issued = repeats!(
        operator.invoices(),
        create_invoice,
        invoice,
        |r: &mut pb::CreateInvoiceRequest| {
            r.amount = rub("50001");
        }
    );
    let number = issued.invoice.unwrap().number;
    let paid = payment(&number, "50000", NORTH_INN);
    repeats!(operator.payments(), record_payment, paid, |r: &mut pb::RecordPaymentRequest| {
        r.document_number = "18".to_owned();
    });
    assert_eq!(world.available("north").await, "50000");

    let free = world.record("for ads", "700", "500100732259").await;
    let allocation = pb::AllocatePaymentRequest {
        name: free.name,
        account: name("north"),
        invoice: String::new(),
        request_id: fresh(),
    };
    repeats!(
        operator.payments(),
        allocate_payment,
        allocation,
        |r: &mut pb::AllocatePaymentRequest| r.account = name("other")
    );
    assert_eq!(world.available("north").await, "50700");

    let take = pb::TakePromisedPaymentRequest {
        parent: name("north"),
        amount: rub("1000"),
        request_id: fresh(),
    };
    let taken = repeats!(
        operator.promises(),
        take_promised_payment,
        take,
        |r: &mut pb::TakePromisedPaymentRequest| r.amount = rub("1001")
    );
    assert_eq!(world.available("north").await, "51700");
    let repay = pb::RepayPromisedPaymentRequest {
        name: taken.promised_payment.unwrap().name,
        request_id: fresh(),
    };
    repeats!(
        operator.promises(),
        repay_promised_payment,
        repay,
        |r: &mut pb::RepayPromisedPaymentRequest| {
            let other = if r.name.ends_with('0') { "1" } else { "0" };
            r.name.replace_range(r.name.len() - 1.., other);
        }
    );
    assert_eq!(world.available("north").await, "50700");
    let open = world.invoice("north", "2000").await;
    let cancel = pb::CancelInvoiceRequest { name: open.name, request_id: fresh() };
    repeats!(operator.invoices(), cancel_invoice, cancel, |r: &mut pb::CancelInvoiceRequest| {
        r.name = r.name.replace("north", "south");
    });
    world.end().await;
}

#[tokio::test]
async fn equal_requests_at_once_take_one_effect() {
    let world = World::start().await;
    world.with_agency("north").await;
    let invoice = world.invoice("north", "2000").await;
    let request = payment(&invoice.number, "2000", NORTH_INN);
    let record = || async {
        let recorded = world.operator().payments().record_payment(request.clone()).await.unwrap();
        recorded.into_inner()
    };
    let (a, b, c, d) = tokio::join!(record(), record(), record(), record());
    let answers = [a, b, c, d];
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers.iter().all(|answer| answer.payment == answers[0].payment));
    assert_eq!(world.available("north").await, "2000");
    world.end().await;
}

#[tokio::test]
async fn a_refused_call_does_not_burn_its_id() {
    let world = World::start().await;
    world.with_agency("north").await;
    let take = pb::TakePromisedPaymentRequest {
        parent: name("north"),
        amount: rub("1000"),
        request_id: "promise-1".to_owned(),
    };
    let promises = || world.operator().promises();
    refused(promises().take_promised_payment(take.clone()).await)
        .is(Code::FailedPrecondition, "PROMISE_NOT_AVAILABLE");
    world.pay("north", "100000").await;
    let taken = promises().take_promised_payment(take).await.unwrap().into_inner();
    assert!(!taken.replayed);
    world.end().await;
}

#[tokio::test]
async fn request_ids_are_of_the_tenant_and_the_method() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.create(account("south", pb::AccountKind::Agency, OTHER_INN)).await;
    let invoice = |id: &str| pb::CreateInvoiceRequest {
        parent: name(id),
        amount: rub("2000"),
        terms: pb::InvoiceTerms::Prepaid.into(),
        request_id: "the-same".to_owned(),
    };
    for id in ["north", "south"] {
        let issued = world.agency(id).invoices().create_invoice(invoice(id)).await.unwrap();
        let issued = issued.into_inner();
        assert!(!issued.replayed);
        let cancel = pb::CancelInvoiceRequest {
            name: issued.invoice.unwrap().name,
            request_id: "the-same".to_owned(),
        };
        world.agency(id).invoices().cancel_invoice(cancel).await.unwrap();
    }
    world.operator().invoices().create_invoice(invoice("north")).await.unwrap();
    refused(world.operator().invoices().create_invoice(invoice("south")).await)
        .is(Code::AlreadyExists, "REQUEST_ID_REUSED");
    world.end().await;
}

#[tokio::test]
async fn an_auto_top_up_that_is_set_twice_fires_once() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "5000").await;
    let operator = world.operator();
    let set = pb::SetAutoTopUpRequest {
        parent: name("shop"),
        amount: rub("500"),
        threshold: rub("0"),
        limit: rub("2000"),
        period: pb::AutoTopUpPeriod::Day.into(),
        request_id: fresh(),
    };
    for change in [
        |r: &mut pb::SetAutoTopUpRequest| r.parent = name("other"),
        |r: &mut pb::SetAutoTopUpRequest| r.amount = rub("501"),
        |r: &mut pb::SetAutoTopUpRequest| r.threshold = rub("1"),
        |r: &mut pb::SetAutoTopUpRequest| r.limit = rub("2001"),
        |r: &mut pb::SetAutoTopUpRequest| r.period = pb::AutoTopUpPeriod::Week.into(),
    ] {
        let set = pb::SetAutoTopUpRequest { request_id: fresh(), ..set.clone() };
        repeats!(operator.top_ups(), set_auto_top_up, set, change);
    }
    assert_eq!(world.available("shop").await, "500");
    let disable = pb::DisableAutoTopUpRequest { parent: name("shop"), request_id: fresh() };
    repeats!(
        operator.top_ups(),
        disable_auto_top_up,
        disable,
        |r: &mut pb::DisableAutoTopUpRequest| r.parent = name("other")
    );
    world.end().await;
}
