//! Who may call what. A method without a row is denied, and the service does not start; the same
//! for a row without a method.

use adspend_common::identity::MethodTable;
use adspend_common::identity::Role::{self, AdServer, Advertiser, Agency, Auditor, Operator};

/// Who owns campaigns and budgets, and our own people.
const OWNERS: &[Role] = &[Operator, Agency, Advertiser];

/// Those, and who reads everything.
const READERS: &[Role] = &[Operator, Agency, Advertiser, Auditor];

/// Who spends.
const SPENDERS: &[Role] = &[Operator, AdServer];

/// A row for every method of every service.
pub(crate) const METHODS: MethodTable = &[
    ("/adspend.pacing.v1.CampaignService/CreateCampaign", OWNERS),
    ("/adspend.pacing.v1.CampaignService/GetCampaign", READERS),
    ("/adspend.pacing.v1.CampaignService/ListCampaigns", READERS),
    ("/adspend.pacing.v1.CampaignService/UpdateCampaign", OWNERS),
    ("/adspend.pacing.v1.CampaignService/PauseCampaign", OWNERS),
    ("/adspend.pacing.v1.CampaignService/ResumeCampaign", OWNERS),
    ("/adspend.pacing.v1.BudgetService/SetBudget", OWNERS),
    ("/adspend.pacing.v1.BudgetService/RemoveBudget", OWNERS),
    ("/adspend.pacing.v1.BudgetService/GetBudget", READERS),
    ("/adspend.pacing.v1.BudgetService/ListBudgetChanges", READERS),
    ("/adspend.pacing.v1.BudgetService/PreviewBudgetChange", READERS),
    ("/adspend.pacing.v1.AdmissionService/Admit", SPENDERS),
    ("/adspend.pacing.v1.AdmissionService/BatchAdmit", SPENDERS),
    ("/adspend.pacing.v1.AdmissionService/StreamAdmit", SPENDERS),
    ("/adspend.pacing.v1.ChargeService/Settle", SPENDERS),
    ("/adspend.pacing.v1.ChargeService/BatchSettle", SPENDERS),
    ("/adspend.pacing.v1.ChargeService/StreamSettle", SPENDERS),
    ("/adspend.pacing.v1.ChargeService/Cancel", SPENDERS),
    ("/adspend.pacing.v1.ReportService/GetPacingState", READERS),
    ("/adspend.pacing.v1.ReportService/GetSpendCurve", READERS),
    ("/adspend.pacing.v1.ReportService/ListSuspensions", READERS),
    ("/adspend.pacing.v1.ReportService/ExplainDecision", READERS),
    ("/adspend.pacing.v1.ReportService/SimulateBudget", READERS),
];
