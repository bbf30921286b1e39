//! NATS core: the text protocol's CONNECT, PUB, SUB, PING and PONG.

use std::io::Write;

use super::tcp::{self, Frame, Protocol, TcpPublisher, TcpSubscriber};
use crate::keys::{KEY_BYTES, Key, NAMESPACE};
use crate::task::Task;

/// The protocol.
pub(super) struct Nats;

const CONNECT: &str = r#"CONNECT {"verbose":false,"pedantic":false,"lang":"weft-bench"}"#;

/// Connects a publisher.
pub(super) fn publisher(task: &Task, keys: &[Key]) -> anyhow::Result<TcpPublisher<Nats>> {
    let mut stream = tcp::connect(task)?;
    tcp::greet(&mut stream, format!("{CONNECT}\r\nPING\r\n").as_bytes(), b"PONG\r\n")?;
    TcpPublisher::new(task, keys, stream)
}

/// Connects a subscriber; when this returns the server has its subscription.
pub(super) fn subscriber(task: &Task, keys: &[Key]) -> anyhow::Result<TcpSubscriber<Nats>> {
    let mut stream = tcp::connect(task)?;
    let words = format!("{CONNECT}\r\nSUB {NAMESPACE} 1\r\nPING\r\n");
    tcp::greet(&mut stream, words.as_bytes(), b"PONG\r\n")?;
    TcpSubscriber::new(task, keys, stream)
}

impl Protocol for Nats {
    fn decode(bytes: &[u8]) -> anyhow::Result<Option<(usize, Frame<'_>)>> {
        let Some((line, head)) = tcp::line(bytes) else { return Ok(None) };
        if line.starts_with(b"MSG ") {
            let digits = line.iter().rposition(|&byte| byte == b' ').map_or(0, |at| at + 1);
            let end = head + tcp::number(&line[digits..])?;
            let whole = end + b"\r\n".len();
            return Ok((bytes.len() >= whole).then(|| (whole, Frame::Message(&bytes[head..end]))));
        }
        if line.starts_with(b"-ERR") {
            anyhow::bail!("NATS says {}", String::from_utf8_lossy(line));
        }
        Ok(Some((head, if line == b"PING" { Frame::Ping } else { Frame::Other })))
    }

    fn encode(key: &Key, out: &mut Vec<u8>) {
        write!(out, "PUB {NAMESPACE} {KEY_BYTES}\r\n").expect("invariant: a Vec takes all");
        out.extend_from_slice(key);
        out.extend_from_slice(b"\r\n");
    }

    const PONG: &'static [u8] = b"PONG\r\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_published_in_one_frame() {
        let mut out = Vec::new();
        Nats::encode(b"abcdefghijklmno", &mut out);
        assert_eq!(out, b"PUB bench 15\r\nabcdefghijklmno\r\n");
    }

    #[test]
    fn errors_and_bad_lengths_are_not_passed_over() {
        assert!(Nats::decode(b"-ERR 'Slow Consumer'\r\n").is_err());
        assert!(Nats::decode(b"MSG bench 1 x\r\n").is_err());
        let info = Nats::decode(b"INFO {}\r\n+OK\r\n").expect("decoded");
        assert_eq!(info, Some((9, Frame::Other)));
    }
}
