//! `PaymentService.ImportStatement`: takes the pieces of a file, then tells of its lines as they are booked.
//!
//! The import itself is a task that goes on when its caller has gone: what it has told nobody is told to
//! whoever asks again with the same request id.

use std::sync::Arc;

use adspend_common::{
    identity::Caller,
    money::Currency,
    proto::adspend::billing::v1 as pb,
    rpc::{self, Code, Deadline, Reason, Refusal, Violations, refuse},
};
use futures_util::{Stream, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::{Change, Shared};
use crate::{
    ledger::Actor,
    payments,
    statements::{
        self, Accepted, Checked, Figures, Import, Outcome, Portion, Report, reading::Entry, rules,
        rules::Warning, settings::Statements, spool::Spool,
    },
};

const METHOD: &str = "ImportStatement";

/// Portions that wait for a caller who reads slowly.
const UNTOLD: usize = 2;

/// The answers of one call.
pub(crate) type Answers =
    std::pin::Pin<Box<dyn Stream<Item = Result<pb::ImportStatementResponse, Status>> + Send>>;

/// How many files are imported at once.
#[derive(Debug, Clone)]
pub(crate) struct Imports(Arc<Semaphore>);

/// A file that has come whole.
struct File {
    request_id: String,
    file: std::fs::File,
    hash: [u8; 32],
}

impl Imports {
    pub(crate) fn new(shared: &Shared) -> Imports {
        Imports(Arc::new(Semaphore::new(shared.config.statements.at_once.max(1).into())))
    }

    /// Takes the file, checks it, and begins to book it.
    pub(super) async fn import(
        &self,
        shared: &Arc<Shared>,
        caller: Arc<Caller>,
        pieces: Streaming<pb::ImportStatementRequest>,
    ) -> Result<Answers, Status> {
        let place = Arc::clone(&self.0).try_acquire_owned();
        let place = place.map_err(|_| {
            refuse(Code::ResourceExhausted, Reason::Overloaded, "other files are being imported")
        })?;
        let settings = Arc::new(shared.config.statements.clone());
        let File { request_id, file, hash } = receive(shared, &settings, pieces).await?;
        let mut v = Violations::new();
        let id = v.request_id(&request_id);
        let (id,) = v.all((id,))?;
        let (file, checked) = match statements::check(file, Arc::clone(&settings)).await {
            Ok(sound) => sound,
            // A file that we have not let end is no malformed file.
            Err(_) if shared.stop.stopping().is_cancelled() => {
                return Err(Refusal::from(statements::Error::Stopping).status());
            }
            Err(error) => return Err(Refusal::from(error).status()),
        };
        // What the request asks for is the file, and that is its hash.
        let message = pb::ImportStatementRequest { request_id, content: hash.to_vec() };
        let change = Change { method: METHOD, caller: Arc::clone(&caller), id, message: &message };
        let taken = checked.clone();
        let accepted = shared
            .change(change, accepted, |shared, _, call| async move {
                statements::accept(&shared.pool, shared.now(), &call, &taken).await
            })
            .await?;
        let pb::ImportStatementResponse { statement: name, replayed, .. } = accepted.into_inner();
        let id = name.rsplit('/').next().and_then(|id| Uuid::parse_str(id).ok());
        let import = Import {
            id: id.expect("the answer that was kept names the statement"),
            actor: Actor { caller, method: METHOD },
            pool: shared.pool.clone(),
            clock: shared.clock.clone(),
            settings,
            stop: shared.stop.clone(),
        };
        Ok(answers((name, replayed), &checked, import, file, place))
    }
}

/// Writes down the pieces as they come: no longer than files may be, no slower than streams may be.
async fn receive(
    shared: &Shared,
    settings: &Statements,
    mut pieces: Streaming<pb::ImportStatementRequest>,
) -> Result<File, Status> {
    let patience = shared.config.limits.stream_idle_timeout.get();
    let fault = |error: std::io::Error| rpc::fault(&error);
    let mut spool = Spool::new(settings.spool_folder.as_deref()).await.map_err(fault)?;
    let mut request_id: Option<String> = None;
    while let Some(piece) = Deadline::after(patience).bound(pieces.message()).await?? {
        let known = request_id.get_or_insert_with(|| piece.request_id.clone());
        if !piece.request_id.is_empty() && piece.request_id != *known {
            let what = "must be that of the first message";
            return Err(rpc::invalid("request_id", what).status());
        }
        let bytes = spool.bytes().saturating_add(piece.content.len() as u64);
        if bytes > settings.max_bytes {
            let text = "the file is larger than a statement may be";
            let refusal = refuse(Code::ResourceExhausted, Reason::TooLarge, text);
            return Err(refusal.with("max_bytes", settings.max_bytes).status());
        }
        spool = spool.add(piece.content).await.map_err(fault)?;
    }
    if spool.bytes() == 0 {
        let mut v = Violations::new();
        v.request_id(request_id.as_deref().unwrap_or_default());
        v.add("content", "is required");
        v.check()?;
    }
    let (file, hash) = spool.finish();
    Ok(File { request_id: request_id.unwrap_or_default(), file, hash })
}

fn accepted(accepted: &Accepted) -> pb::ImportStatementResponse {
    pb::ImportStatementResponse {
        statement: statements::name(&accepted.id),
        ..pb::ImportStatementResponse::default()
    }
}

/// What a call has still to tell.
struct Telling {
    statement: String,
    settings: Arc<Statements>,
    told: mpsc::Receiver<Portion>,
    work: JoinHandle<Result<(), statements::Error>>,
    summary: pb::StatementSummary,
    replayed: bool,
}

/// Starts the import and passes on what it tells.
fn answers(
    (statement, replayed): (String, bool),
    checked: &Checked,
    import: Import,
    file: std::fs::File,
    place: OwnedSemaphorePermit,
) -> Answers {
    let settings = Arc::clone(&import.settings);
    let summary = summary(checked, &settings);
    let (tell, told) = mpsc::channel(UNTOLD);
    // It ends by itself: with the file, with an error, or when the process stops.
    let work = tokio::spawn(async move {
        let _place = place;
        import.run(file, tell).await
    });
    let telling = Telling { statement, settings, told, work, summary, replayed };
    Box::pin(stream::unfold(Some(telling), |telling| async move { Some(telling?.next().await) }))
}

impl Telling {
    /// The next answer, and what is left after it.
    async fn next(mut self) -> (Result<pb::ImportStatementResponse, Status>, Option<Telling>) {
        if let Some(portion) = self.told.recv().await {
            let answer = self.lines(&portion);
            return (Ok(answer), Some(self));
        }
        let answer = match self.work.await {
            Ok(Ok(())) => Ok(pb::ImportStatementResponse {
                statement: self.statement,
                lines: Vec::new(),
                summary: Some(self.summary),
                replayed: self.replayed,
            }),
            Ok(Err(error)) => Err(Refusal::from(error).status()),
            Err(panicked) => Err(rpc::fault(&panicked).status()),
        };
        (answer, None)
    }

    fn lines(&mut self, portion: &Portion) -> pb::ImportStatementResponse {
        for (_, report) in &portion.lines {
            let count = match report.outcome {
                Outcome::Credited { .. } => &mut self.summary.credited,
                Outcome::Unallocated { .. } => &mut self.summary.unallocated,
                Outcome::Duplicate { .. } => &mut self.summary.duplicates,
                Outcome::Ignored(_) => &mut self.summary.ignored,
            };
            *count = count.saturating_add(1);
        }
        let lines = portion.lines.iter();
        let lines = lines.map(|(entry, report)| line(entry, report, &self.settings)).collect();
        let statement = self.statement.clone();
        pb::ImportStatementResponse { statement, lines, summary: None, replayed: portion.replayed }
    }
}

fn summary(checked: &Checked, settings: &Statements) -> pb::StatementSummary {
    let account = |figures: &Figures| {
        let Figures { account, opening, received, written_off, closing } = figures;
        let currency = currency(account, None, settings);
        pb::StatementAccount {
            account: account.clone(),
            opening_balance: opening.map(|opening| rpc::balance(opening, currency)),
            received: Some(rpc::money(*received, currency)),
            written_off: Some(rpc::money(*written_off, currency)),
            closing_balance: closing.map(|closing| rpc::balance(closing, currency)),
        }
    };
    pb::StatementSummary {
        lines: checked.lines,
        accounts: checked.accounts.iter().map(account).collect(),
        ..pb::StatementSummary::default()
    }
}

/// What a line says of its currency, else what its account is kept in.
fn currency(account: &str, said: Option<Currency>, settings: &Statements) -> Currency {
    let kept_in = settings.own(account).map(|own| own.currency.0);
    said.or(kept_in).unwrap_or(Currency::RUB)
}

fn line(entry: &Entry, report: &Report, settings: &Statements) -> pb::StatementLine {
    let outcome = match report.outcome {
        Outcome::Credited { .. } => pb::StatementLineOutcome::Credited,
        Outcome::Unallocated { .. } => pb::StatementLineOutcome::Unallocated,
        Outcome::Duplicate { .. } => pb::StatementLineOutcome::Duplicate,
        Outcome::Ignored(_) => pb::StatementLineOutcome::Ignored,
    };
    let account = match &report.outcome {
        Outcome::Credited { account, .. } => account.name(),
        Outcome::Unallocated { .. } | Outcome::Duplicate { .. } | Outcome::Ignored(_) => {
            String::new()
        }
    };
    let payment = report.outcome.payment();
    let warnings = match payment {
        Some(_) => rules::warnings(entry),
        None => Vec::new(),
    };
    let warning = |warning: Warning| match warning {
        Warning::Inn => pb::StatementWarning::PayerInn.into(),
        Warning::Account => pb::StatementWarning::PayerAccount.into(),
        Warning::AccountNotChecked => pb::StatementWarning::PayerAccountNotChecked.into(),
    };
    pb::StatementLine {
        position: report.position,
        line: i32::try_from(entry.at.line).unwrap_or(i32::MAX),
        outcome: outcome.into(),
        reason: report.outcome.reason().unwrap_or_default().to_owned(),
        payment: payment.map(|id| payments::name(&id)).unwrap_or_default(),
        account,
        amount: Some(rpc::money(entry.amount, currency(&entry.account, entry.currency, settings))),
        document_number: entry.number.clone(),
        document_date: Some(rpc::date(entry.day)),
        warnings: warnings.into_iter().map(warning).collect(),
    }
}
