//! Planted breaches: each rule has to find its own, and must not be fooled by text or tests.

use super::rules::{self, BANNED, FILE_LINES_MAX, FUNCTION_LINES_MAX};
use super::source::Source;
use super::{PROTO, ROOT, imports};

fn proto(path: &str, code: &str) -> Vec<String> {
    imports::check(&Source::new(format!("proto/src/{path}"), code), "proto/src", PROTO)
}

fn root(path: &str, code: &str) -> Vec<String> {
    imports::check(&Source::new(format!("src/{path}"), code), "src", ROOT)
}

fn complains(complaints: &[String], needle: &str) {
    assert!(complaints.len() == 1, "one complaint expected: {complaints:?}");
    assert!(complaints[0].contains(needle), "{needle:?} expected: {complaints:?}");
}

#[test]
fn a_lower_level_that_sees_a_higher_is_found() {
    complains(&proto("clock/hlc.rs", "\nuse crate::wire::packet;"), "hlc.rs:2: `clock` must not");
    complains(
        &proto("id.rs", "fn f() { crate::node::Node::new() }"),
        "level 0 does not see level 6",
    );
    complains(&proto("wire/mod.rs", "use super::member::Member;"), "level 2 does not see level 3");
    complains(&proto("wire/a/b.rs", "use super::super::super::spread::X;"), "level 4");
    complains(&proto("wire.rs", "use crate::{id::X, clock::{self, Y}, node};"), "`node`");
    complains(&proto("wire.rs", "pub(in crate::stream) fn f() {}"), "`stream`");
}

#[test]
fn siblings_that_see_each_other_are_found() {
    complains(&proto("member/x.rs", "use crate::stream::Log;"), "siblings of level 3");
    complains(&proto("spread.rs", "use crate::repair::Pull;"), "siblings of level 4");
}

#[test]
fn what_hides_a_direction_is_found() {
    complains(&proto("node.rs", "use crate::*;"), "not a module");
    complains(&proto("node.rs", "use crate::Packet;"), "not a module");
    complains(&proto("news.rs", "fn f() {}"), "not in tests/tidy.rs' table");
}

#[test]
fn imports_that_point_down_are_fine() {
    for (path, code) in [
        ("lib.rs", "pub use node::Node; use crate::node::X;"),
        ("node.rs", "use crate::{event::E, horizon, wire::packet::{self, P}};"),
        ("wire/section.rs", "use super::packet::P; use crate::id::Seq; use super::super::id::Y;"),
        ("wire/mod.rs", "use self::packet::P; mod node; use node::N;"),
        (
            "id.rs",
            "use crate::limits::MAX; // crate::node is far away\nconst S: &str = \"crate::node\";",
        ),
        ("id.rs", "#[cfg(test)]\nmod tests { use crate::node::Node; }"),
        ("id.rs", "fn f() { crate::ensure!(true) }"),
    ] {
        assert_eq!(proto(path, code), Vec::<String>::new(), "{path}: {code}");
    }
}

#[test]
fn the_package_is_held_to_its_map() {
    complains(&root("cache/map.rs", "use crate::run::Loop;"), "`cache` must not see `run`");
    complains(&root("cache/map.rs", "use tokio::sync::Notify;"), "`tokio`");
    complains(&root("cache/map.rs", "use weft_proto::wire::Packet;"), "ids and clocks");
    complains(&root("net/send.rs", "use weft_proto::id::PeerId;"), "`weft_proto`");
    complains(&root("net/mod.rs", "use super::mesh::Mesh;"), "`net` must not see `mesh`");
    complains(&root("http/mod.rs", "use crate::run::Loop;"), "`http` must not see `run`");
    complains(&root("run/mod.rs", "use crate::mesh::Mesh;"), "`run` must not see `mesh`");
    complains(&root("run/mod.rs", "use crate::{Cache, net};"), "`Cache`");
    assert_eq!(root("cli/demo.rs", "use crate::{Cache, mesh::Mesh};"), Vec::<String>::new());
    assert_eq!(root("cache/map.rs", "use weft_proto::id::KeyHash;"), Vec::<String>::new());
    assert_eq!(root("mesh.rs", "use crate::run::Loop; use weft_proto::id;"), Vec::<String>::new());
}

