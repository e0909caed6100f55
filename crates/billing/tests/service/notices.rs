//! E-mail as its readers get it: a real SMTP conversation on loopback, the letters parsed back.

use std::{sync::Arc, time::Duration};

use adspend_billing::config::{Config, MailTls};
use adspend_common::{
    config::{HumanDuration, Secret},
    proto::adspend::billing::v1 as pb,
};
use mail_parser::{Message, MessageParser, MimeHeaders as _};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::{
    smtp::{Sink, Taken, Trouble},
    support::*,
};

/// The last moment of the due day of a promise taken at the start, 24 hours before it, and the first after.
const DUE_SOON: &str = "2026-11-25T00:00:00+03:00";
const OVERDUE: &str = "2026-11-26T00:00:00+03:00";

/// Jobs that look ten times a second, and letters to this server.
fn mailing(sink: &Sink) -> impl FnOnce(&mut Config) + use<> {
    let at = sink.at;
    move |config| {
        let often = HumanDuration::from_millis(100);
        config.jobs.enabled = true;
        config.jobs.send_notices_every = often;
        config.jobs.announce_promises_every = often;
        config.jobs.warn_balances_every = often;
        config.mail.host = Some("localhost".to_owned());
        config.mail.port = Some(at.port());
        config.mail.tls = MailTls::None;
        config.mail.from = "Рекламный кабинет <noreply@adspend.example>".to_owned();
    }
}

/// Waits for a condition, at most a minute.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: not within a minute");
}

async fn letters(sink: &Sink, count: usize) -> Vec<Taken> {
    until(&format!("{count} letters"), async || sink.taken().len() >= count).await;
    sink.taken()
}

fn parsed(taken: &Taken) -> Message<'_> {
    MessageParser::default().parse(&taken.data).unwrap()
}

fn subject(taken: &Taken) -> String {
    parsed(taken).subject().unwrap().replace('\u{a0}', " ")
}

/// The states of all notices, oldest first, with the attempts that they took.
async fn states(world: &World) -> Vec<(i16, i32)> {
    let client = world.database().pool.get().await.unwrap();
    let sql = "SELECT state, attempts FROM notice ORDER BY created_at, kind";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn all_are(world: &World, state: i16) {
    until(&format!("notices in state {state}"), async || {
        states(world).await.iter().all(|(found, _)| *found == state)
    })
    .await;
}

/// An agency that may take promises.
async fn trusted(sink: &Sink) -> World {
    let world = World::with(mailing(sink)).await;
    world.with_agency("north").await;
    world.pay("north", "100000").await;
    world
}

#[tokio::test]
async fn a_letter_is_what_a_reader_expects() {
    let sink = Sink::plain().await.unwrap();
    let world = trusted(&sink).await;
    let rename = pb::UpdateAccountRequest {
        account: Some(pb::Account {
            name: name("north"),
            display_name: "<b>Рога & \"Копыта\"</b>".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["display_name".to_owned()] }),
        request_id: fresh(),
    };
    world.operator().accounts().update_account(rename).await.unwrap();
    world.promise("north", "3000.50").await.unwrap();
    let taken = letters(&sink, 1).await.remove(0);
    assert_eq!(
        (taken.from.as_str(), taken.to.as_slice()),
        ("noreply@adspend.example", &["money@north.example".to_owned()][..])
    );
    assert!(taken.data.is_ascii(), "nothing that a relay could spoil");
    let letter = parsed(&taken);
    let from = letter.from().unwrap().first().unwrap();
    assert_eq!(
        (from.name(), from.address()),
        (Some("Рекламный кабинет"), Some("noreply@adspend.example"))
    );
    assert_eq!(letter.to().unwrap().first().unwrap().address(), Some("money@north.example"));
    assert_eq!(subject(&taken), "Обещанный платёж на 3 000,50 ₽ зачислен");
    assert_eq!(letter.date().unwrap().to_timestamp(), at(START).timestamp());
    assert_eq!(letter.header("Auto-Submitted").unwrap().as_text(), Some("auto-generated"));
    let kind = letter.content_type().unwrap();
    assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("alternative")));
    let text = letter.body_text(0).unwrap().replace('\u{a0}', " ");
    assert!(text.contains("«<b>Рога & \"Копыта\"</b>»") && text.contains("3 000,50 ₽"), "{text}");
    assert!(text.contains("до конца дня 25 ноября 2026 г. (время московское)"), "{text}");
    let html = letter.body_html(0).unwrap();
    assert!(html.contains("«&lt;b&gt;Рога &amp; &quot;Копыта&quot;&lt;/b&gt;»"), "{html}");
    assert!(!html.contains("<b>"), "{html}");

    let client = world.database().pool.get().await.unwrap();
    let row = client.query_one("SELECT notice_id::text, recipient FROM notice", &[]).await;
    all_are(&world, 2).await;
    let id: String = row.unwrap().get(0);
    assert_eq!(letter.message_id(), Some(format!("{id}@adspend.example").as_str()));
    drop(client);
    world.end().await;
}

