//! The judge is judged: journals as kills leave them, and planted faults that it must find.

use std::fs;
use std::path::Path;

use super::*;

const A: Origin = Origin { peer: 0xa, boot: 1 };
const B: Origin = Origin { peer: 0xb, boot: 1 };

/// What record `seq` of any test stream says: a hash that differs from its neighbours'.
fn hash(seq: u64) -> u64 {
    seq.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Record `seq` is published at this time and applied one step later.
fn called_at(seq: u64) -> u64 {
    seq * 100
}

fn publish(ledger: &mut Ledger, life: Life, origin: Origin, count: u64) {
    for seq in 1..=count {
        let call = Published { hash: hash(seq), called_at: called_at(seq) };
        ledger.published(life, origin, call);
    }
}

fn apply(ledger: &mut Ledger, life: Life, origin: Origin, seqs: impl IntoIterator<Item = u64>) {
    for first_seq in seqs {
        let at = called_at(first_seq) + 7;
        let hashes = vec![hash(first_seq)];
        ledger.observed(life, Observed::Applied { origin, first_seq, at, hashes });
    }
}

/// Three lives; the first publishes 200 records, which the others have applied.
fn healthy() -> (Ledger, [Life; 3]) {
    let mut ledger = Ledger::default();
    let lives = ["a", "b", "c"].map(|name| ledger.add(name, Owed::Everything));
    publish(&mut ledger, lives[0], A, 200);
    for life in lives {
        apply(&mut ledger, life, A, 1..=200);
    }
    (ledger, lives)
}

fn observations(tail: &mut Tail) -> Vec<Observed> {
    let mut all = Vec::new();
    tail.observed(|observed| all.push(observed)).unwrap();
    all
}

fn publications(tail: &mut Tail) -> Vec<(Origin, Published)> {
    let mut all = Vec::new();
    tail.published(|origin, published| all.push((origin, published))).unwrap();
    all
}

#[test]
fn journals_come_back_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("applied");
    let mut tail = Tail::new(path.clone());
    assert_eq!(observations(&mut tail), [], "the file need not exist yet");

    let mut writer = AppliedWriter::create(&path).unwrap();
    writer.applied(A, 5, 1_000, &[7, 8, 9]).unwrap();
    writer.flushed().unwrap();
    writer.lagged(12).unwrap();
    assert_eq!(observations(&mut tail), [], "nothing was flushed");
    writer.flush(1_500).unwrap();
    let applied = Observed::Applied { origin: A, first_seq: 5, at: 1_000, hashes: vec![7, 8, 9] };
    assert_eq!(
        observations(&mut tail),
        [applied, Observed::Flushed, Observed::Lagged(12), Observed::UpTo(1_500)]
    );
    assert_eq!(observations(&mut tail), [], "nothing is handed out twice");
}

#[test]
fn publish_calls_are_on_disk_when_they_are_noted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("published");
    let mut writer = PublishedWriter::create(&path, B).unwrap();
    let mut tail = Tail::new(path);
    for seq in 1..=3 {
        let call = Published { hash: hash(seq), called_at: called_at(seq) };
        writer.record(call).unwrap();
        assert_eq!(publications(&mut tail), [(B, call)]);
    }
}

#[test]
fn a_torn_end_waits_for_the_rest_at_every_cut() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let mut writer = AppliedWriter::create(&whole).unwrap();
    writer.applied(A, 1, 10, &[1, 2]).unwrap();
    writer.applied(A, 3, 20, &[3]).unwrap();
    writer.flush(30).unwrap();
    let bytes = fs::read(&whole).unwrap();
    let expected = observations(&mut Tail::new(whole));
    assert_eq!(expected.len(), 3);

    for cut in 0..bytes.len() {
        let path = dir.path().join(format!("cut-{cut}"));
        fs::write(&path, &bytes[..cut]).unwrap();
        let mut tail = Tail::new(path.clone());
        let mut seen = observations(&mut tail);
        assert!(seen.len() < expected.len());
        assert_eq!(seen[..], expected[..seen.len()]);
        append(&path, &bytes[cut..]);
        seen.extend(observations(&mut tail));
        assert_eq!(seen, expected, "cut at {cut}");
        assert_eq!(tail.torn_bytes(), 0);
    }
}

#[test]
fn a_torn_publish_call_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("published");
    let mut writer = PublishedWriter::create(&path, A).unwrap();
    writer.record(Published { hash: 1, called_at: 2 }).unwrap();
    append(&path, &[0xff; 9]);
    let mut tail = Tail::new(path);
    assert_eq!(publications(&mut tail).len(), 1);
    assert_eq!(tail.torn_bytes(), 9);
}

