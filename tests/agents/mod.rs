//! Real `weft agent` processes, on this machine's loopback or on hosts of a [`crate::netns`] net.
//!
//! In: a binary and flags. Out: an [`Agent`] that says where it listens, answers status and members,
//! and can be stopped, continued and killed. It is killed when dropped. Addresses are read from the
//! line the agent logs when it has started (`peer started … addr=ADDR http=ADDR`), so every agent can
//! ask for port 0 and tests run side by side.

#![expect(dead_code, reason = "a toolbox: each test binary uses a part of it")]

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::netns::{Host, inside};

/// An agent prints its addresses within this time, on a machine that is busy with other tests.
const START_WAIT: Duration = Duration::from_secs(20);
/// An admin request is answered within this time, or it failed.
const HTTP_WAIT: Duration = Duration::from_secs(5);
/// The last lines of an agent's log are shown when a test fails.
const LOG_LINES_MAX: usize = 200;
/// What an agent logs once it listens everywhere.
const STARTED: &str = " peer started ";
/// Status of a mesh of twenty is some 10 kB.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// How to start an agent; the same again after a kill.
#[derive(Clone, Debug)]
pub(crate) struct AgentSpec {
    bin: PathBuf,
    args: Vec<String>,
    namespace: Option<String>,
}

impl AgentSpec {
    /// `bin agent ARGS…`; an admin address of any free loopback port is added unless given.
    pub(crate) fn new<S: Into<String>>(
        bin: impl Into<PathBuf>,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut args: Vec<String> = args.into_iter().map(Into::into).collect();
        if !args.iter().any(|arg| arg == "--http" || arg.starts_with("--http=")) {
            args.extend(["--http".to_owned(), "127.0.0.1:0".to_owned()]);
        }
        Self { bin: bin.into(), args, namespace: None }
    }

    /// The same on a host of its own.
    #[must_use]
    pub(crate) fn on(mut self, host: &Host) -> Self {
        self.namespace = Some(host.namespace().to_owned());
        self
    }

    /// The same with another value of a flag, which is added when it was not given.
    #[must_use]
    pub(crate) fn with(mut self, flag: &str, value: impl ToString) -> Self {
        match self.args.iter().position(|arg| arg == flag) {
            Some(at) if at + 1 < self.args.len() => self.args[at + 1] = value.to_string(),
            _ => self.args.extend([flag.to_owned(), value.to_string()]),
        }
        self
    }

