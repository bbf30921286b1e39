//! Answers that only look: status, members, health.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::limits::LOOP_TIMEOUT;
use super::router::Admin;
use super::types::{Gate, HealthDocument, Members, SCHEMA, StatusDocument};

/// `GET /v1/status`.
pub(super) async fn status(State(admin): State<Admin>) -> Json<StatusDocument> {
    admin.refresh().await;
    let status = admin.mesh.status();
    let gates = admin.health.gates(&status);
    Json(StatusDocument::new(status, gates))
}

/// `GET /v1/members`.
pub(super) async fn members(State(admin): State<Admin>) -> Json<Members> {
    admin.refresh().await;
    Json(admin.mesh.members().into())
}

/// `GET /livez`: 200 as long as the mesh's loop answers, else 503.
pub(super) async fn livez(State(admin): State<Admin>) -> (StatusCode, Json<HealthDocument>) {
    let turns = admin.refresh().await;
    let late = format!("the loop has not answered for {LOOP_TIMEOUT:?}");
    answer(vec![Gate::new("loop", turns, &late)])
}

/// `GET /readyz`: 200 when every gate is open, else 503.
pub(super) async fn readyz(State(admin): State<Admin>) -> (StatusCode, Json<HealthDocument>) {
    admin.refresh().await;
    answer(admin.health.gates(&admin.mesh.status()))
}

fn answer(gates: Vec<Gate>) -> (StatusCode, Json<HealthDocument>) {
    let ok = gates.iter().all(|gate| gate.open);
    let code = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(HealthDocument { schema: SCHEMA, ok, gates }))
}
