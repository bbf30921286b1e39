//! The demo's last word: what was published, applied, lost, and how fast, for people or machines.
//!
//! In: the ledger's [`Verdict`] and what the parent measured. Out: text. The JSON object is part of
//! the interface: fields are added, not renamed, and `schema` grows when one changes its meaning.

use std::fmt::{self, Write};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::application::writer;
use super::text::{count, nanos};
use crate::journal::Verdict;

/// Version of the JSON object.
const SCHEMA: u32 = 1;

/// How long records took from the publish call until they were applied, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Latency {
    /// None when nothing was measured.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(histogram.max()),
        })
    }
}

/// Nanoseconds as microseconds, to the nanosecond; a demo's are far below a double's 2^53.
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

/// One process of the demo.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LifeOutcome {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) killed: bool,
    pub(super) restarted: bool,
    pub(super) published: u64,
    pub(super) applied: u64,
    pub(super) lost: u64,
    pub(super) before_join: u64,
    pub(super) duplicates: u64,
    pub(super) flushes: u64,
    pub(super) checked: Option<u64>,
    pub(super) stale: u64,
    pub(super) latency_us: Option<Latency>,
}

/// Everything the demo found out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Outcome {
    pub(super) schema: u32,
    /// Whether all that was promised was kept.
    pub(super) ok: bool,
    pub(super) interrupted: bool,
    pub(super) peers: usize,
    pub(super) rate: u32,
    pub(super) seed: u64,
    /// How long records were published.
    pub(super) seconds: f64,
    /// From the order to stop until every live peer had everything; none if that never came.
    pub(super) settled_after_seconds: Option<f64>,
    pub(super) published: u64,
    pub(super) lost: u64,
    pub(super) untold: u64,
    /// Cached values that these should have removed.
    pub(super) stale_untold: u64,
    pub(super) before_join: u64,
    pub(super) duplicates: u64,
    pub(super) wrong: u64,
    pub(super) unwatched: u64,
    pub(super) flushes: u64,
    pub(super) checked: u64,
    pub(super) stale: u64,
    pub(super) latency_us: Option<Latency>,
    pub(super) lives: Vec<LifeOutcome>,
    /// A few of the lost records, for whoever has to find out why.
    pub(super) lost_examples: Vec<String>,
}

/// What the parent knows and the ledger does not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Course {
    pub(super) peers: usize,
    pub(super) rate: u32,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) settled_after_seconds: Option<f64>,
    pub(super) interrupted: bool,
}

/// Whether a stale value may be so: what the store holds was written last of all by a life that was
/// killed before anybody had heard of it. Its journal may lack the last write too.
pub(super) fn is_untold(stored: u64, verdict: &Verdict) -> bool {
    let (life, write) = writer(stored);
    let life = usize::try_from(life).ok().and_then(|life| verdict.lives.get(life));
    life.is_some_and(|life| !life.alive && write + verdict.untold > life.published)
}

impl Outcome {
    /// Unites the ledger's verdict with what the nodes reported; `lives` is in the ledger's order
    /// and comes with what the ledger can't know.
    pub(super) fn new(course: Course, verdict: &Verdict, mut lives: Vec<LifeOutcome>) -> Self {
        for (outcome, life) in lives.iter_mut().zip(&verdict.lives) {
            outcome.published = life.published;
            outcome.applied = life.applied;
            outcome.lost = life.missing;
            outcome.before_join = life.before_join;
            outcome.duplicates = life.duplicates;
            outcome.flushes = life.flushes;
        }
        let mut outcome = Self {
            schema: SCHEMA,
            ok: false,
            interrupted: course.interrupted,
            peers: course.peers,
            rate: course.rate,
            seed: course.seed,
            seconds: course.seconds,
            settled_after_seconds: course.settled_after_seconds,
            published: verdict.published,
            lost: verdict.lost,
            untold: verdict.untold,
            stale_untold: 0,
            before_join: lives.iter().map(|life| life.before_join).sum(),
            duplicates: verdict.duplicates(),
            wrong: verdict.wrong(),
            unwatched: verdict.lagged(),
            flushes: lives.iter().map(|life| life.flushes).sum(),
            checked: lives.iter().filter_map(|life| life.checked).sum(),
            stale: lives.iter().map(|life| life.stale).sum(),
            latency_us: None,
            lives,
            lost_examples: verdict
                .examples
                .iter()
                .map(|(name, origin, seq)| {
                    format!("{name} lacks record {seq} of {:016x}/{}", origin.peer, origin.boot)
                })
                .collect(),
        };
        outcome.ok = !outcome.interrupted
            && outcome.settled_after_seconds.is_some()
            && [outcome.lost, outcome.wrong, outcome.unwatched, outcome.stale] == [0; 4];
        outcome
    }

