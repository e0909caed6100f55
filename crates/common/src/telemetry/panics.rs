//! A panic is logged like everything else, once.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, PanicHookInfo};

use super::current_trace_id;

thread_local! {
    /// The trace id under which the hook has logged the panic that is unwinding on this thread.
    static LOGGED: Cell<Option<String>> = const { Cell::new(None) };
}

/// Logs every panic, then does what was done before.
pub(super) fn hook() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let trace_id = current_trace_id();
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%trace_id, %location, panic = text_of(info.payload()), "panic");
        LOGGED.set(Some(trace_id));
        before(info);
    }));
}

/// The trace id of the panic that this thread has just caught, when the hook has logged it.
pub(crate) fn take_logged_panic() -> Option<String> {
    LOGGED.take()
}

/// What a panic said.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "a value that is not text",
    }
}
