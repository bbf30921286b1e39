//! The admin interface: a small HTTP/1.1 server on loopback for operators and their tools.
//!
//! | path | answer |
//! | --- | --- |
//! | `GET /v1/status` | this peer: streams, queue, socket, warnings |
//! | `GET /v1/members` | everyone this peer knows |
//! | `POST /v1/invalidate` | publishes keys: `{"namespace", "keys"}` |
//! | `GET /v1/keys`, `POST /v1/keys/add`, `use`, `drop` | the keys, and changing them |
//! | `GET /v1/watch` | applied records as they come, one JSON object a line |
//! | `GET /metrics` | Prometheus text |
//! | `GET /livez`, `GET /readyz` | 200 or 503, with the gates listed |
//!
//! JSON has its own structs ([`types`]), so that internals can change without changing what
//! scripts read. Requests pass [`guard`] first: nothing that a web page could have sent gets in.
//! Every wait and every size has a limit ([`limits`]). With a token it asks for it in
//! all but the health checks; without one it binds loopback unless the operator insists. It holds a [`Mesh`](crate::mesh::Mesh) handle and never
//! touches the loop behind it.

mod error;
mod forget;
mod guard;
mod health;
mod hex;
mod hostile;
mod invalidate;
mod keys;
mod limits;
mod metrics;
mod read;
mod router;
mod serve;
mod stream;
mod timed;
mod token;
pub(crate) mod types;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use self::health::Health;
pub(crate) use self::hex::to_hex;
pub(crate) use self::hostile::any_request;
pub(crate) use self::limits::{INVALIDATE_BODY_BYTES_MAX, INVALIDATE_KEYS_MAX, KEEPALIVE_EVERY};
pub(crate) use self::router::{Admin, router};
pub(crate) use self::serve::serve;
pub(crate) use self::token::Token;
