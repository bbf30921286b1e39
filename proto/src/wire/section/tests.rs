//! Sections there and back, and any bytes.

use proptest::prelude::*;

use super::*;

fn origin(n: u64) -> Origin {
    Origin { peer: PeerId(n), boot: Boot(n + 1) }
}

fn only(bytes: &[u8]) -> Section<'_> {
    let mut reader = Reader::new(bytes);
    let section = next(&mut reader).unwrap().unwrap();
    assert!(next(&mut reader).unwrap().is_none());
    section
}

fn ranges() -> impl Strategy<Value = Vec<StreamRange>> {
    prop::collection::vec((any::<u64>(), 1_u64..1_000, 0_u64..1_000), 0..PULL_RANGES_MAX).prop_map(
        |v| {
            v.into_iter()
                .map(|(o, lo, len)| StreamRange {
                    origin: origin(o % 9),
                    lo: Seq(lo),
                    hi: Seq(lo + len),
                })
                .collect()
        },
    )
}

proptest! {
    #[test]
    fn w9_batches_round_trip(own: bool, first in 1_u64..1 << 50, count in 1_u32..4_000, lz4: bool, lo: u64, hi: u64, level in 0_u8..4, tree: bool, body in prop::collection::vec(any::<u8>(), 0..100)) {
        let sender = origin(1);
        let interval = (tree && lo <= hi).then_some(Interval { lo, hi, level });
        let head = BatchHead { origin: if own { sender } else { origin(2) }, first: Seq(first), count, base: Hlc(7), raw_len: 100, lz4, interval };
        let mut out = Vec::new();
        head.put_batch(sender, &body, &mut out);
        prop_assert_eq!(out.len() % 8, 0);
        let (got, bytes) = BatchHead::take_batch(&only(&out), sender).unwrap();
        prop_assert_eq!(got, head);
        prop_assert_eq!(bytes, &*body);
        let part = Part { index: 1, total: 3, bytes: 500 };
        out.clear();
        head.put_fragment(sender, part, &body, &mut out);
        let (got, got_part, bytes) = BatchHead::take_fragment(&only(&out), sender).unwrap();
        prop_assert_eq!((got, got_part, bytes), (head, part, &*body));
    }

    #[test]
    fn w17_pulls_round_trip(nonce: u64, budget: u32, ranges in ranges()) {
        let pull = Pull { nonce, budget, ranges: ranges.clone() };
        let mut out = Vec::new();
        pull.put(&mut out);
        prop_assert_eq!(Pull::take(&only(&out)).unwrap(), pull);
        let mut gone = ranges;
        let absent = gone.split_off(gone.len() / 2);
        let pulled = Pulled { nonce, gone, absent };
        out.clear();
        pulled.put(&mut out);
        prop_assert_eq!(Pulled::take(&only(&out)).unwrap(), pulled);
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut reader = Reader::new(&bytes);
        while let Ok(Some(section)) = next(&mut reader) {
            let _ = BatchHead::take_batch(&section, origin(1));
            let _ = BatchHead::take_fragment(&section, origin(1));
            let _ = take_heads(&section);
            let _ = take_ack(&section);
            let _ = Pull::take(&section);
            let _ = Pulled::take(&section);
            let _ = Digest::take(&section);
        }
    }
}

#[test]
fn w7_unknown_kinds_are_skipped() {
    let mut out = Vec::new();
    put(&mut out, Kind::Probe, 0, 0, |out| out.extend_from_slice(&[1, 2, 3]));
    out[0] = 200;
    put_ack(&Ack { boot: Boot(1), applied: Seq(2), highest: Seq(3), buffer: 4 }, &mut out);
    let section = only(&out);
    assert_eq!(section.kind, Kind::Ack);
    assert_eq!(take_ack(&section).unwrap().highest, Seq(3));
}

#[test]
fn w15_heads_and_w19_digests_round_trip() {
    let heads: Vec<Head> =
        (0..5).map(|n| Head { origin: origin(n), head: Seq(n), floor: Seq(1) }).collect();
    let mut out = Vec::new();
    put_heads(HEADS_ALL, &heads, &mut out);
    let section = only(&out);
    assert_eq!((take_heads(&section).unwrap(), section.flags), (heads, HEADS_ALL));
    let digest = Digest { ask: true, nonce: 5, buckets: [9; DIGEST_BUCKETS] };
    out.clear();
    digest.put(&mut out);
    assert_eq!(Digest::take(&only(&out)).unwrap(), digest);
}
