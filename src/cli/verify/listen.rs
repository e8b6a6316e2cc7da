//! Where a sidecar answers: files of sockets, and addresses.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixStream};

use crate::cli::failure::Failure;
use crate::cli::socket_file;
use crate::sidecar::Door;

/// One place to answer at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket that is a file.
    Unix(PathBuf),
    /// An address and a port.
    Tcp(SocketAddr),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("there is no path behind `unix:`".to_owned()),
            Some(path) => socket_file::must_fit(Path::new(path)).map(|()| Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                "write `unix:/run/leasehold/verify.sock`, or an address and a port like `127.0.0.1:7702`"
                    .to_owned()
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// Everything that listens.
pub(super) struct Opened {
    pub(super) doors: Vec<Door>,
    pub(super) files: Vec<SocketFile>,
}

/// Listens everywhere, or nowhere.
pub(super) async fn open(
    addresses: &[Address],
    mode: u32,
    beyond_this_machine: bool,
) -> Result<Opened, Failure> {
    let mut opened = Opened { doors: Vec::new(), files: Vec::new() };
    for address in addresses {
        match address {
            Address::Unix(path) => {
                let (door, file) = SocketFile::bind(path, mode).await?;
                opened.doors.push(door);
                opened.files.push(file);
            }
            Address::Tcp(address) => {
                if !address.ip().is_loopback() && !beyond_this_machine {
                    return Err(Failure::Usage(format!(
                        "other machines reach `--listen {address}`, and whoever does may ask; listen at `unix:…` or `127.0.0.1:…`, or say `--danger-listen-beyond-this-machine`"
                    )));
                }
                let refused = |fault| Failure::Usage(format!("`--listen {address}`: {fault}"));
                let listener = TcpListener::bind(address).await.map_err(refused)?;
                let bound = listener.local_addr().map_err(refused)?;
                if !address.ip().is_loopback() {
                    tracing::warn!(%bound, "whoever reaches this address may ask, from other machines too");
                }
                tracing::info!("answering at {bound}");
                opened.doors.push(Door::Tcp(listener));
                continue;
            }
        }
        tracing::info!("answering at {address}");
    }
    Ok(opened)
}

/// The file of a socket of ours: removed when dropped, if it is still ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// Takes the place of a socket that nobody answers at, and of nothing else.
    // INVARIANT (one owner): between looking and taking, the folder is locked against others who do the same.
    async fn bind(path: &Path, mode: u32) -> Result<(Door, Self), Failure> {
        let failed = |source| Failure::Write { path: path.to_owned(), source };
        let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = File::open(beside.unwrap_or(Path::new("."))).map_err(failed)?;
        folder.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Failure::Usage(format!(
                "another process makes a socket beside `{}` just now; try again",
                path.display()
            )),
            TryLockError::Error(error) => failed(error),
        })?;
        remove_dead(path).await?;
        let listener = socket_file::bind(path, mode).map_err(failed)?;
        let made = fs::symlink_metadata(path).map_err(failed)?;
        let inode = (made.dev(), made.ino());
        Ok((Door::Unix(listener), Self { path: path.to_owned(), inode }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |found: fs::Metadata| (found.dev(), found.ino()) == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // If it stays, the next start finds that nobody answers there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn remove_dead(path: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::Write { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            let path = path.display();
            return Err(Failure::Usage(format!(
                "`{path}` is there, and no socket; remove it, or listen elsewhere"
            )));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        // Whatever is not a clear no may be somebody who is busy.
        Ok(_) | Err(_) => Err(Failure::Usage(format!(
            "another process answers at `{}`; stop it, or listen elsewhere",
            path.display()
        ))),
    }
}
