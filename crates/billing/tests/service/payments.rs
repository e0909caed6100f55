//! Invoices and payments: matching, free funds, allocation (R-40..R-48, R-190).

use adspend_common::proto::adspend::billing::v1 as pb;
use tonic::Code;

use crate::support::*;

async fn invoice_now(world: &World, invoice: &pb::Invoice) -> pb::Invoice {
    let request = pb::GetInvoiceRequest { name: invoice.name.clone() };
    let found = world.operator().invoices().get_invoice(request).await.unwrap();
    found.into_inner().invoice.unwrap()
}

fn invoice_of(account: &str, amount: &str) -> pb::CreateInvoiceRequest {
    pb::CreateInvoiceRequest {
        parent: name(account),
        amount: rub(amount),
        terms: pb::InvoiceTerms::Prepaid.into(),
        request_id: fresh(),
    }
}

fn allocate(payment: &pb::Payment, account: &str, invoice: &str) -> pb::AllocatePaymentRequest {
    pb::AllocatePaymentRequest {
        name: payment.name.clone(),
        account: name(account),
        invoice: invoice.to_owned(),
        request_id: fresh(),
    }
}

#[tokio::test]
async fn a_payment_of_its_invoice_is_credited() {
    let world = World::start().await;
    world.with_agency("north").await;
    let invoice = world.invoice("north", "45000").await;
    assert_eq!(invoice.number, "AS-26-000001");
    assert_eq!((invoice.payer_name.as_str(), invoice.payer_inn.as_str()), ("north LLC", NORTH_INN));
    let pay_by = invoice.pay_by.as_ref().unwrap();
    assert_eq!((pay_by.year, pay_by.month, pay_by.day), (2026, 11, 25));
    assert_eq!(invoice.state(), pb::InvoiceState::Issued);

    let purpose = "Оплата по счёту № AS-26-000001 от 20.11.2026, в т.ч. НДС 22 %";
    let payment = world.record(purpose, "45000", NORTH_INN).await;
    assert_eq!(payment.state(), pb::PaymentState::Credited);
    assert_eq!((payment.account.as_str(), &payment.invoice), ("accounts/north", &invoice.name));
    assert_eq!(text(&payment.collected), "0");
    let paid = invoice_now(&world, &invoice).await;
    assert_eq!((paid.state(), &paid.payment), (pb::InvoiceState::Paid, &payment.name));
    assert_eq!(paid.pay_time, stamp(START));
    assert_eq!(world.available("north").await, "45000");
    world.end().await;
}

#[tokio::test]
async fn whatever_does_not_match_stays_unallocated_with_its_reason() {
    let world = World::start().await;
    world.with_agency("north").await;
    let paid = world.invoice("north", "2000").await;
    world.record(&paid.number, "2000", NORTH_INN).await;
    let cancelled = world.invoice("north", "2000").await;
    let request = pb::CancelInvoiceRequest { name: cancelled.name.clone(), request_id: fresh() };
    world.operator().invoices().cancel_invoice(request).await.unwrap();
    let open = world.invoice("north", "2000").await;
    let two = format!("{} and {}", open.number, paid.number);

    for (purpose, amount, inn, reason) in [
        (open.number.as_str(), "2000.01", NORTH_INN, "AMOUNT_MISMATCH"),
        (&open.number, "1999.99", NORTH_INN, "AMOUNT_MISMATCH"),
        (&open.number, "2000", OTHER_INN, "PAYER_MISMATCH"),
        (&paid.number, "2000", NORTH_INN, "ALREADY_PAID"),
        (&cancelled.number, "2000", NORTH_INN, "INVOICE_CANCELLED"),
        ("for ads", "2000", NORTH_INN, "NUMBER_NOT_FOUND"),
        ("AS-26-999999", "2000", NORTH_INN, "NUMBER_NOT_FOUND"),
        (&two, "4000", NORTH_INN, "NUMBER_NOT_FOUND"),
    ] {
        let payment = world.record(purpose, amount, inn).await;
        let got = (payment.state(), payment.unallocated_reason.as_str());
        assert_eq!(got, (pb::PaymentState::Unallocated, reason), "{purpose} {amount} {inn}");
        assert_eq!((payment.account.as_str(), payment.invoice.as_str()), ("", ""));
    }
    assert_eq!(world.available("north").await, "2000");
    assert_eq!(invoice_now(&world, &open).await.state(), pb::InvoiceState::Issued);

    let mut foreign = payment(&open.number, "2000", NORTH_INN);
    foreign.amount = money("2000", "USD");
    let recorded = world.operator().payments().record_payment(foreign).await.unwrap();
    let recorded = recorded.into_inner().payment.unwrap();
    assert_eq!(recorded.unallocated_reason, "CURRENCY_MISMATCH");

    let mut other_kpp = payment(&open.number, "2000", NORTH_INN);
    other_kpp.payer.as_mut().unwrap().kpp = "770001001".to_owned();
    let recorded = world.operator().payments().record_payment(other_kpp).await.unwrap();
    let recorded = recorded.into_inner().payment.unwrap();
    assert_eq!(recorded.unallocated_reason, "PAYER_MISMATCH");
    world.end().await;
}

