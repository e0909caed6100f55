//! The two faces that documents are set in: DejaVu Sans Condensed, which has Cyrillic and is ours to embed.

use std::sync::LazyLock;

use krilla::text::Font;
use ttf_parser::Face;

/// How heavy the letters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// A font for drawing, and the same one for measuring.
struct Measured {
    font: Font,
    face: Face<'static>,
    units_per_em: f32,
}

impl Measured {
    fn new(bytes: &'static [u8]) -> Measured {
        let face = Face::parse(bytes, 0).expect("the font is part of this program");
        let font = Font::new(bytes.into(), 0).expect("the font is part of this program");
        Measured { font, units_per_em: f32::from(face.units_per_em()), face }
    }
}

static REGULAR: LazyLock<Measured> =
    LazyLock::new(|| Measured::new(dejavu::sans_condensed::regular()));
static BOLD: LazyLock<Measured> = LazyLock::new(|| Measured::new(dejavu::sans_condensed::bold()));

fn measured(weight: Weight) -> &'static Measured {
    match weight {
        Weight::Regular => &REGULAR,
        Weight::Bold => &BOLD,
    }
}

/// The font to draw with.
pub(super) fn font(weight: Weight) -> Font {
    measured(weight).font.clone()
}

/// The width of a text in points, without kerning: what is drawn is at most a hair narrower.
pub(super) fn width(text: &str, weight: Weight, size: f32) -> f32 {
    let Measured { face, units_per_em, .. } = measured(weight);
    let advance = |letter| {
        let glyph = face.glyph_index(letter).unwrap_or_default();
        f32::from(face.glyph_hor_advance(glyph).unwrap_or_default())
    };
    text.chars().map(advance).sum::<f32>() * size / units_per_em
}

/// Where a word may be broken; it shows as a hyphen there, and not at all elsewhere.
const SOFT_HYPHEN: char = '\u{ad}';

/// Lines that are at most so wide. Broken at spaces and soft hyphens; a word that is wider than a line is broken where
/// it must be.
pub(super) fn wrap(text: &str, weight: Weight, size: f32, most: f32) -> Vec<String> {
    let fits = |text: &str| width(text, weight, size) <= most;
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split([' ', '\t']).filter(|word| !word.is_empty()) {
            let mut parts: Vec<&str> = word.split(SOFT_HYPHEN).collect();
            while !parts.is_empty() {
                let space = if line.is_empty() { "" } else { " " };
                let whole = format!("{line}{space}{}", parts.concat());
                if fits(&whole) {
                    line = whole;
                    break;
                }
                let head = (1..parts.len()).rev().find_map(|count| {
                    let head = format!("{line}{space}{}-", parts.get(..count)?.concat());
                    fits(&head).then_some((count, head))
                });
                if let Some((count, head)) = head {
                    parts.drain(..count);
                    lines.push(head);
                    line.clear();
                } else if line.is_empty() {
                    line = broken(&parts.concat(), fits, &mut lines);
                    break;
                } else {
                    lines.push(std::mem::take(&mut line));
                }
            }
        }
        lines.push(line);
    }
    lines
}

/// Full lines of a word that fits into none go to `lines`; the rest of it is given back.
fn broken(word: &str, fits: impl Fn(&str) -> bool, lines: &mut Vec<String>) -> String {
    let mut line = String::new();
    for letter in word.chars() {
        line.push(letter);
        if !fits(&line) && line.chars().count() > 1 {
            line.pop();
            lines.push(std::mem::replace(&mut line, letter.to_string()));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_faces_have_russian_letters_and_signs() {
        for weight in [Weight::Regular, Weight::Bold] {
            for letter in "АЯаяЁё№«»—0123456789 \u{a0}₽".chars() {
                assert!(measured(weight).face.glyph_index(letter).is_some(), "{letter:?}");
            }
        }
    }

    #[test]
    fn a_word_that_is_too_long_is_broken_and_spaces_that_do_not_break_do_not() {
        let lines =
            wrap("ООО «Длинноеназваниебезпробелов» 1\u{a0}000,00", Weight::Regular, 9.0, 60.0);
        assert!(lines.len() > 2, "{lines:?}");
        assert_eq!(lines.last().unwrap(), "1\u{a0}000,00");
        assert_eq!(lines.concat().replace(' ', ""), "ООО«Длинноеназваниебезпробелов»1\u{a0}000,00");
    }

    #[test]
    fn a_soft_hyphen_shows_where_a_word_is_broken_and_nowhere_else() {
        let word = "прослежи\u{ad}ваемости";
        assert_eq!(wrap(word, Weight::Regular, 9.0, 200.0), ["прослеживаемости"]);
        assert_eq!(wrap(word, Weight::Regular, 9.0, 50.0), ["прослежи-", "ваемости"]);
    }

    proptest! {
        /// No line is too wide, and no letter is lost.
        #[test]
        fn wrapping_keeps_the_words(text in "[а-яА-Я0-9 ]{0,120}", most in 20.0f32..300.0) {
            let lines = wrap(&text, Weight::Regular, 9.0, most);
            for line in &lines {
                prop_assert!(width(line, Weight::Regular, 9.0) <= most, "{line:?}");
            }
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
