//! The bank: files of what moved on our account, as 1C exports them and as ISO 20022 has them.

use std::fmt::Write as _;

use adspend_common::time::Day;
use encoding_rs::WINDOWS_1251;

use super::office::Company;

/// Our account, and the code of the bank that has all accounts of the story.
pub(crate) const OWN_ACCOUNT: &str = "40702810138250123017";
pub(crate) const BIK: &str = "044525225";
/// What was on it in the morning, in roubles.
const OPENING: i64 = 1_000_000;

/// Which way money went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// A payment order on our account.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) number: u32,
    pub(crate) way: Way,
    /// The other one: who paid, or who was paid.
    pub(crate) company: Company,
    pub(crate) roubles: i64,
    pub(crate) purpose: String,
}

fn moved(orders: &[Order], way: Way) -> i64 {
    orders.iter().filter(|order| order.way == way).map(|order| order.roubles).sum()
}

/// A day's orders as 1CClientBankExchange, in Windows-1251 as most banks write it.
pub(crate) fn one_c(day: Day, orders: &[Order]) -> Vec<u8> {
    let (received, paid) = (moved(orders, Way::In), moved(orders, Way::Out));
    let closing = OPENING + received - paid;
    let date = day.date().format("%d.%m.%Y").to_string();
    let mut text = format!(
        "1CClientBankExchange\r\nВерсияФормата=1.03\r\nКодировка=Windows\r\nОтправитель=Банк-клиент\r\n\
         ДатаНачала={date}\r\nДатаКонца={date}\r\nРасчСчет={OWN_ACCOUNT}\r\n\
         СекцияРасчСчет\r\nДатаНачала={date}\r\nДатаКонца={date}\r\nРасчСчет={OWN_ACCOUNT}\r\n\
         НачальныйОстаток={OPENING}.00\r\nВсегоПоступило={received}.00\r\nВсегоСписано={paid}.00\r\n\
         КонечныйОстаток={closing}.00\r\nКонецРасчСчет\r\n"
    );
    for Order { number, way, company, roubles, purpose } in orders {
        let Company { name, inn, kpp, bank_account, .. } = company;
        let (from, to, booked) = match way {
            Way::In => (*bank_account, OWN_ACCOUNT, "ДатаПоступило"),
            Way::Out => (OWN_ACCOUNT, *bank_account, "ДатаСписано"),
        };
        let other = if *way == Way::In { "Плательщик" } else { "Получатель" };
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "СекцияДокумент=Платежное поручение\r\nНомер={number}\r\nДата={date}\r\nСумма={roubles}.00\r\n\
             ПлательщикСчет={from}\r\n{booked}={date}\r\n{other}=ИНН {inn} {name}\r\n\
             {other}ИНН={inn}\r\n{other}1={name}\r\n{other}КПП={kpp}\r\n{other}БИК={BIK}\r\n\
             ПолучательСчет={to}\r\nВидПлатежа=\r\nНазначениеПлатежа={purpose}\r\nКонецДокумента\r\n"
        );
    }
    text.push_str("КонецФайла\r\n");
    WINDOWS_1251.encode(&text).0.into_owned()
}

/// A day's incoming orders as camt.053 of ISO 20022.
pub(crate) fn camt(day: Day, orders: &[Order]) -> Vec<u8> {
    let balance = |code: &str, roubles: i64| {
        format!(
            "<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy=\"RUB\">{roubles}.00</Amt>\
             <CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>{day}</Dt></Dt></Bal>\n"
        )
    };
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:camt.053.001.08\"><BkToCstmrStmt>\n\
         <GrpHdr><MsgId>{day}</MsgId></GrpHdr><Stmt><Id>{day}</Id>\n\
         <Acct><Id><Othr><Id>{OWN_ACCOUNT}</Id></Othr></Id><Ccy>RUB</Ccy></Acct>\n{}{}",
        balance("OPBD", OPENING),
        balance("CLBD", OPENING + moved(orders, Way::In)),
    );
    for Order { number, company, roubles, purpose, .. } in
        orders.iter().filter(|order| order.way == Way::In)
    {
        let Company { name, inn, bank_account, .. } = company;
        // Names and purposes of the story hold nothing that XML would want escaped.
        let _ = write!(
            text,
            "<Ntry><NtryRef>{number}</NtryRef><Amt Ccy=\"RUB\">{roubles}.00</Amt>\
             <CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>{day}</Dt></BookgDt>\n\
             <NtryDtls><TxDtls><Refs><EndToEndId>{number}</EndToEndId></Refs>\
             <Amt Ccy=\"RUB\">{roubles}.00</Amt><RltdPties><Dbtr><Pty><Nm>{name}</Nm><Id><OrgId><Othr>\
             <Id>{inn}</Id><SchmeNm><Cd>TXID</Cd></SchmeNm></Othr></OrgId></Id></Pty></Dbtr>\
             <DbtrAcct><Id><Othr><Id>{bank_account}</Id></Othr></Id></DbtrAcct></RltdPties>\
             <RltdAgts><DbtrAgt><FinInstnId><ClrSysMmbId><MmbId>{BIK}</MmbId></ClrSysMmbId>\
             </FinInstnId></DbtrAgt></RltdAgts><RmtInf><Ustrd>{purpose}</Ustrd></RmtInf>\
             </TxDtls></NtryDtls></Ntry>\n"
        );
    }
    text.push_str("</Stmt></BkToCstmrStmt></Document>\n");
    text.into_bytes()
}
