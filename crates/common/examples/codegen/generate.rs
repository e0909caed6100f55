//! From `proto/` to Rust: the logic shared by the generator and the test that its output is fresh.
//!
//! The types are committed, so that a build needs neither this nor a protobuf compiler, and a
//! change of the contract shows in review. Everything is plain Rust: protox parses, tonic's
//! generator writes, prettyplease formats.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use protox::Compiler;
use tonic_prost_build::FileDescriptorSet;

/// Where the generated files live, relative to the workspace.
pub(crate) const OUTPUT: &str = "crates/common/src/proto";

/// Packages whose `bytes` fields become `bytes::Bytes`: on the hot path a token is passed along
/// without being copied.
const ZERO_COPY: &str = ".adspend.pacing.v1";

/// What writes messages to the wire and reads them.
const CODEC: &str = "crate::rpc::ProstCodec";

type Failure = Box<dyn std::error::Error>;

/// Every generated file as (path relative to the workspace, content).
pub(crate) fn generate(workspace: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>, Failure> {
    let root = workspace.join("proto");
    let mut sources = Vec::new();
    collect(&root.join("adspend"), &mut sources)?;
    sources.sort();

    let mut compiler = Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(sources)?;
    // Encoded by protox and not by prost: only so do our options (field_behavior) survive.
    let descriptors = compiler.encode_file_descriptor_set();
    let set = compiler.file_descriptor_set();

    let mut files = BTreeMap::new();
    let output = PathBuf::from(OUTPUT);
    files.insert(output.join("mod.rs"), modules(&set).into_bytes());
    files.insert(output.join("descriptor.bin"), descriptors);
    for (name, content) in rust(set)? {
        files.insert(output.join(name), content);
    }
    Ok(files)
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            into.push(path);
        }
    }
    Ok(())
}

fn rust(set: FileDescriptorSet) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let folder = std::env::temp_dir().join(format!("adspend-codegen-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let written = tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        .bytes(ZERO_COPY)
        .codec_path(CODEC)
        .out_dir(&folder)
        .compile_fds(set);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().replace("r#", "");
        let text = fs::read_to_string(entry.path())?;
        files.push((name, format!("{text}\n").replace("\n\n\n", "\n\n").into_bytes()));
    }
    fs::remove_dir_all(&folder)?;
    written?;
    Ok(files)
}

#[derive(Default)]
struct Module {
    file: Option<String>,
    children: BTreeMap<String, Module>,
}

/// `mod.rs`: packages as nested modules, because the generated code refers to its neighbours by
/// `super::super::…`.
fn modules(set: &FileDescriptorSet) -> String {
    let mut root = Module::default();
    for file in &set.file {
        let package = file.package();
        if package == "google.protobuf" {
            continue; // prost-types has these.
        }
        let mut module = &mut root;
        for segment in package.split('.') {
            module = module.children.entry(segment.to_owned()).or_default();
        }
        module.file = Some(format!("{package}.rs"));
    }
    let mut text = String::from(HEAD);
    write_modules(&root, "", 0, &mut text);
    text
}

fn write_modules(module: &Module, path: &str, depth: usize, text: &mut String) {
    let indent = "    ".repeat(depth);
    if let Some(file) = &module.file {
        let _ = writeln!(text, "{indent}include!(\"{file}\");");
    }
    if module.children.contains_key("type") && path == "adspend" {
        let _ = writeln!(text, "{indent}pub use r#type as types;\n");
    }
    for (position, (name, child)) in module.children.iter().enumerate() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let name = if name == "type" { "r#type" } else { name };
        if position > 0 {
            text.push('\n');
        }
        let what = if child.file.is_some() { "Package" } else { "Packages under" };
        let _ = writeln!(text, "{indent}/// {what} `{path}`.\n{indent}pub mod {name} {{");
        write_modules(child, &path, depth + 1, text);
        let _ = writeln!(text, "{indent}}}");
    }
}

const HEAD: &str = r#"//! The generated protobuf types of both services and of the google packages they use.
//!
//! Written by `make proto` from `proto/`; a test keeps it fresh. Do not edit: change the proto.

#![allow(
    missing_docs,
    rustdoc::all,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants,
    reason = "generated code: its documentation and its form are those of the proto"
)]

/// Every file of our packages and what they import, with comments, for reflection and for tests
/// that compare code and annotations.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("descriptor.bin");

"#;
