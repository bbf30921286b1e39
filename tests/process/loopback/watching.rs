//! Watchers: whole keys of every length, and being told when one is too slow.

use weft::{PublishError, RecordKind, Watch, WatchBatch, WatchEvent, WatchFilter};
use weft_proto::limits::KEY_BYTES_MAX;

use super::{all_see_each_other, peer, start};
use crate::support::SOON;

async fn next(watch: &mut Watch) -> WatchEvent {
    let event = tokio::time::timeout(SOON, watch.next()).await;
    event.expect("an event within the deadline").expect("the mesh is not left")
}

#[tokio::test]
async fn keys_of_64_kib_arrive_whole_at_a_watcher_and_longer_ones_are_refused() {
    let publisher = start(peer("keys", "publisher")).await;
    let seed = publisher.status().addr.to_string();
    let meshes = [publisher, start(peer("keys", "receiver").seed(seed)).await];
    all_see_each_other(&meshes).await;
    let pages = meshes[0].cache_builder::<u32>("pages").full_keys(true).build().unwrap();
    let mut watch = meshes[1].watch(WatchFilter::namespace("pages"));

    // Bytes that no compression shortens.
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    let keys: Vec<Vec<u8>> = [1, 1_200, KEY_BYTES_MAX, KEY_BYTES_MAX - 1, KEY_BYTES_MAX]
        .into_iter()
        .map(|len| (0..len).map(|_| noise()).collect())
        .collect();
    for key in &keys {
        pages.invalidate(key).unwrap();
    }
    let too_long = vec![0; KEY_BYTES_MAX + 1];
    let refused = PublishError::KeyTooLong { len: KEY_BYTES_MAX + 1, max: KEY_BYTES_MAX };
    assert_eq!(pages.invalidate(&too_long), Err(refused.clone()));
    assert_eq!(meshes[0].try_invalidate("pages", &too_long), Err(refused));

    for (seq, key) in (1..).zip(&keys) {
        let WatchEvent::Applied(applied) = next(&mut watch).await else { panic!("not applied") };
        assert_eq!((applied.origin.as_str(), applied.seq), ("publisher", seq));
        assert_eq!((applied.kind, applied.local), (RecordKind::Key, false));
        assert!(applied.key.as_ref() == Some(key), "key {seq} is another");
    }
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_told_how_much_it_missed_and_goes_on() {
    const BATCHES: u64 = 100;
    let mesh = start(peer("slow", "only").watch_capacity(16)).await;
    let mut watch = mesh.watch(WatchFilter::all());
    for n in 1..=BATCHES {
        mesh.invalidate("users", n.to_le_bytes()).unwrap();
        // The record is numbered and told before the next one is published.
        mesh.refresh().await;
    }
    let Some(WatchBatch::Lagged(missed)) = watch.next_batch().await else {
        panic!("nothing was missed");
    };
    let mut applied = 0;
    while applied + missed < BATCHES {
        let batch = tokio::time::timeout(SOON, watch.next_batch()).await.unwrap();
        let Some(WatchBatch::Applied(batch)) = batch else { panic!("{batch:?}") };
        applied += 1;
        assert_eq!(batch.first_seq, missed + applied, "they follow without a gap");
    }
    assert_eq!(missed + applied, BATCHES);
    mesh.invalidate("users", "one more").unwrap();
    let WatchEvent::Applied(last) = next(&mut watch).await else { panic!("it goes on") };
    assert_eq!(last.seq, BATCHES + 1);
}
