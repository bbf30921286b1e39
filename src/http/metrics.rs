//! `GET /metrics`: the mesh's numbers, this interface's and the process's, as Prometheus text.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::router::Admin;
use crate::mesh::{Family, MetricKind};
use crate::telemetry::{process, prometheus};

pub(super) async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    admin.refresh().await;
    let mut families = own_families(&admin);
    families.extend(admin.mesh.metrics().families());
    families.extend(process::families());
    ([(CONTENT_TYPE, prometheus::CONTENT_TYPE)], prometheus::render(&families))
}

fn own_families(admin: &Admin) -> Vec<Family> {
    let ready = admin.health.is_ready(&admin.mesh.status());
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let gauge = |name, help, labels, value| {
        let samples = vec![(labels, value)];
        Family { name, help, kind: MetricKind::Gauge, samples }
    };
    vec![
        gauge(
            "weft_build_info",
            "Always 1; the label says which version runs.",
            vec![("version", version)],
            1.0,
        ),
        gauge(
            "weft_ready",
            "1 when every gate of /readyz is open.",
            Vec::new(),
            f64::from(u8::from(ready)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CacheStats;
    use crate::mesh::Metrics;

    /// What `docs/metrics.md` lists.
    const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md"));

    #[test]
    fn every_metric_is_documented_and_well_named() {
        let caches = vec![("users".to_owned(), CacheStats::default())];
        let metrics = Metrics { caches, ..Metrics::default() };
        let families = metrics.families();
        assert!(!families.is_empty());
        for family in families {
            let name = family.name;
            assert!(DOCUMENT.contains(&format!("`{name}`")), "{name} is not in docs/metrics.md");
            assert!(name.starts_with("weft_"), "{name} lacks the prefix");
            let counter = family.kind == MetricKind::Counter;
            assert_eq!(name.ends_with("_total"), counter, "{name}: counters end in _total");
        }
    }
}
