//! `WatchEvents` as its callers see it (G8): order, resume tokens, tenants, life while nothing happens.

use std::time::Duration;

use adspend_common::{config::HumanDuration, proto::adspend::billing::v1 as pb};
use pb::event::Payload;
use tonic::{Code, Status, Streaming};

use crate::support::*;

fn from_the_beginning() -> pb::WatchEventsRequest {
    pb::WatchEventsRequest::default()
}

fn until_now(parent: &str, token: &str) -> pb::WatchEventsRequest {
    let (parent, resume_token) = (parent.to_owned(), token.to_owned());
    pb::WatchEventsRequest { parent, resume_token, until_now: true }
}

async fn watch(
    caller: &Caller,
    request: pb::WatchEventsRequest,
) -> Result<Streaming<pb::WatchEventsResponse>, Status> {
    Ok(caller.events().watch_events(request).await?.into_inner())
}

/// Everything until now, with the last token.
async fn all(caller: &Caller, request: pb::WatchEventsRequest) -> (Vec<pb::Event>, String) {
    let mut token = request.resume_token.clone();
    let mut stream = watch(caller, request).await.unwrap();
    let mut events = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        events.extend(message.event);
        token = message.resume_token;
    }
    (events, token)
}

/// The next message of a stream that goes on.
async fn message(stream: &mut Streaming<pb::WatchEventsResponse>) -> pb::WatchEventsResponse {
    let next = tokio::time::timeout(Duration::from_secs(60), stream.message()).await;
    next.expect("within a minute").unwrap().expect("the stream goes on")
}

async fn next(stream: &mut Streaming<pb::WatchEventsResponse>) -> (pb::Event, String) {
    loop {
        let pb::WatchEventsResponse { event, resume_token } = message(stream).await;
        if let Some(event) = event {
            return (event, resume_token);
        }
    }
}

/// What an event is called, in the words of the contract.
fn kind(event: &pb::Event) -> String {
    let shown = format!("{:?}", event.payload.as_ref().unwrap());
    shown.split('(').next().unwrap().to_owned()
}

#[tokio::test]
async fn what_a_back_office_waits_for_is_told_in_its_order() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "boots").await;
    world.pay("north", "100000").await;
    let promise = world.promise("north", "3000").await.unwrap();
    let repay = pb::RepayPromisedPaymentRequest { name: promise.name.clone(), request_id: fresh() };
    world.operator().promises().repay_promised_payment(repay).await.unwrap();
    let invoice = world.invoice("north", "5000").await;
    let cancel = pb::CancelInvoiceRequest { name: invoice.name.clone(), request_id: fresh() };
    world.operator().invoices().cancel_invoice(cancel).await.unwrap();
    let free = world.record("no number", "2000", NORTH_INN).await;
    let allocate = pb::AllocatePaymentRequest {
        name: free.name.clone(),
        account: name("north"),
        invoice: String::new(),
        request_id: fresh(),
    };
    world.operator().payments().allocate_payment(allocate).await.unwrap();
    // Transfers and what is refused leave nothing.
    world.transfer("north", "boots", "10").await;
    world.promise("boots", "3000").await.unwrap_err();
    let block = pb::BlockAccountRequest { name: name("boots"), request_id: fresh() };
    world.operator().accounts().block_account(block).await.unwrap();

    let (events, _) = all(&world.agency("north"), until_now("", "")).await;
    let numbers: Vec<i64> = events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    let kinds: Vec<String> = events.iter().map(kind).collect();
    let expected = [
        "AccountCreated",
        "AccountCreated",
        "InvoiceIssued",
        "PaymentCredited",
        "InvoicePaid",
        "PromisedPaymentTaken",
        "PromisedPaymentRepaid",
        "InvoiceIssued",
        "InvoiceCancelled",
        "PaymentUnallocated",
        "PaymentAllocated",
        "AccountBlocked",
    ];
    assert_eq!(kinds, expected);
    assert!(events.iter().all(|event| event.tenant == "accounts/north"), "{events:#?}");
    assert_eq!(events[1].account, "accounts/boots");
    assert_eq!(events[1].event_time, stamp(START));
    let Some(Payload::AccountCreated(created)) = &events[1].payload else { panic!() };
    assert_eq!(created.agency, "accounts/north");
    let Some(Payload::PromisedPaymentTaken(taken)) = &events[5].payload else { panic!() };
    assert_eq!(taken.promised_payment, promise.name);
    assert_eq!((text(&taken.amount), taken.due_date), ("3000".to_owned(), promise.due_date));
    let Some(Payload::PaymentUnallocated(unallocated)) = &events[9].payload else { panic!() };
    assert_eq!(
        (&unallocated.payment, unallocated.reason.as_str()),
        (&free.name, "NUMBER_NOT_FOUND")
    );
    world.end().await;
}

