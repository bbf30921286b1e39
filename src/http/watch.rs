//! `GET /v1/watch`: applied records as they come, one JSON object a line.
//!
//! Query: `namespace`, and `key` or `key_hex` to narrow it down. The mesh bounds what it holds for
//! a reader; a slow one is told how many events it missed (`lagged`) and goes on.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use weft_proto::id::Namespace;

use super::error::ApiError;
use super::hex::from_hex;
use super::limits::{KEEPALIVE_EVERY, WATCH_CHUNK_BYTES};
use super::router::Admin;
use super::stream::{ChunkBody, Chunks};
use super::types::{SCHEMA, WatchLine};
use crate::mesh::{Watch, WatchFilter};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchQuery {
    namespace: Option<String>,
    key: Option<String>,
    key_hex: Option<String>,
}

pub(super) async fn watch(
    State(admin): State<Admin>,
    query: Result<Query<WatchQuery>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let filter = filter(query)?;
    let permit = std::sync::Arc::clone(&admin.watches)
        .try_acquire_owned()
        .map_err(|_| ApiError::unavailable("too many watch streams are open"))?;
    let hello = WatchLine::Hello { schema: SCHEMA, peer: admin.mesh.status().name };
    let events = Events {
        watch: admin.mesh.watch(filter),
        pending: Some(hello),
        ended: false,
        _permit: permit,
    };
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(ChunkBody::new(events))))
}

fn filter(query: WatchQuery) -> Result<WatchFilter, ApiError> {
    let filter = match query.namespace {
        None => WatchFilter::all(),
        Some(name) => {
            Namespace::new(&name).map_err(|error| ApiError::bad_request(error.to_string()))?;
            WatchFilter::namespace(name)
        }
    };
    match (query.key, query.key_hex) {
        (None, None) => Ok(filter),
        (Some(key), None) => Ok(filter.key(key.as_bytes())),
        (None, Some(digits)) => {
            let key = from_hex(&digits)
                .ok_or_else(|| ApiError::bad_request("key_hex is not hexadecimal"))?;
            Ok(filter.key(key.as_slice()))
        }
        (Some(_), Some(_)) => Err(ApiError::bad_request("key and key_hex exclude each other")),
    }
}

/// Turns what the mesh reports into lines.
struct Events {
    watch: Watch,
    /// A line that goes out before the next event.
    pending: Option<WatchLine>,
    ended: bool,
    /// Counts this stream for as long as it lives.
    _permit: OwnedSemaphorePermit,
}

impl Chunks for Events {
    /// Waits for one event, then takes what else is there already, up to a chunk's size.
    async fn next_chunk(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut chunk = Vec::new();
        let first = match self.pending.take() {
            Some(line) => line,
            None => match tokio::time::timeout(KEEPALIVE_EVERY, self.watch.next()).await {
                Ok(Some(event)) => event.into(),
                Ok(None) => self.end(),
                Err(_) => WatchLine::Keepalive,
            },
        };
        write_line(&mut chunk, &first);
        while !self.ended && chunk.len() < WATCH_CHUNK_BYTES {
            let event = tokio::select! {
                biased;
                event = self.watch.next() => event,
                () = std::future::ready(()) => break,
            };
            let line = event.map_or_else(|| self.end(), WatchLine::from);
            write_line(&mut chunk, &line);
        }
        Some(chunk)
    }
}

impl Events {
    fn end(&mut self) -> WatchLine {
        self.ended = true;
        WatchLine::End
    }
}

fn write_line(chunk: &mut Vec<u8>, line: &WatchLine) {
    serde_json::to_writer(&mut *chunk, line)
        .expect("invariant: these types serialise, and a Vec takes everything");
    chunk.push(b'\n');
}
