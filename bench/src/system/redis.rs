//! Redis Pub/Sub: RESP's PUBLISH and SUBSCRIBE.

use std::io::Write;

use anyhow::bail;

use super::tcp::{self, Frame, Protocol, TcpPublisher, TcpSubscriber};
use crate::keys::{KEY_BYTES, Key, NAMESPACE};
use crate::task::Task;

/// The protocol.
pub(super) struct Redis;

/// Connects a publisher.
pub(super) fn publisher(task: &Task, keys: &[Key]) -> anyhow::Result<TcpPublisher<Redis>> {
    let mut stream = tcp::connect(task)?;
    tcp::greet(&mut stream, b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")?;
    TcpPublisher::new(task, keys, stream)
}

/// Connects a subscriber; when this returns the server has its subscription.
pub(super) fn subscriber(task: &Task, keys: &[Key]) -> anyhow::Result<TcpSubscriber<Redis>> {
    let mut stream = tcp::connect(task)?;
    let length = NAMESPACE.len();
    let words = format!("*2\r\n$9\r\nSUBSCRIBE\r\n${length}\r\n{NAMESPACE}\r\n");
    tcp::greet(&mut stream, words.as_bytes(), b":1\r\n")?;
    TcpSubscriber::new(task, keys, stream)
}

/// Parts of an array that are looked at: `message`, the channel, the payload.
const PARTS_MAX: usize = 3;

impl Protocol for Redis {
    fn decode(bytes: &[u8]) -> anyhow::Result<Option<(usize, Frame<'_>)>> {
        let Some((head, mut at)) = tcp::line(bytes) else { return Ok(None) };
        match head.split_first() {
            Some((b'*', count)) => {
                let mut parts: [&[u8]; PARTS_MAX] = [b""; PARTS_MAX];
                for part in parts.iter_mut().take(tcp::number(count)?) {
                    let Some((text, length)) = bulk(&bytes[at..])? else { return Ok(None) };
                    *part = text;
                    at += length;
                }
                let [kind, _, payload] = parts;
                let frame = if kind == b"message" { Frame::Message(payload) } else { Frame::Other };
                Ok(Some((at, frame)))
            }
            Some((b':' | b'+', _)) => Ok(Some((at, Frame::Other))),
            _ => bail!("Redis says {}", String::from_utf8_lossy(head)),
        }
    }

    fn encode(key: &Key, out: &mut Vec<u8>) {
        let length = NAMESPACE.len();
        write!(out, "*3\r\n$7\r\nPUBLISH\r\n${length}\r\n{NAMESPACE}\r\n${KEY_BYTES}\r\n")
            .expect("invariant: a Vec takes all");
        out.extend_from_slice(key);
        out.extend_from_slice(b"\r\n");
    }

    const PONG: &'static [u8] = b"";
}

/// The bulk string or number at the start of `bytes` and its length; `None` when not all there.
fn bulk(bytes: &[u8]) -> anyhow::Result<Option<(&[u8], usize)>> {
    let Some((head, start)) = tcp::line(bytes) else { return Ok(None) };
    match head.split_first() {
        Some((b'$', length)) => {
            let end = start + tcp::number(length)?;
            let whole = end + b"\r\n".len();
            Ok((bytes.len() >= whole).then(|| (&bytes[start..end], whole)))
        }
        Some((b':', digits)) => Ok(Some((digits, start))),
        _ => bail!("Redis says {}", String::from_utf8_lossy(head)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_published_in_one_frame() {
        let mut out = Vec::new();
        Redis::encode(b"abcdefghijklmno", &mut out);
        assert_eq!(
            out,
            b"*3\r\n$7\r\nPUBLISH\r\n$5\r\nbench\r\n$15\r\nabcdefghijklmno\r\n".as_slice()
        );
    }

    #[test]
    fn messages_answers_and_pieces_are_told_apart() {
        let message = b"*3\r\n$7\r\nmessage\r\n$5\r\nbench\r\n$3\r\na\nb\r\n:4\r\n";
        let whole = message.len() - 4;
        let decoded = Redis::decode(message).expect("decoded");
        assert_eq!(decoded, Some((whole, Frame::Message(b"a\nb"))));
        for cut in 0..whole {
            assert_eq!(Redis::decode(&message[..cut]).expect("decoded"), None, "cut at {cut}");
        }
        assert_eq!(Redis::decode(b":4\r\n").expect("decoded"), Some((4, Frame::Other)));
        let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$5\r\nbench\r\n:1\r\n";
        let length = subscribed.len();
        assert_eq!(Redis::decode(subscribed).expect("decoded"), Some((length, Frame::Other)));
        assert!(Redis::decode(b"-ERR no\r\n").is_err());
    }
}
