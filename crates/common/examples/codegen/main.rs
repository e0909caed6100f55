//! Writes the generated protobuf types: `make proto`.

mod generate;

use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let files = generate::generate(&workspace)?;
    let output = workspace.join(generate::OUTPUT);
    fs::create_dir_all(&output)?;
    for entry in fs::read_dir(&output)? {
        let path = entry?.path();
        if !files.contains_key(path.strip_prefix(&workspace)?) {
            println!("removed {}", path.strip_prefix(&workspace)?.display());
            fs::remove_file(&path)?;
        }
    }
    for (path, content) in &files {
        let full = workspace.join(path);
        // An unchanged file keeps its time, so that nothing is rebuilt for it.
        if fs::read(&full).ok().as_ref() != Some(content) {
            fs::write(&full, content)?;
            println!("wrote {}", path.display());
        }
    }
    Ok(())
}
