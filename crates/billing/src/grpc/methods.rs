//! Who may call what. A method that is not here is denied, and the service does not start.

use adspend_common::identity::{
    MethodTable,
    Role::{Advertiser, Agency, Auditor, Operator, Pacing},
};

/// Every method of every service that is served.
pub(crate) const METHODS: MethodTable = &[
    ("/adspend.billing.v1.TransferService/CreateTransfer", &[Operator, Agency]),
    ("/adspend.billing.v1.TransferService/BatchCreateTransfers", &[Operator, Agency]),
    ("/adspend.billing.v1.TransferService/GetTransfer", &[Operator, Agency, Auditor]),
    ("/adspend.billing.v1.TransferService/ListTransfers", &[Operator, Agency, Auditor]),
    ("/adspend.billing.v1.HoldService/OpenHolds", &[Operator, Pacing]),
    ("/adspend.billing.v1.HoldService/SettleHolds", &[Operator, Pacing]),
    ("/adspend.billing.v1.HoldService/ReleaseHolds", &[Operator, Pacing]),
    ("/adspend.billing.v1.HoldService/ExtendHolds", &[Operator, Pacing]),
    ("/adspend.billing.v1.HoldService/RecordCharges", &[Operator, Pacing]),
    (
        "/adspend.billing.v1.HoldService/GetHold",
        &[Operator, Pacing, Agency, Advertiser, Auditor],
    ),
    (
        "/adspend.billing.v1.HoldService/ListHolds",
        &[Operator, Pacing, Agency, Advertiser, Auditor],
    ),
    ("/adspend.billing.v1.AuditService/VerifyLedger", &[Operator, Auditor]),
];
