//! Holds the tree to the house's rules: who sees whom, sizes, heads of files, words.
//!
//! Each rule is a function from a source to complaints. It is run over the whole tree, and over
//! planted breaches, which it has to find. The tables below are the map of `docs/ARCHITECTURE.md`
//! in a form that a machine can check: a new module gets a row here, with what it may see.

use std::path::Path;

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use imports::{Module, PUBLIC, Sees};
use source::Source;

/// The core: lower never sees higher. Siblings of one level see each other only where they are
/// plain vocabulary, or parts of one thing.
const PROTO: &[Module] = &[
    core("id", 0, true),
    core("time", 0, true),
    core("limits", 0, true),
    core("error", 0, true),
    core("range_set", 0, true),
    core("shards", 0, true),
    core("rng", 0, true),
    core("key", 0, true),
    core("clock", 1, false),
    core("wire", 2, false),
    core("member", 3, false),
    core("stream", 3, false),
    core("admit", 3, false),
    core("spread", 4, false),
    core("repair", 4, false),
    core("horizon", 4, false),
    core("view", 5, false),
    core("strong", 5, false),
    core("federation", 5, false),
    core("event", 6, true),
    core("node", 6, true),
    // Sees everything, as a stranger does; nothing sees it.
    core("hostile", 7, false),
];

const fn core(name: &'static str, level: u8, siblings: bool) -> Module {
    Module { name, sees: Sees::Below { level, siblings }, closed: &[] }
}

const NO_PROTO: (&str, &str) = ("weft_proto", "it knows nothing of the protocol");
const NO_TOKIO: (&str, &str) = ("tokio", "it runs on any thread, with or without a runtime");

/// The library and the binary.
const ROOT: &[Module] = &[
    Module {
        name: "cache",
        sees: Sees::Only(&["sync"]),
        closed: &[
            NO_TOKIO,
            ("weft_proto::wire", "the cache knows the core's ids and clocks only"),
            ("weft_proto::member", "the cache knows the core's ids and clocks only"),
            ("weft_proto::stream", "the cache knows the core's ids and clocks only"),
            ("weft_proto::spread", "the cache knows the core's ids and clocks only"),
            ("weft_proto::repair", "the cache knows the core's ids and clocks only"),
            ("weft_proto::horizon", "the cache knows the core's ids and clocks only"),
            ("weft_proto::node", "the cache knows the core's ids and clocks only"),
            ("weft_proto::event", "the cache knows the core's ids and clocks only"),
        ],
    },
    Module { name: "sync", sees: Sees::Only(&[]), closed: &[NO_PROTO, NO_TOKIO] },
    Module { name: "net", sees: Sees::Only(&[]), closed: &[NO_PROTO] },
    Module { name: "directory", sees: Sees::Only(&[]), closed: &[NO_PROTO] },
    Module { name: "journal", sees: Sees::Only(&[]), closed: &[NO_PROTO, NO_TOKIO] },
    Module { name: "view", sees: Sees::Only(&["cache"]), closed: &[] },
    Module { name: "config", sees: Sees::Only(&["mesh", "telemetry"]), closed: &[NO_TOKIO] },
    Module { name: "telemetry", sees: Sees::Only(&["mesh", "view"]), closed: &[] },
    Module { name: "coherence", sees: Sees::Only(&["cache", "sync", "telemetry"]), closed: &[] },
    Module {
        name: "run",
        sees: Sees::Only(&["cache", "coherence", "directory", "net", "telemetry", "view"]),
        closed: &[],
    },
    Module {
        name: "mesh",
        sees: Sees::Only(&["cache", "coherence", "directory", "net", "run", "telemetry", "view"]),
        closed: &[],
    },
    Module { name: "resp", sees: Sees::Only(&["mesh", "telemetry", PUBLIC]), closed: &[] },
    Module { name: "http", sees: Sees::Only(&["mesh", "telemetry", PUBLIC]), closed: &[] },
    Module {
        name: "cli",
        sees: Sees::Only(&["config", "http", "journal", "mesh", "sim", "telemetry", PUBLIC]),
        closed: &[],
    },
    Module {
        name: "hostile",
        sees: Sees::Only(&["coherence", "config", "directory", "http"]),
        closed: &[],
    },
    // Drives the real core and cache, and nothing that waits.
    Module { name: "sim", sees: Sees::Only(&["cache", "coherence"]), closed: &[NO_TOKIO] },
];

fn tree(folders: &[&str]) -> Vec<Source> {
    let sources = source::read_tree(Path::new(env!("CARGO_MANIFEST_DIR")), folders);
    assert!(sources.len() > 3, "found almost nothing under {folders:?}");
    sources
}

const ALL: &[&str] = &["src", "proto/src", "bench/src", "tests"];

fn hold(sources: &[Source], rule: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<String> = sources.iter().flat_map(rule).collect();
    let count = complaints.len();
    assert!(complaints.is_empty(), "{count} to tidy up:\n{}", complaints.join("\n"));
}

#[test]
fn the_core_points_down() {
    hold(&tree(&["proto/src"]), |source| imports::check(source, "proto/src", PROTO));
}

#[test]
fn the_package_points_down() {
    hold(&tree(&["src"]), |source| imports::check(source, "src", ROOT));
}

#[test]
fn files_say_what_they_are_for() {
    hold(&tree(ALL), rules::head);
}

#[test]
fn files_are_short() {
    hold(&tree(ALL), rules::file_length);
}

#[test]
fn functions_are_short() {
    hold(&tree(ALL), rules::function_length);
}

#[test]
fn banned_words_are_absent() {
    // The rules' own files hold the words as data, in strings, which are not looked into.
    hold(&tree(ALL), rules::banned);
}
