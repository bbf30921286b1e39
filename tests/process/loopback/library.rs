//! Several meshes in one process: caches, clusters, multicast, backpressure.

use std::net::{SocketAddr, UdpSocket};

use weft::{Mesh, Multicast, PublishError};

use super::{all_see_each_other, applied, eventually, peer, start};

/// A port for a group that nobody else here uses: free at this moment, on every address.
fn multicast() -> Multicast {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    let port = socket.local_addr().expect("it is bound").port();
    Multicast { group: SocketAddr::from(([239, 255, 87, 77], port)), interfaces: Vec::new() }
}

fn drops(mesh: &Mesh, reason: &str) -> u64 {
    let metrics = mesh.metrics();
    metrics.drops.iter().filter(|(name, _)| *name == reason).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn an_invalidation_removes_the_copies_of_all_five_meshes_of_a_process() {
    let seed = start(peer("five", "mesh-0")).await;
    let seed_addr = seed.status().addr.to_string();
    let mut meshes = vec![seed];
    for n in 1..5 {
        meshes.push(start(peer("five", &format!("mesh-{n}")).seed(&seed_addr)).await);
    }
    all_see_each_other(&meshes).await;

    let caches: Vec<_> = meshes.iter().map(|m| m.cache::<u32>("users").unwrap()).collect();
    for cache in &caches {
        assert!(cache.reserve("stale").fill(1));
        assert!(cache.reserve("fresh").fill(2));
    }
    caches[3].invalidate("stale").unwrap();
    assert_eq!(caches[3].get("stale"), None, "gone here at once");
    eventually("the copy is gone everywhere", || caches.iter().all(|c| c.get("stale").is_none()))
        .await;
    for cache in &caches {
        assert_eq!(cache.get("fresh"), Some(2), "other keys stay");
    }

    // A write is an invalidation elsewhere, and keeps its own value.
    caches[0].insert("fresh", 3).unwrap();
    eventually("old values are gone", || caches[1..].iter().all(|c| c.get("fresh").is_none()))
        .await;
    assert_eq!(caches[0].get("fresh"), Some(3));
}

#[tokio::test]
async fn two_clusters_on_one_multicast_group_find_their_own_without_seeds_and_stay_apart() {
    let multicast = multicast();
    let mut clusters = Vec::new();
    for cluster in ["red", "blue"] {
        let mut meshes = Vec::new();
        for n in 0..2 {
            let builder = peer(cluster, &format!("{cluster}-{n}")).multicast(multicast.clone());
            meshes.push(start(builder).await);
        }
        clusters.push(meshes);
    }
    for meshes in &clusters {
        all_see_each_other(meshes).await;
    }
    let all: Vec<&Mesh> = clusters.iter().flatten().collect();
    eventually("foreign packets are counted", || {
        all.iter().all(|mesh| drops(mesh, "foreign_cluster") > 0)
    })
    .await;

    let red = clusters[0][0].cache::<u32>("users").unwrap();
    let blue = clusters[1][0].cache::<u32>("users").unwrap();
    assert!(red.reserve("key").fill(1) && blue.reserve("key").fill(1));
    clusters[0][1].invalidate("users", "key").unwrap();
    eventually("the own cluster applies it", || red.get("key").is_none()).await;
    clusters[1][1].invalidate("users", "other").unwrap();
    // Whatever came with or before this record has been handled now.
    eventually("the other cluster works too", || applied(&clusters[1][0], "blue-1") == 1).await;
    assert_eq!(blue.get("key"), Some(1), "the other cluster does not apply it");
    for (meshes, prefix) in clusters.iter().zip(["red-", "blue-"]) {
        for member in meshes.iter().flat_map(Mesh::members) {
            assert!(member.name.starts_with(prefix), "{member:?}");
        }
    }
}

#[tokio::test]
async fn a_mesh_with_plain_system_calls_works_with_one_that_batches_them() {
    const RECORDS: u64 = 5_000;
    let native = start(peer("mixed", "native")).await;
    let seed = native.status().addr.to_string();
    let portable = start(peer("mixed", "portable").portable_io(true).seed(seed)).await;
    let meshes = [native, portable];
    all_see_each_other(&meshes).await;
    for n in 0..RECORDS {
        for mesh in &meshes {
            mesh.invalidate("users", n.to_le_bytes()).unwrap();
        }
    }
    eventually("both have everything", || {
        applied(&meshes[0], "portable") == RECORDS && applied(&meshes[1], "native") == RECORDS
    })
    .await;
    let calls = meshes[1].metrics();
    assert!(calls.receive_calls >= calls.packets_in, "one call a datagram: {calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_what_will_not_wait_and_loses_nothing_that_it_took() {
    const ATTEMPTS: u64 = 200_000;
    let publisher = start(peer("full", "publisher").queue_capacity(16)).await;
    let seed = publisher.status().addr.to_string();
    let meshes = [publisher, start(peer("full", "receiver").seed(seed)).await];
    all_see_each_other(&meshes).await;
    let kept = meshes[0].cache::<u32>("users").unwrap();

    let (mut taken, mut refused) = (0, 0);
    for n in 0..ATTEMPTS {
        let key = n.to_le_bytes();
        assert!(kept.reserve(key).fill(1));
        match kept.try_invalidate(key) {
            Ok(()) => {
                assert_eq!(kept.get(key), None);
                taken += 1;
            }
            Err(PublishError::Backpressure) => {
                assert_eq!(kept.get(key), Some(1), "a refused invalidation has no effect");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
        if taken > 1_000 && refused > 1_000 {
            break;
        }
    }
    assert!(refused > 0, "16 places took {taken} records as fast as they could be made");
    // The form that waits gets through.
    meshes[0].invalidate("users", "last").unwrap();
    taken += 1;
    eventually("everything taken is applied", || applied(&meshes[1], "publisher") == taken).await;
    meshes[0].refresh().await;
    assert_eq!(meshes[0].status().head, taken);
}
