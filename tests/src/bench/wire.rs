//! Unary gRPC calls in closed loops, as lean as a load generator is: one thread a connection, no task a call.
//!
//! What stands beside these calls is pgbench, a client in C. A client for production has a queue, a task for
//! each call, a table of streams and two header tables around a call, and on a machine that is shared with
//! the server all of that is taken from the server: tonic's costs more than the server does. Here a
//! connection sends what is due, reads what is there, and answers each end of a stream with the next call. It
//! speaks as much of HTTP/2 (RFC 9113) as that takes: request headers are put into the server's table once
//! and named by their place from then on (RFC 7541, 6.1 and 6.2.1), and response headers are not read. An
//! answer with a message has succeeded: a refused unary call has none.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use prost::Message;

use super::Outcome;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// What comes before a message: whether it is compressed, and its length.
const MESSAGE_HEAD: usize = 5;
/// More than a run is answered with, so that no window is ever given back.
const WINDOW: u32 = i32::MAX.unsigned_abs();
const FIRST_WINDOW: u32 = 65_535;
const READ: usize = 256 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const SETTINGS_INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];

/// Calls in closed loops on one connection.
struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    /// The request headers in full the first time, by their places afterwards.
    headers: Vec<u8>,
    next_stream: u32,
    /// Bytes of messages that the server takes.
    window: i64,
}

/// `callers` closed loops on one connection until a moment: each asks again when it is answered. `request`
/// gets the caller and the number of its call. How many were answered.
pub(crate) fn closed_loops<Q, R>(
    address: SocketAddr,
    path: &str,
    callers: usize,
    until: Instant,
    mut request: impl FnMut(usize, u64) -> Q,
) -> Outcome<u64>
where
    Q: Message,
    R: Message + Default,
{
    let mut connection = Connection::open(address, path)?;
    let mut sent = vec![0_u64; callers];
    let mut open = HashMap::with_capacity(callers);
    let mut due: Vec<usize> = (0..callers).collect();
    let mut read = vec![0; READ];
    let mut pending = Vec::new();
    let mut answered = 0;
    loop {
        if Instant::now() < until {
            // What does not fit into the server's window is due again after the next answer.
            while let Some(caller) = due.last().copied() {
                let message = request(caller, sent[caller]);
                let Some(stream) = connection.call(&message)? else { break };
                sent[caller] += 1;
                open.insert(stream, (caller, Vec::new()));
                due.pop();
            }
        }
        connection.flush()?;
        if open.is_empty() {
            return Ok(answered);
        }
        let length = connection.stream.read(&mut read)?;
        if length == 0 {
            return Err("the server closed the connection".into());
        }
        pending.extend_from_slice(&read[..length]);
        let mut at = 0;
        while let Some((frame, payload)) = Frame::first(&pending[at..]) {
            at += FRAME_HEAD + payload.len();
            connection.about_the_connection(&frame, payload)?;
            let Some((_, answer)) = open.get_mut(&frame.stream) else { continue };
            match frame.kind {
                DATA if frame.flags & PADDED == 0 => answer.extend_from_slice(payload),
                HEADERS | WINDOW_UPDATE => {}
                RST_STREAM => return Err("the server broke off a call".into()),
                other => return Err(format!("a frame of type {other} in an answer").into()),
            }
            if frame.flags & END_STREAM != 0
                && let Some((caller, answer)) = open.remove(&frame.stream)
            {
                R::decode(answer.get(MESSAGE_HEAD..).ok_or("a call was refused")?)?;
                answered += 1;
                due.push(caller);
            }
        }
        pending.drain(..at);
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    /// The frame that these bytes begin with, when all of it is there.
    fn first(bytes: &[u8]) -> Option<(Frame, &[u8])> {
        let &[a, b, c, kind, flags, d, e, f, g, ..] = bytes else { return None };
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
        let payload = bytes.get(FRAME_HEAD..FRAME_HEAD + length)?;
        Some((Frame { kind, flags, stream: u32::from_be_bytes([d, e, f, g]) }, payload))
    }
}

impl Connection {
    fn open(address: SocketAddr, path: &str) -> Outcome<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // Places of the static table: 3 is POST, 6 http, 4 :path, 1 :authority, 31 content-type.
        let mut headers = vec![0x80 | 3, 0x80 | 6];
        for (place, name, value) in [
            (4, "", path),
            (1, "", &address.to_string()),
            (31, "", "application/grpc"),
            (0, "te", "trailers"),
        ] {
            // Into the server's table.
            headers.push(0x40 | place);
            for text in [name, value].into_iter().filter(|text| !text.is_empty()) {
                let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
                headers.push(length.ok_or("a header is too long")?);
                headers.extend_from_slice(text.as_bytes());
            }
        }
        let mut connection = Connection {
            stream,
            out: PREFACE.to_vec(),
            headers,
            next_stream: 1,
            window: i64::from(FIRST_WINDOW),
        };
        let mut settings = SETTINGS_INITIAL_WINDOW_SIZE.to_vec();
        settings.extend_from_slice(&WINDOW.to_be_bytes());
        connection.frame(SETTINGS, 0, 0, &settings)?;
        connection.frame(WINDOW_UPDATE, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes())?;
        Ok(connection)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Outcome<()> {
        self.frame_head(kind, flags, stream, payload.len())?;
        self.out.extend_from_slice(payload);
        Ok(())
    }

    fn frame_head(&mut self, kind: u8, flags: u8, stream: u32, length: usize) -> Outcome<()> {
        let [_, a, b, c] = u32::try_from(length)?.to_be_bytes();
        self.out.extend_from_slice(&[a, b, c, kind, flags]);
        self.out.extend_from_slice(&stream.to_be_bytes());
        Ok(())
    }

    /// Sends a request at the next flush and says on which stream; none when the server's window is full.
    fn call(&mut self, message: &impl Message) -> Outcome<Option<u32>> {
        let length = message.encoded_len();
        let needed = i64::try_from(MESSAGE_HEAD + length)?;
        if needed > self.window {
            return Ok(None);
        }
        self.window -= needed;
        let stream = self.next_stream;
        self.next_stream += 2;
        let headers = std::mem::take(&mut self.headers);
        self.frame(HEADERS, END_HEADERS, stream, &headers)?;
        // What was put into the table last has the place 62.
        self.headers = vec![0x80 | 3, 0x80 | 6, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];
        self.frame_head(DATA, END_STREAM, stream, MESSAGE_HEAD + length)?;
        self.out.push(0);
        self.out.extend_from_slice(&u32::try_from(length)?.to_be_bytes());
        message.encode(&mut self.out)?;
        Ok(Some(stream))
    }

    fn flush(&mut self) -> Outcome<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn about_the_connection(&mut self, frame: &Frame, payload: &[u8]) -> Outcome<()> {
        match (frame.kind, frame.stream) {
            (SETTINGS, _) if frame.flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
            (PING, _) if frame.flags & ACK == 0 => self.frame(PING, ACK, 0, payload),
            (GOAWAY, _) => Err("the server sent us away".into()),
            (WINDOW_UPDATE, 0) => {
                let &[a, b, c, d] = payload else { return Err("a window without a size".into()) };
                self.window += i64::from(u32::from_be_bytes([a, b, c, d]));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
