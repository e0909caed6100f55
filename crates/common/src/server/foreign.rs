//! Statuses that a library made, in our words.
//!
//! tonic answers a malformed message with `INTERNAL` and field names, a message that is too large
//! with `OUT_OF_RANGE`, and none of its statuses carries our `ErrorInfo`. A status of ours always
//! has details, so one without them is foreign.

use http::HeaderMap;
use tonic::{Code, Status};

use crate::rpc::{Deadline, Reason, Refusal, refuse, unavailable};

/// How tonic begins what it says of a message that it cannot read.
const MALFORMED: [&str; 6] = [
    "failed to decode Protobuf message",
    "Missing request message",
    "protocol error: received message",
    "Error decompressing",
    "Unexpected EOF decoding stream",
    "Error decoding",
];

/// What tonic says of a message above the limit.
const TOO_LARGE: [&str; 3] =
    ["decoded message length too large", "encoded message length too large", "size limit"];

/// What is said of a connection that broke while the message was being read.
const BROKEN: [&str; 3] =
    ["h2 protocol error", "error reading a body from connection", "connection error"];

/// The status in these headers or trailers, when it is not ours and should not leave as it is.
pub(super) fn in_headers(headers: &HeaderMap, max_message_bytes: usize) -> Option<Refusal> {
    let code = headers.get(Status::GRPC_STATUS)?;
    if code.as_bytes() == b"0" || headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    Some(translated(status.code(), status.message(), max_message_bytes))
}

/// The same for a status as a value.
pub(super) fn of(status: &Status, max_message_bytes: usize) -> Option<Refusal> {
    let ours = status.code() == Code::Ok || !status.details().is_empty();
    (!ours).then(|| translated(status.code(), status.message(), max_message_bytes))
}

fn translated(code: Code, message: &str, max_message_bytes: usize) -> Refusal {
    let says = |any: &[&str]| any.iter().any(|text| message.contains(text));
    match code {
        Code::OutOfRange | Code::ResourceExhausted if says(&TOO_LARGE) => {
            let text = format!("a message may have at most {max_message_bytes} bytes");
            refuse(Code::ResourceExhausted, Reason::TooLarge, text).with("limit", max_message_bytes)
        }
        Code::Internal if says(&MALFORMED) => {
            let text = "the message is not what the method takes";
            refuse(Code::InvalidArgument, Reason::InvalidArgument, text)
        }
        Code::Internal | Code::Unknown if says(&BROKEN) => {
            refuse(Code::Cancelled, Reason::Unavailable, "the caller has gone")
        }
        Code::Ok | Code::Internal | Code::Unknown | Code::DataLoss => {
            crate::rpc::fault_text(&format!("a bare status {code:?}: {message}"))
        }
        Code::Cancelled => refuse(code, Reason::Unavailable, "the call was cancelled"),
        Code::DeadlineExceeded => Deadline::exceeded(),
        Code::Unavailable => unavailable(message),
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
            refuse(code, Reason::InvalidArgument, message)
        }
        Code::NotFound => refuse(code, Reason::NotFound, message),
        Code::AlreadyExists => refuse(code, Reason::AlreadyExists, message),
        Code::PermissionDenied => refuse(code, Reason::PermissionDenied, message),
        Code::Unauthenticated => refuse(code, Reason::Unauthenticated, message),
        Code::ResourceExhausted => refuse(code, Reason::Overloaded, message),
        Code::Aborted => refuse(code, Reason::Contention, message),
        Code::FailedPrecondition => refuse(code, Reason::Unspecified, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_says_becomes_ours() {
        for (code, message, becomes, reason) in [
            (
                Code::Internal,
                "failed to decode Protobuf message: AdmitRequest.campaign: invalid wire type",
                Code::InvalidArgument,
                Reason::InvalidArgument,
            ),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5242880 bytes, the limit is: 4194304 bytes",
                Code::ResourceExhausted,
                Reason::TooLarge,
            ),
            (
                Code::Unimplemented,
                "Content is compressed with `zstd` which isn't supported",
                Code::Unimplemented,
                Reason::InvalidArgument,
            ),
            (Code::Internal, "index out of bounds", Code::Internal, Reason::Internal),
            (
                Code::Unknown,
                "h2 protocol error: error reading a body",
                Code::Cancelled,
                Reason::Unavailable,
            ),
            (Code::NotFound, "service not registered", Code::NotFound, Reason::NotFound),
        ] {
            let mut headers = HeaderMap::new();
            Status::new(code, message).add_header(&mut headers).unwrap();
            let refusal = in_headers(&headers, 4_194_304).unwrap();
            assert_eq!((refusal.code, refusal.reason), (becomes, reason), "{message}");
            assert!(!refusal.message.contains("campaign"), "field names stay inside");

            let mut ours = HeaderMap::new();
            refusal.status().add_header(&mut ours).unwrap();
            assert_eq!(in_headers(&ours, 1), None, "ours is left alone");
        }
        assert_eq!(in_headers(&HeaderMap::new(), 1), None);
    }
}
