//! The rules that look at one file at a time: its head, its size, its functions, its words.
//!
//! In: a source. Out: one line for each breach, with the place and what to do instead.

use super::source::{Source, block_end, find_words, is_word, line_at};

/// A file this long has two things to say. Tests do not count.
pub(crate) const FILE_LINES_MAX: usize = 600;
/// A function this long is several.
pub(crate) const FUNCTION_LINES_MAX: usize = 100;

/// The first line says what the file is for.
pub(crate) fn head(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    if first.strip_prefix("//!").is_some_and(|says| says.trim().len() > 2) {
        return Vec::new();
    }
    vec![format!("{}:1: begin with `//!`: what the file is for", source.path)]
}

/// Files stay short enough to read.
pub(crate) fn file_length(source: &Source) -> Vec<String> {
    let lines = source.shipped_lines();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![format!(
        "{}: {lines} lines without tests, at most {FILE_LINES_MAX}: split it",
        source.path
    )]
}

/// Functions stay short enough to see.
pub(crate) fn function_length(source: &Source) -> Vec<String> {
    let code = &source.shipped;
    let mut complaints = Vec::new();
    for at in find_words(code, "fn ") {
        let name: String =
            code[at + 3..].trim_start().chars().take_while(|&c| is_word(c)).collect();
        let Some(open) = body(code, at).filter(|_| !name.is_empty()) else {
            continue;
        };
        let (first, last) = (line_at(code, at), line_at(code, block_end(code, open) - 1));
        let lines = last - first + 1;
        if lines > FUNCTION_LINES_MAX {
            complaints.push(format!(
                "{}:{first}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}: split it",
                source.path
            ));
        }
    }
    complaints
}

/// Where the body of the function at `at` opens; `None` for a mere signature.
fn body(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (offset, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some(at + offset),
            _ => {}
        }
    }
    None
}

/// A word that has no place somewhere.
pub(crate) struct Banned {
    pub(crate) word: &'static str,
    /// Paths that begin so.
    pub(crate) under: &'static [&'static str],
    /// Except for paths that begin so.
    pub(crate) but: &'static [&'static str],
    pub(crate) in_tests: bool,
    pub(crate) instead: &'static str,
}

/// Everything that holds Rust.
pub(crate) const EVERYWHERE: &[&str] = &["src/", "proto/", "bench/", "tests/", "examples/"];

/// The list.
pub(crate) const BANNED: &[Banned] = &[
    Banned {
        word: "todo!",
        under: EVERYWHERE,
        but: &[],
        in_tests: true,
        instead: "finish it, or leave the place without code",
    },
    Banned {
        word: "unimplemented!",
        under: EVERYWHERE,
        but: &[],
        in_tests: true,
        instead: "finish it, or return an error",
    },
    Banned { word: "dbg!", under: EVERYWHERE, but: &[], in_tests: true, instead: "use tracing" },
    Banned {
        word: "#[allow(",
        under: EVERYWHERE,
        but: &[],
        in_tests: true,
        instead: "use #[expect(lint, reason = \"…\")], which says when it is no longer needed",
    },
    Banned {
        word: "#![allow(",
        under: EVERYWHERE,
        but: &[],
        in_tests: true,
        instead: "use #![expect(lint, reason = \"…\")], which says when it is no longer needed",
    },
    Banned {
        word: "thread::sleep",
        under: &["src/", "proto/"],
        // A command may pace itself or poll an agent; the library and the core may not.
        but: &["src/cli/"],
        in_tests: false,
        instead: "wait for a condition, with a deadline",
    },
    Banned {
        word: "unbounded_channel",
        under: EVERYWHERE,
        but: &[],
        in_tests: true,
        instead: "every queue has a named maximum",
    },
    Banned {
        word: "HashMap",
        under: &["proto/src/"],
        but: &[],
        in_tests: false,
        instead: "its order differs from run to run; use BTreeMap or a sorted Vec",
    },
    Banned {
        word: "HashSet",
        under: &["proto/src/"],
        but: &[],
        in_tests: false,
        instead: "its order differs from run to run; use BTreeSet or a sorted Vec",
    },
    Banned {
        word: "std::time::Instant",
        under: &["proto/src/"],
        but: &[],
        in_tests: false,
        instead: "time comes in as weft_proto::time::Instant",
    },
    Banned {
        word: "SystemTime",
        under: &["proto/src/"],
        but: &[],
        in_tests: false,
        instead: "time comes in as weft_proto::time::Wall",
    },
    Banned {
        word: "std::net::UdpSocket",
        under: &["proto/src/"],
        but: &[],
        in_tests: false,
        instead: "the core has no sockets",
    },
    Banned {
        word: "std::thread",
        under: &["proto/src/"],
        but: &[],
        in_tests: false,
        instead: "the core has no threads",
    },
    Banned {
        word: "tokio",
        under: &["proto/src/"],
        but: &[],
        in_tests: true,
        instead: "the core is driven, it does not run",
    },
    Banned {
        word: "unsafe",
        under: &["src/", "proto/src/"],
        but: &["src/cache/raw", "src/net/sys"],
        in_tests: true,
        instead: "unsafe code lives in src/cache/raw and src/net/sys",
    },
];

/// No banned word stands where it must not.
pub(crate) fn banned(source: &Source) -> Vec<String> {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| source.path.starts_with(prefix));
    let mut complaints = Vec::new();
    for rule in BANNED.iter().filter(|rule| begins(rule.under) && !begins(rule.but)) {
        let code = if rule.in_tests { &source.code } else { &source.shipped };
        for at in find_words(code, rule.word) {
            let line = line_at(code, at);
            complaints.push(format!("{}:{line}: `{}`: {}", source.path, rule.word, rule.instead));
        }
    }
    complaints
}
