//! From what the node has proven to the word that readers compare with, and to what people read.

use weft_proto::horizon::Policy;
use weft_proto::time::Instant;

use super::looper::Looper;
use crate::cache::BootTime;
use crate::view::{HorizonPolicy, HorizonStatus};

impl Looper {
    /// Lets readers rely on what the node has proven. Only after all of the node's outputs were
    /// carried out: the proof is about what it has given out.
    ///
    /// The loop's clock is the readers' own, so nothing is converted and nothing is lost by suspend.
    pub(super) fn advance_horizon(&self) {
        if let Some(proven) = self.node.horizon() {
            let moment = BootTime::from_nanos(Instant::as_nanos(proven));
            self.shared().registry.horizon().advance(moment);
        }
    }

    /// How it stands; the age is measured by whoever asks.
    pub(super) fn horizon_status(&self) -> HorizonStatus {
        let view = self.node.horizon_view();
        HorizonStatus {
            age: None,
            policy: match view.policy {
                Policy::Available => HorizonPolicy::Available,
                Policy::Strict => HorizonPolicy::Strict,
            },
            among_reachable: view.dark > 0,
            held_back_by: view.held_by.map(|origin| self.name_of(origin.peer)),
        }
    }
}
