//! The judge: takes in journals, tells what was lost.
//!
//! A *life* is one process of one peer. Journal entries go in as they are read, in any order;
//! [`Ledger::verdict`] compares exact sets at any moment, and [`Ledger::latencies`] hands out the
//! time from each publish call to each application. It reads no files and knows no clock.
//!
//! **What is owed.** A live life must have applied, of every other life's stream,
//! * all that was published, if the publisher is alive;
//! * all that any live life applied, if the publisher was killed. What only the dead knew is
//!   *untold*: nobody can be asked for it.
//!
//! A life that joins a running mesh begins at the heads it learns: its cache was empty, so nothing
//! in it can be stale. It is owed what was published after it had joined ([`Ledger::joined`]).
//! What was published earlier, and it did not apply, is counted as *before it joined*.

use std::collections::BTreeMap;

use super::{Observed, Origin, Published};

/// The highest record number that is believed: 2^32 records are days of publishing at full speed,
/// and a set of them is half a gigabyte.
const SEQ_MAX: u64 = 1 << 32;
/// Missing records named in a verdict: enough to look for, few enough to print.
const EXAMPLES_MAX: usize = 10;

/// Stands for one process in a [`Ledger`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life(usize);

/// From when on a life is owed what others publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// It was a member before anything was published.
    Everything,
    /// It joins a mesh that publishes; [`Ledger::joined`] will say when.
    FromJoin,
}

/// Record numbers of one stream, as bits; number n is bit n - 1.
#[derive(Clone, Debug, Default)]
struct SeqSet {
    words: Vec<u64>,
    len: u64,
}

impl SeqSet {
    /// Adds a number; false when it was there. Callers keep it between 1 and [`SEQ_MAX`].
    fn insert(&mut self, seq: u64) -> bool {
        let (word, bit) = Self::place(seq);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let fresh = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += u64::from(fresh);
        fresh
    }

    fn extend(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine |= theirs;
        }
        self.len = self.words.iter().map(|bits| u64::from(bits.count_ones())).sum();
    }

    /// The numbers from 1 to `last`, which is at most the length of a vector.
    fn up_to(last: usize) -> Self {
        let mut words = vec![u64::MAX; last / 64];
        words.push((1 << (last % 64)) - 1);
        Self { words, len: last as u64 }
    }

    /// The numbers that are here and not in `other`, ascending.
    fn minus<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        self.words.iter().enumerate().flat_map(|(index, mine)| {
            let mut bits = mine & !other.words.get(index).copied().unwrap_or(0);
            std::iter::from_fn(move || {
                let lowest = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(index as u64 * 64 + u64::from(lowest) + 1)
            })
        })
    }

    fn place(seq: u64) -> (usize, u64) {
        let index = seq - 1;
        // At most SEQ_MAX / 64: fits any usize.
        ((index / 64) as usize, 1 << (index % 64))
    }
}

/// One record a life applied, until its publish call is known too.
#[derive(Clone, Copy, Debug)]
struct Unmatched {
    origin: Origin,
    seq: u64,
    hash: u64,
    at: u64,
}

#[derive(Clone, Debug)]
struct LifeBook {
    name: String,
    alive: bool,
    /// `None` until a joiner has joined.
    owed_from: Option<u64>,
    origin: Option<Origin>,
    published: Vec<Published>,
    applied: BTreeMap<Origin, SeqSet>,
    unmatched: Vec<Unmatched>,
    /// What was applied before this is all in `applied`.
    up_to: u64,
    latencies: Vec<u64>,
    duplicates: u64,
    wrong: u64,
    flushes: u64,
    lagged: u64,
}

/// What one life did and what it lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifeVerdict {
    /// The peer's name.
    pub name: String,
    /// Whether it was still running.
    pub alive: bool,
    /// Publish calls that returned.
    pub published: u64,
    /// Distinct records of others it applied.
    pub applied: u64,
    /// Records it is owed and has not applied: at the end, what was lost. While publishers run,
    /// some of these are only not in the journal yet. 0 for a life that was killed.
    pub missing: u64,
    /// Those of `missing` that were published before the journal was last complete: how far it
    /// really was behind then.
    pub behind: u64,
    /// Records it did not apply and is not owed, because they were published before it had joined.
    pub before_join: u64,
    /// Applications of a record it had applied before.
    pub duplicates: u64,
    /// Applications that contradict the publisher's journal: another key under that number, a
    /// number nobody published, or an application before the publish call.
    pub wrong: u64,
    /// Times it dropped cached entries because records it missed were gone.
    pub flushes: u64,
    /// Records its watcher missed. If not 0, its journal, and so this comparison, is incomplete.
    pub lagged: u64,
}

