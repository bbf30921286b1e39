//! Accepts connections and feeds them to the router, within the limits.

use std::sync::Arc;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::limits::{
    ACCEPT_PAUSE, CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_TIMEOUT, HEADERS_MAX,
    READ_BUFFER_BYTES_MAX, WRITE_TIMEOUT,
};
use super::timed::Timed;

/// Serves until the future is dropped, which closes every connection.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .expect("invariant: this semaphore is never closed");
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    warn!(%error, "admin interface cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        // Finished ones are collected here, so the set stays as small as the number of places.
        while connections.try_join_next().is_some() {}
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let io = TokioIo::new(Timed::new(stream, WRITE_TIMEOUT));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_header_size(HEAD_BYTES_MAX)
                .max_buf_size(READ_BUFFER_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                .serve_connection(io, service)
                .await;
            if let Err(error) = served {
                debug!(%error, "admin connection ended");
            }
            drop(place);
        });
    }
}
