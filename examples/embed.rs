//! Two peers in one process: what one writes, the other no longer serves.
//!
//! Run it with `cargo run --example embed`.

use std::time::Duration;

use weft::{Mesh, WatchEvent, WatchFilter};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let any_port = "127.0.0.1:0".parse()?;
    let one = Mesh::builder("example").name("one").bind(any_port).start().await?;
    let seed = one.status().addr.to_string();
    let two = Mesh::builder("example").name("two").bind(any_port).seed(seed).start().await?;
    while one.members().len() < 2 || two.members().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("members: {:?}", one.members().iter().map(|m| m.name.clone()).collect::<Vec<_>>());

    // Both read through to the same source of truth, and keep what they read.
    let users_one = one.cache::<String>("users")?;
    let users_two = two.cache::<String>("users")?;
    let load = async |name: &str| Ok::<_, std::convert::Infallible>(name.to_owned());
    users_two.get_or_load("user:1", async || load("Ada").await).await?;
    assert_eq!(users_two.get("user:1").as_deref(), Some("Ada"));

    // One writes. Two is told and drops its copy, so that its next read loads the new value.
    let mut watch = two.watch(WatchFilter::namespace("users").key("user:1"));
    users_one.insert("user:1", "Ada Lovelace".to_owned())?;
    while let Some(event) = watch.next().await {
        if let WatchEvent::Applied(record) = event {
            println!("two applied record {} of {}", record.seq, record.origin);
            break;
        }
    }
    assert_eq!(users_two.get("user:1"), None);
    let loaded = users_two.get_or_load("user:1", async || load("Ada Lovelace").await).await?;
    println!("two now reads {loaded:?}");

    two.leave().await;
    let report = one.leave().await;
    println!("left after {:?}", report.waited);
    Ok(())
}
