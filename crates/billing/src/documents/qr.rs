//! The payment QR code of an invoice: GOST R 56042, `ST00012` (R-180..R-183).

use adspend_common::money::{MICROS_PER_KOPECK, Money};

/// What a payer's bank needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payment<'a> {
    pub(crate) name: &'a str,
    pub(crate) account: &'a str,
    pub(crate) bank: &'a str,
    pub(crate) bik: &'a str,
    /// Empty when the bank has none.
    pub(crate) correspondent: &'a str,
    pub(crate) sum: Money,
    pub(crate) purpose: &'a str,
    pub(crate) payee_inn: &'a str,
    pub(crate) payer_inn: &'a str,
    pub(crate) kpp: &'a str,
}

/// A value without the separator and with single spaces, cut to a number of characters.
fn value(text: &str, most: usize) -> String {
    let words = text.replace('|', "/");
    let joined = words.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.chars().take(most).collect::<String>().trim_end().to_owned()
}

/// The text that the code holds: the mandatory fields in their order, then those that are there.
pub(crate) fn text(payment: &Payment<'_>) -> String {
    let correspondent = match payment.correspondent {
        "" => "0",
        account => account,
    };
    let kopecks = (payment.sum.micros() / MICROS_PER_KOPECK).to_string();
    let fields = [
        ("Name", payment.name, 160),
        ("PersonalAcc", payment.account, 20),
        ("BankName", payment.bank, 45),
        ("BIC", payment.bik, 9),
        ("CorrespAcc", correspondent, 20),
        ("Sum", kopecks.as_str(), 18),
        ("Purpose", payment.purpose, 210),
        ("PayeeINN", payment.payee_inn, 12),
        ("PayerINN", payment.payer_inn, 12),
        ("KPP", payment.kpp, 9),
    ];
    let mut text = "ST00012".to_owned();
    for (key, field, most) in fields {
        let field = value(field, most);
        if !field.is_empty() {
            text.push('|');
            text.push_str(key);
            text.push('=');
            text.push_str(&field);
        }
    }
    text
}

/// The dark modules of the code, row by row; none when the text is longer than any code holds, which the
/// limits above forbid.
pub(crate) fn modules(text: &str) -> Option<Vec<Vec<bool>>> {
    let code = fast_qr::QRBuilder::new(text).ecl(fast_qr::ECL::M).build().ok()?;
    Some(
        (0..code.size).map(|row| code[row].iter().map(|module| module.value()).collect()).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BIRD: Payment<'_> = Payment {
        name: "ООО «Три кита»",
        account: "40702810138250123017",
        bank: "ОАО \"БАНК\"",
        bik: "044525225",
        correspondent: "30101810400000000225",
        sum: Money::from_units(45_000),
        purpose: "Оплата по счёту № AS-26-000001 от 20.11.2026, в т.ч. НДС 22% 8 114,75",
        payee_inn: "6200098765",
        payer_inn: "7707083893",
        kpp: "",
    };

    /// Renders the modules as a picture with a quiet zone, and reads it as a telephone would.
    fn read(text: &str) -> String {
        const SCALE: usize = 4;
        let modules = modules(text).unwrap();
        let side = (modules.len() + 8) * SCALE;
        let mut picture = rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| {
            let at = |pixel: usize| (pixel / SCALE).checked_sub(4);
            let dark = at(y)
                .and_then(|row| modules.get(row))
                .zip(at(x))
                .is_some_and(|(row, column)| row.get(column) == Some(&true));
            if dark { 0 } else { 255 }
        });
        let grids = picture.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    #[test]
    fn mandatory_fields_come_first_and_in_order_r_181() {
        let text = text(&BIRD);
        assert!(
            text.starts_with(
                "ST00012|Name=ООО «Три кита»|PersonalAcc=40702810138250123017|\
                 BankName=ОАО \"БАНК\"|BIC=044525225|CorrespAcc=30101810400000000225|Sum=4500000|"
            ),
            "{text}"
        );
        assert!(text.contains("|PayeeINN=6200098765|PayerINN=7707083893"), "{text}");
        assert!(!text.contains("KPP="), "an empty field is left out: {text}");
    }

    #[test]
    fn what_is_printed_is_what_a_telephone_reads() {
        assert_eq!(read(&text(&BIRD)), text(&BIRD));
        // The worked example of R-182, as it stands there.
        let worked = "ST00012|Name=ООО «Три кита»|PersonalAcc=40702810138250123017|\
            BankName=ОАО \"БАНК\"|BIC=044525225|CorrespAcc=30101810400000000225|\
            PayeeINN=6200098765|LastName=Иванов|FirstName=Иван|MiddleName=Иванович|\
            Purpose=Оплата членского взноса|PayerAddress=г.Рязань ул.Ленина д.10 кв.15|Sum=100000";
        assert_eq!(read(worked), worked);
    }

    #[test]
    fn values_lose_the_separator_and_spare_spaces_and_are_cut_by_characters_r_183() {
        let long = "б".repeat(300);
        let payment = Payment {
            name: "  ООО |  Рога\n и копыта ",
            bank: &long,
            correspondent: "",
            purpose: &long,
            ..BIRD
        };
        let text = text(&payment);
        assert!(text.contains("|Name=ООО / Рога и копыта|"), "{text}");
        assert!(text.contains(&format!("|BankName={}|", "б".repeat(45))), "{text}");
        assert!(text.contains(&format!("|Purpose={}|", "б".repeat(210))), "{text}");
        assert!(text.contains("|CorrespAcc=0|"), "{text}");
        assert_eq!(read(&text), text);
    }

    proptest! {
        // A code of this size takes a while without optimisation.
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever stands in the requisites, there is a code, and no value makes a field of its own.
        #[test]
        fn every_text_fits(name in "\\PC{0,200}", purpose in "\\PC{0,400}") {
            let payment = Payment { name: &name, purpose: &purpose, ..BIRD };
            let text = text(&payment);
            prop_assert!(text.split('|').count() <= 10);
            prop_assert!(modules(&text).is_some());
        }
    }
}
