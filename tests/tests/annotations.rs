//! Code and annotations agree: what `proto/` calls REQUIRED is what a service asks for.

use std::collections::BTreeSet;

use adspend_common::{devpg::TestDatabase, proto::google::api::FieldBehavior};
use e2e::stack::{Plan, Replica, Stack};
use prost_reflect::{FieldDescriptor, MethodDescriptor};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};
use tonic_types::StatusExt as _;

use crate::contract::methods;

/// Sends and receives a message's bytes as they are: here always none.
#[derive(Default)]
struct Empty;

impl Codec for Empty {
    type Encode = ();
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Empty {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Empty {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, _: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        Ok(Some(()))
    }
}

/// The answer to an empty request.
async fn call(replica: &Replica, method: &MethodDescriptor) -> Result<(), Status> {
    let mut client = Grpc::new(replica.channel().unwrap());
    client.ready().await.unwrap();
    let service = method.parent_service();
    let path = format!("/{}/{}", service.full_name(), method.name());
    let path: PathAndQuery = path.parse().unwrap();
    client.unary(Request::new(()), path, Empty).await.map(drop)
}

fn is_required(field: &FieldDescriptor) -> bool {
    let options = field.options();
    let extension = field.parent_pool().get_extension_by_name("google.api.field_behavior").unwrap();
    let value = options.get_extension(&extension);
    let behaviours = value.as_list().unwrap_or_default().iter();
    let numbers: Vec<_> = behaviours.filter_map(prost_reflect::Value::as_enum_number).collect();
    numbers.contains(&(FieldBehavior::Required as i32))
}

/// Fields that are asked for though they are not REQUIRED, because another may stand for them.
const EITHER_OF_TWO: [(&str, &str); 2] = [
    // A change of the method alone names no payer.
    ("adspend.billing.v1.InvoiceService.UpdateDeferredInvoice", "payer"),
    // A late conversion names its campaign instead.
    ("adspend.pacing.v1.ChargeService.Settle", "token"),
];

#[tokio::test]
async fn an_empty_request_is_told_of_exactly_its_required_fields() {
    let billing = TestDatabase::create(&adspend_billing::MIGRATIONS).await;
    let pacing = TestDatabase::create(&adspend_pacing::MIGRATIONS).await;
    let plan = Plan::new("annotations");
    let stack = Stack::start(&plan, billing.url(), pacing.url()).await.unwrap();
    let mut wrong = Vec::new();
    for method in methods() {
        if method.is_client_streaming() || method.is_server_streaming() {
            continue; // Their first message is checked by the same code as the unary one.
        }
        let input = method.input();
        let required = input.fields().filter(is_required);
        let required: BTreeSet<_> = required.map(|field| field.name().to_owned()).collect();
        if required.is_empty() {
            continue;
        }
        let billing = method.full_name().starts_with("adspend.billing.");
        let replica = if billing { &stack.billing[0] } else { &stack.pacing[0] };
        let told = match call(replica, &method).await {
            Ok(()) => Err("accepted".to_owned()),
            Err(status) if status.code() == Code::InvalidArgument => {
                let told = status.get_details_bad_request().map(|told| told.field_violations);
                let told = told.unwrap_or_default().into_iter();
                // What a missing part would have to hold says the same once more.
                let told = told.map(|told| told.field).filter(|field| !field.contains('.'));
                let name = method.full_name();
                let told = told.filter(|field| !EITHER_OF_TWO.contains(&(name, field)));
                Ok(told.collect::<BTreeSet<_>>())
            }
            Err(status) => Err(status.to_string()),
        };
        if told.as_ref() != Ok(&required) {
            wrong.push(format!("{}: REQUIRED {required:?}, told {told:?}", method.full_name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    stack.stop().await.unwrap();
}