#[tokio::test]
async fn free_funds_are_allocated_whole_and_pay_the_invoice_that_is_named() {
    let world = World::start().await;
    world.with_agency("north").await;
    let invoice = world.invoice("north", "2000").await;
    let payment = world.record(&invoice.number, "1500", OTHER_INN).await;
    assert_eq!(payment.unallocated_reason, "PAYER_MISMATCH");
    world.set("2026-11-20T13:00:00+03:00");

    let request = allocate(&payment, "north", &invoice.name);
    let done = world.operator().payments().allocate_payment(request).await.unwrap();
    let done = done.into_inner().payment.unwrap();
    assert_eq!(done.state(), pb::PaymentState::Allocated);
    assert_eq!((done.account.as_str(), &done.invoice), ("accounts/north", &invoice.name));
    assert_eq!(done.unallocated_reason, "PAYER_MISMATCH", "the reason stays");
    assert_eq!(done.allocate_time, stamp("2026-11-20T13:00:00+03:00"));
    let paid = invoice_now(&world, &invoice).await;
    assert_eq!(paid.state(), pb::InvoiceState::Paid);
    assert_eq!(text(&paid.amount), "2000", "the invoice's amount does not change (R-43)");
    assert_eq!(world.available("north").await, "1500");

    let again = allocate(&payment, "north", "");
    let refused = refused(world.operator().payments().allocate_payment(again).await);
    refused.is(Code::FailedPrecondition, "PAYMENT_NOT_UNALLOCATED");
    assert_eq!(world.available("north").await, "1500");
    world.end().await;
}

#[tokio::test]
async fn nobodys_money_waits_on_the_platform_until_it_is_allocated() {
    let world = World::start().await;
    world.with_agency("north").await;
    let payment = world.record("for ads", "3000", OTHER_INN).await;
    // The agency does not see it before, and sees it afterwards.
    let get = || pb::GetPaymentRequest { name: payment.name.clone() };
    let hidden = refused(world.agency("north").payments().get_payment(get()).await);
    hidden.is(Code::NotFound, "NOT_FOUND");
    let request = allocate(&payment, "north", "");
    world.operator().payments().allocate_payment(request).await.unwrap();
    let seen = world.agency("north").payments().get_payment(get()).await.unwrap();
    assert_eq!(seen.into_inner().payment.unwrap().account, "accounts/north");
    assert_eq!(world.available("north").await, "3000");
    world.end().await;
}

