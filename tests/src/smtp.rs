//! An SMTP server of our own on loopback: takes letters, and misbehaves when it is told to. For the
//! demonstration and for billing's tests of notices.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// What the server does with one connection; without a plan it takes the letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Says 421 at once.
    Busy,
    /// Says 451 to the recipient: come back later.
    Greylist,
    /// Says 550 to the recipient: there is nobody of that name.
    NoSuchUser,
    /// Closes the connection in the middle of the letter.
    HangUp,
    /// Takes the letter and closes the connection instead of saying so.
    TakeAndHangUp,
}

/// A letter as it came in.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The sender of the envelope.
    pub from: String,
    /// Its recipients.
    pub to: Vec<String>,
    /// Headers and body.
    pub data: Vec<u8>,
    /// The connection was encrypted.
    pub encrypted: bool,
    /// Who said who it is, in base64 as it came.
    pub user: Option<String>,
}

#[derive(Default)]
struct Inner {
    plans: Mutex<VecDeque<Trouble>>,
    always: Mutex<Option<Trouble>>,
    taken: Mutex<Vec<Taken>>,
    connections: Mutex<u32>,
    tls: Option<TlsAcceptor>,
    password: Option<&'static str>,
}

/// The server; it ends with its test.
#[derive(Clone)]
pub struct Sink {
    /// Where it listens.
    pub at: SocketAddr,
    inner: Arc<Inner>,
}

impl Sink {
    /// Takes letters from everybody, in plain text.
    pub async fn plain() -> io::Result<Self> {
        Self::start(Inner::default()).await
    }

    /// Offers STARTTLS with this certificate and wants AUTH PLAIN with this user and password, in
    /// base64.
    pub async fn with_tls(tls: TlsAcceptor, password: &'static str) -> io::Result<Self> {
        Self::start(Inner { tls: Some(tls), password: Some(password), ..Inner::default() }).await
    }

    async fn start(inner: Inner) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let sink = Self { at: listener.local_addr()?, inner: Arc::new(inner) };
        let server = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *held(&server.inner.connections) += 1;
                let inner = server.inner.clone();
                tokio::spawn(async move { Talk::new(inner).serve(stream).await });
            }
        });
        Ok(sink)
    }

    /// What the next connections meet, one each.
    pub fn plan(&self, troubles: &[Trouble]) {
        held(&self.inner.plans).extend(troubles);
    }

    /// What every connection meets from now on.
    pub fn always(&self, trouble: Option<Trouble>) {
        *held(&self.inner.always) = trouble;
    }

    /// The letters so far, in the order in which they came.
    pub fn taken(&self) -> Vec<Taken> {
        held(&self.inner.taken).clone()
    }

    /// How often somebody connected.
    pub fn connections(&self) -> u32 {
        *held(&self.inner.connections)
    }
}

fn held<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection.
struct Talk {
    inner: Arc<Inner>,
    trouble: Option<Trouble>,
    encrypted: bool,
    user: Option<String>,
}

/// How a conversation goes on.
enum Ends {
    Gone,
    Encrypt,
}

impl Talk {
    fn new(inner: Arc<Inner>) -> Self {
        let planned = held(&inner.plans).pop_front();
        let trouble = planned.or(*held(&inner.always));
        Self { inner, trouble, encrypted: false, user: None }
    }

    async fn serve(mut self, stream: tokio::net::TcpStream) {
        let mut stream = BufReader::new(stream);
        if self.trouble == Some(Trouble::Busy) {
            say(&mut stream, "421 busy").await;
            return;
        }
        say(&mut stream, "220 sink ready").await;
        if let Ends::Encrypt = self.converse(&mut stream).await {
            let Some(tls) = self.inner.tls.clone() else { return };
            let Ok(encrypted) = tls.accept(stream.into_inner()).await else { return };
            self.encrypted = true;
            self.converse(&mut BufReader::new(encrypted)).await;
        }
    }

    async fn converse<S>(&mut self, stream: &mut BufReader<S>) -> Ends
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut from, mut to) = (String::new(), Vec::new());
        while let Some(line) = line(stream).await {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
            match verb.as_str() {
                "EHLO" => say(stream, &self.greeting()).await,
                "STARTTLS" => {
                    say(stream, "220 go on").await;
                    return Ends::Encrypt;
                }
                "AUTH" => {
                    let given = line.rsplit(' ').next().unwrap_or_default().to_owned();
                    let right = self.inner.password == Some(given.as_str());
                    say(stream, if right { "235 ok" } else { "535 wrong password" }).await;
                    self.user = right.then_some(given);
                }
                "MAIL" if self.inner.password.is_some() && self.user.is_none() => {
                    say(stream, "530 who are you").await;
                }
                "MAIL" => {
                    from = address(&line);
                    say(stream, "250 ok").await;
                }
                "RCPT" => match self.trouble {
                    Some(Trouble::Greylist) => say(stream, "451 come back later").await,
                    Some(Trouble::NoSuchUser) => say(stream, "550 nobody here").await,
                    Some(Trouble::Busy | Trouble::HangUp | Trouble::TakeAndHangUp) | None => {
                        to.push(address(&line));
                        say(stream, "250 ok").await;
                    }
                },
                "DATA" => {
                    say(stream, "354 go on").await;
                    if self.trouble == Some(Trouble::HangUp) {
                        return Ends::Gone;
                    }
                    let Some(data) = letter(stream).await else { return Ends::Gone };
                    let (from, to) = (from.clone(), to.clone());
                    let (encrypted, user) = (self.encrypted, self.user.clone());
                    let taken = Taken { from, to, data, encrypted, user };
                    held(&self.inner.taken).push(taken);
                    if self.trouble == Some(Trouble::TakeAndHangUp) {
                        return Ends::Gone;
                    }
                    say(stream, "250 taken").await;
                }
                "QUIT" => {
                    say(stream, "221 bye").await;
                    return Ends::Gone;
                }
                "RSET" | "NOOP" => say(stream, "250 ok").await,
                _ => say(stream, "502 what").await,
            }
        }
        Ends::Gone
    }

    fn greeting(&self) -> String {
        let mut lines = vec!["sink"];
        if self.inner.tls.is_some() && !self.encrypted {
            lines.push("STARTTLS");
        }
        if self.inner.password.is_some() && self.encrypted {
            lines.push("AUTH PLAIN");
        }
        lines.push("8BITMIME");
        let last = lines.len() - 1;
        let line = |(index, text): (usize, &&str)| {
            format!("250{}{text}", if index == last { ' ' } else { '-' })
        };
        lines.iter().enumerate().map(line).collect::<Vec<_>>().join("\r\n")
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, text: &str) {
    // A client that has gone is seen by the next read.
    let _ = stream.get_mut().write_all(format!("{text}\r\n").as_bytes()).await;
    let _ = stream.get_mut().flush().await;
}

async fn line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut line = String::new();
    match stream.read_line(&mut line).await {
        Ok(1..) => Some(line.trim_end().to_owned()),
        Ok(0) | Err(_) => None,
    }
}

/// What stands between the angle brackets.
fn address(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map(|(address, _)| address.to_owned()).unwrap_or_default()
}

/// The letter up to the lonely dot, its dots unstuffed.
async fn letter<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await.ok()? == 0 {
            return None;
        }
        if line == b".\r\n" {
            return Some(data);
        }
        data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
