//! The interface over real connections: answers, refusals and limits.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::limits::{HEAD_BYTES_MAX, INVALIDATE_KEYS_MAX, URI_BYTES_MAX, WATCHES_MAX};
use super::*;
use crate::mesh::{Key, Mesh};

/// Nothing here takes long; a test that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(20);

/// An admin interface with a mesh of one, on a thread of its own.
struct Server {
    addr: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(token: Option<Token>) -> Self {
        let (addr_sender, addr) = mpsc::sync_channel(1);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let free = SocketAddr::from(([127, 0, 0, 1], 0));
                let builder =
                    Mesh::builder("test").name("solo").bind(free).key(Key::from_bytes([5; 32]));
                let mesh = builder.start().await.expect("start");
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
                addr_sender.send(listener.local_addr().expect("bound")).expect("test waits");
                let health = Arc::new(Health::new(false));
                let router = router(Admin::new(mesh.clone(), health, token));
                let until_left = async {
                    let _ = stopped.await;
                    mesh.leave().await;
                    // Streams write their last line before the connections are closed.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                };
                tokio::select! {
                    () = serve(listener, router) => {}
                    () = until_left => {}
                }
            });
        });
        let addr = addr.recv_timeout(PATIENCE).expect("the server starts");
        Self { addr, stop: Some(stop), thread: Some(thread) }
    }

    fn leave(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Sends a request as it stands, and gives status code and body.
    fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("send");
        let mut answer = String::new();
        // A refused request may be cut short by a reset; what came before counts.
        let _ = stream.read_to_string(&mut answer);
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    fn request(&self, line: &str, headers: &str, body: &str) -> (u16, String) {
        let (addr, length) = (self.addr, body.len());
        self.raw(&format!(
            "{line} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {length}\r\n\
             {headers}\r\n{body}"
        ))
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.request(&format!("GET {path}"), "", "");
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    fn invalidate(&self, body: &Value) -> (u16, Value) {
        let headers = "Content-Type: application/json\r\n";
        let (status, body) = self.request("POST /v1/invalidate", headers, &body.to_string());
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Opens a watch stream, reads its head and hands out its lines.
    fn watch(&self, query: &str) -> Lines {
        let mut stream = self.connect();
        write!(stream, "GET /v1/watch{query} HTTP/1.1\r\nHost: {}\r\n\r\n", self.addr)
            .expect("send");
        let mut lines = Lines(BufReader::new(stream));
        while !lines.raw().trim().is_empty() {}
        lines
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.leave();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A watch stream's lines; the frames of the chunked encoding are skipped.
struct Lines(BufReader<TcpStream>);

impl Lines {
    fn raw(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        line
    }

    fn next(&mut self) -> Value {
        loop {
            let line = self.raw();
            assert!(!line.is_empty(), "the stream ended");
            if line.starts_with('{') {
                return serde_json::from_str(&line).expect("JSON");
            }
        }
    }
}

#[test]
fn status_and_members_are_versioned() {
    let server = Server::start();
    let (code, status) = server.get("/v1/status");
    assert_eq!((code, &status["schema"], &status["name"]), (200, &json!(1), &json!("solo")));
    assert_eq!(status["ready"], json!(true));
    let (code, members) = server.get("/v1/members");
    assert_eq!((code, &members["schema"]), (200, &json!(1)));
    assert_eq!(members["members"][0]["name"], json!("solo"));
    assert_eq!(members["members"][0]["state"], json!("alive"));
    assert_eq!(members["members"][0]["self"], json!(true));
}

#[test]
fn health_and_metrics_answer() {
    let server = Server::start();
    let (code, live) = server.get("/livez");
    assert_eq!((code, &live["ok"]), (200, &json!(true)));
    let (code, ready) = server.get("/readyz");
    assert_eq!((code, &ready["ok"]), (200, &json!(true)));
    assert_eq!(ready["gates"][0]["name"], json!("joined"));
    let (code, text) = server.request("GET /metrics", "", "");
    assert_eq!(code, 200);
    assert!(text.contains("\nweft_ready 1\n"), "{text}");
    assert!(text.contains("# TYPE process_cpu_seconds_total counter"), "{text}");
}

#[test]
fn invalidations_are_published_or_refused_as_a_whole() {
    let server = Server::start();
    let keys = json!({"namespace": "users", "keys": ["a", "b"], "keys_hex": ["00ff"]});
    assert_eq!(server.invalidate(&keys), (200, json!({"schema": 1, "published": 3})));

    let head = |server: &Server| server.get("/v1/status").1["head"].clone();
    let before = head(&server);
    let long = "x".repeat(weft_proto::limits::KEY_BYTES_MAX + 1);
    let many = vec!["x"; INVALIDATE_KEYS_MAX + 1];
    for (body, words) in [
        (json!({"namespace": "users", "keys": []}), "no keys"),
        (json!({"namespace": "", "keys": ["a"]}), "not valid"),
        (json!({"namespace": "users", "keys": ["a", long]}), "at most 65536"),
        (json!({"namespace": "users", "keys": many}), "at most 10000"),
        (json!({"namespace": "users", "keys_hex": ["0"]}), "keys_hex"),
    ] {
        let (code, answer) = server.invalidate(&body);
        assert_eq!(code, 400, "{answer}");
        assert!(answer["error"].as_str().is_some_and(|text| text.contains(words)), "{answer}");
    }
    let (code, answer) = server.invalidate(&json!({"namespace": "n", "keys": ["a"], "tag": 1}));
    assert_eq!(code, 422, "{answer}");
    assert_eq!(head(&server), before, "a refused request published something");
}

#[test]
fn the_longest_key_fits_however_it_is_escaped() {
    let server = Server::start();
    let key = "\u{1}".repeat(weft_proto::limits::KEY_BYTES_MAX);
    let (code, answer) = server.invalidate(&json!({"namespace": "users", "keys": [key]}));
    assert_eq!((code, answer), (200, json!({"schema": 1, "published": 1})));
}

#[test]
fn refusals_are_json() {
    let server = Server::start();
    for (line, expected) in [
        ("GET /nothing", 404),
        ("DELETE /v1/status", 405),
        ("POST /v1/invalidate", 415),
        ("GET /v1/watch?namespace=a%20b", 400),
        ("GET /v1/watch?unknown=1", 400),
        ("GET /v1/watch?key=a&key_hex=00", 400),
    ] {
        let (code, body) = server.request(line, "", "");
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{line}: {body}"));
        assert_eq!(code, expected, "{line}");
        assert!(body["error"].is_string(), "{line}: {body}");
    }
}

#[test]
fn web_pages_are_kept_out() {
    let server = Server::start();
    let with_host = |host: &str, more: &str| {
        server.raw(&format!("GET /v1/status HTTP/1.1\r\n{host}Connection: close\r\n{more}\r\n")).0
    };
    assert_eq!(with_host("Host: localhost\r\n", ""), 200);
    assert_eq!(with_host("Host: evil.example\r\n", ""), 403);
    assert_eq!(with_host("", ""), 400);
    assert_eq!(with_host("Host: localhost\r\nHost: evil.example\r\n", ""), 400);
    assert_eq!(with_host("Host: localhost\r\n", "Origin: http://evil.example\r\n"), 403);
    assert_eq!(with_host("Host: localhost\r\n", "Origin: http://localhost\r\n"), 200);
}

#[test]
fn sizes_are_limited() {
    let server = Server::start();
    let uri = format!("GET /v1/watch?key={}", "x".repeat(URI_BYTES_MAX));
    assert_eq!(server.request(&uri, "", "").0, 414);
    let header = format!("X-Long: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
    assert_eq!(server.request("GET /livez", &header, "").0, 431);
    let many: String = (0..100).map(|i| format!("X-{i}: 1\r\n")).collect();
    assert_eq!(server.request("GET /livez", &many, "").0, 431);
    let body = json!({"namespace": "n", "keys": ["x".repeat(INVALIDATE_BODY_BYTES_MAX)]});
    let (code, _) = server.invalidate(&body);
    // The answer can be lost when the connection is closed on a client that is still sending.
    assert!(code == 413 || code == 0, "{code}");
}

#[test]
fn watching_tells_what_happens_and_when_it_ends() {
    let mut server = Server::start();
    let mut all = server.watch("");
    let mut users = server.watch("?namespace=users");
    assert_eq!(all.next(), json!({"type": "hello", "schema": 1, "peer": "solo"}));
    assert_eq!(users.next()["type"], json!("hello"));
    server.invalidate(&json!({"namespace": "other", "keys": ["1"]}));
    server.invalidate(&json!({"namespace": "users", "keys": ["2"]}));
    let first = all.next();
    assert_eq!((&first["type"], &first["namespace"]), (&json!("applied"), &json!("other")));
    assert_eq!((&first["local"], &first["seq"]), (&json!(true), &json!(1)));
    assert_eq!(all.next()["namespace"], json!("users"));
    assert_eq!(users.next()["namespace"], json!("users"));
    server.leave();
    assert_eq!(users.next(), json!({"type": "end"}));
}

#[test]
fn watchers_cannot_lock_an_operator_out() {
    let server = Server::start();
    let mut open: Vec<Lines> = (0..WATCHES_MAX).map(|_| server.watch("")).collect();
    let (code, answer) = server.get("/v1/watch");
    assert_eq!(code, 503, "{answer}");
    assert_eq!(server.get("/v1/status").0, 200);
    assert_eq!(open[0].next()["type"], json!("hello"));
}

#[test]
fn keys_are_listed_added_used_and_dropped_by_their_ids() {
    let server = Server::start();
    let json = "Content-Type: application/json\r\n";
    let id = |byte| Key::from_bytes([byte; 32]).id().to_string();
    let keys = |answer: (u16, String)| {
        assert_eq!(answer.0, 200, "{answer:?}");
        serde_json::from_str::<Value>(&answer.1).expect("JSON")["keys"].clone()
    };
    assert_eq!(keys(server.request("GET /v1/keys", "", "")), json!([id(5)]));
    let new = "06".repeat(32);
    let add = format!("{{\"key\":\"{new}\"}}");
    assert_eq!(keys(server.request("POST /v1/keys/add", json, &add)), json!([id(5), id(6)]));
    assert_eq!(server.request("POST /v1/keys/add", json, &add).0, 409, "twice");
    let name = |byte| format!("{{\"id\":\"{}\"}}", id(byte));
    assert_eq!(server.request("POST /v1/keys/drop", json, &name(5)).0, 409, "in use");
    assert_eq!(keys(server.request("POST /v1/keys/use", json, &name(6))), json!([id(6), id(5)]));
    assert_eq!(keys(server.request("POST /v1/keys/drop", json, &name(5))), json!([id(6)]));
    assert_eq!(server.request("POST /v1/keys/use", json, &name(5)).0, 409, "unknown");
    // Whatever is wrong with it, a key does not come back.
    let secret = "07".repeat(33);
    for body in [format!("{{\"key\":\"{secret}\"}}"), format!("[\"{secret}\"]"), secret.clone()] {
        let (status, said) = server.request("POST /v1/keys/add", json, &body);
        assert!((400..500).contains(&status) && !said.contains("0707"), "{status} {said}");
    }
}

#[test]
fn with_a_token_only_health_is_told_without_it() {
    let token = "a-token-of-20-characters";
    let server = Server::start_with(Some(Token::new(token).expect("valid")));
    for path in ["/v1/status", "/v1/members", "/v1/watch", "/v1/keys", "/metrics", "/nowhere"] {
        assert_eq!(server.request(&format!("GET {path}"), "", "").0, 401, "{path}");
    }
    let wrong = "Authorization: Bearer a-token-of-20-characterS\r\n";
    assert_eq!(server.request("GET /v1/status", wrong, "").0, 401);
    let right = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(server.request("GET /v1/status", &right, "").0, 200);
    assert_eq!(server.request("GET /livez", "", "").0, 200);
}
