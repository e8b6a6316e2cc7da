//! The command: started, sent what we are sent, stopped, waited for.
//!
//! In the foreground of a terminal it stays in our process group, where the terminal's Ctrl-C reaches it without us; elsewhere
//! it leads a group of its own, and every signal is passed on to all of that.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgrp, getpid, kill_process, kill_process_group};
use rustix::termios::tcgetpgrp;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{bound, descent};

/// Our own program, also when its file was replaced meanwhile.
const OURSELVES: &str = "/proc/self/exe";
/// What is passed on to the command.
const PASSED_ON: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// The signals that come to us, from before the task is begun to the end.
#[derive(Debug)]
pub(super) struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> io::Result<Self> {
        let (to, from) = mpsc::channel(16);
        for kind in PASSED_ON.into_iter().chain([Signal::CHILD]) {
            let mut signals = signal(SignalKind::from_raw(kind.as_raw()))?;
            let to = to.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    if to.send(kind).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self(from))
    }

    async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// Waits until somebody wants us to stop.
    pub(super) async fn stop(&mut self) -> Signal {
        loop {
            match self.next().await {
                Signal::CHILD | Signal::USR1 | Signal::USR2 => {}
                signal => return signal,
            }
        }
    }

    /// Waits until somebody wants it twice: the first may be the one that ended the command, as Ctrl-C is sent to both.
    pub(super) async fn insist(&mut self) -> Signal {
        self.stop().await;
        self.stop().await
    }
}

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pid: Pid,
    leads_group: bool,
}

impl Running {
    /// Starts the command. It dies with the thread that this is called on, which must be the main one.
    pub(super) fn start(
        command: &[OsString],
        set: &[(String, OsString)],
        removed: &[&str],
    ) -> io::Result<Self> {
        descent::adopt_orphans()?;
        let leads_group = !is_foreground();
        let mut start = Command::new(OURSELVES);
        start.arg0("leasehold").arg(bound::NAME).arg("--parent");
        start.arg(getpid().as_raw_pid().to_string()).arg("--").args(command);
        removed.iter().for_each(|name| {
            start.env_remove(name);
        });
        start.envs(set.iter().map(|(name, value)| (name, value))).kill_on_drop(true);
        if leads_group {
            start.process_group(0);
        }
        let child = start.spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.ok_or_else(|| io::Error::other("the command has no process id"))?;
        Ok(Self { child, pid, leads_group })
    }

    /// Waits for its end, and passes on what we are sent meanwhile.
    pub(super) async fn exited(&mut self, signals: &mut Signals) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                signal = signals.next() => self.pass_on(signal),
            }
        }
    }

    /// Tells it to stop, and kills it if it has not after `grace`.
    pub(super) async fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.send(Signal::TERM);
        // One that is stopped would not hear it.
        self.send(Signal::CONT);
        if let Ok(status) = timeout(grace, self.child.wait()).await {
            return status;
        }
        self.send(Signal::KILL);
        self.child.wait().await
    }

    fn pass_on(&self, signal: Signal) {
        match signal {
            Signal::CHILD => descent::bury(self.pid),
            // The terminal has sent it to the command itself.
            Signal::INT | Signal::QUIT if !self.leads_group => {}
            signal => self.send(signal),
        }
    }

    fn send(&self, signal: Signal) {
        // It may have ended a moment ago, and then there is nobody to tell.
        let _ = match self.leads_group {
            true => kill_process_group(self.pid, signal),
            false => kill_process(self.pid, signal),
        };
    }
}

/// Whether we are in the foreground of a terminal.
fn is_foreground() -> bool {
    let terminal = File::open("/dev/tty").ok();
    terminal.and_then(|terminal| tcgetpgrp(terminal).ok()) == Some(getpgrp())
}

/// The status as a shell has it: 128 and the signal where one ended it.
pub(super) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// The status in words, for whoever reads why a task failed.
pub(super) fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        let of = ExitStatus::from_raw;
        let (done, three, terminated) = (of(0), of(3 << 8), of(15));
        assert_eq!([done, three, terminated].map(code), [0, 3, 143]);
        assert_eq!(words(three), "exit status 3");
        assert_eq!(words(terminated), "signal 15");
    }
}
