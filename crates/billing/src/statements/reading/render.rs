//! Statements to be read by tests: one story, told in both formats as banks do.

use std::fmt::Write as _;

use adspend_common::{
    money::{Balance, Money},
    time::Day,
};

use super::{Sender, Way};

/// An account of a statement with what moved on it.
#[derive(Debug, Clone)]
pub(in crate::statements) struct Story {
    pub(in crate::statements) account: String,
    pub(in crate::statements) opening: Balance,
    pub(in crate::statements) lines: Vec<Line>,
}

/// A movement; with no sender's account it has come from nowhere that the bank would name.
#[derive(Debug, Clone)]
pub(in crate::statements) struct Line {
    pub(in crate::statements) way: Way,
    pub(in crate::statements) number: String,
    pub(in crate::statements) day: Day,
    pub(in crate::statements) amount: Money,
    pub(in crate::statements) sender: Sender,
    pub(in crate::statements) purpose: String,
}

impl Story {
    pub(in crate::statements) fn moved(&self, way: Way) -> Money {
        let lines = self.lines.iter().filter(|line| line.way == way);
        Money::checked_sum(lines.map(|line| line.amount)).unwrap()
    }

    pub(in crate::statements) fn closing(&self) -> Balance {
        let sum = self.opening.checked_add(self.moved(Way::In)).unwrap();
        sum.checked_sub(self.moved(Way::Out)).unwrap()
    }

    /// As 1C has it.
    pub(in crate::statements) fn one_c(&self, encoding: &str) -> String {
        let Story { account, opening, .. } = self;
        let (received, written_off) = (self.moved(Way::In), self.moved(Way::Out));
        let mut text = format!(
            "1CClientBankExchange\r\nВерсияФормата=1.03\r\nКодировка={encoding}\r\n\
             Отправитель=Банк\r\nДатаНачала=20.11.2026\r\nДатаКонца=20.11.2026\r\nРасчСчет={account}\r\n\
             СекцияРасчСчет\r\nДатаНачала=20.11.2026\r\nРасчСчет={account}\r\n\
             НачальныйОстаток={opening}\r\nВсегоПоступило={received}\r\nВсегоСписано={written_off}\r\n\
             КонечныйОстаток={}\r\nКонецРасчСчет\r\n",
            self.closing()
        );
        for line in &self.lines {
            line.one_c(account, &mut text);
        }
        text.push_str("КонецФайла\r\n");
        text
    }

    /// As ISO 20022 has it, in a version of camt.053.001.
    pub(in crate::statements) fn camt(&self, version: &str) -> String {
        let new = version == "08";
        let balance = |code: &str, balance: Balance| {
            let sum = if balance.is_negative() { balance.negated() } else { balance };
            let way = if balance.is_negative() { "DBIT" } else { "CRDT" };
            format!(
                "<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy=\"RUB\">{sum}</Amt>\
                 <CdtDbtInd>{way}</CdtDbtInd><Dt><Dt>2026-11-20</Dt></Dt></Bal>\n"
            )
        };
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:camt.053.001.{version}\">\n\
             <BkToCstmrStmt><GrpHdr><MsgId>1</MsgId></GrpHdr>\n<Stmt><Id>1</Id>\n\
             <Acct><Id><Othr><Id>{}</Id></Othr></Id><Ccy>RUB</Ccy></Acct>\n{}{}",
            self.account,
            balance("OPBD", self.opening),
            balance("CLBD", self.closing()),
        );
        for line in &self.lines {
            line.camt(new, &mut text);
        }
        text.push_str("</Stmt></BkToCstmrStmt></Document>\n");
        text
    }
}

impl Line {
    fn one_c(&self, own: &str, text: &mut String) {
        let Line { way, number, day, amount, sender, purpose } = self;
        let Sender { name, inn, kpp, account, bik } = sender;
        let date = day.date().format("%d.%m.%Y");
        let (payer, payee) = match way {
            Way::Out => (own, "40702810900000000001"),
            Way::In | Way::NotBooked => (account.as_str(), own),
            Way::Elsewhere => (account.as_str(), "40702810900000000001"),
        };
        let dates = match way {
            Way::In => format!("ДатаПоступило={date}\r\n"),
            Way::Out => format!("ДатаСписано={date}\r\n"),
            Way::Elsewhere | Way::NotBooked => String::new(),
        };
        write!(
            text,
            "СекцияДокумент=Платежное поручение\r\nНомер={number}\r\nДата={date}\r\nСумма={amount}\r\n\
             ПлательщикСчет={payer}\r\n{dates}Плательщик=ИНН {inn} {name}\r\nПлательщикИНН={inn}\r\n\
             ПлательщикКПП={kpp}\r\nПлательщик1={name}\r\nПлательщикБИК={bik}\r\nПолучательСчет={payee}\r\n\
             ВидПлатежа=\r\nНазначениеПлатежа={purpose}\r\nКонецДокумента\r\n"
        )
        .unwrap();
    }

    fn camt(&self, new: bool, text: &mut String) {
        let Line { way, number, day, amount, sender, purpose } = self;
        let Sender { name, inn, kpp: _, account, bik } = sender;
        let escape = |text: &str| quick_xml::escape::escape(text).into_owned();
        let (name, purpose) = (escape(name), escape(purpose));
        let (indicator, booked) = match way {
            Way::In => ("CRDT", "BOOK"),
            Way::Out => ("DBIT", "BOOK"),
            Way::Elsewhere | Way::NotBooked => ("CRDT", "PDNG"),
        };
        let party = format!(
            "<Nm>{name}</Nm><Id><OrgId><Othr><Id>{inn}</Id><SchmeNm><Cd>TXID</Cd></SchmeNm></Othr>\
             </OrgId></Id>"
        );
        let (status, party, sum) = match new {
            true => (
                format!("<Cd>{booked}</Cd>"),
                format!("<Pty>{party}</Pty>"),
                format!("<Amt Ccy=\"RUB\">{amount}</Amt>"),
            ),
            false => (
                booked.to_owned(),
                party,
                format!("<AmtDtls><TxAmt><Amt Ccy=\"RUB\">{amount}</Amt></TxAmt></AmtDtls>"),
            ),
        };
        write!(
            text,
            "<Ntry><NtryRef>N-{number}</NtryRef><Amt Ccy=\"RUB\">{amount}</Amt>\
             <CdtDbtInd>{indicator}</CdtDbtInd><Sts>{status}</Sts>\
             <BookgDt><Dt>{day}</Dt></BookgDt>\n<NtryDtls><TxDtls>\
             <Refs><EndToEndId>{number}</EndToEndId></Refs>{sum}\
             <RltdPties><Dbtr>{party}</Dbtr><DbtrAcct><Id><Othr><Id>{account}</Id></Othr></Id></DbtrAcct>\
             </RltdPties><RltdAgts><DbtrAgt><FinInstnId><ClrSysMmbId><MmbId>{bik}</MmbId></ClrSysMmbId>\
             </FinInstnId></DbtrAgt></RltdAgts><RmtInf><Ustrd>{purpose}</Ustrd></RmtInf>\
             </TxDtls></NtryDtls></Ntry>\n"
        )
        .unwrap();
    }
}