/// on taking, 24 hours before the end of the due day, on overdue, on repayment; each once.
#[tokio::test]
async fn a_promise_is_told_of_four_times() {
    let sink = Sink::plain().await.unwrap();
    let world = trusted(&sink).await;
    world.promise("north", "3000").await.unwrap();
    letters(&sink, 1).await;
    // A moment before the reminder nothing happens, however often jobs look: the next letter is the reminder.
    world.set("2026-11-24T23:59:59.999+03:00");
    world.promise("north", "200").await.unwrap();
    assert!(subject(&letters(&sink, 2).await[1]).contains("зачислен"));
    world.set(DUE_SOON);
    assert_eq!(
        subject(&letters(&sink, 3).await[2]),
        "Срок обещанного платежа истекает 25 ноября 2026 г."
    );
    world.set(OVERDUE);
    assert_eq!(subject(&letters(&sink, 4).await[3]), "Обещанный платёж просрочен");
    // A payment that repays only a part is no repayment.
    world.pay("north", "2000").await;
    world.pay("north", "2000").await;
    assert_eq!(subject(&letters(&sink, 5).await[4]), "Обещанный платёж погашен");
    all_are(&world, 2).await;
    assert_eq!(states(&world).await.len(), 5);

    // The back office heard of it too.
    let request = pb::WatchEventsRequest { until_now: true, ..Default::default() };
    let mut stream = world.operator().events().watch_events(request).await.unwrap().into_inner();
    let mut overdue = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        let payload = message.event.and_then(|event| event.payload);
        if let Some(pb::event::Payload::PromisedPaymentOverdue(told)) = payload {
            overdue.push(text(&told.outstanding));
        }
    }
    assert_eq!(overdue, ["3000"]);
    world.end().await;
}

/// G9: what may pass is tried again, later each time; what a relay refuses for good is not.
#[tokio::test]
async fn trouble_that_may_pass_is_waited_out() {
    let sink = Sink::plain().await.unwrap();
    let world = trusted(&sink).await;
    sink.plan(&[Trouble::Busy, Trouble::Greylist, Trouble::HangUp]);
    world.promise("north", "3000").await.unwrap();
    // The waits double: one minute, two, four.
    for (attempt, moment) in [
        (1, "2026-11-20T12:01:00+03:00"),
        (2, "2026-11-20T12:03:00+03:00"),
        (3, "2026-11-20T12:07:00+03:00"),
    ] {
        until(&format!("attempt {attempt} failed"), async || {
            let client = world.database().pool.get().await.unwrap();
            let sql = "SELECT attempts, next_attempt_at, last_error FROM notice";
            let row = client.query_one(sql, &[]).await.unwrap();
            row.get::<_, i32>(0) == attempt
                && row.get::<_, chrono::DateTime<chrono::Utc>>(1) == at(moment)
                && row.get::<_, Option<String>>(2).is_some()
        })
        .await;
        assert_eq!((sink.connections(), sink.taken().len()), (u32::try_from(attempt).unwrap(), 0));
        world.set(moment);
    }
    letters(&sink, 1).await;
    all_are(&world, 2).await;
    assert_eq!(states(&world).await, [(2, 4)]);

    sink.plan(&[Trouble::NoSuchUser]);
    world.promise("north", "200").await.unwrap();
    until("refused for good", async || states(&world).await.contains(&(3, 1))).await;
    assert_eq!(sink.taken().len(), 1);
    world.end().await;
}

/// A letter that was taken without an answer comes again, and a mail program shows it once.
#[tokio::test]
async fn a_letter_that_comes_twice_is_the_same_letter() {
    let sink = Sink::plain().await.unwrap();
    let world = trusted(&sink).await;
    sink.plan(&[Trouble::TakeAndHangUp]);
    world.promise("north", "3000").await.unwrap();
    letters(&sink, 1).await;
    until("it is known as not sent", async || {
        let client = world.database().pool.get().await.unwrap();
        let sql = "SELECT count(*) = 1 FROM notice WHERE last_error IS NOT NULL AND state = 1";
        client.query_one(sql, &[]).await.unwrap().get(0)
    })
    .await;
    world.set("2026-11-20T12:01:00+03:00");
    let taken = letters(&sink, 2).await;
    let ids: Vec<_> =
        taken.iter().map(|taken| parsed(taken).message_id().map(str::to_owned)).collect();
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].is_some());
    world.end().await;
}

