//! The contract in `proto/`: well formed, compatible, documented with examples that are valid.

use adspend_common::proto::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::Value;

use crate::tools;

pub(crate) fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let ours = pool.services().filter(|service| service.package_name().starts_with("adspend."));
    let methods: Vec<_> = ours.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    assert!(methods.len() > 40, "only {} methods were found", methods.len());
    methods
}

/// The comment above a method in its file.
pub(crate) fn comment(method: &MethodDescriptor) -> String {
    let file = method.parent_file();
    let info = file.file_descriptor_proto().source_code_info.clone().unwrap();
    let location = info.location.into_iter().find(|location| location.path == method.path());
    location.and_then(|location| location.leading_comments).unwrap_or_default()
}

#[test]
fn the_contract_passes_buf_lint() {
    tools::run("buf", &["lint", "proto"]);
}

#[test]
fn the_contract_breaks_no_caller_of_the_baseline() {
    tools::run("buf", &["breaking", "proto", "--against", "proto/baseline.binpb"]);
}

#[test]
fn proto_files_are_formatted() {
    tools::run("buf", &["format", "-d", "--exit-code", "proto", "--path", "proto/adspend"]);
}

/// The example in each method's comment names that method and the port that `make run` gives its
/// service, and its JSON is a valid request.
#[test]
fn every_rpc_has_a_grpcurl_line_that_fits_its_request() {
    let mut wrong = Vec::new();
    for method in methods() {
        let name = method.full_name().to_owned();
        if let Err(why) = example(&method) {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn example(method: &MethodDescriptor) -> Result<(), String> {
    let comment = comment(method);
    let line = comment.lines().find(|line| line.trim_start().starts_with("grpcurl "));
    let line = line.ok_or("its comment has no grpcurl line")?.trim();
    let port = if method.full_name().starts_with("adspend.billing.") { 7401 } else { 7411 };
    let end = format!("localhost:{port} {}/{}", method.parent_service().full_name(), method.name());
    let rest = line.strip_suffix(&end).ok_or_else(|| format!("does not end in `{end}`"))?;
    let rest = rest.trim_end().strip_prefix("grpcurl -plaintext").ok_or("is not -plaintext")?;
    let json = match rest.trim() {
        "" => "{}",
        data => data
            .strip_prefix("-d '")
            .and_then(|data| data.strip_suffix('\''))
            .ok_or("its data is not one quoted argument")?,
    };
    let mut json: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    if let Some(mask) = json.get_mut("update_mask") {
        // grpcurl wants a mask as the message that it is; JSON proper has it as one text.
        let paths = mask["paths"].as_array().ok_or("grpcurl wants {\"paths\": […]} as a mask")?;
        let paths = paths.iter().filter_map(Value::as_str).map(camel_case);
        *mask = Value::String(paths.collect::<Vec<_>>().join(","));
    }
    // Without refusing unknown fields a misspelt one would pass.
    let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(method.input(), json, &options)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn camel_case(path: &str) -> String {
    let mut words = path.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        format!("{text}{}{tail}", head.to_uppercase())
    })
}

/// Methods that change nothing, and those where another field than `request_id` makes a repeat
/// harmless.
fn repeats_are_harmless(method: &MethodDescriptor) -> bool {
    const READS: [&str; 9] =
        ["Get", "List", "Preview", "Verify", "Export", "Watch", "Download", "Explain", "Simulate"];
    // Settling is known by its charge_id or its (hold, sequence), admission by the opportunity; a
    // closed hold stays closed, and an expiry moves forward only.
    const KNOWN_OTHERWISE: [&str; 9] = [
        "Admit",
        "BatchAdmit",
        "StreamAdmit",
        "Settle",
        "BatchSettle",
        "StreamSettle",
        "SettleHolds",
        "ReleaseHolds",
        "ExtendHolds",
    ];
    READS.iter().any(|read| method.name().starts_with(read))
        || KNOWN_OTHERWISE.contains(&method.name())
}

#[test]
fn every_changing_rpc_carries_a_request_id() {
    let mut missing = Vec::new();
    for method in methods() {
        if repeats_are_harmless(&method) || carries_request_id(&method) {
            continue;
        }
        missing.push(method.full_name().to_owned());
    }
    assert!(missing.is_empty(), "no request_id in {missing:?}");
}

/// In the request itself, or in each item of a batch.
fn carries_request_id(method: &MethodDescriptor) -> bool {
    let input = method.input();
    input.get_field_by_name("request_id").is_some()
        || input.fields().any(|field| {
            let kind = field.kind();
            let item = kind.as_message();
            field.is_list()
                && item.is_some_and(|item| item.get_field_by_name("request_id").is_some())
        })
}
