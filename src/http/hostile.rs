//! Any bytes as a connection to the interface, for tests of what they may do.

use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::health::Health;
use super::limits::{HEAD_BYTES_MAX, HEADERS_MAX, READ_BUFFER_BYTES_MAX};
use super::router::{Admin, router};
use crate::mesh::Mesh;

/// Takes connections one after another: each input is all that a client sends. Whatever it is, the
/// connection ends, and what comes back is HTTP or nothing.
pub(crate) fn any_request() -> impl FnMut(&[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for a test");
    let mesh = runtime.block_on(Mesh::standalone("test").start()).expect("it needs nothing");
    let router = router(Admin::new(mesh, Arc::new(Health::new(false)), None));
    move |bytes| {
        let service = TowerToHyperService::new(router.clone());
        let answer = runtime.block_on(async {
            let (mut client, server) = UnixStream::pair().expect("a pair of sockets for a test");
            let served = http1::Builder::new()
                .max_header_size(HEAD_BYTES_MAX)
                .max_buf_size(READ_BUFFER_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                .serve_connection(TokioIo::new(server), service);
            let asked = async {
                // A refused client may find the connection closed.
                let _ = client.write_all(bytes).await;
                let _ = client.shutdown().await;
                let mut answer = Vec::new();
                let _ = client.read_to_end(&mut answer).await;
                answer
            };
            let (_, answer) = tokio::join!(served, asked);
            answer
        });
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
    }
}
