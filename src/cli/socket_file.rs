//! The file of a Unix socket, which is never there with other rights than it is to have.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::net::UnixListener;

/// Bytes of the path at which a socket is made, behind its folder: `/.lh-`, six letters, and `/s`.
const MADE_BYTES: usize = 13;
/// `sun_path` without its last byte.
const MOST_BYTES: usize = 107;

/// Whether a socket can be at a path, and be made beside it.
///
/// # Errors
/// What to do, in words.
pub(super) fn must_fit(path: &Path) -> Result<(), String> {
    let folder = path.parent().map_or(0, |folder| folder.as_os_str().len());
    let longest = path.as_os_str().len().max(folder + MADE_BYTES);
    if longest <= MOST_BYTES {
        return Ok(());
    }
    Err(format!(
        "a system takes no path of a socket of more than {MOST_BYTES} bytes, and one is made beside this one first: \
         take a folder with a shorter name, like `/run/leasehold`"
    ))
}

/// Binds a socket at a path where nothing is yet.
pub(super) fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let private = tempfile::Builder::new()
        .prefix(".lh-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(beside.unwrap_or(Path::new(".")))?;
    let made = private.path().join("s");
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, Permissions::from_mode(mode))?;
    // A link, since it takes no name that somebody else has.
    fs::hard_link(&made, path)?;
    Ok(listener)
}