/// Trouble that does not pass ends: nobody wants the news of last week.
#[tokio::test]
async fn a_notice_is_given_up_after_three_days() {
    let sink = Sink::plain().await.unwrap();
    let world = trusted(&sink).await;
    sink.always(Some(Trouble::Greylist));
    world.promise("north", "3000").await.unwrap();
    until("tried once", async || states(&world).await == [(1, 1)] && sink.connections() == 1).await;
    world.hand.advance(Duration::from_secs(3 * 24 * 3_600 + 1));
    until("given up", async || states(&world).await[0].0 == 3).await;
    assert_eq!(sink.taken().len(), 0);
    sink.always(None);
    world.promise("north", "200").await.unwrap();
    let taken = letters(&sink, 1).await;
    assert!(subject(&taken[0]).contains("200,00"), "the new one only");
    world.end().await;
}

/// Two replicas share a queue: every letter goes out once.
#[tokio::test]
async fn two_replicas_send_every_letter_once() {
    const NOTICES: usize = 40;
    let sink = Sink::plain().await.unwrap();
    let world = World::with(|config| {
        mailing(&sink)(config);
        config.promised_payments.terms.activations = 1_000;
    })
    .await;
    let second = world.replica().await;
    world.with_agency("north").await;
    world.pay("north", "1000000").await;
    for _ in 0..NOTICES {
        world.promise("north", "100").await.unwrap();
    }
    let taken = letters(&sink, NOTICES).await;
    all_are(&world, 2).await;
    let mut ids: Vec<_> =
        taken.iter().map(|taken| parsed(taken).message_id().map(str::to_owned)).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), sink.taken().len()), (NOTICES, NOTICES));
    assert!(states(&world).await.iter().all(|(_, attempts)| *attempts == 1));
    second.end().await;
    world.end().await;
}

/// A certificate for localhost, and itself as the authority that vouches for it, PEM.
fn certified() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

/// TLS and a password, and never a letter in plain text where TLS was asked for.
#[tokio::test]
async fn a_relay_is_spoken_to_in_secret() {
    // "\0user\0secret"
    let (tls, authority) = certified();
    let sink = Sink::with_tls(tls, "AHVzZXIAc2VjcmV0").await.unwrap();
    let world = World::with(|config| {
        mailing(&sink)(config);
        config.mail.tls = MailTls::Starttls;
        config.mail.ca = Some(authority);
        config.mail.username = Some("user".to_owned());
        config.mail.password = Some(Secret::from("secret"));
    })
    .await;
    world.with_agency("north").await;
    world.pay("north", "100000").await;
    world.promise("north", "3000").await.unwrap();
    let taken = letters(&sink, 1).await.remove(0);
    assert!(taken.encrypted);
    assert_eq!(taken.user.as_deref(), Some("AHVzZXIAc2VjcmV0"));
    world.end().await;

    let plain = Sink::plain().await.unwrap();
    let world = World::with(|config| {
        mailing(&plain)(config);
        config.mail.tls = MailTls::Starttls;
    })
    .await;
    world.with_agency("north").await;
    world.pay("north", "100000").await;
    world.promise("north", "3000").await.unwrap();
    until("tried", async || states(&world).await == [(1, 1)] && plain.connections() >= 1).await;
    assert_eq!(plain.taken().len(), 0);
    world.end().await;
}

/// Without a relay notices wait, and those that are not too old are sent when there is one.
#[tokio::test]
async fn notices_wait_while_mail_is_off() {
    let sink = Sink::plain().await.unwrap();
    let world = World::with(|config| {
        mailing(&sink)(config);
        config.mail.host = None;
    })
    .await;
    world.with_agency("north").await;
    world.pay("north", "100000").await;
    world.promise("north", "3000").await.unwrap();
    world.set("2026-11-22T12:00:00+03:00");
    world.promise("north", "200").await.unwrap();
    world.set("2026-11-23T12:00:01+03:00");
    until("the old one is given up", async || states(&world).await == [(3, 0), (1, 0)]).await;
    let world = world.restart_with(mailing(&sink)).await;
    assert!(subject(&letters(&sink, 1).await[0]).contains("200,00"));
    all_are_sent_or_given_up(&world).await;
    world.end().await;
}

async fn all_are_sent_or_given_up(world: &World) {
    until("nothing waits", async || states(world).await.iter().all(|(state, _)| *state != 1)).await;
}

