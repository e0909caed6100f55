//! The mail that billing sends: what is in the SMTP server's hands, as a reader would see it.

use std::time::{Duration, Instant};

use mail_parser::MessageParser;

use crate::{processes::Failure, smtp::Sink};

/// How long a letter may take from its notice to the server, in real time.
const LETTER_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// A letter, by its envelope and its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) to: String,
    pub(crate) subject: String,
}

/// Every letter so far.
pub(crate) fn letters(sink: &Sink) -> Vec<Letter> {
    let taken = sink.taken();
    let read = taken.iter().map(|taken| {
        let message = MessageParser::default().parse(&taken.data);
        let subject = message.as_ref().and_then(|message| message.subject()).unwrap_or_default();
        // Amounts are written with spaces that do not break.
        Letter { to: taken.to.join(", "), subject: subject.replace('\u{a0}', " ") }
    });
    read.collect()
}

/// Waits until a letter with this subject is there for the `count`th time, and gives it.
pub(crate) async fn arrives(sink: &Sink, subject: &str, count: usize) -> Result<Letter, Failure> {
    let by = Instant::now() + LETTER_LIMIT;
    loop {
        let mut found = letters(sink);
        found.retain(|letter| letter.subject == subject);
        match found.get(count.saturating_sub(1)) {
            Some(letter) => return Ok(letter.clone()),
            None if Instant::now() > by => {
                return Err(format!("no letter «{subject}» came within {LETTER_LIMIT:?}").into());
            }
            None => tokio::time::sleep(POLL).await,
        }
    }
}