#[test]
fn a_file_without_a_head_is_found() {
    for text in ["", "use x;", "//!", "//! a", "/// About the item", "\n//! Too late"] {
        complains(&rules::head(&Source::new("src/x.rs", text)), "begin with");
    }
    assert!(rules::head(&Source::new("src/x.rs", "//! Packets of the wire.")).is_empty());
}

#[test]
fn a_long_file_is_found_and_tests_do_not_count() {
    let lines = |count: usize| "const X: u8 = 1;\n".repeat(count);
    let check = |text: String| rules::file_length(&Source::new("src/x.rs", text));
    assert!(check(lines(FILE_LINES_MAX)).is_empty());
    complains(&check(lines(FILE_LINES_MAX + 1)), "601 lines");
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(500));
    assert!(check(lines(FILE_LINES_MAX) + &tests).is_empty());
    complains(&check(tests + &lines(FILE_LINES_MAX + 1)), "601 lines");
    assert!(rules::file_length(&Source::new("src/x/tests.rs", lines(5000))).is_empty());
}

#[test]
fn a_long_function_is_found() {
    let function = |lines: usize, head: &str| {
        let body = "    let s = \"}\"; // }\n".repeat(lines - 2);
        rules::function_length(&Source::new("src/x.rs", format!("{head} {{\n{body}}}\n")))
    };
    assert!(function(FUNCTION_LINES_MAX, "fn f()").is_empty());
    complains(&function(FUNCTION_LINES_MAX + 1, "fn f()"), "`f` has 101 lines");
    complains(&function(101, "pub async fn g<T: Fn(u8) -> [u8; 2]>(t: T) -> [u8; 3]"), "`g`");
    complains(&function(101, "fn sig(&self) -> u8;\nfn h()"), "`h`");
    assert!(function(200, "type F = fn (u8);\nmod m").is_empty());
}

#[test]
fn every_banned_word_is_found() {
    for rule in BANNED {
        for under in rule.under {
            let text = format!("//! Head.\n{}\n", rule.word);
            let complaints = rules::banned(&Source::new(format!("{under}x.rs"), text));
            assert!(
                complaints.iter().any(|c| c.contains(rule.instead)),
                "{} under {under}: {complaints:?}",
                rule.word
            );
        }
    }
}

#[test]
fn words_in_text_or_out_of_place_are_fine() {
    for (path, text) in [
        (
            "src/x.rs",
            "// todo!() and unsafe\nconst S: &str = \"dbg!\"; const R: &str = r#\"\"todo!\"#;",
        ),
        ("src/x.rs", "/* unsafe /* nested */ dbg!(1) */ fn f<'a>(c: &'a str) { c == '\"'; }"),
        ("src/x.rs", "#![deny(unsafe_op_in_unsafe_fn)] fn f() { let a = ['\\'', '\"']; }"),
        ("src/net/sys/linux.rs", "unsafe { call() }"),
        ("src/cache/raw.rs", "unsafe { read() }"),
        ("src/run/x.rs", "use std::collections::HashMap;"),
        ("proto/src/x.rs", "#[cfg(test)]\nmod tests { use std::collections::HashMap; }"),
        ("src/x/tests.rs", "std::thread::sleep(d);"),
    ] {
        assert_eq!(rules::banned(&Source::new(path, text)), Vec::<String>::new(), "{path}: {text}");
    }
    complains(
        &rules::banned(&Source::new("src/x.rs", "let c = '\"'; unsafe {} let d = '\"';")),
        "src/net/sys",
    );
}