#[tokio::test]
async fn the_payers_inn_leads_to_its_only_owner() {
    let world = World::start().await;
    world.with_agency("north").await;
    let payment = world.record("for ads", "3000", NORTH_INN).await;
    let list = pb::ListPaymentsRequest { account: name("north"), ..Default::default() };
    let listed = world.agency("north").payments().list_payments(list.clone()).await.unwrap();
    let names: Vec<String> =
        listed.into_inner().payments.into_iter().map(|payment| payment.name).collect();
    assert_eq!(names, [payment.name]);

    // Two owners with one INN: nobody can tell whose it is.
    world.create(account("twin", pb::AccountKind::Advertiser, NORTH_INN)).await;
    world.record("for ads", "10", NORTH_INN).await;
    let listed = world.agency("north").payments().list_payments(list).await.unwrap();
    assert_eq!(listed.into_inner().payments.len(), 1);
    let all = world.operator().payments().list_payments(pb::ListPaymentsRequest::default()).await;
    assert_eq!(all.unwrap().into_inner().payments.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn an_allocation_is_refused_for_what_it_may_not_do() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    let mut dollars = account("dollars", pb::AccountKind::Advertiser, OTHER_INN);
    dollars.account.as_mut().unwrap().currency_code = "USD".to_owned();
    world.create(dollars).await;
    let paid = world.invoice("north", "2000").await;
    world.record(&paid.number, "2000", NORTH_INN).await;
    let payment = world.record("for ads", "3000", "500100732259").await;
    let absent = "accounts/north/invoices/0193e9a0-0000-7000-8000-000000000000";
    for (account, invoice, code, reason) in [
        ("shop", "", Code::FailedPrecondition, "CLIENT_OF_AGENCY"),
        ("dollars", "", Code::FailedPrecondition, "CURRENCY_MISMATCH"),
        ("nobody", "", Code::NotFound, "NOT_FOUND"),
        ("north", paid.name.as_str(), Code::FailedPrecondition, "ALREADY_PAID"),
        ("north", absent, Code::NotFound, "NOT_FOUND"),
    ] {
        let request = allocate(&payment, account, invoice);
        let refused = refused(world.operator().payments().allocate_payment(request).await);
        refused.is(code, reason);
    }
    let other = allocate(&payment, "dollars", &paid.name);
    let refused = refused(world.operator().payments().allocate_payment(other).await);
    assert_eq!(refused.fields, ["invoice"]);
    assert_eq!(world.available("north").await, "2000");
    world.end().await;
}

#[tokio::test]
async fn an_invoice_is_refused_for_what_it_may_not_ask() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    let mut bare = account("bare", pb::AccountKind::Advertiser, OTHER_INN);
    bare.account.as_mut().unwrap().legal_entity = None;
    world.create(bare).await;
    let create = async |request: pb::CreateInvoiceRequest| {
        refused(world.operator().invoices().create_invoice(request).await)
    };
    create(invoice_of("shop", "5000")).await.is(Code::FailedPrecondition, "CLIENT_OF_AGENCY");
    create(invoice_of("bare", "5000")).await.is(Code::FailedPrecondition, "LEGAL_ENTITY_REQUIRED");
    create(invoice_of("nobody", "5000")).await.is(Code::NotFound, "NOT_FOUND");
    let mut dollars = invoice_of("north", "5000");
    dollars.amount = money("5000", "USD");
    create(dollars).await.is(Code::FailedPrecondition, "CURRENCY_MISMATCH");
    // 1 000 without VAT is 1 220 with 22 % (R-48, R-162).
    let below = create(invoice_of("north", "1219.99")).await;
    below.is(Code::FailedPrecondition, "AMOUNT_BELOW_MINIMUM");
    assert_eq!(below.metadata["minimum"], "1220.00");
    assert_eq!(world.invoice("north", "1220").await.number, "AS-26-000001");

    let request = pb::BlockAccountRequest { name: name("north"), request_id: fresh() };
    world.operator().accounts().block_account(request).await.unwrap();
    create(invoice_of("north", "5000")).await.is(Code::FailedPrecondition, "ACCOUNT_BLOCKED");
    world.end().await;
}

