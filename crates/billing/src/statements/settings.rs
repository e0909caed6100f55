//! What is configured about bank statements: our own accounts, and the bounds of a file.

use std::path::PathBuf;

use adspend_common::{
    money::Currency,
    requisites::{self, Proof},
};
use serde::{Deserialize, Serialize};

use crate::config::Code;

/// Bank statements.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Statements {
    /// The bank accounts of our legal entity: a statement of any other is refused.
    pub own_accounts: Vec<OwnAccount>,
    /// The largest file, in bytes. A line takes about a kilobyte.
    pub max_bytes: u64,
    /// Lines that one transaction books: it keeps the accounts of all of them locked.
    pub lines_per_transaction: u16,
    /// Files that are being imported at once in this process; more are told to come back.
    pub at_once: u16,
    /// Where a file lies while it is being read; the system's place for such files without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_folder: Option<PathBuf>,
}

impl Default for Statements {
    fn default() -> Statements {
        Statements {
            own_accounts: Vec::new(),
            max_bytes: 256 * 1024 * 1024,
            lines_per_transaction: 500,
            at_once: 2,
            spool_folder: None,
        }
    }
}

impl Statements {
    /// Our account with this number.
    pub(crate) fn own(&self, number: &str) -> Option<&OwnAccount> {
        self.own_accounts.iter().find(|own| own.account == number)
    }
}

/// A bank account of ours: one of 20 digits fits its bank (R-185), any other is taken as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Written")]
pub struct OwnAccount {
    /// 20 digits, or an IBAN.
    pub account: String,
    /// The code of the bank; may be left out with an IBAN.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bik: String,
    /// What it is kept in.
    pub currency: Code,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    account: String,
    #[serde(default)]
    bik: String,
    #[serde(default = "roubles")]
    currency: Code,
}

fn roubles() -> Code {
    Code(Currency::RUB)
}

impl TryFrom<Written> for OwnAccount {
    type Error = String;

    fn try_from(written: Written) -> Result<OwnAccount, String> {
        let Written { account, bik, currency } = written;
        let plain = account.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
        if account.is_empty() || account.len() > 34 || !plain {
            return Err(format!("{account:?} is not a bank account: digits and capital letters"));
        }
        let digits = account.bytes().all(|byte| byte.is_ascii_digit());
        if digits {
            match requisites::account(&account, &bik) {
                Some(Proof::Checked | Proof::FormOnly) => {}
                None => return Err(format!("the bank {bik:?} has no account {account}")),
            }
        }
        Ok(OwnAccount { account, bik, currency })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_accounts_are_proved_when_they_are_read() {
        let read = |text: &str| toml_of(text).map(|own| (own.account, own.currency.0));
        let account = "40702810138250123017";
        assert_eq!(
            read(r#"{"account":"40702810138250123017","bik":"044525225"}"#),
            Ok((account.to_owned(), Currency::RUB))
        );
        assert_eq!(
            read(r#"{"account":"DE89370400440532013000","currency":"EUR"}"#),
            Ok(("DE89370400440532013000".to_owned(), Currency::EUR))
        );
        for wrong in [
            r#"{"account":"40702810138250123018","bik":"044525225"}"#,
            r#"{"account":"40702810138250123017"}"#,
            r#"{"account":"407 02","bik":"044525225"}"#,
            r#"{"account":"","bik":"044525225"}"#,
            r#"{"account":"40702810138250123017","bik":"044525225","name":"x"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    fn toml_of(json: &str) -> Result<OwnAccount, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }
}
