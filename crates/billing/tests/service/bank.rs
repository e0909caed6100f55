//! A bank's statements in both formats, and what an import tells of them.

use std::fmt::Write as _;

use adspend_billing::config::{Code as CurrencyCode, Config, OwnAccount};
use adspend_common::{
    money::{Currency, Money},
    proto::adspend::billing::v1 as pb,
};
use futures_util::stream;
use pb::StatementLineOutcome as Line;
use tonic::Status;

use crate::support::*;

pub(crate) const OWN: &str = "40702810138250123017";
pub(crate) const SECOND: &str = "40702810400000000225";
pub(crate) const NORTHS: &str = "40702810200000000001";
pub(crate) const BIK: &str = "044525225";

pub(crate) fn with_accounts(config: &mut Config) {
    let own = |account: &str| OwnAccount {
        account: account.to_owned(),
        bik: BIK.to_owned(),
        currency: CurrencyCode(Currency::RUB),
    };
    config.statements.own_accounts = vec![own(OWN), own(SECOND)];
    // Small, so that a short file is several transactions.
    config.statements.lines_per_transaction = 3;
}

/// A document of 1C.
#[derive(Clone)]
pub(crate) struct Doc {
    pub(crate) number: u32,
    pub(crate) amount: String,
    pub(crate) inn: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) purpose: String,
}

pub(crate) fn from_north(number: u32, amount: &str, purpose: &str) -> Doc {
    Doc {
        number,
        amount: amount.to_owned(),
        inn: NORTH_INN,
        from: NORTHS,
        to: OWN,
        purpose: purpose.to_owned(),
    }
}

pub(crate) fn sum<'d>(docs: impl Iterator<Item = &'d Doc>) -> Money {
    Money::checked_sum(docs.map(|doc| doc.amount.parse().unwrap())).unwrap()
}

/// A file of 1C that adds up.
pub(crate) fn one_c(docs: &[Doc], encoding: &str) -> String {
    let received = sum(docs.iter().filter(|doc| doc.to == OWN));
    let written_off = sum(docs.iter().filter(|doc| doc.from == OWN));
    let opening = Money::from_units(1_000_000);
    let closing = opening.checked_add(received).unwrap().checked_sub(written_off).unwrap();
    let mut text = format!(
        "1CClientBankExchange\nВерсияФормата=1.03\nКодировка={encoding}\nРасчСчет={OWN}\n\
         СекцияРасчСчет\nРасчСчет={OWN}\nНачальныйОстаток={opening}\nВсегоПоступило={received}\n\
         ВсегоСписано={written_off}\nКонечныйОстаток={closing}\nКонецРасчСчет\n"
    );
    for Doc { number, amount, inn, from, to, purpose } in docs {
        let dates =
            if *from == OWN { "ДатаСписано" } else { "ДатаПоступило" };
        write!(
            text,
            "СекцияДокумент=Платежное поручение\nНомер={number}\nДата=20.11.2026\nСумма={amount}\n\
             ПлательщикСчет={from}\n{dates}=20.11.2026\nПлательщик1=ООО «Север»\nПлательщикИНН={inn}\n\
             ПлательщикБИК={BIK}\nПолучательСчет={to}\nНазначениеПлатежа={purpose}\nКонецДокумента\n"
        )
        .unwrap();
    }
    text.push_str("КонецФайла\n");
    text
}

/// The same as camt.053.
pub(crate) fn camt(docs: &[Doc]) -> String {
    let received = sum(docs.iter());
    let mut text = format!(
        "<?xml version=\"1.0\"?><Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:camt.053.001.08\">\
         <BkToCstmrStmt><Stmt><Acct><Id><Othr><Id>{OWN}</Id></Othr></Id></Acct>\
         <Bal><Tp><CdOrPrtry><Cd>OPBD</Cd></CdOrPrtry></Tp><Amt Ccy=\"RUB\">0</Amt>\
         <CdtDbtInd>CRDT</CdtDbtInd></Bal><Bal><Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp>\
         <Amt Ccy=\"RUB\">{received}</Amt><CdtDbtInd>CRDT</CdtDbtInd></Bal>"
    );
    for Doc { number, amount, inn, from, purpose, .. } in docs {
        write!(
            text,
            "<Ntry><Amt Ccy=\"RUB\">{amount}</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>\
             <BookgDt><Dt>2026-11-20</Dt></BookgDt><NtryDtls><TxDtls><Refs><EndToEndId>{number}</EndToEndId>\
             </Refs><RltdPties><Dbtr><Pty><Nm>North</Nm><Id><OrgId><Othr><Id>{inn}</Id></Othr></OrgId></Id>\
             </Pty></Dbtr><DbtrAcct><Id><Othr><Id>{from}</Id></Othr></Id></DbtrAcct></RltdPties>\
             <RmtInf><Ustrd>{purpose}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>"
        )
        .unwrap();
    }
    text.push_str("</Stmt></BkToCstmrStmt></Document>");
    text
}

/// What an import told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) lines: Vec<pb::StatementLine>,
    pub(crate) summary: pb::StatementSummary,
    /// Of each answer.
    pub(crate) replayed: Vec<bool>,
}

impl Told {
    pub(crate) fn outcomes(&self) -> Vec<(Line, &str)> {
        self.lines.iter().map(|line| (line.outcome(), line.reason.as_str())).collect()
    }

    /// Credited, unallocated, duplicates, ignored.
    pub(crate) fn counts(&self) -> [i32; 4] {
        let pb::StatementSummary { lines, credited, unallocated, duplicates, ignored, .. } =
            self.summary;
        assert_eq!(lines, credited + unallocated + duplicates + ignored);
        assert_eq!(usize::try_from(lines), Ok(self.lines.len()));
        [credited, unallocated, duplicates, ignored]
    }
}

/// Sends a file in pieces of so many bytes; what was told before an error is told with it.
pub(crate) async fn send(
    caller: &Caller,
    request_id: &str,
    file: &[u8],
    piece: usize,
) -> Result<Told, (Vec<pb::StatementLine>, Status)> {
    let pieces: Vec<_> = file
        .chunks(piece)
        .map(|piece| pb::ImportStatementRequest {
            request_id: request_id.to_owned(),
            content: piece.to_vec(),
        })
        .collect();
    let answers = caller.payments().import_statement(stream::iter(pieces)).await;
    let mut answers = answers.map_err(|status| (Vec::new(), status))?.into_inner();
    let (mut lines, mut replayed) = (Vec::new(), Vec::new());
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                lines.extend(answer.lines);
                replayed.push(answer.replayed);
                if let Some(summary) = answer.summary {
                    assert_eq!(answers.message().await.unwrap(), None, "the summary is the last");
                    return Ok(Told { lines, summary, replayed });
                }
            }
            Ok(None) => panic!("no summary"),
            Err(status) => return Err((lines, status)),
        }
    }
}
