//! The reference of admission: an empty tonic server that gives every opportunity the same answer,
//! byte for byte one that pacing gave, and decides nothing. Run as a process, as pacing is.

use std::{net::SocketAddr, pin::Pin};

use adspend_common::proto::adspend::pacing::v1::{
    AdmitRequest, AdmitResponse, BatchAdmitRequest, BatchAdmitResponse, StreamAdmitRequest,
    StreamAdmitResponse,
    admission_service_server::{AdmissionService, AdmissionServiceServer},
};
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::Outcome;

struct Echo {
    answer: AdmitResponse,
}

impl Echo {
    fn answers(&self, count: usize) -> Vec<AdmitResponse> {
        vec![self.answer.clone(); count]
    }
}

#[tonic::async_trait]
impl AdmissionService for Echo {
    async fn admit(&self, _: Request<AdmitRequest>) -> Result<Response<AdmitResponse>, Status> {
        Ok(Response::new(self.answer.clone()))
    }

    async fn batch_admit(
        &self,
        request: Request<BatchAdmitRequest>,
    ) -> Result<Response<BatchAdmitResponse>, Status> {
        let responses = self.answers(request.get_ref().requests.len());
        Ok(Response::new(BatchAdmitResponse { responses }))
    }

    type StreamAdmitStream =
        Pin<Box<dyn Stream<Item = Result<StreamAdmitResponse, Status>> + Send + 'static>>;

    async fn stream_admit(
        &self,
        request: Request<Streaming<StreamAdmitRequest>>,
    ) -> Result<Response<Self::StreamAdmitStream>, Status> {
        let echo = Echo { answer: self.answer.clone() };
        let answers = request.into_inner().map(move |message| {
            let StreamAdmitRequest { sequence, requests } = message?;
            Ok(StreamAdmitResponse { sequence, responses: echo.answers(requests.len()) })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Serves until the process is ended. `answer` is an encoded `AdmitResponse` in hex.
pub(crate) async fn serve(listen: SocketAddr, answer: &str) -> Outcome<()> {
    let answer = AdmitResponse::decode(from_hex(answer)?.as_slice())?;
    let server = Server::builder().tcp_nodelay(true);
    let mut server = server
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024);
    server.add_service(AdmissionServiceServer::new(Echo { answer })).serve(listen).await?;
    Ok(())
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Outcome<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.ok_or("not hexadecimal")?;
    Ok(digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |sum, digit| sum * 16 + *digit as u8))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_back() {
        let bytes = [0, 1, 0x7f, 0xff];
        assert_eq!(from_hex(&to_hex(&bytes)).unwrap(), bytes);
        assert!(from_hex("xy").is_err());
    }
}
