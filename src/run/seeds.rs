//! Where a peer finds its mesh: addresses, names and files, resolved again and again.
//!
//! In: what the operator wrote ([`SeedSpec`]). Out: a watched set of addresses with warnings about
//! what could not be resolved ([`Seeds`]). Lookups run in a task of their own, never on the loop.
//! Nothing here is fatal: a name that does not resolve, or a file that is not there, may be
//! tomorrow, so each is tried for ever, and what resolved last stays in use meanwhile.
//! It does not contact anyone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

/// Names are looked up, and files read, this often: as long as DNS answers of headless services
/// usually live.
pub(crate) const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// Addresses in use. A few reach a whole mesh; 256 serve a name that stands for all of it.
pub(crate) const SEED_ADDRS_MAX: usize = 256;
/// Seeds from the configuration and from all files together.
pub(crate) const SEED_SPECS_MAX: usize = 256;
/// A seed file: 256 lines of the longest names.
const FILE_BYTES_MAX: u64 = 128 * 1024;
/// Lookups at the same time; each holds a thread of the runtime's blocking pool.
const LOOKUPS_MAX: usize = 8;
/// One lookup: beyond what resolvers take for two servers and a retry.
const LOOKUP_WAIT: Duration = Duration::from_secs(10);
/// The longest DNS name.
const HOST_BYTES_MAX: usize = 253;

/// One place to look for peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SeedSpec {
    /// `10.0.0.1:7946` or `[2001:db8::1]:7946`.
    Addr(SocketAddr),
    /// `weft.example.org:7946`: all addresses behind the name.
    Host {
        /// The name.
        host: String,
        /// The port, the same at all its addresses.
        port: u16,
    },
    /// `file:/etc/weft/seeds`: one seed a line, `#` begins a comment.
    File(PathBuf),
}

/// What was given is not a seed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "seed {value:?} is not valid: {problem}; a seed is \"ip:port\", \"[ipv6]:port\", \"host:port\" or \"file:PATH\""
)]
pub(crate) struct InvalidSeed {
    /// What was given, cut to 80 characters.
    pub(crate) value: String,
    /// What is wrong with it.
    pub(crate) problem: &'static str,
}

impl FromStr for SeedSpec {
    type Err = InvalidSeed;

    fn from_str(text: &str) -> Result<Self, InvalidSeed> {
        let invalid = |problem| InvalidSeed { value: text.chars().take(80).collect(), problem };
        if let Some(path) = text.strip_prefix("file:") {
            if path.is_empty() {
                return Err(invalid("the path is missing"));
            }
            return Ok(Self::File(path.into()));
        }
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return if addr.port() == 0 {
                Err(invalid("port 0 reaches nobody"))
            } else if addr.ip().is_unspecified() {
                Err(invalid("the unspecified address reaches nobody"))
            } else {
                Ok(Self::Addr(addr))
            };
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Err(invalid(match ip {
                IpAddr::V4(_) => "the port is missing",
                IpAddr::V6(_) => "the port is missing, or the brackets around the address",
            }));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid("the port is missing"))?;
        let port = match port.parse::<u16>() {
            Ok(0) => return Err(invalid("port 0 reaches nobody")),
            Ok(port) => port,
            Err(_) => return Err(invalid("the port is not a number from 1 to 65535")),
        };
        check_host(host).map_err(invalid)?;
        Ok(Self::Host { host: host.to_owned(), port })
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.len() > HOST_BYTES_MAX {
        return Err("the host is longer than 253 bytes");
    }
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return Err("the host has characters that names do not have");
    }
    // "10.0.0.300" would be asked of DNS for ever.
    if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err("the host is neither an IP address nor a name");
    }
    Ok(())
}

impl fmt::Display for SeedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// What the seeds resolved to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seeds {
    /// In order, without repeats, at most [`SEED_ADDRS_MAX`].
    pub(crate) addrs: Vec<SocketAddr>,
    /// What stands in the way now; each is also logged once when it appears.
    pub(crate) warnings: Vec<String>,
}

/// Resolves seeds until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Resolver {
    seeds: watch::Receiver<Seeds>,
    task: JoinHandle<()>,
}

