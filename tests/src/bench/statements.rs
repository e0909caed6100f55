//! Importing bank statements beside RecordPayment from many callers: the same mix of payments, every tenth of
//! an invoice. And what a file of 100 000 lines takes of the service's memory.

use std::{
    fmt::Write as _,
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use adspend_common::proto::{
    adspend::billing::v1::{
        CreateInvoiceRequest, ImportStatementRequest, InvoiceTerms, Payer, RecordPaymentRequest,
        StatementSummary, invoice_service_client::InvoiceServiceClient,
        payment_service_client::PaymentServiceClient,
    },
    google::r#type::Date,
};
use tokio_stream::iter;
use tonic::transport::Channel;

use super::{
    MEASURE, Outcome, WARM,
    figures::{Bound, Figure},
    load::{Done, connect, together},
    seed,
    world::World,
};

/// Our account, and where all payments come from.
const OWN: &str = "40702810138250123017";
const PAYERS: &str = "40702810200000000001";
/// The setting that goes with it.
pub(crate) const OWN_ACCOUNTS: &str =
    r#"[{ account = "40702810138250123017", bik = "044525225" }]"#;

const CONNECTIONS: usize = 4;
/// Concurrent callers of RecordPayment; and of CreateInvoice, which is not measured.
const CALLERS: usize = 64;
/// Lines of a file that is measured, and of the one whose memory is.
const LINES: u64 = 20_000;
const LONG: u64 = 100_000;
/// One payment in so many is of an invoice.
const INVOICED: u64 = 10;
/// What every payment is of, whole roubles.
const AMOUNT: i64 = 2_000;
/// A piece of a file.
const PIECE: usize = 1 << 20;

struct Bank {
    channels: Vec<Channel>,
    /// Numbers of documents so far.
    documents: Arc<AtomicU64>,
}

impl Bank {
    /// Numbers of new invoices.
    async fn invoices(&self, count: u64) -> Outcome<Vec<String>> {
        let (left, numbers) = (Arc::new(AtomicU64::new(count)), Arc::new(Mutex::default()));
        let channels = self.channels.iter().cycle().cloned();
        together((0..CALLERS).zip(channels).map(|(caller, channel)| {
            let (left, numbers) = (Arc::clone(&left), Arc::clone(&numbers));
            let documents = Arc::clone(&self.documents);
            async move {
                let mut client = InvoiceServiceClient::new(channel);
                let take = |left: u64| left.checked_sub(1);
                let mut issued = 0;
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    let request = CreateInvoiceRequest {
                        parent: format!("accounts/{}", seed::agency(caller)),
                        amount: Some(seed::rub(AMOUNT, 0)),
                        terms: InvoiceTerms::Prepaid.into(),
                        request_id: format!("s-{}", documents.fetch_add(1, Ordering::Relaxed)),
                    };
                    let invoice = client.create_invoice(request).await?.into_inner().invoice;
                    let mut numbers: std::sync::MutexGuard<'_, Vec<String>> =
                        numbers.lock().unwrap_or_else(PoisonError::into_inner);
                    numbers.push(invoice.unwrap_or_default().number);
                    issued += 1;
                }
                Ok(issued)
            }
        }))
        .await?;
        let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut numbers))
    }

    fn purpose(number: u64, invoices: &mut impl Iterator<Item = String>) -> String {
        let invoice = if number.is_multiple_of(INVOICED) { invoices.next() } else { None };
        invoice.map_or_else(
            || "Оплата рекламных услуг, номер счёта не указан".to_owned(),
            |invoice| format!("Оплата по счёту {invoice}"),
        )
    }

    /// A file of 1C with so many lines.
    fn file(&self, lines: u64, invoices: Vec<String>) -> Outcome<String> {
        let sum = lines * AMOUNT.unsigned_abs();
        let mut text = format!(
            "1CClientBankExchange\r\nВерсияФормата=1.03\r\nКодировка=Windows\r\nРасчСчет={OWN}\r\n\
             СекцияРасчСчет\r\nРасчСчет={OWN}\r\nНачальныйОстаток=0.00\r\nВсегоПоступило={sum}.00\r\n\
             ВсегоСписано=0.00\r\nКонечныйОстаток={sum}.00\r\nКонецРасчСчет\r\n"
        );
        let mut invoices = invoices.into_iter();
        for line in 0..lines {
            let number = self.documents.fetch_add(1, Ordering::Relaxed);
            let purpose = Self::purpose(line, &mut invoices);
            write!(
                text,
                "СекцияДокумент=Платежное поручение\r\nНомер={number}\r\nДата=20.11.2026\r\n\
                 Сумма={AMOUNT}.00\r\nПлательщикСчет={PAYERS}\r\nДатаПоступило=20.11.2026\r\n\
                 Плательщик1={}\r\nПлательщикИНН={}\r\nПлательщикКПП={}\r\n\
                 ПлательщикБИК=044525225\r\nПолучательСчет={OWN}\r\nПолучательИНН=7736207543\r\n\
                 ВидПлатежа=\r\nНазначениеПлатежа={purpose}\r\nКонецДокумента\r\n",
                seed::PAYER,
                seed::INN,
                seed::KPP,
            )?;
        }
        text.push_str("КонецФайла\r\n");
        Ok(text)
    }

    /// Imports a file, and how long that took.
    async fn import(&self, file: String) -> Outcome<(StatementSummary, Duration)> {
        let channel = self.channels.first().ok_or("no connection")?.clone();
        let request_id = format!("f-{}", self.documents.fetch_add(1, Ordering::Relaxed));
        let bytes = file.into_bytes();
        let pieces: Vec<_> = bytes
            .chunks(PIECE)
            .map(|piece| ImportStatementRequest {
                request_id: request_id.clone(),
                content: piece.to_vec(),
            })
            .collect();
        let began = Instant::now();
        let mut client = PaymentServiceClient::new(channel);
        let mut answers = client.import_statement(iter(pieces)).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if let Some(summary) = answer.summary {
                return Ok((summary, began.elapsed()));
            }
        }
        Err("an import without a summary".into())
    }

    /// The same payments one by one.
    async fn one_by_one(&self, invoices: Vec<String>, during: Duration) -> Outcome<Done> {
        let until = Instant::now() + during;
        let invoices = Arc::new(Mutex::new(invoices.into_iter()));
        let channels = self.channels.iter().cycle().cloned();
        together((0..CALLERS).zip(channels).map(|(_, channel)| {
            let (documents, invoices) = (Arc::clone(&self.documents), Arc::clone(&invoices));
            async move {
                let mut client = PaymentServiceClient::new(channel);
                let mut count = 0;
                while Instant::now() < until {
                    let number = documents.fetch_add(1, Ordering::Relaxed);
                    let purpose = {
                        let mut invoices = invoices.lock().unwrap_or_else(PoisonError::into_inner);
                        Self::purpose(number, &mut *invoices)
                    };
                    let request = RecordPaymentRequest {
                        amount: Some(seed::rub(AMOUNT, 0)),
                        payer: Some(Payer {
                            name: seed::PAYER.to_owned(),
                            inn: seed::INN.to_owned(),
                            kpp: seed::KPP.to_owned(),
                            bank_account: PAYERS.to_owned(),
                            bik: "044525225".to_owned(),
                        }),
                        purpose,
                        document_number: number.to_string(),
                        document_date: Some(Date { year: 2026, month: 11, day: 20 }),
                        request_id: format!("r-{number}"),
                        ..Default::default()
                    };
                    client.record_payment(request).await?;
                    count += 1;
                }
                Ok(count)
            }
        }))
        .await
    }
}