/// What the journals say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Each life, in the order in which they were added.
    pub lives: Vec<LifeVerdict>,
    /// Records issued: publish calls that returned, and records of the killed that a survivor
    /// applied although the kill fell between the return and the journal.
    pub published: u64,
    /// The sum of what live lives miss. Must be 0.
    pub lost: u64,
    /// Records whose publisher was killed before any survivor had them.
    pub untold: u64,
    /// A few of the lost: who lacks it, whose it is, its number.
    pub examples: Vec<(String, Origin, u64)>,
}

impl Verdict {
    /// Applications that contradict a publisher's journal, at all lives.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.lives.iter().map(|life| life.wrong).sum()
    }

    /// Repeated applications, at all lives.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.lives.iter().map(|life| life.duplicates).sum()
    }

    /// Records that watchers missed, at all lives.
    #[must_use]
    pub fn lagged(&self) -> u64 {
        self.lives.iter().map(|life| life.lagged).sum()
    }
}

/// Collects journal entries of many lives and compares them.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    lives: Vec<LifeBook>,
    by_origin: BTreeMap<Origin, Life>,
}

impl Ledger {
    /// Enters a process of the peer `name`.
    pub fn add(&mut self, name: &str, owed: Owed) -> Life {
        self.lives.push(LifeBook {
            name: name.to_owned(),
            alive: true,
            owed_from: match owed {
                Owed::Everything => Some(0),
                Owed::FromJoin => None,
            },
            origin: None,
            published: Vec::new(),
            applied: BTreeMap::new(),
            unmatched: Vec::new(),
            up_to: 0,
            latencies: Vec::new(),
            duplicates: 0,
            wrong: 0,
            flushes: 0,
            lagged: 0,
        });
        Life(self.lives.len() - 1)
    }

    /// Says when a joiner had joined: what is published from then on is owed to it.
    pub fn joined(&mut self, life: Life, at: u64) {
        self.lives[life.0].owed_from.get_or_insert(at);
    }

    /// Says that a life was killed: nothing is owed to it, and what only it knew is untold.
    pub fn killed(&mut self, life: Life) {
        self.lives[life.0].alive = false;
    }

    /// Takes in a publish call of `life`, whose stream is `origin`. Calls come in their order.
    pub fn published(&mut self, life: Life, origin: Origin, published: Published) {
        let book = &mut self.lives[life.0];
        if book.origin.is_none() {
            book.origin = Some(origin);
            self.by_origin.insert(origin, life);
        }
        book.published.push(published);
    }

    /// Takes in what the watcher of `life` saw.
    pub fn observed(&mut self, life: Life, observed: Observed) {
        let book = &mut self.lives[life.0];
        match observed {
            Observed::UpTo(at) => book.up_to = at,
            Observed::Flushed => book.flushes += 1,
            Observed::Lagged(records) => book.lagged += records,
            Observed::Applied { origin, first_seq, at, hashes } => {
                let seen = book.applied.entry(origin).or_default();
                for (hash, seq) in hashes.into_iter().zip(first_seq..=u64::MAX) {
                    if !(1..=SEQ_MAX).contains(&seq) {
                        book.wrong += 1;
                    } else if seen.insert(seq) {
                        book.unmatched.push(Unmatched { origin, seq, hash, at });
                    } else {
                        book.duplicates += 1;
                    }
                }
            }
        }
    }

    /// Publish calls of `life` taken in so far.
    #[must_use]
    pub fn published_by(&self, life: Life) -> u64 {
        self.lives[life.0].published.len() as u64
    }

    /// Nanoseconds from publish call to application for what `life` applied of others since the
    /// last time this was asked. Leaves out what was published before it had joined.
    pub fn latencies(&mut self, life: Life) -> Vec<u64> {
        self.settle(life);
        std::mem::take(&mut self.lives[life.0].latencies)
    }

    /// Compares what `life` applied with the publishers' journals, as far as they are known.
    fn settle(&mut self, life: Life) {
        let mut unmatched = std::mem::take(&mut self.lives[life.0].unmatched);
        unmatched.retain(|record| !self.matches(life, *record));
        self.lives[life.0].unmatched = unmatched;
    }