/// A name that came past the edge cannot write headers: its letter is not sent at all. An account without an
/// address has its agency's, and one without either nobody.
#[tokio::test]
async fn no_letter_to_nobody_and_none_with_a_hostile_name() {
    let sink = Sink::plain().await.unwrap();
    let world = trusted(&sink).await;
    let client = world.database().pool.get().await.unwrap();
    let hostile = "UPDATE account SET display_name = E'North\\r\\nBcc: evil@example.org' WHERE name = 'north'";
    client.execute(hostile, &[]).await.unwrap();
    world.promise("north", "3000").await.unwrap();
    until("refused", async || states(&world).await == [(3, 1)]).await;
    client.execute("UPDATE account SET display_name = 'North', email = ''", &[]).await.unwrap();
    world.promise("north", "200").await.unwrap();
    until("nobody to send it to", async || states(&world).await.contains(&(4, 1))).await;
    assert_eq!(sink.connections(), 0);
    drop(client);
    world.end().await;
}

/// Spends through a hold, as pacing does.
async fn spend(world: &World, account: &str, micros: i64) {
    let pacing = world.role("pacing", None);
    let item = pb::OpenHoldItem {
        account: name(account),
        amount_micros: micros,
        min_amount_micros: micros,
        ttl: Some(prost_types::Duration { seconds: 900, nanos: 0 }),
        request_id: fresh(),
    };
    let request = pb::OpenHoldsRequest { requests: vec![item] };
    let opened = pacing.holds().open_holds(request).await.unwrap().into_inner();
    let Some(pb::hold_result::Outcome::Hold(hold)) = &opened.results[0].outcome else {
        panic!("{opened:?}")
    };
    let item = pb::SettleHoldItem {
        hold: hold.name.clone(),
        sequence: 1,
        spends: vec![pb::CampaignSpend {
            campaign: "campaigns/a".to_owned(),
            cumulative_spent_micros: micros,
        }],
    };
    let request = pb::SettleHoldsRequest { requests: vec![item] };
    pacing.holds().settle_holds(request).await.unwrap();
}

/// balance <= 3 x average daily spend of the last 7 days, once per crossing.
#[tokio::test]
async fn a_low_balance_is_told_once_per_crossing() {
    let sink = Sink::plain().await.unwrap();
    let world = trusted(&sink).await;
    world.with_client("north", "boots").await;
    world.with_client("north", "idle").await;
    world.transfer("north", "boots", "10000").await;
    // 7 000 spent: 1 000 a day, 3 000 left. Exactly three days.
    spend(&world, "boots", 6_999_000_000).await;
    looked_at(&world).await;
    assert_eq!(sink.taken().len(), 0, "3 001 left of 999.86 a day");
    spend(&world, "boots", 1_000_000).await;
    let first = letters(&sink, 1).await;
    assert_eq!(first[0].to, ["money@north.example"], "a client without an address: its agency");
    assert_eq!(subject(&first[0]), "На счёте «The boots» заканчиваются средства");
    let body = parsed(&first[0]).body_text(0).unwrap().replace('\u{a0}', " ");
    assert!(body.contains("3 000,00 ₽") && body.contains("1 000,00 ₽ в день"), "{body}");
    // It stays low: no second letter. Money comes: it is not low. It crosses again: one more.
    spend(&world, "boots", 1_000_000).await;
    looked_at(&world).await;
    world.transfer("north", "boots", "5000").await;
    looked_at(&world).await;
    assert_eq!(sink.taken().len(), 1);
    spend(&world, "boots", 4_000_000_000).await;
    letters(&sink, 2).await;
    // What was spent eight days ago counts no more: nothing is spent, nothing is low.
    world.set("2026-11-28T12:00:00+03:00");
    looked_at(&world).await;
    assert_eq!(sink.taken().len(), 2);
    let client = world.database().pool.get().await.unwrap();
    let low: bool =
        client.query_one("SELECT bool_or(low) FROM balance_watch", &[]).await.unwrap().get(0);
    assert!(!low);
    drop(client);
    world.end().await;
}

/// Waits until every account has been looked at as it is now.
async fn looked_at(world: &World) {
    until("all balances were looked at", async || {
        let client = world.database().pool.get().await.unwrap();
        let sql = "SELECT count(*) = 0 FROM ledger_balance b
                   LEFT JOIN balance_watch w USING (tenant_id, account_id)
                   WHERE b.version > 0 AND (w.counted IS DISTINCT FROM b.version
                         OR w.looked_at_day < ($1::timestamptz AT TIME ZONE 'Europe/Moscow')::date)";
        client.query_one(sql, &[&world.hand.now()]).await.unwrap().get(0)
    })
    .await;
}
