//! Accounts, money and campaigns to measure with, made over gRPC as customers would.

use adspend_common::proto::{
    adspend::{
        billing::v1::{
            Account, AccountKind, CreateAccountRequest, CreateInvoiceRequest, InvoiceTerms,
            LegalEntity, Payer, PaymentState, RecordPaymentRequest,
            account_service_client::AccountServiceClient,
            invoice_service_client::InvoiceServiceClient,
            payment_service_client::PaymentServiceClient,
        },
        pacing::v1::{
            Campaign, CreateCampaignRequest, PaymentModel,
            campaign_service_client::CampaignServiceClient,
        },
    },
    google::r#type::Money,
};
use tonic::transport::Channel;

use super::{
    Outcome,
    load::{connect, together},
};

/// Callers at once while seeding: as many as billing's pool has connections.
const CALLERS: usize = 16;
const CONNECTIONS: usize = 2;
/// A payer's tax number with a valid checksum.
pub(crate) const INN: &str = "7707083893";
pub(crate) const KPP: &str = "773601001";
pub(crate) const PAYER: &str = "Bench LLC";
/// What every funded account gets: no run comes near.
const FUNDS_UNITS: i64 = 900_000_000;

/// Agencies of the transfer workload, and clients of each.
pub(crate) const AGENCIES: usize = 1_000;
pub(crate) const CLIENTS: usize = 10;
/// Advertisers that spend, and campaigns of each.
pub(crate) const ADVERTISERS: usize = 10;
pub(crate) const CAMPAIGNS: usize = 10;

pub(crate) fn agency(number: usize) -> String {
    format!("agency-{number}")
}

pub(crate) fn client(agency: usize, number: usize) -> String {
    format!("agency-{agency}-client-{number}")
}

pub(crate) fn advertiser(number: usize) -> String {
    format!("advertiser-{number}")
}

/// The resource names of all campaigns.
pub(crate) fn campaigns() -> Vec<String> {
    let of = |advertiser| (0..CAMPAIGNS).map(move |number| campaign(advertiser, number));
    (0..ADVERTISERS).flat_map(of).map(|id| format!("campaigns/{id}")).collect()
}

fn campaign(advertiser: usize, number: usize) -> String {
    format!("campaign-{advertiser}-{number}")
}

pub(crate) fn rub(units: i64, nanos: i32) -> Money {
    Money { currency_code: "RUB".to_owned(), units, nanos }
}

/// Advertisers with money and campaigns.
pub(crate) async fn advertisers(billing: &str, pacing: &str) -> Outcome<()> {
    let channel = connect(billing, 1).await?.remove(0);
    let mut campaigns = CampaignServiceClient::new(connect(pacing, 1).await?.remove(0));
    for number in 0..ADVERTISERS {
        let id = advertiser(number);
        create(&channel, &id, AccountKind::Advertiser, None).await?;
        fund(&channel, &id).await?;
        for number in (0..CAMPAIGNS).map(|of| campaign(number, of)) {
            let request = CreateCampaignRequest {
                request_id: format!("create-{number}"),
                campaign: Some(Campaign {
                    account: format!("accounts/{id}"),
                    display_name: number.clone(),
                    payment_model: PaymentModel::PerImpression.into(),
                    ..Campaign::default()
                }),
                campaign_id: number,
            };
            campaigns.create_campaign(request).await?;
        }
    }
    Ok(())
}

/// Agencies with money, and their clients.
pub(crate) async fn agencies(billing: &str) -> Outcome<()> {
    let channels = connect(billing, CONNECTIONS).await?;
    let caller = |first: usize, channel: Channel| async move {
        for number in (first..AGENCIES).step_by(CALLERS) {
            let id = agency(number);
            create(&channel, &id, AccountKind::Agency, None).await?;
            fund(&channel, &id).await?;
            for of in 0..CLIENTS {
                create(&channel, &client(number, of), AccountKind::Client, Some(&id)).await?;
            }
        }
        Ok(0)
    };
    let channels = channels.iter().cycle().cloned();
    together((0..CALLERS).zip(channels).map(|(first, channel)| caller(first, channel))).await?;
    Ok(())
}

async fn create(
    channel: &Channel,
    id: &str,
    kind: AccountKind,
    agency: Option<&str>,
) -> Outcome<()> {
    let request = CreateAccountRequest {
        account_id: id.to_owned(),
        account: Some(Account {
            kind: kind.into(),
            agency: agency.map(|agency| format!("accounts/{agency}")).unwrap_or_default(),
            display_name: id.to_owned(),
            currency_code: "RUB".to_owned(),
            legal_entity: Some(LegalEntity {
                country_code: "RU".to_owned(),
                name: PAYER.to_owned(),
                inn: INN.to_owned(),
                kpp: KPP.to_owned(),
                ..LegalEntity::default()
            }),
            ..Account::default()
        }),
        request_id: format!("create-{id}"),
    };
    AccountServiceClient::new(channel.clone()).create_account(request).await?;
    Ok(())
}

/// An invoice and its payment.
async fn fund(channel: &Channel, id: &str) -> Outcome<()> {
    let request = CreateInvoiceRequest {
        parent: format!("accounts/{id}"),
        amount: Some(rub(FUNDS_UNITS, 0)),
        terms: InvoiceTerms::Prepaid.into(),
        request_id: format!("invoice-{id}"),
    };
    let invoice = InvoiceServiceClient::new(channel.clone()).create_invoice(request).await?;
    let number = invoice.into_inner().invoice.unwrap_or_default().number;
    let request = RecordPaymentRequest {
        amount: Some(rub(FUNDS_UNITS, 0)),
        payer: Some(Payer { name: PAYER.to_owned(), inn: INN.to_owned(), ..Payer::default() }),
        purpose: format!("Invoice {number}"),
        request_id: format!("payment-{id}"),
        ..RecordPaymentRequest::default()
    };
    let payment = PaymentServiceClient::new(channel.clone()).record_payment(request).await?;
    match payment.into_inner().payment {
        Some(payment) if payment.state() == PaymentState::Credited => Ok(()),
        other => Err(format!("the payment of {id} was not credited: {other:?}").into()),
    }
}
