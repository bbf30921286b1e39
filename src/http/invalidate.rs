//! `POST /v1/invalidate`: publishes keys for tools that aren't the application.
//!
//! Everything is checked before anything is published, so a 400 means that nothing happened. When
//! the queue stays full the answer is 503 and says how many keys had gone out; sending the whole
//! request again is safe, since invalidating twice costs one more miss.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use tokio::time::Instant;
use weft_proto::id::Namespace;
use weft_proto::limits::KEY_BYTES_MAX;

use super::error::ApiError;
use super::hex::from_hex;
use super::limits::{INVALIDATE_KEYS_MAX, PUBLISH_RETRY, PUBLISH_TIMEOUT};
use super::router::Admin;
use super::types::{InvalidateAnswer, InvalidateRequest, SCHEMA};
use crate::PublishError;
use crate::mesh::Mesh;

pub(super) async fn invalidate(
    State(admin): State<Admin>,
    request: Result<Json<InvalidateRequest>, JsonRejection>,
) -> Result<Json<InvalidateAnswer>, ApiError> {
    let Json(request) =
        request.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
    Namespace::new(&request.namespace).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let keys = checked_keys(request.keys, &request.keys_hex)?;
    let deadline = Instant::now() + PUBLISH_TIMEOUT;
    for (published, key) in keys.iter().enumerate() {
        publish(&admin.mesh, &request.namespace, key, deadline)
            .await
            .map_err(|error| error.after_publishing(published))?;
    }
    Ok(Json(InvalidateAnswer { schema: SCHEMA, published: keys.len() }))
}

fn checked_keys(text: Vec<String>, hex: &[String]) -> Result<Vec<Vec<u8>>, ApiError> {
    let count = text.len() + hex.len();
    if count == 0 {
        return Err(ApiError::bad_request("no keys"));
    }
    if count > INVALIDATE_KEYS_MAX {
        let message = format!("{count} keys; at most {INVALIDATE_KEYS_MAX} in a request");
        return Err(ApiError::bad_request(message));
    }
    let mut keys: Vec<Vec<u8>> = text.into_iter().map(String::into_bytes).collect();
    for digits in hex {
        let key = from_hex(digits);
        keys.push(key.ok_or_else(|| ApiError::bad_request("keys_hex holds something else"))?);
    }
    match keys.iter().map(Vec::len).max() {
        Some(len) if len > KEY_BYTES_MAX => {
            let message = format!("a key has {len} bytes; at most {KEY_BYTES_MAX}");
            Err(ApiError::bad_request(message))
        }
        _ => Ok(keys),
    }
}

/// Publishes one key, waiting for room without holding up the other requests of this thread.
async fn publish(
    mesh: &Mesh,
    namespace: &str,
    key: &[u8],
    deadline: Instant,
) -> Result<(), ApiError> {
    loop {
        match mesh.try_invalidate(namespace, key) {
            Ok(()) => return Ok(()),
            Err(PublishError::Backpressure) if Instant::now() < deadline => {
                tokio::time::sleep(PUBLISH_RETRY).await;
            }
            Err(error) => return Err(ApiError::unavailable(error.to_string())),
        }
    }
}
