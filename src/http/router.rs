//! Which path is answered by whom.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use super::error::ApiError;
use super::health::Health;
use super::limits::{INVALIDATE_BODY_BYTES_MAX, LOOP_TIMEOUT, WATCHES_MAX};
use super::token::Token;
use super::{forget, guard, invalidate, keys, metrics, read, watch};
use crate::mesh::Mesh;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(super) mesh: Mesh,
    pub(super) health: Arc<Health>,
    pub(super) watches: Arc<Semaphore>,
    token: Option<Arc<Token>>,
}

impl Admin {
    pub(crate) fn new(mesh: Mesh, health: Arc<Health>, token: Option<Token>) -> Self {
        let watches = Arc::new(Semaphore::new(WATCHES_MAX));
        Self { mesh, health, watches, token: token.map(Arc::new) }
    }

    /// Has the loop renew what it shows; false when it doesn't answer in time, and what is shown
    /// is then what it was.
    pub(super) async fn refresh(&self) -> bool {
        tokio::time::timeout(LOOP_TIMEOUT, self.mesh.refresh()).await.is_ok()
    }
}

/// The whole interface.
pub(crate) fn router(admin: Admin) -> Router {
    let token = admin.token.clone();
    Router::new()
        .route("/v1/status", get(read::status))
        .route("/v1/members", get(read::members))
        .route("/v1/invalidate", post(invalidate::invalidate))
        .route("/v1/keys", get(keys::list))
        .route("/v1/keys/add", post(keys::add))
        .route("/v1/keys/use", post(keys::use_key))
        .route("/v1/keys/drop", post(keys::drop_key))
        .route("/v1/forget", post(forget::forget))
        .route("/v1/watch", get(watch::watch))
        .route("/metrics", get(metrics::metrics))
        .route("/livez", get(read::livez))
        .route("/readyz", get(read::readyz))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "no such path"))
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this path wants another method")
        })
        .layer(DefaultBodyLimit::max(INVALIDATE_BODY_BYTES_MAX))
        .layer(from_fn(move |request, next| guard::guard(token.clone(), request, next)))
        .with_state(admin)
}
