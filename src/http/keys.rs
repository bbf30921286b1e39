//! `/v1/keys`: which keys this peer accepts, and changing them.
//!
//! A refusal that depends on other peers is a 409 and names them; nothing has changed then. Keys
//! come in and never go out: answers and errors show ids only.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use weft_proto::key::KeyId;
use zeroize::Zeroizing;

use super::error::ApiError;
use super::router::Admin;
use super::types::{AddKeyRequest, KeyIdRequest, KeysDocument, SCHEMA};
use crate::mesh::{Key, KeysError};

/// `GET /v1/keys`.
pub(super) async fn list(State(admin): State<Admin>) -> Json<KeysDocument> {
    admin.refresh().await;
    let status = admin.mesh.status();
    Json(KeysDocument { schema: SCHEMA, encryption: status.encryption, keys: status.keys })
}

/// `POST /v1/keys/add`.
pub(super) async fn add(
    State(admin): State<Admin>,
    request: Result<Json<AddKeyRequest>, JsonRejection>,
) -> Result<Json<KeysDocument>, ApiError> {
    // What the reader says of a body it can't read may quote it: a key must not come back.
    let Json(request) = request.map_err(|error| {
        ApiError::new(error.status(), "the body must be {\"key\": \"64 hexadecimal digits\"}")
    })?;
    let key: Key = Zeroizing::new(request.key)
        .parse()
        .map_err(|error| ApiError::bad_request(format!("{error}")))?;
    let id = key.id();
    done(admin.mesh.add_key(key).await)?;
    tracing::info!(key = %id, "a key was added");
    Ok(list(State(admin)).await)
}

/// `POST /v1/keys/use`.
pub(super) async fn use_key(
    State(admin): State<Admin>,
    request: Result<Json<KeyIdRequest>, JsonRejection>,
) -> Result<Json<KeysDocument>, ApiError> {
    let id = id_of(request)?;
    done(admin.mesh.use_key(id).await)?;
    tracing::info!(key = %id, "packets are closed with another key");
    Ok(list(State(admin)).await)
}

/// `POST /v1/keys/drop`.
pub(super) async fn drop_key(
    State(admin): State<Admin>,
    request: Result<Json<KeyIdRequest>, JsonRejection>,
) -> Result<Json<KeysDocument>, ApiError> {
    let id = id_of(request)?;
    done(admin.mesh.drop_key(id).await)?;
    tracing::info!(key = %id, "a key was dropped");
    Ok(list(State(admin)).await)
}

fn id_of(request: Result<Json<KeyIdRequest>, JsonRejection>) -> Result<KeyId, ApiError> {
    let Json(request) =
        request.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
    request.id.parse().map_err(|error| ApiError::bad_request(format!("{error}")))
}

fn done(outcome: Result<(), KeysError>) -> Result<(), ApiError> {
    outcome.map_err(|error| match error {
        KeysError::Refused(_) => ApiError::new(StatusCode::CONFLICT, error.to_string()),
        KeysError::Left => ApiError::unavailable(error.to_string()),
    })
}