/// Lines a second, their ratio to payments one by one, and the memory that a long file takes.
pub(crate) async fn measure(world: &mut World) -> Outcome<Vec<Figure>> {
    let channels = connect(&world.billing_uri()?, CONNECTIONS).await?;
    let bank = Bank { channels, documents: Arc::default() };
    let mut rate = Figure::new("statement_lines_per_second", "lines/s", Bound::None);
    let mut ratio = Figure::new("statement_ratio", "lines/s", Bound::AtLeast(3.0));
    let invoiced = LINES / INVOICED;
    bank.one_by_one(Vec::new(), WARM).await?;
    for round in 0..world.rounds {
        let mut reference = f64::NAN;
        let mut ours = f64::NAN;
        // Each side goes first in turn.
        for turn in 0..2 {
            let invoices = bank.invoices(invoiced).await?;
            if turn == round % 2 {
                reference = bank.one_by_one(invoices, MEASURE).await?.per_second();
                continue;
            }
            let (summary, took) = bank.import(bank.file(LINES, invoices)?).await?;
            if u64::try_from(summary.credited)? != invoiced || summary.duplicates != 0 {
                return Err(format!("not as it was made: {summary:?}").into());
            }
            ours = LINES as f64 / took.as_secs_f64();
        }
        rate.round(ours);
        ratio.beside(ours, reference);
    }
    let pid = world.billing_pid()?;
    let file = bank.file(LONG, bank.invoices(LONG / INVOICED).await?)?;
    let before = reset_peak(pid)?;
    let (summary, _) = bank.import(file).await?;
    if i64::from(summary.lines) != LONG as i64 {
        return Err(format!("lines were lost: {summary:?}").into());
    }
    let grown = memory(pid, "VmHWM:")?.saturating_sub(before);
    let grown = grown as f64 / 1024.0;
    let bound = Bound::AtMost(64.0);
    let memory = Figure::of("statement_memory_mib", "MiB, 100 000 lines", bound, grown);
    Ok(vec![rate, ratio, memory])
}

/// Forgets how much memory a process has ever had; gives what it has now, in kilobytes.
fn reset_peak(pid: i32) -> Outcome<u64> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    memory(pid, "VmRSS:")
}

fn memory(pid: i32, figure: &str) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no such figure")?.parse()?)
}