#[test]
fn other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("published");
    PublishedWriter::create(&path, A).unwrap();
    let error = Tail::new(path).observed(|_| {}).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);

    let path = dir.path().join("huge");
    AppliedWriter::create(&path).unwrap();
    append(&path, &bytes_of(&[KIND_APPLIED, u64::MAX, 0, 0, 1, 0]));
    assert!(Tail::new(path).observed(|_| {}).is_err(), "no block is that long");
}

fn append(path: &Path, bytes: &[u8]) {
    File::options().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_healthy_mesh_has_lost_nothing() {
    let (mut ledger, lives) = healthy();
    let verdict = ledger.verdict();
    assert_eq!((verdict.published, verdict.lost, verdict.untold), (200, 0, 0));
    assert_eq!((verdict.wrong(), verdict.duplicates(), verdict.lagged()), (0, 0, 0));
    let applied: Vec<u64> = verdict.lives.iter().map(|life| life.applied).collect();
    assert_eq!(applied, [0, 200, 200], "own records are not counted as applied");
    assert_eq!(ledger.latencies(lives[1]), [7; 200]);
    assert!(ledger.latencies(lives[1]).is_empty(), "each is handed out once");
    assert!(ledger.latencies(lives[0]).is_empty(), "own records have no latency");
}

#[test]
fn a_planted_loss_is_found() {
    let mut ledger = Ledger::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| ledger.add(name, Owed::Everything));
    publish(&mut ledger, a, A, 200);
    apply(&mut ledger, b, A, (1..=200).filter(|seq| ![64, 65, 200].contains(seq)));
    apply(&mut ledger, c, A, 1..=200);
    let verdict = ledger.verdict();
    assert_eq!(verdict.lost, 3);
    assert_eq!((verdict.lives[1].missing, verdict.lives[2].missing), (3, 0));
    let named: Vec<u64> = verdict.examples.iter().map(|(_, _, seq)| *seq).collect();
    assert_eq!(named, [64, 65, 200]);

    apply(&mut ledger, b, A, [64, 65, 200]);
    assert_eq!(ledger.verdict().lost, 0, "it was repaired");
}

#[test]
fn what_a_live_publisher_issued_is_owed_even_if_nobody_has_it() {
    let (mut ledger, [a, ..]) = healthy();
    ledger.published(a, A, Published { hash: 1, called_at: 1_000_000 });
    assert_eq!(ledger.verdict().lost, 2);
}

#[test]
fn what_only_the_killed_knew_is_untold_and_what_a_survivor_knows_is_owed() {
    let mut ledger = Ledger::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| ledger.add(name, Owed::Everything));
    publish(&mut ledger, a, A, 10);
    // The dead's own view does not count as told.
    apply(&mut ledger, a, A, 1..=10);
    apply(&mut ledger, b, A, 1..=8);
    apply(&mut ledger, c, A, 1..=6);
    ledger.killed(a);
    let verdict = ledger.verdict();
    assert_eq!((verdict.published, verdict.untold, verdict.lost), (10, 2, 2));
    assert_eq!(verdict.lives[2].missing, 2);

    apply(&mut ledger, c, A, [7, 8]);
    assert_eq!(ledger.verdict().lost, 0);
}

#[test]
fn a_kill_between_return_and_journal_is_one_record_and_owed_to_all() {
    let (mut ledger, [a, b, c]) = healthy();
    ledger.killed(a);
    apply(&mut ledger, b, A, [201]);
    let verdict = ledger.verdict();
    assert_eq!((verdict.published, verdict.lost, verdict.wrong()), (201, 1, 0));
    apply(&mut ledger, c, A, [201]);
    assert_eq!(ledger.verdict().lost, 0);

    apply(&mut ledger, b, A, [202]);
    apply(&mut ledger, c, A, [202]);
    assert_eq!(ledger.verdict().wrong(), 2, "a second one can't be explained by the kill");
}

#[test]
fn the_dead_are_owed_nothing() {
    let (mut ledger, [a, _, c]) = healthy();
    ledger.killed(c);
    for _ in 0..5 {
        ledger.published(a, A, Published { hash: 0, called_at: 50_000 });
    }
    let verdict = ledger.verdict();
    assert_eq!((verdict.lives[1].missing, verdict.lives[2].missing), (5, 0));
}

