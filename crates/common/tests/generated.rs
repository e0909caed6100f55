//! The committed protobuf types are those that `proto/` describes.

#[path = "../examples/codegen/generate.rs"]
mod generate;

use std::{collections::BTreeMap, fs, path::Path};

#[test]
fn generated_types_are_fresh() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let wanted = generate::generate(&workspace).unwrap();
    let mut present = BTreeMap::new();
    for entry in fs::read_dir(workspace.join(generate::OUTPUT)).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        present.insert(path.strip_prefix(&workspace).unwrap().to_owned(), content);
    }
    let stale: Vec<_> = wanted
        .keys()
        .chain(present.keys())
        .filter(|path| wanted.get(*path) != present.get(*path))
        .collect();
    assert!(stale.is_empty(), "run `make proto`; these differ from proto/: {stale:?}");
}
