//! The file of a Unix socket, which is never there with other rights than it is to have.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::net::UnixListener;

/// Bytes of the path at which a socket is made, behind its folder: `/.lh-`, six letters, and `/s`.
pub(super) const MADE_BYTES: usize = 13;

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
