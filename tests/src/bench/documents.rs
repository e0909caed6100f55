//! Documents: the first download of an invoice, which sets its page and keeps it, beside the second one, which
//! only reads what was kept. The difference is what typesetting takes.

use std::time::Instant;

use adspend_common::proto::{
    adspend::billing::v1::{
        CreateInvoiceRequest, DownloadDocumentRequest, InvoiceTerms,
        document_service_client::DocumentServiceClient,
        invoice_service_client::InvoiceServiceClient,
    },
    google::r#type::Money,
};
use tonic::transport::Channel;

use super::{
    Outcome,
    figures::{Bound, Figure},
    load::connect,
    seed,
    world::World,
};

/// Invoices of one round, one after another.
const INVOICES: usize = 20;

/// What one page may take, its call included.
const MOST_MS: f64 = 50.0;

pub(crate) async fn measure(world: &World) -> Outcome<Vec<Figure>> {
    let channel = connect(&world.billing_uri()?, 1).await?.pop().ok_or("no connection")?;
    let mut set = Figure::new("document_pdf_ms", "ms an invoice", Bound::AtMost(MOST_MS));
    let mut beside = Figure::new("document_pdf_to_kept", "first to second download", Bound::None);
    download(&channel, &invoice(&channel, "warm", 0).await?).await?;
    for round in 0..world.rounds {
        let (mut first, mut second) = (0.0, 0.0);
        for number in 0..INVOICES {
            let name = invoice(&channel, &round.to_string(), number).await?;
            first += download(&channel, &name).await?;
            second += download(&channel, &name).await?;
        }
        set.round(first / INVOICES as f64);
        beside.beside(first / INVOICES as f64, second / INVOICES as f64);
    }
    Ok(vec![set, beside])
}

/// A fresh invoice; gives the name of its document.
async fn invoice(channel: &Channel, round: &str, number: usize) -> Outcome<String> {
    let request = CreateInvoiceRequest {
        parent: format!("accounts/{}", seed::agency(number)),
        amount: Some(Money { currency_code: "RUB".to_owned(), units: 45_000, nanos: 0 }),
        terms: InvoiceTerms::Prepaid.into(),
        request_id: format!("document-{round}-{number}"),
    };
    let issued = InvoiceServiceClient::new(channel.clone()).create_invoice(request).await?;
    let invoice = issued.into_inner().invoice.ok_or("an answer without its invoice")?;
    Ok(invoice.name.replace("/invoices/", "/documents/"))
}

/// The milliseconds until the last byte.
async fn download(channel: &Channel, name: &str) -> Outcome<f64> {
    let began = Instant::now();
    let request = DownloadDocumentRequest { name: name.to_owned() };
    let answer = DocumentServiceClient::new(channel.clone()).download_document(request).await?;
    let mut chunks = answer.into_inner();
    let mut bytes = 0;
    while let Some(next) = chunks.message().await? {
        bytes += next.chunk.len();
    }
    if bytes == 0 {
        return Err("an empty document".into());
    }
    Ok(began.elapsed().as_secs_f64() * 1_000.0)
}
