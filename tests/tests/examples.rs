//! The grpcurl line in each RPC's comment, run by a shell against the real binaries.
//!
//! Every RPC stands in one list, in an order in which the lines make sense one after another, with
//! what its line gets. A line names its objects by a placeholder id; the id of the object that an
//! earlier line made takes its place.

use std::{collections::BTreeMap, process::Command};

use adspend_common::{devpg::TestDatabase, time::Clock};
use e2e::{
    processes::Service,
    provider::{SECRET, SHOP as SHOP_ID, Simulator},
    stack::{Plan, Stack},
};

use crate::{
    contract::{comment, methods},
    tools,
};

/// What a line gets.
enum Gets {
    /// Status OK and, in its JSON, this text.
    Ok(&'static str),
    /// This status.
    Refused(&'static str),
}

use Gets::{Ok as Answers, Refused};

/// Run before the lines: they speak of an advertiser whose creation is the same as their agency's.
const SHOP: &str = r#"grpcurl -plaintext -d '{"account_id":"shop","account":{"kind":"ACCOUNT_KIND_ADVERTISER","display_name":"Shop","currency_code":"RUB","legal_entity":{"country_code":"RU","name":"Shop LLC","inn":"7707083893","kpp":"773601001"}},"request_id":"create-shop"}' localhost:7401 adspend.billing.v1.AccountService/CreateAccount"#;

/// The same for a direct advertiser that stays one.
const CREDITED: &str = r#"grpcurl -plaintext -d '{"account_id":"credited","account":{"kind":"ACCOUNT_KIND_ADVERTISER","display_name":"Credited","currency_code":"RUB","legal_entity":{"country_code":"RU","name":"Credited LLC","inn":"7736207543","kpp":"770401001"}},"request_id":"create-credited"}' localhost:7401 adspend.billing.v1.AccountService/CreateAccount"#;

/// A direct advertiser, for the lines about autopayment.
const STORE: &str = r#"grpcurl -plaintext -d '{"account_id":"store","account":{"kind":"ACCOUNT_KIND_ADVERTISER","display_name":"Store","currency_code":"RUB","legal_entity":{"country_code":"RU","name":"Store LLC","inn":"7707083893","kpp":"773601001"}},"request_id":"create-store"}' localhost:7401 adspend.billing.v1.AccountService/CreateAccount"#;

/// The card that the line of LinkCard names.
const TOKEN: &str = "22e12f66-000f-5000-8000-18db351245c7";

const LINES: &[(&str, Gets)] = &[
    ("AccountService/CreateAccount", Answers("accounts/north")),
    ("AccountService/GetAccount", Answers("North LLC")),
    ("AccountService/UpdateAccount", Answers("North Media")),
    ("AccountService/AttachClient", Answers("accounts/north")),
    ("AccountService/ListAccounts", Answers("accounts/shop")),
    ("AccountService/GetBalance", Answers("posted")),
    // Money comes in.
    ("InvoiceService/CreateInvoice", Answers("INVOICE_STATE_ISSUED")),
    ("InvoiceService/GetInvoice", Answers("45000")),
    ("InvoiceService/ListInvoices", Answers("invoices/")),
    // An invoice is a document at once; months are over only when they are over.
    ("DocumentService/ListDocuments", Answers("documents/")),
    ("DocumentService/GetDocument", Answers("8114")),
    ("DocumentService/DownloadDocument", Answers("fileName")),
    ("DocumentService/CreateReconciliationAct", Refused("FailedPrecondition")),
    ("PaymentService/RecordPayment", Answers("PAYMENT_STATE_")),
    ("PaymentService/ImportStatement", Answers("NUMBER_NOT_FOUND")),
    ("PaymentService/GetPayment", Answers("payments/")),
    ("PaymentService/ListPayments", Answers("")),
    ("PaymentService/AllocatePayment", Refused("FailedPrecondition")),
    ("PaymentService/RefundPayment", Answers("refunded")),
    ("InvoiceService/CancelInvoice", Refused("FailedPrecondition")),
    ("CreditService/SetCreditTerms", Answers("50000")),
    ("CreditService/SetOverdraftThreshold", Answers("10000")),
    ("CreditService/GetCreditTerms", Answers("effectiveThreshold")),
    // The invoice that was made above is a prepaid one.
    ("CreditService/RepayDeferredInvoice", Refused("FailedPrecondition")),
    ("InvoiceService/UpdateDeferredInvoice", Refused("FailedPrecondition")),
    ("PromisedPaymentService/GetPromisedPaymentTerms", Answers("")),
    ("PromisedPaymentService/TakePromisedPayment", Answers("PROMISED_PAYMENT_STATE_ACTIVE")),
    ("PromisedPaymentService/GetPromisedPayment", Answers("3000")),
    ("PromisedPaymentService/ListPromisedPayments", Answers("promisedPayments/")),
    ("PromisedPaymentService/RepayPromisedPayment", Answers("PROMISED_PAYMENT_STATE_REPAID")),
    ("TransferService/CreateTransfer", Answers("transfers/")),
    ("TransferService/BatchCreateTransfers", Answers("transfers/")),
    ("TransferService/GetTransfer", Answers("10000")),
    ("TransferService/ListTransfers", Answers("transfers/")),
    ("AutoTopUpService/SetAutoTopUp", Answers("AUTO_TOP_UP_STATE_ENABLED")),
    ("AutoTopUpService/GetAutoTopUp", Answers("accounts/shop/autoTopUp")),
    ("AutoTopUpService/ListAutoTopUpRuns", Answers("")),
    ("AutoTopUpService/DisableAutoTopUp", Answers("AUTO_TOP_UP_DISABLED_REASON_REQUESTED")),
    ("TransactionService/ListTransactions", Answers("45000")),
    ("TransactionService/ReverseTransaction", Answers("TRANSACTION_TYPE_CORRECTION")),
    ("TransactionService/ExportTransactions", Answers("content")),
    // A direct advertiser pays by card.
    ("AutopayService/LinkCard", Answers("220000******0053")),
    ("AutopayService/ListCards", Answers("CARD_STATE_ACTIVE")),
    ("AutopayService/SetAutopay", Answers("\"enabled\": true")),
    ("AutopayService/GetAutopay", Answers("5000")),
    ("AutopayService/ListAutopayRuns", Answers("")),
    ("AutopayService/DisableAutopay", Answers("BY_OWNER")),
    ("AutopayService/UnlinkCard", Answers("CARD_STATE_UNLINKED")),
    // Money is set aside and spent.
    ("HoldService/OpenHolds", Answers("accounts/shop/holds/")),
    ("HoldService/GetHold", Answers("HOLD_STATE_OPEN")),
    ("HoldService/SettleHolds", Answers("2500000")),
    ("HoldService/ExtendHolds", Answers("HOLD_STATE_OPEN")),
    ("HoldService/ListHolds", Answers("accounts/shop/holds/")),
    ("HoldService/ReleaseHolds", Answers("accounts/shop/holds/")),
    ("HoldService/RecordCharges", Answers("")),
    ("EventService/WatchEvents", Answers("accountCreated")),
    ("HoldService/CreditInvalidClicks", Answers("4000000")),
    ("AuditService/VerifyLedger", Answers("")),
    ("AuditService/ListAuditRecords", Answers("BatchCreateTransfers")),
    // A campaign spends.
    ("CampaignService/CreateCampaign", Answers("campaigns/spring")),
    ("CampaignService/GetCampaign", Answers("campaigns/spring")),
    ("CampaignService/ListCampaigns", Answers("campaigns/spring")),
    ("CampaignService/UpdateCampaign", Answers("Spring sale")),
    ("CampaignService/PauseCampaign", Answers("PAUSED")),
    ("CampaignService/ResumeCampaign", Answers("ACTIVE")),
    ("BudgetService/SetBudget", Answers("10000")),
    ("BudgetService/GetBudget", Answers("10000")),
    ("BudgetService/ListBudgetChanges", Answers("10000")),
    ("BudgetService/PreviewBudgetChange", Answers("8000")),
    ("AdmissionService/Admit", Answers("")),
    ("AdmissionService/BatchAdmit", Answers("")),
    ("AdmissionService/StreamAdmit", Answers("")),
    ("ChargeService/Settle", Answers("")),
    ("ChargeService/BatchSettle", Answers("")),
    ("ChargeService/StreamSettle", Answers("")),
    ("ChargeService/Cancel", Refused("InvalidArgument")),
    ("ReportService/GetPacingState", Answers("")),
    ("ReportService/GetSpendCurve", Answers("900s")),
    ("ReportService/ListSuspensions", Answers("")),
    ("ReportService/ExplainDecision", Answers("verdict")),
    ("ReportService/SimulateBudget", Answers("warnings")),
    ("BudgetService/RemoveBudget", Answers("")),
    // A client with money of its own cannot leave its agency.
    ("AccountService/BlockAccount", Answers("ACCOUNT_STATE_BLOCKED")),
    ("AccountService/UnblockAccount", Answers("ACCOUNT_STATE_ACTIVE")),
    ("AccountService/DetachClient", Refused("FailedPrecondition")),
];

// On several threads: a line blocks its own, and the provider must answer meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_line_of_every_rpc_works_against_the_real_binaries() {
    let billing = TestDatabase::create(&adspend_billing::MIGRATIONS).await;
    let pacing = TestDatabase::create(&adspend_pacing::MIGRATIONS).await;
    let own = r#"[{ account = "40702810138250123017", bik = "044525225" }]"#;
    let provider = Simulator::start(|| Clock::system().now()).await;
    provider.save_card_as(TOKEN, "0053");
    let plan = Plan::new("examples")
        .set(Service::Billing, "autopay.provider.url", &provider.url())
        .set(Service::Billing, "autopay.provider.shop_id", SHOP_ID)
        .set(Service::Billing, "autopay.provider.secret", SECRET)
        .set(Service::Billing, "autopay.provider.token_key", &"7".repeat(64))
        .set(Service::Billing, "statements.own_accounts", own);
    let stack = Stack::start(&plan, billing.url(), pacing.url()).await.unwrap();
    let ports = [("localhost:7401", &stack.billing[0]), ("localhost:7411", &stack.pacing[0])];
    let ports = ports.map(|(written, replica)| (written, replica.grpc().to_string()));

    let lines = lines();
    let mut ids = BTreeMap::new();
    let mut wrong = Vec::new();
    shell(SHOP, &ports).unwrap();
    shell(CREDITED, &ports).unwrap();
    shell(STORE, &ports).unwrap();
    for (name, gets) in LINES {
        let line = with_ids(&lines[*name], &ids);
        let outcome = shell(&line, &ports);
        if let Ok(answer) = &outcome {
            remember_ids(answer, &mut ids);
        }
        let as_told = match (gets, &outcome) {
            (Answers(text), Ok(answer)) => answer.contains(text),
            (Refused(code), Err(complaint)) => complaint.contains(&format!("Code: {code}")),
            (Answers(_), Err(_)) | (Refused(_), Ok(_)) => false,
        };
        if !as_told {
            wrong.push(format!("{line}\n{outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    stack.stop().await.unwrap();
}

#[test]
fn every_rpc_has_its_place_among_the_lines() {
    let mut listed: Vec<_> = LINES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut offered: Vec<_> = lines().into_keys().collect();
    listed.sort();
    offered.sort();
    assert_eq!(listed, offered);
}

/// `Service/Method` and its line.
fn lines() -> BTreeMap<String, String> {
    let line = |text: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with("grpcurl "));
        line.unwrap_or_default().trim().to_owned()
    };
    let methods = methods();
    let named = methods.iter().map(|method| {
        (format!("{}/{}", method.parent_service().name(), method.name()), line(&comment(method)))
    });
    named.collect()
}

/// Runs a line as a reader would paste it; what went to standard error when it failed.
pub(crate) fn shell(line: &str, ports: &[(&str, String)]) -> Result<String, String> {
    let line = ports.iter().fold(line.to_owned(), |line, (from, to)| line.replace(from, to));
    let tools = tools::root().join("target/tools/bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &line])
        .env("PATH", format!("{}:{path}", tools.display()))
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The length of a UUID as text.
const UUID: usize = 36;

/// Names in an answer: of each collection the first object that was seen.
fn remember_ids(answer: &str, ids: &mut BTreeMap<String, String>) {
    for quoted in answer.split('"') {
        let Some((collection, id)) = quoted.rsplit_once('/') else { continue };
        let collection = collection.rsplit('/').next().unwrap_or_default();
        if id.len() == UUID {
            ids.entry(collection.to_owned()).or_insert_with(|| id.to_owned());
        }
    }
}

/// `holds/<placeholder>` becomes the hold that was made.
fn with_ids(line: &str, ids: &BTreeMap<String, String>) -> String {
    let mut line = line.to_owned();
    for (collection, id) in ids {
        let marker = format!("{collection}/");
        let Some(at) = line.find(&marker) else { continue };
        let from = at + marker.len();
        let placeholder = line.get(from..from + UUID).unwrap_or_default().to_owned();
        if placeholder.chars().all(|c| c.is_ascii_hexdigit() || c == '-') && !placeholder.is_empty()
        {
            line = line.replace(&placeholder, id);
        }
    }
    line
}
