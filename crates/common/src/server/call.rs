//! One call from its headers to its status: deadline, panic, foreign status, metric, access log
//! and span in one place, because as layers they would cost a box each.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use opentelemetry::trace::TraceContextExt;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status};
use tracing::{Level, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::ServiceFuture;
use super::edge::Row;
use super::metrics::code_name;
use crate::identity::Caller;
use crate::rpc::{Deadline, Reason, Refusal, fault_text, refuse};
use crate::telemetry;

/// Counts the call when it ends, however it ends: dropped means that the caller has gone.
pub(super) struct Observed {
    row: Arc<Row>,
    begin: Instant,
    caller: Option<Arc<Caller>>,
    span: Span,
    ended: bool,
}

impl Observed {
    pub(super) fn begin(row: &Arc<Row>, begin: Instant) -> Observed {
        Observed { row: Arc::clone(row), begin, caller: None, span: Span::none(), ended: false }
    }

    pub(super) fn by(&mut self, caller: &Arc<Caller>) {
        self.caller = Some(Arc::clone(caller));
    }

    /// Makes the span, as a child of the caller's. Its parent is set before anything runs in it:
    /// later it would be ignored.
    pub(super) fn trace(&mut self, headers: &http::HeaderMap) {
        let parent = telemetry::parent_of(headers);
        let span = tracing::info_span!(
            "call",
            otel.name = self.row.path.trim_start_matches('/'),
            otel.kind = "server",
            rpc.method = self.row.path.trim_start_matches('/'),
            rpc.response.status_code = field::Empty,
            otel.status_code = field::Empty,
            trace_id = field::Empty,
        );
        if parent.span().span_context().is_valid() {
            span.set_parent(parent).ok();
        }
        let trace_id = span.context().span().span_context().trace_id();
        span.record("trace_id", field::display(trace_id));
        self.span = span;
    }

    /// When the headers came.
    pub(super) fn began(&self) -> Instant {
        self.begin
    }

    /// Hands the counting over to the stream of answers; this one counts no more.
    pub(super) fn hand_over(&mut self) -> Observed {
        let rest = Observed {
            row: Arc::clone(&self.row),
            begin: self.begin,
            caller: self.caller.take(),
            span: self.span.clone(),
            ended: self.ended,
        };
        self.ended = true;
        rest
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    pub(super) fn end(&mut self, code: Code) {
        if self.ended {
            return;
        }
        self.ended = true;
        let took = self.begin.elapsed();
        self.row.metrics.record(code, took);
        if !self.span.is_none() {
            self.span.record("rpc.response.status_code", code_name(code));
            if matches!(code, Code::Internal | Code::Unknown | Code::DataLoss) {
                self.span.record("otel.status_code", "ERROR");
            }
        }
        if tracing::enabled!(Level::DEBUG) {
            self.log(code, took);
        }
    }

    #[cold]
    fn log(&self, code: Code, took: Duration) {
        tracing::debug!(
            parent: &self.span,
            method = self.row.path,
            code = code_name(code),
            took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            caller = self.caller.as_ref().map_or("", |caller| caller.label.as_str()),
            "call"
        );
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// Runs a handler until its answer begins, its deadline passes, or it panics.
///
/// The timer is made when the handler has to wait: most admissions never do, and a timer costs
/// more than they do.
pub(super) async fn run(
    handler: ServiceFuture,
    deadline: Deadline,
    observed: &Observed,
) -> Result<http::Response<tonic::body::Body>, Refusal> {
    let mut handler = handler;
    let mut timer = pin!(None::<Sleep>);
    poll_fn(|context| {
        let polled = {
            let _entered = observed.span.enter();
            catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context)))
        };
        match polled {
            Ok(Poll::Ready(Ok(response))) => return Poll::Ready(Ok(response)),
            Ok(Poll::Ready(Err(never))) => match never {},
            Err(panic) => return Poll::Ready(Err(panicked(panic.as_ref()))),
            Ok(Poll::Pending) => {}
        }
        let Some(instant) = deadline.instant() else { return Poll::Pending };
        if timer.is_none() {
            timer.set(Some(sleep_until(instant)));
        }
        match timer.as_mut().as_pin_mut().map(|timer| timer.poll(context)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(Deadline::exceeded())),
            Some(Poll::Pending) | None => Poll::Pending,
        }
    })
    .await
}

/// A handler's panic as an answer. The panic hook has logged it; without one, it is logged here.
pub(super) fn panicked(payload: &(dyn Any + Send)) -> Refusal {
    match telemetry::take_logged_panic() {
        Some(trace_id) => refuse(
            Code::Internal,
            Reason::Internal,
            "an internal fault; it is logged under the trace id",
        )
        .with("trace_id", trace_id),
        None => fault_text(&format!("panic: {}", telemetry::panic_text(payload))),
    }
}

/// The code that an answer begins with: that of a refusal, or OK so far.
pub(super) fn code_of(response: &http::Response<tonic::body::Body>) -> Code {
    response
        .headers()
        .get(Status::GRPC_STATUS)
        .map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}