#[tokio::test]
async fn an_account_without_a_payer_gets_one_and_then_an_invoice() {
    let world = World::start().await;
    let mut bare = account("bare", pb::AccountKind::Advertiser, OTHER_INN);
    let entity = bare.account.as_mut().unwrap().legal_entity.take();
    world.create(bare).await;
    let update = |inn: &str| {
        let entity = entity.clone().map(|entity| pb::LegalEntity { inn: inn.to_owned(), ..entity });
        pb::UpdateAccountRequest {
            account: Some(pb::Account {
                name: name("bare"),
                legal_entity: entity,
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["legal_entity".to_owned()] }),
            request_id: fresh(),
        }
    };
    world.operator().accounts().update_account(update(OTHER_INN)).await.unwrap();
    assert_eq!(world.invoice("bare", "5000").await.payer_inn, OTHER_INN);
    let again = refused(world.operator().accounts().update_account(update(NORTH_INN)).await);
    again.is(Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(again.fields, ["account.legal_entity.inn"], "the INN never changes (R-53)");
    world.end().await;
}

#[tokio::test]
async fn an_invoice_is_cancelled_once_and_only_while_it_is_open() {
    let world = World::start().await;
    world.with_agency("north").await;
    let open = world.invoice("north", "2000").await;
    let paid = world.invoice("north", "2000").await;
    world.record(&paid.number, "2000", NORTH_INN).await;
    let cancel = |invoice: &pb::Invoice| pb::CancelInvoiceRequest {
        name: invoice.name.clone(),
        request_id: fresh(),
    };
    let mut invoices = world.agency("north").invoices();
    let cancelled = invoices.cancel_invoice(cancel(&open)).await.unwrap().into_inner();
    assert_eq!(cancelled.invoice.unwrap().state(), pb::InvoiceState::Cancelled);
    refused(invoices.cancel_invoice(cancel(&open)).await)
        .is(Code::FailedPrecondition, "INVOICE_CANCELLED");
    refused(invoices.cancel_invoice(cancel(&paid)).await)
        .is(Code::FailedPrecondition, "ALREADY_PAID");
    world.end().await;
}

#[tokio::test]
async fn two_payments_of_one_invoice_at_once_pay_it_once() {
    let world = World::start().await;
    world.with_agency("north").await;
    let invoice = world.invoice("north", "2000").await;
    let (one, other) = tokio::join!(
        world.record(&invoice.number, "2000", NORTH_INN),
        world.record(&invoice.number, "2000", NORTH_INN),
    );
    let mut reasons = [one.unallocated_reason, other.unallocated_reason];
    reasons.sort();
    assert_eq!(reasons, ["", "ALREADY_PAID"]);
    assert_eq!(world.available("north").await, "2000");
    world.end().await;
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let world = World::start().await;
    world.with_agency("north").await;
    let mut issued = Vec::new();
    for _ in 0..5 {
        let invoice = world.invoice("north", "2000").await;
        world.record(&invoice.number, "2000", NORTH_INN).await;
        issued.insert(0, invoice.number);
    }
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let request =
            pb::ListInvoicesRequest { parent: name("north"), page_size: 2, page_token: token };
        let page = world.agency("north").invoices().list_invoices(request).await.unwrap();
        let page = page.into_inner();
        pages.push(page.invoices.into_iter().map(|invoice| invoice.number).collect::<Vec<_>>());
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(pages.concat(), issued);

    let request = pb::ListPaymentsRequest { page_size: 4, ..Default::default() };
    let first = world.operator().payments().list_payments(request.clone()).await.unwrap();
    let first = first.into_inner();
    assert_eq!(first.payments.len(), 4);
    let next = pb::ListPaymentsRequest { page_token: first.next_page_token.clone(), ..request };
    let last = world.operator().payments().list_payments(next.clone()).await.unwrap().into_inner();
    assert_eq!((last.payments.len(), last.next_page_token.as_str()), (1, ""));
    // A token belongs to its question.
    let other = pb::ListPaymentsRequest { account: name("north"), ..next };
    let refused = refused(world.operator().payments().list_payments(other).await);
    assert_eq!(refused.fields, ["page_token"]);
    world.end().await;
}