    /// One JSON object.
    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    fn headline(&self) -> String {
        let killed = self.lives.iter().filter(|life| life.killed).count();
        match () {
            () if self.interrupted => {
                "interrupted: this is what is known, nothing is judged".into()
            }
            () if self.ok && killed > 0 => {
                "nothing lost, though a peer was killed while it published".into()
            }
            () if self.ok => "nothing lost".into(),
            () if self.unwatched > 0 => {
                "no verdict: watchers were too slow to see everything".into()
            }
            () if self.lost > 0 => format!("{} records LOST", count(self.lost)),
            () if self.stale > 0 => format!("{} cached values are STALE", count(self.stale)),
            () if self.wrong > 0 => format!("{} applications are WRONG", count(self.wrong)),
            () => "the mesh did not settle".into(),
        }
    }

    fn write_lives(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = |life: &LifeOutcome| match (life.killed, life.restarted) {
            (true, _) => format!("{} (killed)", life.name),
            (false, true) => format!("{} (restarted)", life.name),
            (false, false) => life.name.clone(),
        };
        let wide = self.lives.iter().map(|life| label(life).len()).max().unwrap_or(0);
        writeln!(
            f,
            "  {:wide$}  {:>11}  {:>11}  {:>7}  {:>12}  {:>8}  {:>8}",
            "peer", "published", "applied", "lost", "before join", "p50", "p99"
        )?;
        for life in &self.lives {
            let shown = |pick: fn(&Latency) -> f64| {
                life.latency_us.as_ref().map_or_else(|| "-".into(), |l| from_micros(pick(l)))
            };
            // Nothing is owed to the dead.
            let lost = if life.killed { "-".into() } else { count(life.lost) };
            let before = if life.restarted { count(life.before_join) } else { "-".into() };
            let (p50, p99) = (shown(|l| l.p50), shown(|l| l.p99));
            let (published, applied) = (count(life.published), count(life.applied));
            writeln!(
                f,
                "  {:wide$}  {published:>11}  {applied:>11}  {lost:>7}  {before:>12}  {p50:>8}  \
                 {p99:>8}",
                label(life)
            )?;
        }
        Ok(())
    }
}

