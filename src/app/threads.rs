//! Threads: those who end things and those who enforce it have some that nobody else keeps busy.
//!
//! ```text
//!  accept, shake hands ─▶ role of the verified certificate ─┬─ orchestrator, operator, verifier ─▶ the process's own runtime,
//!                                                           │                    with the feed and all that makes answers
//!                                                           └─ anybody else ─────────────────────▶ issuing
//! ```
//!
//! The system lets the threads of the first kind go first where both have something to do: the others are nicer.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;

use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Handle, Runtime};
use tracing::dispatcher::{self, DefaultGuard, Dispatch};

use super::Seams;
use crate::broker::access::Caller;
use crate::config::Config;
use crate::domain::role::Roles;
use crate::identity::peer::PeerSvid;
use crate::identity::trust_store::TrustStore;
use crate::listen::connections::GoesFirst;
use crate::listen::serve;

/// What the threads give way by: handshakes to endings, and issuing to handshakes, so that whoever comes to end something gets in.
const HANDSHAKES_NICE: i32 = 5;
const ISSUING_NICE: i32 = 10;

/// The threads of one broker that are not those of the runtime that it was started on. They end when this is dropped.
pub(super) struct Threads {
    handshakes: Pool,
    issuing: Pool,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// The system has none left.
    pub(super) fn start() -> io::Result<Self> {
        let cores = available_parallelism()?.get();
        Ok(Self {
            handshakes: Pool::start("handshakes", cores.div_ceil(2), HANDSHAKES_NICE)?,
            issuing: Pool::start("issuing", cores, ISSUING_NICE)?,
        })
    }

    /// Where what is ordinary is done.
    pub(super) fn ordinary(&self) -> Handle {
        self.issuing.handle.clone()
    }

    /// Where connections are accepted and hands shaken.
    pub(super) fn handshakes(&self) -> Handle {
        self.handshakes.handle.clone()
    }

    /// Where connections are served, if the runtime that this runs on is the one of the feed.
    pub(super) fn serving(&self) -> serve::Threads {
        serve::Threads { first: Handle::current(), others: Some(self.ordinary()) }
    }
}

thread_local! {
    /// Keeps a thread's subscriber for as long as the thread lives.
    static HEARD: Cell<Option<DefaultGuard>> = const { Cell::new(None) };
}

/// A runtime that ends without waiting for what still runs on it: whoever stops a broker waits for its requests before.
struct Pool {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Pool {
    fn start(name: &str, threads: usize, nice: i32) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name(name).enable_all();
        // Whoever hears the thread that starts the broker hears these, too.
        let heard = dispatcher::get_default(Dispatch::clone);
        builder.on_thread_start(move || {
            HEARD.set(Some(dispatcher::set_default(&heard)));
            // On Linux "the calling process" is the calling thread. Giving way needs no right; where it is refused all go alike.
            let _ = setpriority_process(None, nice);
        });
        let runtime = builder.build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Who goes first at each socket, by the roles of a verified certificate.
pub(super) struct First {
    /// Those who end things, and those who enforce it.
    pub(super) over_grpc: GoesFirst,
    /// Those who end things: verifiers only ask about credentials here, as often as they are shown one.
    pub(super) over_http: GoesFirst,
}

impl First {
    pub(super) fn of(config: &Config, trust: &TrustStore, seams: &Seams) -> Self {
        let whose = |of: fn(&Roles) -> bool| -> GoesFirst {
            let (entries, bundles) = (config.roles.clone(), trust.shared());
            let clock = seams.clock.clone();
            Arc::new(move |svid: &PeerSvid| {
                let identity = svid.recheck(&bundles.load(), clock.now());
                let caller = identity.ok().map(|identity| Caller::new(identity, &entries));
                caller.is_some_and(|caller| caller.is_ok_and(|caller| of(caller.roles())))
            })
        };
        Self { over_grpc: whose(|roles| ends(roles) || roles.verifier), over_http: whose(ends) }
    }
}

fn ends(roles: &Roles) -> bool {
    roles.operator || !roles.orchestrator.is_empty()
}