    /// The command that runs the agent, its stderr piped.
    pub(crate) fn command(&self) -> Command {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut ip = Command::new("ip");
                // `ip` becomes the agent: the process id is the agent's own.
                ip.args(["netns", "exec", namespace]).arg(&self.bin);
                ip
            }
            None => Command::new(&self.bin),
        };
        // Settings of whoever runs the tests are not the test's.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WEFT_") {
                command.env_remove(name);
            }
        }
        command.env("NO_COLOR", "1").arg("agent").args(&self.args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

/// What an agent has printed so far.
#[derive(Debug, Default)]
struct Log {
    mesh: Option<SocketAddr>,
    http: Option<SocketAddr>,
    tail: VecDeque<String>,
    ended: bool,
}

/// A running agent.
#[derive(Debug)]
pub(crate) struct Agent {
    spec: AgentSpec,
    child: Child,
    mesh: SocketAddr,
    http: SocketAddr,
    log: Arc<(Mutex<Log>, Condvar)>,
}

impl Agent {
    /// Starts `bin agent ARGS…` on this machine and waits until it listens.
    ///
    /// # Panics
    /// When it does not listen in time; with its log.
    pub(crate) fn spawn(bin: impl Into<PathBuf>, args: &[&str]) -> Self {
        Self::start(AgentSpec::new(bin, args.iter().copied()))
    }

    /// Starts an agent and waits until it listens.
    ///
    /// # Panics
    /// When it does not listen in time; with its log.
    pub(crate) fn start(spec: AgentSpec) -> Self {
        let mut command = spec.command();
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stderr = child.stderr.take().expect("invariant: it is piped");
        let log = Arc::<(Mutex<Log>, Condvar)>::default();
        let writer = Arc::clone(&log);
        std::thread::spawn(move || follow(stderr, &writer));

        let (state, changed) = &*log;
        let waiting = |log: &mut Log| !log.ended && (log.mesh.is_none() || log.http.is_none());
        let guard = state.lock().expect("no panic under the lock");
        let (guard, _) = changed
            .wait_timeout_while(guard, START_WAIT, waiting)
            .expect("no panic under the lock");
        let found = guard.mesh.zip(guard.http);
        let tail: Vec<&str> = guard.tail.iter().map(String::as_str).collect();
        let Some((mesh, http)) = found else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} does not listen; it said:\n{}", tail.join("\n"));
        };
        drop(guard);
        Self { spec, child, mesh, http, log }
    }

    /// How it was started.
    pub(crate) fn spec(&self) -> &AgentSpec {
        &self.spec
    }

    /// Where it talks to peers.
    pub(crate) fn mesh(&self) -> SocketAddr {
        self.mesh
    }

    /// Where its admin interface listens, on its own host.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `GET /v1/status`.
    pub(crate) fn status(&self) -> io::Result<Value> {
        json(&self.get("/v1/status")?)
    }

    /// `GET /v1/members`: the list.
    pub(crate) fn members(&self) -> io::Result<Vec<Value>> {
        match json(&self.get("/v1/members")?)?["members"].take() {
            Value::Array(members) => Ok(members),
            other => Err(invalid(format!("members is not a list: {other}"))),
        }
    }

    /// How many members it believes alive, itself included; 0 when it does not answer.
    pub(crate) fn alive(&self) -> usize {
        self.members()
            .map_or(0, |members| members.iter().filter(|member| member["state"] == "alive").count())
    }

    /// `POST /v1/invalidate` of these keys.
    pub(crate) fn invalidate(&self, namespace: &str, keys: &[&str]) -> io::Result<Value> {
        let body = serde_json::json!({ "namespace": namespace, "keys": keys }).to_string();
        json(&self.request("POST", "/v1/invalidate", &body)?)
    }

    /// The sum of all samples of a metric whose line begins with `prefix`: a name, or a name and
    /// its labels.
    pub(crate) fn metric(&self, prefix: &str) -> io::Result<f64> {
        let body = self.get("/metrics")?;
        let rest = |line: &'_ str| line.strip_prefix(prefix).map(str::to_owned);
        let values: Vec<f64> = body
            .lines()
            .filter_map(rest)
            .filter(|rest| rest.starts_with(['{', ' ']))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
            .collect();
        if values.is_empty() {
            return Err(invalid(format!("no metric {prefix}")));
        }
        Ok(values.iter().sum())
    }

    /// The body of a GET that succeeded.
    pub(crate) fn get(&self, path: &str) -> io::Result<String> {
        self.request("GET", path, "")
    }

    fn request(&self, method: &str, path: &str, body: &str) -> io::Result<String> {
        let connect = || TcpStream::connect_timeout(&self.http, HTTP_WAIT);
        let mut stream = match &self.spec.namespace {
            Some(namespace) => inside(namespace, connect)?,
            None => connect()?,
        };
        stream.set_read_timeout(Some(HTTP_WAIT))?;
        stream.set_write_timeout(Some(HTTP_WAIT))?;
        // HTTP/1.0: the answer is not chunked and ends with the connection.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.http,
            body.len()
        )?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        let (head, body) =
            answer.split_once("\r\n\r\n").ok_or_else(|| invalid(format!("no HTTP: {answer:?}")))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            return Err(invalid(format!("{method} {path}: {status}: {body}")));
        }
        Ok(body.to_owned())
    }

    /// Stops the process where it is (SIGSTOP).
    pub(crate) fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Asks it to leave (SIGTERM) and waits for its end.
    ///
    /// # Panics
    /// When it has not ended in time; with its log.
    pub(crate) fn terminate(mut self, within: Duration) -> ExitStatus {
        self.signal(libc::SIGTERM);
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(begin.elapsed() < within, "still there after {within:?}:\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Kills it (SIGKILL) and returns how to start it again.
    pub(crate) fn kill(mut self) -> AgentSpec {
        self.end();
        self.spec.clone()
    }

    /// The last lines it printed.
    pub(crate) fn log(&self) -> String {
        let log = self.log.0.lock().expect("no panic under the lock");
        log.tail.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, number: i32) {
        signal(&self.child, number);
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- log of {:?}\n{}", self.spec.args, self.log());
        }
    }
}

/// How often a condition is looked at: the admin interface answers in well under a millisecond.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Waits until `done`; looks at it every 20 ms.
///
/// # Panics
/// When it is not so within `deadline`.
pub(crate) fn wait_until(what: &str, deadline: Duration, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// Sends a signal to a process of ours that nobody has waited for yet.
pub(crate) fn signal(child: &Child, number: i32) {
    let pid = i32::try_from(child.id()).expect("process ids are positive i32");
    // SAFETY: a plain system call. The child has not been waited for, so the id is its own.
    let result = unsafe { libc::kill(pid, number) };
    assert_eq!(result, 0, "signal {number} to {pid}: {}", io::Error::last_os_error());
}

/// Reads the log until the agent closes it.
fn follow(stderr: ChildStderr, log: &(Mutex<Log>, Condvar)) {
    let (state, changed) = log;
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let mut log = state.lock().expect("no panic under the lock");
        if line.contains(STARTED) {
            log.mesh = log.mesh.or_else(|| address_after(&line, " addr="));
            log.http = log.http.or_else(|| address_after(&line, " http="));
        }
        if log.tail.len() == LOG_LINES_MAX {
            log.tail.pop_front();
        }
        log.tail.push_back(line);
        changed.notify_all();
    }
    state.lock().expect("no panic under the lock").ended = true;
    changed.notify_all();
}

/// The address in a field of a log line; text may stand in quotes.
fn address_after(line: &str, field: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(field)?;
    let rest = rest.trim_start_matches('"');
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]%".contains(c)));
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

fn json(body: &str) -> io::Result<Value> {
    serde_json::from_str(body).map_err(|e| invalid(format!("{e}: {body:?}")))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