fn from_micros(micros: f64) -> String {
    // Positive and below an hour: rounding can't leave the range.
    nanos((micros * 1e3).round() as u64)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n", self.headline())?;
        self.write_lives(f)?;
        f.write_char('\n')?;
        let mut fact = |name: &str, value: String, meaning: &str| {
            writeln!(f, "{}", format!("  {name:12}{value:>11}  {meaning}").trim_end())
        };
        let (peers, seconds) = (self.peers, self.seconds);
        let published = format!("records, by {peers} peers in {seconds:.1} s");
        fact("published", count(self.published), &published)?;
        fact("lost", count(self.lost), "owed to a live peer and not applied there")?;
        let known = match self.stale_untold {
            0 => "only the killed peer knew them".to_owned(),
            kept => format!("only the killed peer knew them: {kept} cached values stayed"),
        };
        fact("untold", count(self.untold), &known)?;
        fact(
            "before join",
            count(self.before_join),
            "older than the restarted peer's empty cache",
        )?;
        if self.checked > 0 {
            let of = format!("of {} cached values, compared with the store", count(self.checked));
            fact("stale", count(self.stale), &of)?;
        }
        fact("duplicates", count(self.duplicates), "records applied twice")?;
        for (name, value, meaning) in [
            ("wrong", self.wrong, "applied, but never published like that"),
            ("unwatched", self.unwatched, "records that a watcher was too slow to see"),
            ("flushes", self.flushes, "times a peer dropped what it could not repair"),
        ] {
            if value > 0 {
                fact(name, count(value), meaning)?;
            }
        }
        if let Some(settled) = self.settled_after_seconds {
            let value = format!("{settled:.2} s");
            fact("settled", value, "from the last publish until every peer had everything")?;
        }
        if let Some(Latency { p50, p99, p999, max }) = self.latency_us {
            let [p50, p99, p999, max] = [p50, p99, p999, max].map(from_micros);
            writeln!(f, "  latency     p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}")?;
        }
        for example in &self.lost_examples {
            writeln!(f, "  {example}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Ledger, Observed, Origin, Owed, Published};

    fn life(name: &str, killed: bool, restarted: bool) -> LifeOutcome {
        LifeOutcome {
            name: name.into(),
            pid: 1,
            killed,
            restarted,
            published: 0,
            applied: 0,
            lost: 0,
            before_join: 0,
            duplicates: 0,
            flushes: 0,
            checked: Some(500),
            stale: 0,
            latency_us: Some(Latency { p50: 70.0, p99: 410.0, p999: 1_300.0, max: 2_000.0 }),
        }
    }

    fn course() -> Course {
        let settled_after_seconds = Some(0.1);
        Course {
            peers: 2,
            rate: 50,
            seed: 1,
            seconds: 8.0,
            settled_after_seconds,
            interrupted: false,
        }
    }

    /// The second of two peers was killed and restarted; the first lacks `lacking` of its records.
    fn outcome(course: Course, lacking: u64) -> Outcome {
        let origin = Origin { peer: 2, boot: 9 };
        let mut ledger = Ledger::default();
        let lives =
            [Owed::Everything, Owed::Everything, Owed::FromJoin].map(|o| ledger.add("p", o));
        ledger.killed(lives[1]);
        for hash in 1..=1_000 {
            ledger.published(lives[2], origin, Published { hash, called_at: 1 });
        }
        let hashes = (1..=1_000 - lacking).collect();
        ledger.observed(lives[0], Observed::Applied { origin, first_seq: 1, at: 2, hashes });
        let nodes = [("peer-1", false, false), ("peer-2", true, false), ("peer-2", false, true)];
        let nodes = nodes.map(|(name, killed, restarted)| life(name, killed, restarted));
        let mut outcome = Outcome::new(course, &ledger.verdict(), nodes.to_vec());
        outcome.latency_us = outcome.lives[0].latency_us;
        outcome
    }

    #[test]
    fn a_kept_promise_reads_like_this() {
        let expected = "
nothing lost, though a peer was killed while it published

  peer                  published      applied     lost   before join       p50       p99
  peer-1                        0        1,000        0             -   70.0 us    410 us
  peer-2 (killed)               0            0        -             -   70.0 us    410 us
  peer-2 (restarted)        1,000            0        0             0   70.0 us    410 us

  published         1,000  records, by 2 peers in 8.0 s
  lost                  0  owed to a live peer and not applied there
  untold                0  only the killed peer knew them
  before join           0  older than the restarted peer's empty cache
  stale                 0  of 1,500 cached values, compared with the store
  duplicates            0  records applied twice
  settled          0.10 s  from the last publish until every peer had everything
  latency     p50 70.0 us, p99 410 us, p99.9 1.30 ms, max 2.00 ms
";
        assert_eq!(outcome(course(), 0).to_string(), expected);
    }

    #[test]
    fn a_broken_promise_is_told_with_examples() {
        let outcome = outcome(course(), 3);
        assert!(!outcome.ok);
        let text = outcome.to_string();
        assert!(text.starts_with("\n3 records LOST\n"), "{text}");
        assert!(text.contains("p lacks record 998 of 0000000000000002/9"), "{text}");
    }

    #[test]
    fn what_was_not_seen_to_the_end_is_not_called_good() {
        assert!(outcome(course(), 0).ok);
        assert!(!outcome(Course { interrupted: true, ..course() }, 0).ok);
        assert!(!outcome(Course { settled_after_seconds: None, ..course() }, 0).ok);
    }

    #[test]
    fn only_the_last_writes_of_the_killed_may_leave_stale_values() {
        let origin = Origin { peer: 2, boot: 9 };
        let mut ledger = Ledger::default();
        let lives = [Owed::Everything, Owed::Everything].map(|owed| ledger.add("p", owed));
        for hash in 1..=10 {
            ledger.published(lives[1], origin, Published { hash, called_at: 1 });
        }
        let hashes = (1..=8).collect();
        ledger.observed(lives[0], Observed::Applied { origin, first_seq: 1, at: 2, hashes });
        let value = |life: u64, write: u64| ((life + 1) << 40) + write;
        assert!(!is_untold(value(1, 9), &ledger.verdict()), "it is alive");
        ledger.killed(lives[1]);
        let verdict = ledger.verdict();
        assert_eq!(verdict.untold, 2);
        // The eleventh was written, and is not in the journal.
        let excused: Vec<u64> = (1..=11).filter(|n| is_untold(value(1, *n), &verdict)).collect();
        assert_eq!(excused, [9, 10, 11]);
        for stored in [0, value(0, 11), value(7, 11), u64::MAX] {
            assert!(!is_untold(stored, &verdict), "{stored:x}");
        }
    }

    #[test]
    fn machines_get_one_object() {
        let json = outcome(course(), 3).to_json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!((&value["lost"], &value["ok"]), (&3.into(), &false.into()));
        assert_eq!(value["latency_us"]["p999"], 1_300.0);
        assert_eq!(value["lives"][2]["restarted"], true);
    }
}
