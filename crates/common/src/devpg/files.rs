//! The files of a cluster beside its data: lock, password, port, log, socket.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rand::distr::{Alphanumeric, SampleString};
use rustix::fs::{FlockOperation, flock};

use super::{Error, at};

/// A log that grew larger starts anew.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// How much of a program's output stands in an error.
const SHOWN_LINES: usize = 5;

/// Held until the file is closed; says who holds it otherwise.
pub(super) fn take_lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(at(&path))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.read_to_string(&mut pid).map_err(at(&path))?;
        return Err(Error::InUse { dir: dir.to_owned(), pid: pid.trim().to_owned() });
    }
    file.set_len(0).map_err(at(&path))?;
    file.write_all(std::process::id().to_string().as_bytes()).map_err(at(&path))?;
    Ok(file)
}

/// The superuser's password; made once, readable for its owner only.
pub(super) fn password(dir: &Path) -> Result<String, Error> {
    let path = dir.join("password");
    if let Ok(text) = fs::read_to_string(&path)
        && !text.is_empty()
    {
        return Ok(text);
    }
    let password = Alphanumeric.sample_string(&mut rand::rng(), 32);
    write_private(&path, &password)?;
    Ok(password)
}

/// Writes a file that only its owner can read.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(at(path))?;
    file.write_all(text.as_bytes()).map_err(at(path))
}

/// Removes the socket of a server that died, and its lock, which names a process that may have
/// become somebody else. The directory is this cluster's alone, and no server runs on it now.
pub(super) fn remove_sockets(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        fs::remove_file(&path).map_err(at(&path))?;
    }
    Ok(())
}

/// The port of last time if it is free, else a free one.
pub(super) fn pick_port(dir: &Path) -> Result<u16, Error> {
    let last = fs::read_to_string(dir.join("port")).ok().and_then(|text| text.trim().parse().ok());
    if let Some(port) = last
        && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
    {
        return Ok(port);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(at(dir))?;
    Ok(listener.local_addr().map_err(at(dir))?.port())
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("postgres.log")
}

/// The log to append to, and where it ends now.
pub(super) fn open_log(dir: &Path) -> Result<(File, u64), Error> {
    let path = log_path(dir);
    let log = OpenOptions::new().create(true).append(true).open(&path).map_err(at(&path))?;
    let mut end = log.metadata().map_err(at(&path))?.len();
    if end > MAX_LOG_BYTES {
        log.set_len(0).map_err(at(&path))?;
        end = 0;
    }
    Ok((log, end))
}

/// The end of what was logged since then.
pub(super) fn since(dir: &Path, start: u64) -> String {
    let read = || {
        let mut log = File::open(log_path(dir))?;
        log.seek(SeekFrom::Start(start))?;
        let mut text = Vec::new();
        log.read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&text).into_owned())
    };
    match read() {
        Ok(text) => last_lines(&text),
        Err(error) => error.to_string(),
    }
}

/// The end of what a program said, in one line.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_output_becomes_one_line() {
        assert_eq!(last_lines("a\n\nb\n"), "a; b");
        assert_eq!(last_lines("1\n2\n3\n4\n5\n6\n"), "2; 3; 4; 5; 6");
        assert_eq!(last_lines(""), "");
    }

    #[test]
    fn a_lock_is_held_once_and_a_password_is_made_once() {
        let dir = std::env::temp_dir().join(format!("adspend-files-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let lock = take_lock(&dir).unwrap();
        assert!(matches!(take_lock(&dir), Err(Error::InUse { .. })));
        drop(lock);
        assert!(take_lock(&dir).is_ok());
        let made = password(&dir).unwrap();
        assert_eq!((made.len(), password(&dir).unwrap()), (32, made));
        let mode =
            std::os::unix::fs::MetadataExt::mode(&fs::metadata(dir.join("password")).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&dir).unwrap();
    }
}
