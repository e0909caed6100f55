//! Rules of the code base that no compiler keeps: the tree, read as text.
//!
//! Each finding names the file and the line. A list of exceptions carries the reason of each.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::tools;

/// A file longer than this is two files.
const MOST_LINES: usize = 500;

/// Files that may be longer, and why.
const LONG_FILES: [(&str, &str); 0] = [];

/// Words of the outside world, which a rule must not know.
const IMPURE: [&str; 9] =
    ["tokio", "tonic", "proto", "prost", "Clock", "Tx", "Pool", "SystemTime", "async"];

struct Source {
    /// Relative to the workspace, with forward slashes.
    path: String,
    text: String,
}

impl Source {
    /// Lines of code with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().filter_map(|(index, line)| {
            let code = match line.find("//") {
                // A URL in a string is not a comment.
                Some(at) if !line.get(..at).is_some_and(|before| before.ends_with(':')) => {
                    line.get(..at).unwrap_or_default()
                }
                Some(_) | None => line,
            };
            (!code.trim().is_empty()).then_some((index.saturating_add(1), code))
        })
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || file_name(&self.path).starts_with("test")
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn collect(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, extension, into);
        } else if path.extension().is_some_and(|found| found == extension) {
            into.push(path);
        }
    }
}

/// Files of the crates and of this package, generated ones left out.
fn sources(extension: &str) -> Vec<Source> {
    let root = tools::root();
    let mut paths = Vec::new();
    collect(&root.join("crates"), extension, &mut paths);
    collect(&root.join("tests"), extension, &mut paths);
    paths.sort();
    let sources = paths.into_iter().map(|path| Source {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(),
    });
    sources.filter(|source| !source.path.starts_with("crates/common/src/proto/")).collect()
}

/// Whether `word` stands in `line` as a whole identifier.
fn names(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

fn none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

/// Every line of code in the chosen files for which `wrong` has a complaint.
fn findings(
    chosen: impl Fn(&Source) -> bool,
    wrong: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources("rs").iter().filter(|source| chosen(source)) {
        for (number, line) in source.code() {
            if let Some(complaint) = wrong(line) {
                found.push(format!("{}:{number}: {complaint}", source.path));
            }
        }
    }
    found
}

fn is_service(source: &Source) -> bool {
    source.path.starts_with("crates/billing/src/") || source.path.starts_with("crates/pacing/src/")
}

#[test]
fn rules_know_no_outside_world() {
    let pure = |source: &Source| {
        let path = &source.path;
        let rule = file_name(path) == "rules.rs" || path.contains("/rules/");
        let pure = ["crates/pacing/src/calendar/", "crates/pacing/src/controller/"];
        is_service(source) && (rule || pure.iter().any(|folder| path.starts_with(folder)))
    };
    let found = findings(pure, |line| {
        let word = IMPURE.iter().find(|word| names(line, word))?;
        Some(format!("names `{word}`"))
    });
    none(&found, "a rule is a function of values");
}

/// The wire has versions and foreign readers, and stops at the edge.
#[test]
fn the_wire_stays_in_grpc() {
    let inside = |source: &Source| {
        let path = source.path.split_once("/src/").map(|(_, path)| path).unwrap_or_default();
        let edge = path.starts_with("grpc/")
            || (source.path.starts_with("crates/pacing/")
                && (path == "billing.rs" || path.starts_with("billing/")));
        // The program puts the edge together, and the calls of both live there.
        let assembly = matches!(path, "main.rs" | "serve.rs" | "app.rs");
        is_service(source) && !edge && !assembly && !source.is_test()
    };
    let found = findings(inside, |line| {
        let word = ["tonic", "tonic_types", "prost", "prost_types"].into_iter();
        let word = word.chain(["proto"]).find(|word| {
            names(line, word) && (line.contains(&format!("{word}::")) || line.contains("use "))
        })?;
        Some(format!("names `{word}`"))
    });
    none(&found, "gRPC and generated types appear only in grpc/ and in pacing's billing");
}

#[test]
fn tokio_postgres_stays_behind_db() {
    let outside = |source: &Source| {
        let store = file_name(&source.path).starts_with("store") || source.path.contains("/store/");
        let common = source.path.starts_with("crates/common/src/");
        let db = common && (source.path.contains("/db") || source.path.contains("/devpg"));
        source.path.contains("/src/") && source.path.starts_with("crates/") && !store && !db
    };
    let found = findings(outside, |line| {
        let word = ["tokio_postgres", "deadpool_postgres"].iter().find(|word| names(line, word))?;
        Some(format!("names `{word}`"))
    });
    none(&found, "the driver is used in store.rs and in common's db only");
}

#[test]
fn only_the_ledger_store_writes_entries_and_balances() {
    let outside = |source: &Source| {
        is_service(source)
            && !source.path.starts_with("crates/billing/src/ledger/store")
            && !source.is_test()
    };
    let found = findings(outside, |line| {
        let (_, table) = ["INSERT INTO ", "UPDATE ", "DELETE FROM "]
            .iter()
            .find_map(|verb| line.split_once(&format!("{verb}ledger_")))?;
        let table = table.split(|c: char| !c.is_alphanumeric() && c != '_').next();
        Some(format!("writes `ledger_{}`", table.unwrap_or_default()))
    });
    none(&found, "money moves only through ledger::post");
}

/// `now` is an argument of every rule, and of every statement.
#[test]
fn sql_never_asks_for_the_time() {
    let asks = |line: &str| {
        let lower = line.to_lowercase();
        let words = ["now()", "current_timestamp", "current_date", "clock_timestamp()"];
        words.into_iter().find(|word| lower.contains(word)).map(str::to_owned)
    };
    let in_store = |source: &Source| {
        is_service(source) && (source.path.contains("/store") && !source.is_test())
    };
    // `clock.now()` is Rust; SQL has no dot before it.
    let mut found = findings(in_store, |line| {
        asks(&line.replace(".now()", "")).map(|word| format!("`{word}`"))
    });
    for migration in sources("sql") {
        for (index, line) in migration.text.lines().enumerate() {
            let code = line.split("--").next().unwrap_or_default();
            if let Some(word) = asks(code) {
                found.push(format!("{}:{}: `{word}`", migration.path, index.saturating_add(1)));
            }
        }
    }
    none(&found, "SQL gets the time as a parameter");
}

/// Name, metric label and row in pg_stat_statements are one: the first line of the statement.
#[test]
fn every_statement_begins_with_its_name() {
    let mut found = Vec::new();
    for source in sources("rs").iter().filter(|source| is_service(source) && !source.is_test()) {
        if !source.path.contains("/store") {
            continue;
        }
        let mut rest = source.text.as_str();
        while let Some(at) = rest.find(": &str = \"") {
            let (before, after) = rest.split_at(at);
            let text = after.get(": &str = \"".len()..).unwrap_or_default();
            let first = text.lines().next().unwrap_or_default().trim_end_matches('\\');
            let sql = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "LOCK", "COPY"]
                .iter()
                .any(|verb| first.trim_start().starts_with(verb));
            if sql {
                let name = before.rsplit([' ', '\n']).next().unwrap_or_default();
                found.push(format!("{}: {name}", source.path));
            }
            rest = text;
        }
    }
    none(&found, "a statement begins with `-- feature.name`");
}

