//! One at a time: a lock that its process cannot leave behind, whatever ends it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// Held until dropped, or until the process ends.
#[derive(Debug)]
pub struct Lock(File);

/// What `try_take` found.
#[derive(Debug)]
pub enum Taken {
    /// The lock is ours.
    Ours(Lock),
    /// Someone else has it; what they wrote about themselves.
    Theirs(String),
}

fn open(path: &Path) -> io::Result<File> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

impl Lock {
    /// Takes the lock file at `path` if nobody has it.
    pub fn try_take(path: &Path) -> io::Result<Taken> {
        let mut file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Taken::Ours(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut about = String::new();
                file.read_to_string(&mut about)?;
                Ok(Taken::Theirs(about))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock, waiting for as long as someone else has it.
    pub fn wait(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }

    /// Tells others who has it.
    pub fn describe(&mut self, about: &str) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.0.write_all(about.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_has_it_until_it_is_dropped() {
        let path = std::env::temp_dir().join(format!("adspend-lock-{}", std::process::id()));
        let Taken::Ours(mut lock) = Lock::try_take(&path).unwrap() else { panic!("was free") };
        lock.describe("process 17").unwrap();
        let Taken::Theirs(about) = Lock::try_take(&path).unwrap() else { panic!("was taken") };
        assert_eq!(about, "process 17");
        drop(lock);
        assert!(matches!(Lock::try_take(&path).unwrap(), Taken::Ours(_)));
        fs::remove_file(&path).unwrap();
    }
}
