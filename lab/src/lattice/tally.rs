//! What happened to connections towards one target.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Counts a target's connections and can end them.
#[derive(Debug)]
pub(super) struct Tally {
    opened: AtomicU64,
    open: AtomicU64,
    failed: AtomicU64,
    closed: watch::Sender<bool>,
}

/// One open connection; counted until dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<Tally>);

impl Tally {
    pub(super) fn new() -> Arc<Self> {
        let closed = watch::Sender::new(false);
        Arc::new(Self { opened: 0.into(), open: 0.into(), failed: 0.into(), closed })
    }

    pub(super) fn open(self: &Arc<Self>) -> Counted {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    pub(super) fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends every connection: the target's draining time is over.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Resolves once [`Tally::close`] was called.
    pub(super) async fn until_closed(&self) {
        // The sender lives in `self`, so waiting cannot fail before it succeeds.
        drop(self.closed.subscribe().wait_for(|closed| *closed).await);
    }

    /// Connections opened, still open, and failed to open.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.opened), read(&self.open), read(&self.failed))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
