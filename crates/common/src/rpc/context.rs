//! What the edge knows about a call and puts into its extensions, as one value: an insertion costs
//! allocations, so there is only one.

use std::sync::Arc;

use super::Deadline;
use crate::identity::Caller;

/// Who calls, and until when the answer is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) caller: Arc<Caller>,
    pub(crate) deadline: Deadline,
}
