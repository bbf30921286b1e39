//! Applies records to the caches and tells watchers.
//!
//! The hot path of a receiving peer: one look-up of the namespace for each run of records, one
//! reused buffer of hashes, nothing built for watchers while nobody watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_proto::event::{Arrival, Flush, FlushReason};
use weft_proto::id::{KeyHasher, PeerId};
use weft_proto::node::Node;
use weft_proto::shards::{SHARDS, Touched};
use weft_proto::time::Now;
use weft_proto::wire::batch::{RecordKind, Records};

use super::Shared;
use crate::coherence::{Applies, Outgoing};
use crate::net::monotonic_nanos;
use crate::view::{AppliedBatch, AppliedRun, WatchBatch};

/// Names of origins that are remembered; beyond it they are looked up again.
const NAMES_MAX: usize = 4_096;

/// Applies, and publishes what was queued.
pub(super) struct Applier {
    shared: Arc<Shared>,
    hasher: KeyHasher,
    hashes: Vec<u64>,
    names: BTreeMap<PeerId, Arc<str>>,
}

impl Applier {
    pub(super) fn new(shared: Arc<Shared>, hasher: KeyHasher) -> Self {
        Self { shared, hasher, hashes: Vec::new(), names: BTreeMap::new() }
    }

    /// Hands a queued record to the node.
    pub(super) fn publish(&self, node: &mut Node, now: Now, record: Outgoing) {
        let Some(namespace) = self.shared.registry.namespace(record.namespace) else { return };
        node.publish(now, record.kind, &namespace, record.hash, record.key.as_deref());
    }

    /// Applies records of other peers, those that arrived together at once: the caches are told
    /// once for each stretch of one namespace, and then watchers of each batch.
    pub(super) fn apply(&mut self, node: &Node, arrivals: &[Arrival]) {
        let registry = &self.shared.registry;
        let (hasher, hashes) = (&self.hasher, &mut self.hashes);
        let mut open: Option<(&str, Arc<dyn Applies>)> = None;
        let settle = |open: &mut Option<(&str, Arc<dyn Applies>)>, hashes: &mut Vec<u64>| {
            if let Some((_, cache)) = open.take() {
                cache.apply_hashes(hashes);
            }
            hashes.clear();
        };
        for arrival in arrivals {
            arrival.body.for_each_run(|name, kind, records| {
                if open.as_ref().is_none_or(|(held, _)| *held != name) {
                    settle(&mut open, hashes);
                    open = registry.applies(name).map(|cache| (name, cache));
                }
                let Some((_, cache)) = &open else { return };
                match kind {
                    RecordKind::Key => records.hashes_into(hasher, hashes),
                    RecordKind::Namespace => cache.clear(),
                }
            });
        }
        settle(&mut open, hashes);
        for arrival in arrivals {
            self.tell(node, arrival, false);
        }
    }

    /// Own records were numbered: only watchers care.
    pub(super) fn issued(&mut self, node: &Node, arrival: &Arrival) {
        self.tell(node, arrival, true);
    }

    /// Drops what a flush, or a part of one, names. Watchers are told at its end.
    pub(super) fn flush(&self, flush: &Flush) {
        self.shared.registry.flush(&flush.now);
        if !flush.ends {
            return;
        }
        let reason: Arc<str> = match flush.reason {
            FlushReason::Joined => "joined".into(),
            FlushReason::Away => {
                tracing::warn!(
                    "away for so long that records may be forgotten: all caches flushed"
                );
                "away".into()
            }
            FlushReason::GoneShards(range)
            | FlushReason::GoneNamespaces(range)
            | FlushReason::Gone(range) => {
                let (origin, lo, hi) = (range.origin, range.lo.0, range.hi.0);
                let dropped = describe(&flush.whole);
                tracing::warn!(%origin, lo, hi, dropped, "records nobody can supply: flushed");
                format!("gone: {origin} {lo}..={hi}: {dropped}").into()
            }
        };
        // Without watchers there is nobody to tell.
        let _ = self.shared.watchers.send(Some(WatchBatch::Flushed { reason }));
    }

    fn tell(&mut self, node: &Node, arrival: &Arrival, local: bool) {
        if self.shared.watchers.receiver_count() == 0 {
            return;
        }
        let mut runs = Vec::new();
        let mut hashes = Vec::with_capacity(arrival.count as usize);
        let mut keys = Vec::new();
        let hasher = &self.hasher;
        arrival.body.for_each_run(|name, kind, records| {
            let begin = hashes.len();
            records.hashes_into(hasher, &mut hashes);
            if let Records::Keys(texts) = records {
                keys.resize(begin, None);
                keys.extend(texts.into_iter().map(Some));
            }
            runs.push(AppliedRun { namespace: name.into(), kind, records: begin..hashes.len() });
        });
        let keyed = !keys.is_empty();
        if keyed {
            keys.resize(hashes.len(), None);
        }
        let batch = AppliedBatch {
            origin_name: self.name_of(node, arrival.origin.peer),
            peer: arrival.origin.peer.0,
            boot: arrival.origin.boot.0,
            first_seq: arrival.first.0,
            // Read here and not at the start of the turn, which may be milliseconds ago.
            applied_at: monotonic_nanos(),
            local,
            runs,
            hashes,
            keys: keyed.then_some(keys),
        };
        // The last watcher may have left in between.
        let _ = self.shared.watchers.send(Some(WatchBatch::Applied(Arc::new(batch))));
    }

    fn name_of(&mut self, node: &Node, peer: PeerId) -> Arc<str> {
        if let Some(name) = self.names.get(&peer) {
            return Arc::clone(name);
        }
        let own = (node.origin().peer == peer).then(|| node.config().name.as_str());
        let Some(name) = own.or_else(|| node.name_of(peer).map(|name| name.as_str())) else {
            // Not a member yet, or no longer: its number must do, and is not remembered.
            return peer.to_string().into();
        };
        if self.names.len() == NAMES_MAX {
            self.names.clear();
        }
        let name: Arc<str> = name.into();
        self.names.insert(peer, Arc::clone(&name));
        name
    }
}

/// What a flush drops, for people.
fn describe(touched: &Touched) -> String {
    if !touched.everywhere().is_empty() {
        return "all caches".to_owned();
    }
    let parts: Vec<String> = touched
        .within()
        .map(|(name, shards)| match shards.len() {
            SHARDS => name.to_string(),
            some => format!("{some}/{SHARDS} of {name}"),
        })
        .collect();
    parts.join(", ")
}