#[test]
fn files_stay_short() {
    let mut found = Vec::new();
    for source in sources("rs") {
        let lines = source.text.lines().count();
        let excused = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        if lines > MOST_LINES && !excused {
            found.push(format!("{}: {lines} lines", source.path));
        }
        if lines <= MOST_LINES && excused {
            found.push(format!("{}: needs no exception any more", source.path));
        }
    }
    none(&found, "a source file passes 500 lines only with a reason in LONG_FILES");
}

/// A released migration is a fact about other people's databases: it is never edited. A new one is
/// recorded by adding the printed line to `checksums.txt` beside it.
#[test]
fn migrations_match_their_recorded_checksums() {
    let mut found = Vec::new();
    for service in ["billing", "pacing"] {
        let folder = tools::root().join(format!("crates/{service}/migrations"));
        let recorded = fs::read_to_string(folder.join("checksums.txt")).unwrap_or_default();
        let mut recorded: BTreeMap<&str, &str> = recorded
            .lines()
            .filter_map(|line| line.split_once("  "))
            .map(|(a, b)| (b, a))
            .collect();
        let mut paths = Vec::new();
        collect(&folder, "sql", &mut paths);
        paths.sort();
        assert!(!paths.is_empty(), "{service} has no migration");
        for path in paths {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let sum = Sha256::digest(fs::read(&path).unwrap());
            let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            match recorded.remove(name.as_str()) {
                Some(known) if known == sum => {}
                Some(_) => found.push(format!("{service}/migrations/{name} was edited")),
                None => {
                    found.push(format!("not in {service}/migrations/checksums.txt:\n{sum}  {name}"))
                }
            }
        }
        found.extend(recorded.keys().map(|name| format!("{service}/migrations/{name} is gone")));
    }
    none(&found, "a migration goes forward and is never edited");
}

fn readmes() -> String {
    let root = tools::root();
    let files = ["README.md", "crates/billing/README.md", "crates/pacing/README.md"];
    files.iter().map(|file| fs::read_to_string(root.join(file)).unwrap_or_default()).collect()
}

#[test]
fn every_rpc_is_named_in_a_readme() {
    let readmes = readmes();
    let mut found = Vec::new();
    let mut paths = Vec::new();
    collect(&tools::root().join("proto/adspend"), "proto", &mut paths);
    for path in paths {
        for line in fs::read_to_string(&path).unwrap().lines() {
            let Some(rest) = line.trim().strip_prefix("rpc ") else { continue };
            let name = rest.split('(').next().unwrap_or_default();
            if !names(&readmes, name) {
                found.push(name.to_owned());
            }
        }
    }
    none(&found, "every RPC is named in a README");
}

#[test]
fn every_table_is_named_in_a_readme() {
    let readmes = readmes();
    let mut found = Vec::new();
    for migration in sources("sql") {
        for line in migration.text.lines() {
            let Some(rest) = line.trim().strip_prefix("CREATE TABLE ") else { continue };
            let rest = rest.trim_start_matches("IF NOT EXISTS ");
            let name = rest.split([' ', '(']).next().unwrap_or_default();
            // In backticks: a table called `account` is not named by every sentence with that word.
            if !readmes.contains(&format!("`{name}`")) {
                found.push(format!("{}: {name}", migration.path));
            }
        }
    }
    none(&found, "every table is named in a README");
}
