//! A history as CSV (RFC 4180): lines end in CRLF, cells with a comma, a quote or a line break are quoted.
//!
//! Text that a spreadsheet would take for a formula gets an apostrophe before it. Amounts are numbers that we
//! have printed: they keep their minus.

use adspend_common::money::Currency;
use chrono::SecondsFormat;

use super::{Page, Transaction, name};

/// The byte order mark of UTF-8.
pub(crate) const MARK: &str = "\u{feff}";

/// The first line. New columns come at the end.
pub(crate) const HEADER: &str =
    "transaction,time,type,amount,balance,currency,object,counterparty\r\n";

/// The lines of a page.
pub(crate) fn lines(page: &Page) -> String {
    let mut out = String::with_capacity(page.rows.len().saturating_mul(192));
    for row in &page.rows {
        line(&mut out, page, page.currency, row);
    }
    out
}

fn line(out: &mut String, page: &Page, currency: Currency, row: &Transaction) {
    let Transaction { number, shown, amount, balance, at, object, counterparty } = row;
    let counterparty = counterparty.as_ref().map(|other| other.name()).unwrap_or_default();
    let cells = [
        text(&name(&page.account, *number)),
        at.to_rfc3339_opts(SecondsFormat::Micros, true),
        shown.word().to_owned(),
        amount.to_string(),
        balance.to_string(),
        currency.to_string(),
        text(object.as_deref().unwrap_or_default()),
        text(&counterparty),
    ];
    out.push_str(&cells.join(","));
    out.push_str("\r\n");
}

/// A cell of text that somebody else may have chosen.
fn text(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guarded = if formula { format!("'{cell}") } else { cell.to_owned() };
    if formula || guarded.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", guarded.replace('"', "\"\""))
    } else {
        guarded
    }
}

#[cfg(test)]
mod tests {
    use adspend_common::{id::AccountId, money::Balance};
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::transactions::TransactionType;

    #[test]
    fn cell_table() {
        for (cell, written) in [
            ("", ""),
            ("campaigns/spring", "campaigns/spring"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("+7 495", "\"'+7 495\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("Весна", "Весна"),
        ] {
            assert_eq!(text(cell), written, "{cell:?}");
        }
    }

    #[test]
    fn a_row_is_a_line() {
        let row = Transaction {
            number: 7,
            shown: TransactionType::Charge,
            amount: Balance::from_micros(-100_500_000).unwrap(),
            balance: Balance::from_micros(-1).unwrap(),
            at: DateTime::from_timestamp(1_790_000_000, 5_000).unwrap(),
            object: Some("=campaigns,1".to_owned()),
            counterparty: Some(AccountId::parse("north").unwrap()),
        };
        let account = AccountId::parse("shop").unwrap();
        let page = Page { account, currency: Currency::RUB, rows: vec![row], rest: None };
        assert_eq!(
            lines(&page),
            "accounts/shop/transactions/7,2026-09-21T14:13:20.000005Z,charge,-100.50,-0.000001,RUB,\
             \"'=campaigns,1\",accounts/north\r\n"
        );
        assert_eq!(HEADER.split(',').count(), lines(&page).split(',').count() - 1);
    }

    /// What a reader of RFC 4180 gets out of one cell.
    fn read(cell: &str) -> String {
        match cell.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => cell.to_owned(),
        }
    }

    proptest! {
        /// Any text comes back, and none of it is a formula or breaks its cell.
        #[test]
        fn any_text_is_one_harmless_cell(cell in "[=+@,\"'a-я\\r\\n\\t-]{0,20}") {
            let written = text(&cell);
            let back = read(&written);
            let guarded = format!("'{cell}");
            prop_assert!(back == cell || back == guarded);
            prop_assert!(!back.starts_with(['=', '+', '-', '@', '\t', '\r']));
            if !written.starts_with('"') {
                prop_assert!(!written.contains([',', '"', '\n', '\r']));
            }
        }
    }
}
