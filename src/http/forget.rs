//! `POST /v1/forget`: an operator says that a peer is gone for good.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;

use super::error::ApiError;
use super::limits::LOOP_TIMEOUT;
use super::router::Admin;
use super::types::{ForgetAnswer, ForgetRequest, SCHEMA};

pub(super) async fn forget(
    State(admin): State<Admin>,
    request: Result<Json<ForgetRequest>, JsonRejection>,
) -> Result<Json<ForgetAnswer>, ApiError> {
    let Json(request) =
        request.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
    let forgotten = tokio::time::timeout(LOOP_TIMEOUT, admin.mesh.forget(&request.peer))
        .await
        .map_err(|_| ApiError::unavailable("the loop does not answer".to_owned()))?
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok(Json(ForgetAnswer { schema: SCHEMA, forgotten }))
}