#[test]
fn a_joiner_is_owed_what_came_after_it_joined() {
    let (mut ledger, _) = healthy();
    let late = ledger.add("d", Owed::FromJoin);
    apply(&mut ledger, late, A, 120..=149);
    let before = ledger.verdict().lives[3].clone();
    assert_eq!((before.missing, before.before_join), (0, 170), "it has not joined yet");
    assert!(ledger.latencies(late).is_empty(), "so nothing is known about its latencies");

    ledger.joined(late, called_at(141));
    let verdict = ledger.verdict();
    assert_eq!((verdict.lost, verdict.lives[3].missing), (51, 51));
    assert_eq!(verdict.lives[3].before_join, 119);
    assert_eq!(ledger.latencies(late).len(), 9, "141 to 149");

    apply(&mut ledger, late, A, 150..=200);
    assert_eq!(ledger.verdict().lost, 0);
}

#[test]
fn a_restarted_peer_is_another_stream() {
    let (mut ledger, [a, b, c]) = healthy();
    ledger.killed(a);
    let again = ledger.add("a", Owed::FromJoin);
    ledger.joined(again, called_at(200) + 1);
    let second = Origin { boot: 2, ..A };
    publish(&mut ledger, again, second, 3);
    apply(&mut ledger, b, second, 1..=3);
    apply(&mut ledger, c, second, 1..=2);
    let verdict = ledger.verdict();
    assert_eq!((verdict.published, verdict.lost, verdict.untold), (203, 1, 0));
    assert_eq!(verdict.lives[3].before_join, 200);
}

#[test]
fn contradictions_and_repetitions_are_counted() {
    let (mut ledger, [_, b, c]) = healthy();
    apply(&mut ledger, b, A, [5]);
    assert_eq!(ledger.verdict().duplicates(), 1);

    let strange = |origin, first_seq, hash, at| Observed::Applied {
        origin,
        first_seq,
        at,
        hashes: vec![hash],
    };
    ledger.observed(c, strange(A, 0, 0, 1));
    ledger.observed(c, strange(A, u64::MAX, 0, 1));
    assert_eq!(ledger.verdict().wrong(), 2, "impossible numbers");
    ledger.observed(c, strange(B, 1, 0, 1));
    assert_eq!(ledger.verdict().wrong(), 3, "a stream nobody published");
    ledger.observed(c, strange(A, 201, 0, 1));
    assert_eq!(ledger.verdict().wrong(), 4, "a record nobody published");
}

#[test]
fn another_key_or_another_time_than_published_is_wrong() {
    let mut ledger = Ledger::default();
    let [a, b] = ["a", "b"].map(|name| ledger.add(name, Owed::Everything));
    publish(&mut ledger, a, A, 3);
    apply(&mut ledger, b, A, [1]);
    let wrong_key =
        Observed::Applied { origin: A, first_seq: 2, at: called_at(2), hashes: vec![hash(9)] };
    ledger.observed(b, wrong_key);
    let too_early =
        Observed::Applied { origin: A, first_seq: 3, at: called_at(3) - 1, hashes: vec![hash(3)] };
    ledger.observed(b, too_early);
    let verdict = ledger.verdict();
    assert_eq!((verdict.wrong(), verdict.lost), (2, 0));
    assert_eq!(ledger.latencies(b).len(), 1);
}

#[test]
fn the_order_in_which_journals_are_read_does_not_matter() {
    let mut ledger = Ledger::default();
    let [a, b] = ["a", "b"].map(|name| ledger.add(name, Owed::Everything));
    apply(&mut ledger, b, A, (1..=100).rev());
    publish(&mut ledger, a, A, 100);
    let verdict = ledger.verdict();
    assert_eq!((verdict.lost, verdict.wrong(), verdict.duplicates()), (0, 0, 0));
    assert_eq!(ledger.latencies(b).len(), 100);
}

#[test]
fn behind_counts_only_what_the_journal_could_have_had() {
    let mut ledger = Ledger::default();
    let [a, b] = ["a", "b"].map(|name| ledger.add(name, Owed::Everything));
    publish(&mut ledger, a, A, 100);
    apply(&mut ledger, b, A, 1..=50);
    assert_eq!(ledger.verdict().lives[1].behind, 0, "nothing is known about any moment");
    ledger.observed(b, Observed::UpTo(called_at(60) + 1));
    let life = ledger.verdict().lives[1].clone();
    assert_eq!((life.behind, life.missing), (10, 50));
}

#[test]
fn a_watcher_that_lagged_is_told_of() {
    let (mut ledger, [_, b, _]) = healthy();
    ledger.observed(b, Observed::Lagged(4));
    ledger.observed(b, Observed::Flushed);
    let verdict = ledger.verdict();
    assert_eq!((verdict.lagged(), verdict.lives[1].flushes), (4, 1));
}
