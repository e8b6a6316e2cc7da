//! Becomes the command, bound to the life of the process that started it.
//!
//! `task run` starts its own program with this hidden sub-command, since what the kernel does to a process whose parent dies
//! can only be asked for by that process itself, and the standard library lets nothing be done between fork and exec that is
//! not `unsafe`.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::exits;

/// The name of the sub-command.
pub(in crate::cli) const NAME: &str = "bound-command";

#[derive(Debug, Args)]
pub(in crate::cli) struct Bound {
    /// The process whose end is the command's
    #[arg(long)]
    parent: i32,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Bound {
    /// Returns only if there is no command to become.
    pub(in crate::cli) fn run(self) -> ExitCode {
        let asked = set_parent_process_death_signal(Some(Signal::KILL));
        // INVARIANT (no command without its run): a parent that died before that is seen here, one that dies later kills us.
        if asked.is_err() || getppid().map(Pid::as_raw_pid) != Some(self.parent) {
            eprintln!("leasehold: the command is not started: whoever started it is gone");
            return ExitCode::from(exits::FAILED);
        }
        let Some((program, arguments)) = self.command.split_first() else {
            return ExitCode::from(exits::FAILED);
        };
        let fault = Command::new(program).args(arguments).exec();
        eprintln!("leasehold: `{}` cannot be run: {fault}", program.display());
        let code = match fault.kind() {
            ErrorKind::NotFound => exits::NOT_FOUND,
            _ => exits::NOT_RUNNABLE,
        };
        ExitCode::from(code)
    }
}
