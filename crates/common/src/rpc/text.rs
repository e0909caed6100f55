//! Decoders of free text: what people will read, so nothing that deceives a reader or a terminal.

use super::Violations;

impl Violations {
    /// A text of 1 to `max_bytes` bytes, without characters that cannot be seen.
    pub fn text(&mut self, field: &str, text: &str, max_bytes: usize) -> Option<String> {
        if text.trim().is_empty() {
            self.add(field, "is required");
            return None;
        }
        self.optional_text(field, text, max_bytes)
    }

    /// A text of at most `max_bytes` bytes that may be empty. A card number in it is refused (G15).
    pub fn optional_text(&mut self, field: &str, text: &str, max_bytes: usize) -> Option<String> {
        if text.len() > max_bytes {
            self.add(field, format!("must be at most {max_bytes} bytes"));
            return None;
        }
        if text.chars().any(is_unseen) {
            self.add(field, "must not contain control or direction characters");
            return None;
        }
        self.no_card_number(field, text)?;
        Some(text.to_owned())
    }
}

/// Control characters, and those that reorder or hide what stands beside them.
pub fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_table() {
        for (text, sound) in [
            ("ООО «Ромашка», INN 7707083893", true),
            ("naïve ☂", true),
            ("", false),
            ("   ", false),
            ("a\0b", false),
            ("a\r\nb", false),
            ("a\u{1b}[31mb", false),
            ("abc\u{202E}cba", false),
            ("a\u{200D}b", false),
            ("a\u{2066}b", false),
            ("12345678901234567890123456789012345678901234567890", false),
            ("paid with 4111 1111 1111 1111", false),
        ] {
            let mut v = Violations::new();
            let read = v.text("display_name", text, 48);
            assert_eq!((read.is_some(), v.is_empty()), (sound, sound), "{text:?}");
        }
        assert_eq!(Violations::new().optional_text("note", "", 10), Some(String::new()));
    }
}
