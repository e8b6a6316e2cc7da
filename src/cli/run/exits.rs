//! What `task run` ends with where it is not the command's own exit status.

/// The command did its work, and the broker could not be told.
pub(super) const UNENDED: u8 = 123;
/// The task ended before the command did, and the command was stopped; as `timeout` has it.
pub(super) const TASK_OVER: u8 = 124;
/// Nothing was started.
pub(super) const FAILED: u8 = 125;
/// The command is there and cannot be run.
pub(super) const NOT_RUNNABLE: u8 = 126;
/// There is no such command.
pub(super) const NOT_FOUND: u8 = 127;

/// The same for whoever asks for help.
pub(super) const HELP: &str = "\
What the command finds in its environment:
  LEASEHOLD_TASK, LEASEHOLD_EPOCH  The task, and its epoch when the command was started
  LEASEHOLD_AUDIENCE               What tokens are for; several with a space between
  LEASEHOLD_TASK_TOKEN_FILE        File with the token, replaced whole before it expires, and gone while there is none
  LEASEHOLD_TASK_SOCKET            Unix socket; `GET /` answers with a token that lives, `?audience=` chooses
  LEASEHOLD_TASK_CERT, _KEY        The certificate that tokens are bound to, and its key, for the command's connections
Without `--token-env`, `--token-out` and `--socket` there are a socket and, where there is one audience, a file, in a
folder that only you can read. All of it is gone when the command ends. Identities of yours are not in its environment.

Exit status: the command's own, or 128 and the signal that ended it; else
  123  the command succeeded, and the broker could not be told; the task ends by itself
  124  the task ended first, changed under `--stop-when-advanced`, or a quarantine stopped it; the command was sent SIGTERM, and
       SIGKILL after `--grace`
  125  nothing was started
  126  the command cannot be run
  127  there is no such command";

/// What is particular to a task that was begun for the command.
pub(super) const RUN_HELP: &str = "\
The task is completed where the command exits with 0, and fails where it does not. Heartbeats say that it is still there,
every 10s unless `--heartbeat` says otherwise; that the task ended elsewhere, the broker says at once. Whoever kills this
program with SIGKILL kills the command; after three intervals of silence the task is suspended or fails, as its tier says,
and its credentials are dead. What silence has suspended is resumed when the broker is reached again.
";
