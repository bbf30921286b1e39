//! What a process holds: memory that returns with the last handle, and a mesh without a network.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use weft::{Mesh, WatchFilter};

use super::{peer, start};

fn has_stats(mesh: &Mesh, namespace: &str) -> bool {
    mesh.metrics().caches.iter().any(|(name, _)| name == namespace)
}

#[tokio::test]
async fn the_last_handle_of_a_namespace_takes_its_memory_along() {
    let mesh = start(peer("memory", "only")).await;
    let cache = mesh.cache::<Arc<str>>("pages").unwrap();
    let again = mesh.cache::<Arc<str>>("pages").unwrap();
    let value: Arc<str> = "page".into();
    assert!(cache.reserve("key").fill(Arc::clone(&value)));
    mesh.refresh().await;
    assert!(has_stats(&mesh, "pages"));

    drop(cache);
    assert_eq!(again.get("key").as_deref(), Some("page"), "one handle keeps it");
    drop(again);
    // Whoever looks after the caches may hold it for one moment more.
    let gone = async {
        while Arc::strong_count(&value) > 1 {
            mesh.refresh().await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.expect("the cache's copy is gone");
    mesh.refresh().await;
    assert!(!has_stats(&mesh, "pages"));

    // The name is free for values of another type, and nothing of before is in it.
    let other = mesh.cache::<u32>("pages").unwrap();
    assert!(other.is_empty());
}

#[tokio::test]
async fn a_standalone_mesh_caches_and_sends_nothing() {
    let mesh = Mesh::standalone("alone").start().await.unwrap();
    let cache = mesh.cache::<u32>("users").unwrap();
    for n in 0..1_000_u32 {
        cache.insert(n.to_le_bytes(), n).unwrap();
    }
    cache.invalidate(7_u32.to_le_bytes()).unwrap();
    mesh.invalidate("users", 8_u32.to_le_bytes()).unwrap();
    assert_eq!(cache.get(7_u32.to_le_bytes()), None);
    assert_eq!(cache.get(8_u32.to_le_bytes()), None);
    assert_eq!(cache.get(9_u32.to_le_bytes()), Some(9));

    mesh.refresh().await;
    let metrics = mesh.metrics();
    assert_eq!((metrics.packets_out, metrics.packets_in, metrics.send_calls), (0, 0, 0));
    assert_eq!(mesh.members().len(), 0);
    assert_eq!(mesh.watch(WatchFilter::all()).next().await, None, "nothing is ever applied");
}