impl Resolver {
    /// Starts a task on the current tokio runtime. Plain addresses are there at once.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub(crate) fn start(specs: Vec<SeedSpec>) -> Self {
        Self::start_every(specs, RESOLVE_INTERVAL)
    }

    fn start_every(specs: Vec<SeedSpec>, interval: Duration) -> Self {
        let mut found = Found::default();
        for spec in &specs {
            if let SeedSpec::Addr(addr) = spec {
                found.addrs.insert(*addr);
            }
        }
        let (publish, seeds) = watch::channel(found.bounded());
        let task = tokio::spawn(async move {
            let mut state = State::default();
            let changing = specs.iter().any(|spec| !matches!(spec, SeedSpec::Addr(_)));
            loop {
                let began = Instant::now();
                let seeds = resolve_all(&mut state.known, &specs).await;
                state.publish(&publish, seeds);
                if changing {
                    tokio::select! {
                        () = publish.closed() => return,
                        () = sleep_until(began + interval) => {}
                    }
                } else {
                    publish.closed().await;
                    return;
                }
            }
        });
        Self { seeds, task }
    }

    /// The seeds as they stand, and a way to wait for the next change.
    #[must_use]
    pub(crate) fn watch(&self) -> watch::Receiver<Seeds> {
        self.seeds.clone()
    }

    /// Stops the task and waits for its end. A lookup under way ends by itself, unheard.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        // The error says that it was cancelled, as we asked.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What lasts from one round to the next.
#[derive(Default)]
struct State {
    known: Known,
    warned: BTreeSet<String>,
}

/// The last good answers, used while there is no newer one.
#[derive(Default)]
struct Known {
    hosts: BTreeMap<(String, u16), Vec<SocketAddr>>,
    files: BTreeMap<PathBuf, Vec<SeedSpec>>,
}

impl State {
    fn publish(&mut self, publish: &watch::Sender<Seeds>, seeds: Seeds) {
        let warned: BTreeSet<String> = seeds.warnings.iter().cloned().collect();
        for warning in warned.difference(&self.warned) {
            warn!("{warning}");
        }
        self.warned = warned;
        publish.send_if_modified(|last| {
            let changed = *last != seeds;
            *last = seeds;
            changed
        });
    }
}

/// What a round has found so far.
#[derive(Default)]
struct Found {
    addrs: BTreeSet<SocketAddr>,
    warnings: Vec<String>,
}

impl Found {
    fn bounded(mut self) -> Seeds {
        if self.addrs.len() > SEED_ADDRS_MAX {
            let count = self.addrs.len();
            self.warnings.push(format!(
                "the seeds have {count} addresses; the first {SEED_ADDRS_MAX} are used"
            ));
        }
        Seeds {
            addrs: self.addrs.into_iter().take(SEED_ADDRS_MAX).collect(),
            warnings: self.warnings,
        }
    }
}

/// One round.
async fn resolve_all(known: &mut Known, specs: &[SeedSpec]) -> Seeds {
    let mut found = Found::default();
    let mut hosts = BTreeSet::new();
    let mut from_files = Vec::new();
    for path in specs.iter().filter_map(|spec| match spec {
        SeedSpec::File(path) => Some(path),
        _ => None,
    }) {
        from_files.extend(lines_of(path, known, &mut found.warnings).await);
    }
    let all = specs.iter().filter(|spec| !matches!(spec, SeedSpec::File(_))).chain(&from_files);
    let count = all.clone().count();
    if count > SEED_SPECS_MAX {
        found
            .warnings
            .push(format!("there are {count} seeds; the first {SEED_SPECS_MAX} are used"));
    }
    for spec in all.take(SEED_SPECS_MAX) {
        match spec {
            SeedSpec::Addr(addr) => {
                found.addrs.insert(*addr);
            }
            SeedSpec::Host { host, port } => {
                hosts.insert((host.clone(), *port));
            }
            SeedSpec::File(_) => {} // Left out above, and files name no files.,
        }
    }
    known.hosts.retain(|host, _| hosts.contains(host));
    look_up(hosts, known, &mut found).await;
    found.warnings.sort();
    found.bounded()
}

