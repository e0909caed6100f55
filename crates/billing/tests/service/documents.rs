//! Documents: invoices at once, a month's acts and VAT invoices when it has ended, reconciliation (R-162..R-171, R-177).

use std::time::Duration;

use adspend_billing::config::{Config, Executor};
use adspend_common::{
    config::HumanDuration,
    proto::{adspend::billing::v1 as pb, google::r#type::Date},
};
use pb::DocumentType as T;
use sha2::{Digest as _, Sha256};
use tonic::Code;

use crate::support::*;

/// Our own legal entity.
fn executor() -> Executor {
    Executor {
        name: "ООО «Адспенд»".to_owned(),
        inn: "7736207543".to_owned(),
        kpp: "770401001".to_owned(),
        address: "119021, г. Москва, ул. Льва Толстого, д. 16".to_owned(),
        bank: "ПАО СБЕРБАНК г. Москва".to_owned(),
        bik: "044525225".to_owned(),
        correspondent_account: "30101810400000000225".to_owned(),
        account: "40702810138250123017".to_owned(),
        director_title: "Генеральный директор".to_owned(),
        director: "Соколова М. А.".to_owned(),
        accountant: "Беляев К. Д.".to_owned(),
        contract: "оферты на размещение рекламы от 01.01.2025".to_owned(),
    }
}

pub(crate) fn with_executor(config: &mut Config) {
    config.documents.executor = Some(executor());
}

/// Months close by themselves.
pub(crate) fn closing(config: &mut Config) {
    with_executor(config);
    config.jobs.enabled = true;
    config.jobs.close_months_every = HumanDuration::from_millis(100);
}

fn month(year: i32, month: i32) -> Option<Date> {
    Some(Date { year, month, day: 0 })
}

pub(crate) fn all(account: &str) -> pb::ListDocumentsRequest {
    pb::ListDocumentsRequest { parent: name(account), ..Default::default() }
}

pub(crate) async fn list(world: &World, request: pb::ListDocumentsRequest) -> Vec<pb::Document> {
    let listed = world.operator().documents().list_documents(request).await.unwrap();
    listed.into_inner().documents
}

async fn get(world: &World, name: &str) -> pb::GetDocumentResponse {
    let request = pb::GetDocumentRequest { name: name.to_owned() };
    world.operator().documents().get_document(request).await.unwrap().into_inner()
}

/// The whole file, and the message that began it.
pub(crate) async fn download(world: &World, name: &str) -> (Vec<u8>, pb::DownloadDocumentResponse) {
    let request = pb::DownloadDocumentRequest { name: name.to_owned() };
    let stream = world.operator().documents().download_document(request).await.unwrap();
    let mut stream = stream.into_inner();
    let first = stream.message().await.unwrap().unwrap();
    let mut bytes = first.chunk.clone();
    while let Some(next) = stream.message().await.unwrap() {
        bytes.extend(next.chunk);
    }
    (bytes, first)
}

/// Money spent on ads.
async fn spend(world: &World, account: &str, micros: i64) {
    let item = pb::RecordChargeItem {
        account: name(account),
        campaign: "campaigns/spring".to_owned(),
        amount_micros: micros,
        day: None,
        request_id: fresh(),
    };
    let request = pb::RecordChargesRequest { requests: vec![item] };
    let answer = world.role("pacing", None).holds().record_charges(request).await.unwrap();
    assert!(answer.into_inner().results[0].error.is_none());
}

/// Waits until the account has so many documents of these types, at most a minute.
pub(crate) async fn made(
    world: &World,
    account: &str,
    types: &[T],
    count: usize,
) -> Vec<pb::Document> {
    let types: Vec<i32> = types.iter().map(|kind| i32::from(*kind)).collect();
    for _ in 0..600 {
        let request = pb::ListDocumentsRequest { types: types.clone(), ..all(account) };
        let found = list(world, request).await;
        if found.len() >= count {
            assert_eq!(found.len(), count, "{found:#?}");
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{account} did not get {count} documents within a minute");
}

/// `(type, number, day, amount, VAT)`, oldest first.
fn rows(documents: &[pb::Document]) -> Vec<(T, String, String, String, String)> {
    let row = |document: &pb::Document| {
        let Date { year, month, day } = document.date.unwrap();
        let day = format!("{year}-{month:02}-{day:02}");
        let (amount, vat) = (text(&document.amount), text(&document.vat));
        (document.r#type(), document.number.clone(), day, amount, vat)
    };
    documents.iter().rev().map(row).collect()
}

fn row(
    kind: T,
    number: &str,
    day: &str,
    amount: &str,
    vat: &str,
) -> (T, String, String, String, String) {
    let own = str::to_owned;
    (kind, own(number), own(day), own(amount), own(vat))
}

/// The sum of an act out of its sources, by the entries themselves: what they moved to revenue and what months before
/// left, in whole kopecks.
async fn recomputed(world: &World, found: &pb::GetDocumentResponse) -> i64 {
    const SPENT: &str = "SELECT coalesce(-sum(e.amount_micros), 0)::bigint
        FROM ledger_entry e JOIN account a ON a.account_id = e.account_id
        WHERE a.name = $1 AND e.version BETWEEN $2 AND $3 AND e.kind IN (10, 13)";
    let client = world.database.pool.get().await.unwrap();
    let micros = |money: &Option<_>| {
        let money: &adspend_common::proto::google::r#type::Money = money.as_ref().unwrap();
        money.units * 1_000_000 + i64::from(money.nanos) / 1_000
    };
    let mut sum = micros(&found.carried);
    for source in &found.sources {
        let account = source.account.strip_prefix("accounts/").unwrap();
        let range = (source.first_entry, source.last_entry);
        let row = client.query_one(SPENT, &[&account, &range.0, &range.1]).await.unwrap();
        let spent: i64 = row.get(0);
        assert_eq!(spent, micros(&source.amount), "{source:?}");
        sum += spent;
    }
    sum / 10_000 * 10_000
}

#[tokio::test]
async fn an_invoice_can_be_downloaded_as_soon_as_it_is_issued() {
    let world = World::with(with_executor).await;
    world.with_agency("north").await;
    let invoice = world.invoice("north", "45000").await;
    let document = invoice.name.replace("/invoices/", "/documents/");
    let (bytes, first) = download(&world, &document).await;
    assert!(bytes.starts_with(b"%PDF-"), "{:?}", &bytes[..8]);
    assert_eq!(first.file_name, "2026-11-20-invoice-AS-26-000001.pdf");
    assert_eq!(usize::try_from(first.size_bytes).unwrap(), bytes.len());
    assert_eq!(first.sha256, Sha256::digest(&bytes).to_vec());
    // It stays as it is, and is listed.
    assert_eq!(download(&world, &document).await.0, bytes);
    let listed = list(&world, all("north")).await;
    assert_eq!(rows(&listed), [row(T::Invoice, "AS-26-000001", "2026-11-20", "45000", "8114.75")]);
    assert_eq!(listed[0].name, document);
    assert_eq!(
        listed[0].title,
        "Счёт на оплату №\u{a0}AS-26-000001 от 20\u{a0}ноября 2026\u{a0}г."
    );
    // Others of the agency are listed without being asked for first; months are a filter.
    world.set("2026-12-01T00:00:00+03:00");
    world.invoice("north", "5000").await;
    assert_eq!(list(&world, all("north")).await.len(), 2);
    let december = pb::ListDocumentsRequest { month: month(2026, 12), ..all("north") };
    assert_eq!(rows(&list(&world, december).await)[0].1, "AS-26-000002");
    world.end().await;
}

#[tokio::test]
async fn without_our_requisites_no_document_is_made_and_the_refusal_says_so() {
    let world = World::start().await;
    world.with_agency("north").await;
    let invoice = world.invoice("north", "45000").await;
    let request =
        pb::DownloadDocumentRequest { name: invoice.name.replace("/invoices/", "/documents/") };
    let refusal = refused(world.operator().documents().download_document(request).await);
    refusal.is(Code::FailedPrecondition, "EXECUTOR_NOT_CONFIGURED");
    assert!(list(&world, all("north")).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn documents_of_others_are_not_there() {
    let world = World::with(with_executor).await;
    world.with_agency("north").await;
    world.create(account("south", pb::AccountKind::Agency, OTHER_INN)).await;
    let invoice = world.invoice("north", "45000").await;
    let name = invoice.name.replace("/invoices/", "/documents/");
    let get = |who: Caller, name: &str| {
        let request = pb::GetDocumentRequest { name: name.to_owned() };
        async move { who.documents().get_document(request).await }
    };
    get(world.agency("north"), &name).await.unwrap();
    let foreign = refused(get(world.agency("south"), &name).await);
    foreign.is(Code::NotFound, "NOT_FOUND");
    let absent = name.replace("/documents/0", "/documents/1");
    let same = |text: &str| text.replace(&absent, &name);
    let absent = refused(get(world.agency("south"), &absent).await);
    assert_eq!(same(&absent.bytes.0), foreign.bytes.0);
    let listed = world.agency("south").documents().list_documents(all("north")).await;
    refused(listed).is(Code::NotFound, "NOT_FOUND");
    world.end().await;
}

/// December's documents have December's rate and year, whenever they are made;
/// January's begin anew.
#[tokio::test]
async fn the_year_end_changes_the_rate_and_begins_the_numbers_anew() {
    let world = World::at("2025-12-10T12:00:00+03:00", closing).await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "12000").await;
    world.transfer("north", "shop", "9000").await;
    world.set("2025-12-31T23:59:59.999+03:00");
    spend(&world, "shop", 1_199_999_999).await;
    spend(&world, "north", 5_001).await;
    world.set("2026-01-01T00:00:00+03:00");
    let kinds = [T::Act, T::VatInvoice, T::AdvanceVatInvoice];
    let december = made(&world, "north", &kinds, 3).await;
    assert_eq!(
        rows(&december),
        [
            row(T::Act, "1", "2025-12-31", "1200", "200"),
            row(T::VatInvoice, "1", "2025-12-31", "1200", "200"),
            // Part of the payment is spent: the invoice is for the payment, at 20/120.
            row(T::AdvanceVatInvoice, "2", "2025-12-31", "12000", "2000"),
        ]
    );
    let act = get(&world, &december[2].name).await;
    let spent: Vec<_> = act.sources.iter().map(|source| source.account.as_str()).collect();
    assert_eq!(spent, ["accounts/north", "accounts/shop"]);
    assert_eq!(recomputed(&world, &act).await, 1_200_000_000);
    let advance = get(&world, &december[0].name).await;
    assert_eq!(advance.sources.len(), 1, "{advance:?}");
    assert_eq!(text(&advance.sources[0].amount), "12000");
    assert!(advance.payment.starts_with("payments/"), "{advance:?}");

    // 1 200 gross are 1 000 net in December and 983.61 in January.
    spend(&world, "shop", 1_200_000_000).await;
    world.set("2026-02-01T00:00:00+03:00");
    let january = made(&world, "north", &[T::Act, T::VatInvoice], 4).await;
    assert_eq!(
        rows(&january)[2..],
        [
            row(T::Act, "1", "2026-01-31", "1200", "216.39"),
            row(T::VatInvoice, "1", "2026-01-31", "1200", "216.39"),
        ]
    );
    let act = get(&world, &january[1].name).await;
    // Half a kopeck came over from December and goes on to February.
    assert_eq!(text(&act.carried), "0.005");
    assert_eq!(recomputed(&world, &act).await, 1_200_000_000);
    // An advance of December is not invoiced again.
    assert_eq!(made(&world, "north", &[T::AdvanceVatInvoice], 1).await.len(), 1);
    // The client has no documents of its own.
    assert!(list(&world, all("shop")).await.is_empty());
    world.end().await;
}

/// A service that slept over two month ends makes both months, each with its own days and numbers.
#[tokio::test]
async fn months_that_nobody_closed_are_caught_up_with() {
    let world = World::at("2026-08-10T12:00:00+03:00", closing).await;
    world.with_agency("north").await;
    world.pay("north", "3000").await;
    spend(&world, "north", 1_000_000_000).await;
    world.set("2026-10-05T12:00:00+03:00");
    let documents = made(&world, "north", &[T::Act, T::VatInvoice, T::AdvanceVatInvoice], 3).await;
    assert_eq!(rows(&documents)[0], row(T::Act, "1", "2026-08-31", "1000", "180.33"));
    spend(&world, "north", 2_000_000_000).await;
    world.set("2026-11-01T00:00:00+03:00");
    let acts = made(&world, "north", &[T::Act], 2).await;
    assert_eq!(rows(&acts)[1], row(T::Act, "2", "2026-10-31", "2000", "360.66"));
    world.end().await;
}

/// Promised money is no payment: what is spent of it is in the act, and the payment that follows is an advance only to
/// the part that is left.
#[tokio::test]
async fn money_on_credit_is_acted_but_is_no_advance() {
    let world = World::at("2026-09-10T12:00:00+03:00", closing).await;
    world.with_agency("north").await;
    world.pay("north", "10000").await;
    let promise = world.promise("north", "3000").await.unwrap();
    spend(&world, "north", 12_000_000_000).await;
    world.set("2026-10-01T00:00:00+03:00");
    let september = made(&world, "north", &[T::Act, T::VatInvoice], 2).await;
    assert_eq!(rows(&september)[0].3, "12000");
    assert!(made(&world, "north", &[T::AdvanceVatInvoice], 0).await.is_empty(), "all is spent");
    world.pay("north", "5000").await;
    assert_eq!(world.promised(&promise).await.state(), pb::PromisedPaymentState::Repaid);
    world.set("2026-11-01T00:00:00+03:00");
    let advances = made(&world, "north", &[T::AdvanceVatInvoice], 1).await;
    // 2 000 of it paid for September.
    assert_eq!(rows(&advances)[0].3, "3000");
    world.end().await;
}

/// closed whole months only; payments and acts make the balance; one act for a period.
#[tokio::test]
async fn closed_months_are_reconciled() {
    let world = World::at("2026-01-12T12:00:00+03:00", closing).await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "6000").await;
    spend(&world, "north", 2_500_000_000).await;
    let ask = |account: &str, first, last, request_id: String| {
        let request = pb::CreateReconciliationActRequest {
            parent: name(account),
            first_month: month(2026, first),
            last_month: month(2026, last),
            request_id,
        };
        async { world.operator().documents().create_reconciliation_act(request).await }
    };
    let open = refused(ask("north", 1, 1, fresh()).await);
    open.is(Code::FailedPrecondition, "MONTH_NOT_CLOSED");
    world.set("2026-02-01T00:00:00+03:00");
    made(&world, "north", &[T::Act], 1).await;
    refused(ask("north", 1, 2, fresh()).await).is(Code::FailedPrecondition, "MONTH_NOT_CLOSED");
    refused(ask("shop", 1, 1, fresh()).await).is(Code::FailedPrecondition, "CLIENT_OF_AGENCY");
    let id = fresh();
    let first = ask("north", 1, 1, id.clone()).await.unwrap().into_inner();
    let again = ask("north", 1, 1, id).await.unwrap().into_inner();
    assert_eq!((first.document.as_ref(), again.replayed), (again.document.as_ref(), true));
    let same = ask("north", 1, 1, fresh()).await.unwrap().into_inner().document.unwrap();
    let document = first.document.unwrap();
    assert_eq!(same, document);
    assert_eq!((document.number.as_str(), &document.amount), ("1", &None));
    let found = get(&world, &document.name).await;
    assert_eq!(text(&found.sources[0].amount), "2500");
    assert!(download(&world, &document.name).await.0.starts_with(b"%PDF-"));
    // The stored content is what the pages say: 6 000 paid, 2 500 rendered, 3 500 ahead.
    const CLOSING: &str = "SELECT content ->> 'opening', content ->> 'closing' FROM document
        WHERE kind = 5 AND number = $1";
    let client = world.database.pool.get().await.unwrap();
    let stored = client.query_one(CLOSING, &[&"1"]).await.unwrap();
    assert_eq!((stored.get(0), stored.get(1)), ("0", "-3500000000"));

    // The regular one of February comes by itself on the 15th of March, and not before.
    spend(&world, "north", 500_000_000).await;
    world.set("2026-03-14T23:59:59+03:00");
    made(&world, "north", &[T::Act], 2).await;
    assert_eq!(made(&world, "north", &[T::ReconciliationAct], 1).await.len(), 1);
    world.set("2026-03-15T00:00:00+03:00");
    let regular = made(&world, "north", &[T::ReconciliationAct], 2).await;
    assert_eq!((regular[0].number.as_str(), regular[0].first_month), ("2", month(2026, 2)));
    let stored = client.query_one(CLOSING, &[&"2"]).await.unwrap();
    assert_eq!((stored.get(0), stored.get(1)), ("-3500000000", "-3000000000"));
    let quarter = ask("north", 1, 2, fresh()).await.unwrap().into_inner().document.unwrap();
    assert_eq!(quarter.number, "3");
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn lists_are_paged_and_wrong_months_are_refused() {
    let world = World::with(with_executor).await;
    world.with_agency("north").await;
    for _ in 0..5 {
        world.invoice("north", "2000").await;
    }
    let (mut numbers, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListDocumentsRequest { page_size: 2, page_token: token, ..all("north") };
        let page = world.operator().documents().list_documents(request).await.unwrap();
        let page = page.into_inner();
        numbers.extend(page.documents.into_iter().map(|document| document.number));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        // What is issued meanwhile is on no later page.
        world.invoice("north", "2000").await;
    }
    let expected: Vec<_> = (1..=5).rev().map(|at| format!("AS-26-{at:06}")).collect();
    assert_eq!(numbers, expected);
    let whole = Some(Date { year: 2026, month: 11, day: 20 });
    let request = pb::ListDocumentsRequest { month: whole, ..all("north") };
    let wrong = refused(world.operator().documents().list_documents(request).await);
    wrong.is(Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(wrong.fields, ["month"]);
    let request = pb::CreateReconciliationActRequest {
        parent: name("north"),
        first_month: month(2026, 3),
        last_month: month(2026, 1),
        request_id: fresh(),
    };
    let wrong = refused(world.operator().documents().create_reconciliation_act(request).await);
    assert_eq!(wrong.fields, ["last_month"]);
    world.end().await;
}

/// replicas that close the same months at once leave no gap and no number twice, and what is issued cannot be
/// changed, not even by hand.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_have_no_gap_when_replicas_close_at_once() {
    const AGENCIES: usize = 12;
    let world = World::at("2026-05-10T12:00:00+03:00", closing).await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(world.replica().await);
    }
    let mut ids = Vec::new();
    for at in 0..AGENCIES {
        let id = format!("agency-{at}");
        world.with_agency(&id).await;
        world.pay(&id, "5000").await;
        spend(&world, &id, 1_500_000_000).await;
        ids.push(id);
    }
    world.set("2026-06-01T00:00:00+03:00");
    let (mut acts, mut invoices) = (Vec::new(), Vec::new());
    for id in &ids {
        for document in made(&world, id, &[T::Act, T::VatInvoice, T::AdvanceVatInvoice], 3).await {
            let number: usize = document.number.parse().unwrap();
            if document.r#type() == T::Act { acts.push(number) } else { invoices.push(number) }
        }
    }
    acts.sort_unstable();
    invoices.sort_unstable();
    assert_eq!(acts, (1..=AGENCIES).collect::<Vec<_>>());
    assert_eq!(invoices, (1..=2 * AGENCIES).collect::<Vec<_>>());

    let client = world.database.pool.get().await.unwrap();
    for change in [
        "UPDATE document SET number = '7'",
        "DELETE FROM document",
        "UPDATE document_file SET pdf = ''",
        "UPDATE closed_month SET acted_micros = 0",
        "DELETE FROM closed_account",
        "UPDATE payer_flow SET amount_micros = 1",
        "DELETE FROM payer_flow",
    ] {
        let refused = client.batch_execute(change).await.unwrap_err();
        assert!(
            refused.to_string().contains("refused")
                || format!("{refused:?}").contains("never change"),
            "{change}: {refused:?}"
        );
    }
    drop(client);
    for replica in replicas {
        replica.end().await;
    }
    world.end().await;
}
