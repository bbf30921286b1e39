//! What the loop tells the rest of the process: members, status, metrics, batches for watchers, and
//! why it could not start.
//!
//! Plain data, made by `run` and read through `mesh`. Nothing here acts.

mod horizon;
mod start;
mod status;
mod watch;

pub use self::horizon::{HorizonPolicy, HorizonStatus};
pub use self::start::{Multicast, StartError};
pub(crate) use self::status::View;
pub use self::status::{
    Family, Member, MemberState, MetricKind, Metrics, Sample, SocketStatus, Status, StreamStatus,
};
pub use self::watch::{
    Applied, AppliedBatch, AppliedRun, RecordKind, Watch, WatchBatch, WatchEvent, WatchFilter,
};
