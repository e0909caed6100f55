//! What flows through a call: requests that end when the server stops, answers that end in time.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status};

use super::call::{Observed, panicked};
use super::foreign;
use super::gate::StreamPlace;
use super::stop::{Phase, Stop};
use crate::rpc::{Deadline, Refusal, unavailable};

/// A request's messages as they come. A stream of them ends when the server stops, so that its
/// handler finishes what it has and ends by itself.
pub struct RequestBody(Messages);

enum Messages {
    Unary(Incoming),
    Stream(Pin<Box<Stoppable>>),
}

pin_project! {
    struct Stoppable {
        #[pin]
        incoming: Incoming,
        #[pin]
        stopping: WaitForCancellationFutureOwned,
        ended_by_us: Arc<AtomicBool>,
    }
}

impl RequestBody {
    pub(super) fn unary(incoming: Incoming) -> RequestBody {
        RequestBody(Messages::Unary(incoming))
    }

    pub(super) fn stream(incoming: Incoming, stop: &Stop, ended_by_us: Arc<AtomicBool>) -> Self {
        let stopping = stop.token(Phase::Stopping).clone().cancelled_owned();
        RequestBody(Messages::Stream(Box::pin(Stoppable { incoming, stopping, ended_by_us })))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Messages::Unary(incoming) => Pin::new(incoming).poll_frame(context),
            Messages::Stream(stoppable) => {
                let this = stoppable.as_mut().project();
                if let Poll::Ready(frame) = this.incoming.poll_frame(context) {
                    return Poll::Ready(frame);
                }
                ready!(this.stopping.poll(context));
                this.ended_by_us.store(true, Ordering::Release);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Messages::Unary(incoming) => incoming.is_end_stream(),
            Messages::Stream(stoppable) => stoppable.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Messages::Unary(incoming) => incoming.size_hint(),
            Messages::Stream(stoppable) => stoppable.incoming.size_hint(),
        }
    }
}

pin_project! {
    /// An answer: one message as tonic made it, or a stream under guard.
    #[project = Kind]
    pub(super) enum ResponseBody {
        Unary { #[pin] body: tonic::body::Body },
        Stream { guarded: Pin<Box<Guarded>> },
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.project() {
            Kind::Unary { body } => body.poll_frame(context),
            Kind::Stream { guarded } => guarded.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Unary { body } => body.is_end_stream(),
            ResponseBody::Stream { guarded } => guarded.finished,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Unary { body } => body.size_hint(),
            ResponseBody::Stream { .. } => SizeHint::new(),
        }
    }
}

pin_project! {
    /// A stream of answers that ends with a status of ours at its deadline, after a long silence,
    /// when the server stops, and when its handler panics.
    pub(super) struct Guarded {
        #[pin]
        body: tonic::body::Body,
        #[pin]
        deadline: Option<Sleep>,
        #[pin]
        silence: Sleep,
        #[pin]
        stopped: WaitForCancellationFutureOwned,
        idle_limit: Duration,
        last_message: Instant,
        ended_by_us: Arc<AtomicBool>,
        max_message_bytes: usize,
        finished: bool,
        observed: Observed,
        place: StreamPlace,
    }
}

/// What a stream's guard is made of.
pub(super) struct Guard<'a> {
    pub(super) deadline: Deadline,
    pub(super) idle_limit: Duration,
    pub(super) stop: &'a Stop,
    /// The phase of stopping in which the stream is cut: later for one whose requests end first.
    pub(super) cut_in: Phase,
    pub(super) ended_by_us: Arc<AtomicBool>,
    pub(super) max_message_bytes: usize,
    pub(super) observed: Observed,
    pub(super) place: StreamPlace,
}

impl Guarded {
    pub(super) fn new(body: tonic::body::Body, guard: Guard<'_>) -> Guarded {
        let now = Instant::now();
        Guarded {
            body,
            deadline: guard.deadline.instant().map(tokio::time::sleep_until),
            silence: tokio::time::sleep_until(now + guard.idle_limit),
            stopped: guard.stop.token(guard.cut_in).clone().cancelled_owned(),
            idle_limit: guard.idle_limit,
            last_message: now,
            ended_by_us: guard.ended_by_us,
            max_message_bytes: guard.max_message_bytes,
            finished: false,
            observed: guard.observed,
            place: guard.place,
        }
    }

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        let this = self.as_mut().project();
        let polled = {
            let _entered = this.observed.span().enter();
            catch_unwind(AssertUnwindSafe(|| this.body.poll_frame(context)))
        };
        match polled {
            Ok(Poll::Pending) => match self.as_mut().poll_reasons_to_end(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(refusal) => self.finish(&refusal),
            },
            Ok(Poll::Ready(Some(Ok(frame)))) => self.passed(frame),
            Ok(Poll::Ready(Some(Err(status)))) => {
                let refusal = foreign::of(&status, self.max_message_bytes);
                match refusal {
                    Some(refusal) => self.finish(&refusal),
                    None => self.finish_with(&status),
                }
            }
            Ok(Poll::Ready(None)) => {
                *self.as_mut().project().finished = true;
                Poll::Ready(None)
            }
            Err(panic) => {
                let refusal = panicked(panic.as_ref());
                self.finish(&refusal)
            }
        }
    }

    /// A frame of the handler's: a message goes through, trailers may get our words.
    fn passed(
        mut self: Pin<&mut Self>,
        frame: Frame<Bytes>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(trailers) = frame.trailers_ref() else {
            *self.as_mut().project().last_message = Instant::now();
            return Poll::Ready(Some(Ok(frame)));
        };
        if let Some(refusal) = foreign::in_headers(trailers, self.max_message_bytes) {
            return self.finish(&refusal);
        }
        let code = trailers
            .get(Status::GRPC_STATUS)
            .map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
        if code == Code::Ok && self.ended_by_us.load(Ordering::Acquire) {
            return self.finish(&draining());
        }
        let this = self.as_mut().project();
        this.observed.end(code);
        *this.finished = true;
        Poll::Ready(Some(Ok(frame)))
    }

    /// Why the stream should end although its handler has nothing to say.
    fn poll_reasons_to_end(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Refusal> {
        let mut this = self.project();
        let deadline = this.deadline.as_mut().as_pin_mut();
        if deadline.is_some_and(|deadline| deadline.poll(context).is_ready()) {
            return Poll::Ready(Deadline::exceeded());
        }
        if this.stopped.poll(context).is_ready() {
            return Poll::Ready(draining());
        }
        // The timer is moved only when it fires: a message costs no timer operation.
        while this.silence.as_mut().poll(context).is_ready() {
            let until = *this.last_message + *this.idle_limit;
            if until <= Instant::now() {
                return Poll::Ready(unavailable("the stream was silent for too long"));
            }
            this.silence.as_mut().reset(until);
        }
        Poll::Pending
    }

    fn finish(
        self: Pin<&mut Self>,
        refusal: &Refusal,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.finish_with(&refusal.status())
    }

    fn finish_with(
        self: Pin<&mut Self>,
        status: &Status,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        *this.finished = true;
        this.observed.end(status.code());
        let mut trailers = HeaderMap::new();
        match status.add_header(&mut trailers) {
            Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Err(status) => Poll::Ready(Some(Err(status))),
        }
    }
}

fn draining() -> Refusal {
    unavailable("the server is stopping; call again, another one answers")
}
