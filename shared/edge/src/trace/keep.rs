//! Keeps the spans of an invocation until it is over, and then sends all of them as one document.

use std::sync::Mutex;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use super::daemon::Daemon;
use super::document;

/// Spans kept of one invocation; far more than a document takes.
const KEPT: usize = 1_000;

/// Spans that have ended, of an invocation that has not: Lambda runs one at a time in a process.
#[derive(Debug)]
pub(super) struct Keep {
    daemon: Daemon,
    ended: Mutex<Vec<SpanData>>,
}

impl Keep {
    pub(super) fn new(daemon: Daemon) -> Self {
        Self { daemon, ended: Mutex::default() }
    }
}

impl SpanProcessor for Keep {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    /// Only an invocation's span has its parent elsewhere.
    fn on_end(&self, span: SpanData) {
        let Ok(mut ended) = self.ended.lock() else { return };
        if !span.parent_span_is_remote {
            if ended.len() < KEPT {
                ended.push(span);
            }
            return;
        }
        let inner = std::mem::take(&mut *ended);
        self.daemon.send(&document::of(&span, inner).to_string());
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
