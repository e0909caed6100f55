//! Who may call what. A method that is not here is denied, and the service does not start. What a caller
//! sees inside is decided by its tenant.
//!
//! Payments come in by operators only: who may assign free funds could pay an invoice past the check of its
//! payer. Blocking and attaching are an operator's too: an agency cannot take an advertiser that has
//! not agreed, nor let the money of a blocked client move.

use adspend_common::identity::{
    MethodTable, Role,
    Role::{AdServer, Advertiser, Agency, Auditor, Operator, Pacing},
};

/// Whoever may look at the state of an account, pacing included.
const LOOK: &[Role] = &[Operator, Agency, Advertiser, Auditor, Pacing];
/// Whoever may look at money that came and went.
const READ: &[Role] = &[Operator, Agency, Advertiser, Auditor];
/// An agency's business.
const AGENCY: &[Role] = &[Operator, Agency];
/// The same, to look at.
const READ_AGENCY: &[Role] = &[Operator, Agency, Auditor];
/// A direct advertiser's business.
const ADVERTISER: &[Role] = &[Operator, Advertiser];
/// The same, to look at.
const READ_ADVERTISER: &[Role] = &[Operator, Advertiser, Auditor];
/// The business of whoever pays for itself.
const OWNER: &[Role] = &[Operator, Agency, Advertiser];
/// The holder is pacing; an operator does by hand what a replica that is gone cannot.
const HOLDER: &[Role] = &[Operator, Pacing];

/// Every method of every service that is served.
pub(crate) const METHODS: MethodTable = &[
    ("/adspend.billing.v1.AccountService/CreateAccount", AGENCY),
    ("/adspend.billing.v1.AccountService/GetAccount", LOOK),
    ("/adspend.billing.v1.AccountService/ListAccounts", LOOK),
    ("/adspend.billing.v1.AccountService/UpdateAccount", OWNER),
    ("/adspend.billing.v1.AccountService/AttachClient", &[Operator]),
    ("/adspend.billing.v1.AccountService/DetachClient", AGENCY),
    ("/adspend.billing.v1.AccountService/BlockAccount", &[Operator]),
    ("/adspend.billing.v1.AccountService/UnblockAccount", &[Operator]),
    ("/adspend.billing.v1.AccountService/GetBalance", LOOK),
    ("/adspend.billing.v1.TransferService/CreateTransfer", AGENCY),
    ("/adspend.billing.v1.TransferService/BatchCreateTransfers", AGENCY),
    ("/adspend.billing.v1.TransferService/GetTransfer", READ_AGENCY),
    ("/adspend.billing.v1.TransferService/ListTransfers", READ_AGENCY),
    ("/adspend.billing.v1.InvoiceService/CreateInvoice", OWNER),
    ("/adspend.billing.v1.InvoiceService/GetInvoice", READ),
    ("/adspend.billing.v1.InvoiceService/ListInvoices", READ),
    ("/adspend.billing.v1.InvoiceService/CancelInvoice", OWNER),
    ("/adspend.billing.v1.InvoiceService/UpdateDeferredInvoice", ADVERTISER),
    ("/adspend.billing.v1.CreditService/GetCreditTerms", READ),
    ("/adspend.billing.v1.CreditService/SetCreditTerms", &[Operator]),
    ("/adspend.billing.v1.CreditService/SetOverdraftThreshold", &[Operator, Advertiser]),
    ("/adspend.billing.v1.CreditService/RepayDeferredInvoice", &[Operator]),
    ("/adspend.billing.v1.PaymentService/RecordPayment", &[Operator]),
    ("/adspend.billing.v1.PaymentService/ImportStatement", &[Operator]),
    ("/adspend.billing.v1.PaymentService/GetPayment", READ),
    ("/adspend.billing.v1.PaymentService/ListPayments", READ),
    ("/adspend.billing.v1.PaymentService/AllocatePayment", &[Operator]),
    ("/adspend.billing.v1.PaymentService/RefundPayment", &[Operator]),
    ("/adspend.billing.v1.PromisedPaymentService/GetPromisedPaymentTerms", READ_AGENCY),
    ("/adspend.billing.v1.PromisedPaymentService/TakePromisedPayment", AGENCY),
    ("/adspend.billing.v1.PromisedPaymentService/RepayPromisedPayment", AGENCY),
    ("/adspend.billing.v1.PromisedPaymentService/GetPromisedPayment", READ_AGENCY),
    ("/adspend.billing.v1.PromisedPaymentService/ListPromisedPayments", READ_AGENCY),
    ("/adspend.billing.v1.AutoTopUpService/SetAutoTopUp", AGENCY),
    ("/adspend.billing.v1.AutoTopUpService/GetAutoTopUp", READ_AGENCY),
    ("/adspend.billing.v1.AutoTopUpService/DisableAutoTopUp", AGENCY),
    ("/adspend.billing.v1.AutoTopUpService/ListAutoTopUpRuns", READ_AGENCY),
    ("/adspend.billing.v1.AutopayService/LinkCard", ADVERTISER),
    ("/adspend.billing.v1.AutopayService/ListCards", READ_ADVERTISER),
    ("/adspend.billing.v1.AutopayService/UnlinkCard", ADVERTISER),
    ("/adspend.billing.v1.AutopayService/SetAutopay", ADVERTISER),
    ("/adspend.billing.v1.AutopayService/GetAutopay", READ_ADVERTISER),
    ("/adspend.billing.v1.AutopayService/DisableAutopay", ADVERTISER),
    ("/adspend.billing.v1.AutopayService/ListAutopayRuns", READ_ADVERTISER),
    ("/adspend.billing.v1.TransactionService/ListTransactions", READ),
    ("/adspend.billing.v1.TransactionService/ExportTransactions", READ),
    ("/adspend.billing.v1.TransactionService/ReverseTransaction", &[Operator]),
    ("/adspend.billing.v1.DocumentService/ListDocuments", READ),
    ("/adspend.billing.v1.DocumentService/GetDocument", READ),
    ("/adspend.billing.v1.DocumentService/DownloadDocument", READ),
    ("/adspend.billing.v1.DocumentService/CreateReconciliationAct", OWNER),
    ("/adspend.billing.v1.HoldService/OpenHolds", HOLDER),
    ("/adspend.billing.v1.HoldService/SettleHolds", HOLDER),
    ("/adspend.billing.v1.HoldService/ReleaseHolds", HOLDER),
    ("/adspend.billing.v1.HoldService/ExtendHolds", HOLDER),
    ("/adspend.billing.v1.HoldService/GetHold", LOOK),
    ("/adspend.billing.v1.HoldService/ListHolds", LOOK),
    ("/adspend.billing.v1.HoldService/RecordCharges", HOLDER),
    ("/adspend.billing.v1.EventService/WatchEvents", READ),
    ("/adspend.billing.v1.HoldService/CreditInvalidClicks", &[Operator, Pacing, AdServer]),
    ("/adspend.billing.v1.AuditService/VerifyLedger", &[Operator, Auditor]),
    ("/adspend.billing.v1.AuditService/ListAuditRecords", &[Operator, Auditor]),
];
