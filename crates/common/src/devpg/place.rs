//! Where a cluster lives and who it runs as.
//!
//! PostgreSQL refuses to run as root. For root the server runs as `postgres` or, where there is no
//! such user, as `nobody`; then that user must be able to reach the data, which it cannot under
//! `/root` and the like, and the cluster moves to `/var/tmp`.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Error, at};

/// Survives a restart of the machine, unlike `/tmp`, and everybody can reach it.
const FALLBACK_PARENT: &str = "/var/tmp";
/// Short, because the path of a socket has 107 bytes at most.
const SOCKET_PARENT: &str = "/tmp";
/// Who the server runs as for root; the first that exists.
const SERVER_USERS: [&str; 2] = ["postgres", "nobody"];

/// A user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The directory of a cluster, reachable for the server.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    /// Who the server runs as when that is not the user we are.
    pub(super) user: Option<User>,
}

impl Place {
    /// Makes the directory, or the one that stands in for it.
    pub(super) fn prepare(wanted: &Path) -> Result<Place, Error> {
        fs::create_dir_all(wanted).map_err(at(wanted))?;
        let dir = wanted.canonicalize().map_err(at(wanted))?;
        if !rustix::process::geteuid().is_root() {
            return Ok(Place { dir, user: None });
        }
        let passwd = Path::new("/etc/passwd");
        let users = fs::read_to_string(passwd).map_err(at(passwd))?;
        let user = server_user(&users).ok_or_else(|| Error::Failed {
            program: "looking for a user to run PostgreSQL as".to_owned(),
            said: format!("none of {} exists", SERVER_USERS.join(", ")),
        })?;
        if is_reachable(&dir, user)? {
            return Ok(Place { dir, user: Some(user) });
        }
        let fallback = Path::new(FALLBACK_PARENT).join(format!("adspend-{}", short_name(&dir)));
        tracing::warn!(
            wanted = %dir.display(),
            used = %fallback.display(),
            "the database lives elsewhere: its user cannot reach the directory"
        );
        make_private_dir(&fallback, 0o755, rustix::process::geteuid().as_raw())?;
        Ok(Place { dir: fallback, user: Some(user) })
    }

    /// A directory that only the server's user can enter, for the socket.
    pub(super) fn socket_dir(&self) -> Result<PathBuf, Error> {
        let dir = Path::new(SOCKET_PARENT).join(format!("adspend-{}", short_name(&self.dir)));
        let me = rustix::process::geteuid().as_raw();
        let owner = self.user.map_or(me, |user| user.uid);
        if !dir.exists() {
            make_private_dir(&dir, 0o700, me)?;
            self.give_to_server(&dir)?;
        }
        check_owner(&dir, owner)?;
        Ok(dir)
    }

    /// Makes the server's user the owner.
    pub(super) fn give_to_server(&self, path: &Path) -> Result<(), Error> {
        match self.user {
            Some(user) => {
                std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).map_err(at(path))
            }
            None => Ok(()),
        }
    }
}

fn make_private_dir(dir: &Path, mode: u32, owner: u32) -> Result<(), Error> {
    if !dir.exists() {
        fs::DirBuilder::new().mode(mode).create(dir).map_err(at(dir))?;
    }
    check_owner(dir, owner)
}

/// Anybody can make a directory in a shared one: one that is not ours is not used.
fn check_owner(dir: &Path, owner: u32) -> Result<(), Error> {
    let found = fs::symlink_metadata(dir).map_err(at(dir))?;
    if found.is_dir() && found.uid() == owner {
        return Ok(());
    }
    let program = format!("using {}", dir.display());
    Err(Error::Failed { program, said: format!("it is not a directory of user {owner}") })
}

/// The same for the same path, different for different ones.
fn short_name(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The first of [`SERVER_USERS`] in the text of `/etc/passwd`.
fn server_user(passwd: &str) -> Option<User> {
    SERVER_USERS.iter().find_map(|name| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != *name {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(User { uid, gid })
        })
    })
}

/// Whether the user may pass every directory on the way to `dir` and enter it.
fn is_reachable(dir: &Path, user: User) -> Result<bool, Error> {
    for ancestor in dir.ancestors() {
        let found = fs::metadata(ancestor).map_err(at(ancestor))?;
        let needed = if found.uid() == user.uid {
            0o100
        } else if found.gid() == user.gid {
            0o010
        } else {
            0o001
        };
        if found.mode() & needed == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_runs_as_postgres_where_there_is_one() {
        let nobody = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";
        let both = format!("{nobody}postgres:x:101:104::/var/lib/postgresql:/bin/bash\n");
        assert_eq!(server_user(nobody), Some(User { uid: 65534, gid: 65533 }));
        assert_eq!(server_user(&both), Some(User { uid: 101, gid: 104 }));
        assert_eq!(server_user("root:x:0:0::/root:/bin/sh\nbroken"), None);
    }

    #[test]
    fn a_directory_behind_a_closed_one_is_not_reachable() {
        let root = std::env::temp_dir().join(format!("adspend-place-{}", std::process::id()));
        let inner = root.join("closed/inner");
        fs::create_dir_all(&inner).unwrap();
        let stranger = User { uid: 54_321, gid: 54_321 };
        assert!(is_reachable(&inner, stranger).unwrap());
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(root.join("closed"), closed).unwrap();
        assert!(!is_reachable(&inner, stranger).unwrap());
        let owner = fs::metadata(&inner).unwrap();
        assert!(is_reachable(&inner, User { uid: owner.uid(), gid: owner.gid() }).unwrap());
        fs::remove_dir_all(&root).unwrap();
    }
}
