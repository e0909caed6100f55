//! Everything at once: many callers, few accounts, moves between tenants in between.

use adspend_common::proto::adspend::billing::v1 as pb;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tonic::{Code, Status};

use crate::support::*;

const CALLERS: u64 = 12;
const CALLS_EACH: u32 = 60;
const AGENCIES: [&str; 2] = ["north", "south"];
const CLIENTS: [&str; 4] = ["c1", "c2", "c3", "c4"];

/// A refusal by rule, a race that was lost, or an account that is elsewhere at the moment; nothing else.
fn is_fair(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::Aborted | Code::NotFound)
}

async fn one_call(caller: &Caller, rng: &mut StdRng) -> Result<(), Status> {
    let agency = *AGENCIES.choose(rng).unwrap();
    let client = *CLIENTS.choose(rng).unwrap();
    let amount = rub(&format!("{}", rng.random_range(1..3_000)));
    match rng.random_range(0..9) {
        0 | 1 => {
            let (source, destination) =
                if rng.random() { (agency, client) } else { (client, agency) };
            let request = pb::CreateTransferRequest {
                source: name(source),
                destination: name(destination),
                amount,
                request_id: fresh(),
            };
            caller.transfers().create_transfer(request).await?;
        }
        2 => {
            let request = pb::CreateInvoiceRequest {
                parent: name(agency),
                amount: rub("2000"),
                terms: pb::InvoiceTerms::Prepaid.into(),
                request_id: fresh(),
            };
            let issued = caller.invoices().create_invoice(request).await?.into_inner();
            let invoice = issued.invoice.unwrap();
            let inn = if rng.random_bool(0.8) { &invoice.payer_inn } else { "500100732259" };
            let request = payment(&invoice.number, "2000", inn);
            let paid = caller.payments().record_payment(request).await?.into_inner();
            let paid = paid.payment.unwrap();
            if paid.state() == pb::PaymentState::Unallocated {
                let request = pb::AllocatePaymentRequest {
                    name: paid.name,
                    account: name(AGENCIES.choose(rng).unwrap()),
                    invoice: String::new(),
                    request_id: fresh(),
                };
                caller.payments().allocate_payment(request).await?;
            }
        }
        3 => {
            let request = pb::TakePromisedPaymentRequest {
                parent: name(agency),
                amount,
                request_id: fresh(),
            };
            let taken = caller.promises().take_promised_payment(request).await?.into_inner();
            let request = pb::RepayPromisedPaymentRequest {
                name: taken.promised_payment.unwrap().name,
                request_id: fresh(),
            };
            caller.promises().repay_promised_payment(request).await?;
        }
        4 => {
            let request = pb::AttachClientRequest {
                name: name(client),
                agency: name(agency),
                request_id: fresh(),
            };
            caller.accounts().attach_client(request).await?;
        }
        5 => {
            let request = pb::DetachClientRequest { name: name(client), request_id: fresh() };
            caller.accounts().detach_client(request).await?;
        }
        6 => {
            let item = pb::OpenHoldItem {
                account: name(client),
                amount_micros: rng.random_range(1..500_000_000),
                min_amount_micros: 1,
                ttl: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
                request_id: fresh(),
            };
            let request = pb::OpenHoldsRequest { requests: vec![item] };
            caller.holds().open_holds(request).await?;
        }
        7 => {
            let item = pb::RecordChargeItem {
                account: name(client),
                campaign: "campaigns/spring".to_owned(),
                amount_micros: rng.random_range(1..5_000_000),
                request_id: fresh(),
                ..Default::default()
            };
            let request = pb::RecordChargesRequest { requests: vec![item] };
            caller.holds().record_charges(request).await?;
        }
        _ => {
            let request = pb::BlockAccountRequest { name: name(client), request_id: fresh() };
            caller.accounts().block_account(request).await?;
            let request = pb::UnblockAccountRequest { name: name(client), request_id: fresh() };
            caller.accounts().unblock_account(request).await?;
        }
    }
    Ok(())
}

/// Nothing deadlocks, nothing is our fault, and the books are right afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_hold_whatever_happens_at_once() {
    let world = World::with(|config| {
        let terms = &mut config.promised_payments.terms;
        (terms.activations, terms.term_days) = (1_000, 1);
    })
    .await;
    world.with_agency("north").await;
    world.create(account("south", pb::AccountKind::Agency, OTHER_INN)).await;
    for id in CLIENTS {
        world.create(account(id, pb::AccountKind::Advertiser, "7736207543")).await;
    }
    for agency in AGENCIES {
        world.pay(agency, "100000").await;
    }
    let callers = (0..CALLERS).map(|seed| {
        let caller = world.operator();
        let hand = world.hand.clone();
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut done = 0;
            for _ in 0..CALLS_EACH {
                match one_call(&caller, &mut rng).await {
                    Ok(()) => done += 1,
                    Err(status) => assert!(is_fair(&status), "seed {seed}: {status:?}"),
                }
                if seed == 0 {
                    // An hour and more a call: promises and holds come due in the middle of it.
                    hand.advance(std::time::Duration::from_secs(3_700));
                }
            }
            done
        })
    });
    let mut done = 0;
    for caller in callers.collect::<Vec<_>>() {
        done += caller.await.unwrap();
    }
    assert!(done > 100, "only {done} calls took effect: nothing was tested");
    world.end().await;
}