    /// Compares a record with its publisher's journal; false when that part is not there yet.
    fn matches(&mut self, life: Life, record: Unmatched) -> bool {
        let Some(owed_from) = self.lives[life.0].owed_from else { return false };
        let Some(&publisher) = self.by_origin.get(&record.origin) else { return false };
        // Between 1 and SEQ_MAX, see `observed`.
        let index = (record.seq - 1) as usize;
        let Some(&published) = self.lives[publisher.0].published.get(index) else { return false };
        let book = &mut self.lives[life.0];
        if published.hash != record.hash || published.called_at > record.at {
            book.wrong += 1;
        } else if publisher != life && published.called_at >= owed_from {
            book.latencies.push(record.at - published.called_at);
        }
        true
    }

    /// What the journals say as far as they were taken in.
    #[must_use]
    pub fn verdict(&mut self) -> Verdict {
        for index in 0..self.lives.len() {
            self.settle(Life(index));
        }
        let mut verdict = Verdict::default();
        for (index, book) in self.lives.iter().enumerate() {
            let own = book.origin;
            let others = book.applied.iter().filter(|(origin, _)| Some(**origin) != own);
            verdict.lives.push(LifeVerdict {
                name: book.name.clone(),
                alive: book.alive,
                published: book.published.len() as u64,
                applied: others.map(|(_, seen)| seen.len).sum(),
                duplicates: book.duplicates,
                wrong: book.wrong + self.unpublished(Life(index)),
                flushes: book.flushes,
                lagged: book.lagged,
                missing: 0,
                behind: 0,
                before_join: 0,
            });
        }
        for (&origin, &publisher) in &self.by_origin {
            self.judge_stream(origin, publisher, &mut verdict);
        }
        verdict
    }

    /// Records `life` says it applied although nobody's journal can have them.
    ///
    /// The one record that a kill leaves between return and journal is not among them.
    fn unpublished(&self, life: Life) -> u64 {
        let impossible = |record: &&Unmatched| match self.by_origin.get(&record.origin) {
            None => true,
            Some(publisher) => {
                let book = &self.lives[publisher.0];
                let known = book.published.len() as u64;
                record.seq > known + u64::from(!book.alive)
            }
        };
        self.lives[life.0].unmatched.iter().filter(impossible).count() as u64
    }

    fn judge_stream(&self, origin: Origin, publisher: Life, verdict: &mut Verdict) {
        let from = &self.lives[publisher.0];
        let mut issued = SeqSet::up_to(from.published.len());
        let mut held = SeqSet::default();
        for book in self.lives.iter().filter(|book| book.alive) {
            if let Some(seen) = book.applied.get(&origin) {
                held.extend(seen);
            }
        }
        let required = if from.alive {
            issued.extend(&held);
            &issued
        } else {
            verdict.untold += issued.minus(&held).count() as u64;
            issued.extend(&held);
            &held
        };
        verdict.published += issued.len;

        let none = SeqSet::default();
        for (index, book) in self.lives.iter().enumerate() {
            if !book.alive || Life(index) == publisher {
                continue;
            }
            let seen = book.applied.get(&origin).unwrap_or(&none);
            for seq in required.minus(seen) {
                let called_at = self.called_at(from, origin, seq);
                if book.owed_from.is_some_and(|owed_from| owed_from <= called_at) {
                    verdict.lives[index].missing += 1;
                    verdict.lives[index].behind += u64::from(called_at < book.up_to);
                    verdict.lost += 1;
                    if verdict.examples.len() < EXAMPLES_MAX {
                        verdict.examples.push((book.name.clone(), origin, seq));
                    }
                } else {
                    verdict.lives[index].before_join += 1;
                }
            }
        }
    }

    /// When record `seq` of the stream `origin` was published; at the latest, where the journal of
    /// its publisher, `from`, lacks it, when someone applied it.
    fn called_at(&self, from: &LifeBook, origin: Origin, seq: u64) -> u64 {
        if let Some(published) = from.published.get((seq - 1) as usize) {
            return published.called_at;
        }
        let all = self.lives.iter().flat_map(|life| &life.unmatched);
        let same = all.filter(|record| record.origin == origin && record.seq == seq);
        same.map(|record| record.at).min().unwrap_or(u64::MAX)
    }
}
