//! Running the tools that `make setup` installs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the workspace is where it was built")
}

/// Runs a command in the workspace's root, tools of `make setup` first; its output when it fails
/// is the test's message.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let root = root();
    let tools = root.join("target/tools/bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(&root)
        .env("PATH", format!("{}:{path}", tools.display()))
        .output()
        .unwrap_or_else(|error| panic!("{program} did not start ({error}): run `make setup`"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {}: {}\n{printed}{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}