/// The seeds in a file: as it is, or as it was when it could last be read.
async fn lines_of(path: &Path, known: &mut Known, warnings: &mut Vec<String>) -> Vec<SeedSpec> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_bounded(&owned)).await;
    match read.map_err(std::io::Error::other).and_then(|text| text) {
        Ok(text) => {
            let specs = parse_lines(path, &text, warnings);
            known.files.insert(path.to_owned(), specs.clone());
            specs
        }
        Err(error) => {
            warnings.push(format!("seed file {} cannot be read: {error}", path.display()));
            known.files.get(path).cloned().unwrap_or_default()
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn parse_lines(path: &Path, text: &str, warnings: &mut Vec<String>) -> Vec<SeedSpec> {
    let mut specs = Vec::new();
    let mut bad = 0;
    for (n, line) in text.lines().enumerate() {
        let seed = line.split('#').next().unwrap_or_default().trim();
        if seed.is_empty() {
            continue;
        }
        let problem = match seed.parse() {
            Ok(SeedSpec::File(_)) => "a seed file cannot name another file".to_owned(),
            Ok(spec) => {
                specs.push(spec);
                continue;
            }
            Err(error) => InvalidSeed::to_string(&error),
        };
        bad += 1;
        if bad == 1 {
            warnings.push(format!("{}:{}: {problem}", path.display(), n + 1));
        }
    }
    if bad > 1 {
        warnings.push(format!("{}: {bad} lines are no seeds", path.display()));
    }
    specs
}

async fn look_up(hosts: BTreeSet<(String, u16)>, known: &mut Known, found: &mut Found) {
    let mut waiting = hosts.into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < LOOKUPS_MAX
            && let Some(host) = waiting.next()
        {
            running.spawn(look_up_one(host));
        }
        let Some(done) = running.join_next().await else {
            return;
        };
        let Ok((host, answer)) = done else {
            continue; // A lookup that panicked: the runtime's hook has reported it.
        };
        match answer {
            Ok(addrs) => {
                known.hosts.insert(host.clone(), addrs);
            }
            Err(problem) => {
                found.warnings.push(format!("seed {}:{} {problem}", host.0, host.1));
            }
        }
        found.addrs.extend(known.hosts.get(&host).into_iter().flatten());
    }
}

type Answer = ((String, u16), Result<Vec<SocketAddr>, String>);

async fn look_up_one(host: (String, u16)) -> Answer {
    let lookup = timeout(LOOKUP_WAIT, tokio::net::lookup_host(host.clone())).await;
    let answer = match lookup {
        Ok(Ok(addrs)) => {
            let mut addrs: Vec<SocketAddr> = addrs.collect();
            addrs.sort();
            addrs.truncate(SEED_ADDRS_MAX);
            if addrs.is_empty() { Err("has no address".to_owned()) } else { Ok(addrs) }
        }
        Ok(Err(error)) => Err(format!("does not resolve: {error}")),
        Err(_) => Err(format!("does not resolve within {} s", LOOKUP_WAIT.as_secs())),
    };
    (host, answer)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn spec(text: &str) -> SeedSpec {
        text.parse().unwrap()
    }

    async fn settle(seeds: &mut watch::Receiver<Seeds>, done: impl FnMut(&Seeds) -> bool) -> Seeds {
        let waited = timeout(Duration::from_secs(20), seeds.wait_for(done)).await;
        waited.expect("settles within the deadline").unwrap().clone()
    }

    #[test]
    fn all_forms_parse_and_print_back() {
        for text in ["10.0.0.1:7946", "[2001:db8::1]:7946", "seed.example.org:1", "file:/a/b c"] {
            assert_eq!(spec(text).to_string(), text);
        }
        assert_eq!(spec("localhost:7946"), SeedSpec::Host { host: "localhost".into(), port: 7946 });
    }

    #[test]
    fn nonsense_says_what_is_wrong_and_what_is_allowed() {
        for (text, problem) in [
            ("", "the port is missing"),
            ("file:", "the path is missing"),
            ("host", "the port is missing"),
            ("10.0.0.1", "the port is missing"),
            ("2001:db8::1", "brackets"),
            ("10.0.0.1:0", "port 0"),
            ("0.0.0.0:7946", "unspecified"),
            ("host:0", "port 0"),
            ("host:65536", "not a number"),
            ("host:port", "not a number"),
            (":7946", "the host is missing"),
            ("a b:7946", "characters"),
            ("http://host:7946", "characters"),
            ("10.0.0.300:7946", "neither"),
        ] {
            let error = text.parse::<SeedSpec>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text:?}: {error}");
            assert!(error.contains("\"file:PATH\""), "{error}");
        }
        let long = format!("{}:1", "x".repeat(10_000));
        assert!(long.parse::<SeedSpec>().unwrap_err().to_string().len() < 400);
    }

    #[tokio::test]
    async fn addresses_are_there_at_once_and_names_follow() {
        let specs = vec![spec("127.0.0.9:1"), spec("127.0.0.9:1"), spec("localhost:7946")];
        let resolver = Resolver::start(specs);
        let mut seeds = resolver.watch();
        assert_eq!(seeds.borrow().addrs, [SocketAddr::from(([127, 0, 0, 9], 1))]);
        let found = settle(&mut seeds, |seeds| seeds.addrs.len() > 1).await;
        assert!(found.addrs.iter().any(|addr| addr.port() == 7946 && addr.ip().is_loopback()));
        assert!(found.warnings.is_empty(), "{found:?}");
        resolver.stop().await;
        assert!(seeds.changed().await.is_err(), "the task has ended");
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_warns_once_and_hurts_nobody() {
        // A label over 63 bytes: refused by the resolver itself, without a query.
        let bad = format!("{}.invalid:1", "x".repeat(64));
        let specs = vec![spec("127.0.0.9:1"), spec(&bad)];
        let resolver = Resolver::start_every(specs, Duration::from_millis(20));
        let mut seeds = resolver.watch();
        let found = settle(&mut seeds, |seeds| !seeds.warnings.is_empty()).await;
        assert_eq!(found.addrs.len(), 1);
        assert!(found.warnings[0].contains("does not resolve"), "{found:?}");
        let again = timeout(Duration::from_millis(200), seeds.changed()).await;
        assert!(again.is_err(), "the same result is not sent again");
        resolver.stop().await;
    }

    #[tokio::test]
    async fn a_file_is_read_again_and_its_last_content_outlives_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seeds");
        let resolver =
            Resolver::start_every(vec![SeedSpec::File(path.clone())], Duration::from_millis(20));
        let mut seeds = resolver.watch();
        let found = settle(&mut seeds, |seeds| !seeds.warnings.is_empty()).await;
        assert!(found.warnings[0].contains("cannot be read"), "{found:?}");

        fs::write(&path, "# the mesh\n10.0.0.1:7946 # one\n\n [::1]:7946\n").unwrap();
        let found = settle(&mut seeds, |seeds| seeds.addrs.len() == 2).await;
        assert!(found.warnings.is_empty(), "{found:?}");

        fs::write(&path, "10.0.0.2:7946\nnonsense\nfile:/other\n").unwrap();
        let found = settle(&mut seeds, |seeds| seeds.warnings.len() == 2).await;
        assert_eq!(found.addrs, [SocketAddr::from(([10, 0, 0, 2], 7946))]);
        assert!(found.warnings.iter().any(|w| w.contains(":2: seed \"nonsense\"")), "{found:?}");

        fs::remove_file(&path).unwrap();
        let found = settle(&mut seeds, |seeds| seeds.warnings[0].contains("cannot be read")).await;
        assert_eq!(found.addrs.len(), 1, "what was known stays");
        resolver.stop().await;
    }

    #[tokio::test]
    async fn too_many_seeds_are_cut_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seeds");
        let lines: String = (0..300).map(|n| format!("10.0.{}.{}:1\n", n / 250, n % 250)).collect();
        fs::write(&path, lines).unwrap();
        let resolver = Resolver::start(vec![SeedSpec::File(path)]);
        let found = settle(&mut resolver.watch(), |seeds| !seeds.addrs.is_empty()).await;
        assert_eq!(found.addrs.len(), SEED_ADDRS_MAX);
        assert!(found.warnings[0].contains("300 seeds"), "{found:?}");
        resolver.stop().await;
    }
}
