//! Meshes on loopback: library meshes in this process, and agents as processes of their own.

mod agent_life;
mod bad_input;
mod caches;
mod keys;
mod library;
mod many;
mod refusals;
mod stale;
mod watching;

use std::time::{Duration, Instant};

use weft::{Mesh, MeshBuilder};

use crate::support::SOON;

/// How often a library mesh is asked; its view is fresh to within 50 ms.
const POLL: Duration = Duration::from_millis(10);

/// A mesh of this process on any free loopback port.
fn peer(cluster: &str, name: &str) -> MeshBuilder {
    Mesh::builder(cluster).name(name).bind(([127, 0, 0, 1], 0).into())
}

/// Starts it.
async fn start(builder: MeshBuilder) -> Mesh {
    builder.start().await.expect("loopback has a free port")
}

/// Waits until `done`, letting everything else run meanwhile.
async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until each mesh sees exactly as many live members as there are meshes.
async fn all_see_each_other(meshes: &[Mesh]) {
    eventually("all meshes see each other", || {
        meshes.iter().all(|mesh| {
            let status = mesh.status();
            status.members_alive == meshes.len() && (status.joined || meshes.len() == 1)
        })
    })
    .await;
}

/// What a mesh has applied without a gap of a peer's stream; all of the peer's lives together.
fn applied(mesh: &Mesh, peer: &str) -> u64 {
    let status = mesh.status();
    status.streams.iter().filter(|stream| stream.peer == peer).map(|stream| stream.applied).sum()
}