/// I-8, G11: nobody sees a foreign event, and a token works only where it was given.
#[tokio::test]
async fn a_stream_is_its_callers_own() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.create(account("south", pb::AccountKind::Agency, OTHER_INN)).await;
    world.invoice("south", "5000").await;
    // Nobody's money is nobody's event but the operator's.
    world.record("who is it", "10", "500100732259").await;
    let (north, south) = (world.agency("north"), world.agency("south"));
    let (of_north, north_token) = all(&north, until_now("", "")).await;
    let (of_south, _) = all(&south, until_now("", "")).await;
    assert_eq!(of_north.iter().map(kind).collect::<Vec<_>>(), ["AccountCreated"]);
    assert_eq!(of_south.iter().map(kind).collect::<Vec<_>>(), ["AccountCreated", "InvoiceIssued"]);
    let operator = world.operator();
    let (everything, operator_token) = all(&operator, until_now("", "")).await;
    assert_eq!(everything.len(), 4);
    let nobodys = everything.iter().find(|event| event.tenant.is_empty()).unwrap();
    assert_eq!((kind(nobodys).as_str(), nobodys.number), ("PaymentUnallocated", 1));
    let (one_tenant, _) = all(&operator, until_now("accounts/south", "")).await;
    assert_eq!(one_tenant, of_south);

    let foreign = refused(north.events().watch_events(until_now("accounts/south", "")).await);
    let absent = refused(north.events().watch_events(until_now("accounts/nobody", "")).await);
    foreign.is(Code::NotFound, "NOT_FOUND");
    assert_eq!(foreign.bytes.0.replace("south", "nobody"), absent.bytes.0);
    for (caller, token) in
        [(&south, &north_token), (&north, &operator_token), (&operator, &north_token)]
    {
        let other = refused(caller.events().watch_events(until_now("", token)).await);
        other.is(Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(other.fields, ["resume_token"]);
    }
    let wrong = until_now("nonsense", "nonsense");
    let wrong = refused(operator.events().watch_events(wrong).await);
    assert_eq!(wrong.fields, ["parent", "resume_token"]);
    let pacing = world.role("pacing", None);
    let denied = refused(pacing.events().watch_events(from_the_beginning()).await);
    denied.is(Code::PermissionDenied, "PERMISSION_DENIED");
    world.end().await;
}

/// An open stream hears of what happens while it is open; a token outlives the service.
#[tokio::test]
async fn a_stream_goes_on_where_it_was_after_a_restart() {
    let world = World::start().await;
    world.with_agency("north").await;
    let north = world.agency("north");
    let mut stream = watch(&north, from_the_beginning()).await.unwrap();
    let (created, _) = next(&mut stream).await;
    assert_eq!(created.number, 1);
    world.invoice("north", "5000").await;
    let (issued, token) = next(&mut stream).await;
    assert_eq!((issued.number, kind(&issued).as_str()), (2, "InvoiceIssued"));
    world.invoice("north", "6000").await;

    drop((stream, north));
    let world = world.restart().await;
    world.invoice("north", "7000").await;
    let resumed = pb::WatchEventsRequest { resume_token: token, ..Default::default() };
    let mut stream = watch(&world.agency("north"), resumed).await.unwrap();
    for number in [3, 4] {
        assert_eq!(next(&mut stream).await.0.number, number);
    }
    world.invoice("north", "8000").await;
    assert_eq!(next(&mut stream).await.0.number, 5);
    drop(stream);
    world.end().await;
}

/// A stream on which nothing happens outlives the edge's limit of silence, and its messages carry a token.
#[tokio::test]
async fn an_idle_stream_lives() {
    let world =
        World::with(|config| config.limits.stream_idle_timeout = HumanDuration::from_millis(600))
            .await;
    world.with_agency("north").await;
    let north = world.agency("north");
    let mut stream = watch(&north, from_the_beginning()).await.unwrap();
    next(&mut stream).await;
    let began = std::time::Instant::now();
    let mut token = String::new();
    while began.elapsed() < Duration::from_millis(1_500) {
        let silent = message(&mut stream).await;
        assert_eq!(silent.event, None);
        token = silent.resume_token;
    }
    world.invoice("north", "5000").await;
    assert_eq!(next(&mut stream).await.0.number, 2);
    let (rest, _) = all(&north, until_now("", &token)).await;
    assert_eq!(rest.iter().map(|event| event.number).collect::<Vec<_>>(), [2]);
    drop(stream);
    world.end().await;
}

#[tokio::test]
async fn a_caller_has_ten_streams() {
    let world = World::start().await;
    world.with_agency("north").await;
    let north = world.agency("north");
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(watch(&north, from_the_beginning()).await.unwrap());
    }
    let refused = refused(north.events().watch_events(from_the_beginning()).await);
    refused.is(Code::ResourceExhausted, "TOO_MANY_STREAMS");
    assert_eq!(refused.metadata["most"], "10");
    watch(&world.operator(), from_the_beginning()).await.unwrap();
    drop(streams);
    world.end().await;
}
