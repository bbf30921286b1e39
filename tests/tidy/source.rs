//! Source files as the tidy rules see them.
//!
//! In: a path and a text. Out: the code alone, with comments and the contents of literals blanked,
//! once with and once without the parts that only tests compile. Lines keep their numbers, so a
//! rule can say where. This is a scanner, not a parser: it knows enough of Rust's tokens to tell
//! code from text, and finds items by matching braces.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of this repository.
pub(crate) struct Source {
    /// From the repository's root, with `/` on every system.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Comments, strings and characters blanked.
    pub(crate) code: String,
    /// `code`, and items under `#[cfg(test)]` blanked too.
    pub(crate) shipped: String,
}

impl Source {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = blank_text(&text);
        let shipped = if is_test_file(&path) { blank(&code) } else { blank_tests(&code) };
        Self { path, text, code, shipped }
    }

    /// Lines that are compiled into what is shipped, up to the last one with code on it.
    pub(crate) fn shipped_lines(&self) -> usize {
        let last = self.shipped.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let end = last.last().map_or(0, |(n, _)| n + 1);
        let tests: usize = self
            .code
            .lines()
            .zip(self.shipped.lines())
            .take(end)
            .filter(|(code, shipped)| code != shipped)
            .count();
        end - tests
    }
}

/// Files under these folders, in order.
pub(crate) fn read_tree(root: &Path, folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root.join(folder), &mut paths);
    }
    paths.sort();
    let relative = |path: &Path| {
        let relative = path.strip_prefix(root).expect("invariant: found under the root");
        relative.to_string_lossy().replace('\\', "/")
    };
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Source::new(relative(path), text)
    };
    paths.iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("a readable directory").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Files that only tests compile: `tests.rs` beside the code, and everything in a `tests` folder.
fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "benches")
}

/// The line of a byte, from 1.
pub(crate) fn line_at(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Places where `needle` stands by itself, not as a part of a longer word.
pub(crate) fn find_words<'a>(
    code: &'a str,
    needle: &'a str,
) -> impl Iterator<Item = usize> + use<'a> {
    code.match_indices(needle).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + needle.len()..].chars().next();
        let glued = |edge: Option<char>, neighbour: Option<char>| {
            edge.is_some_and(is_word) && neighbour.is_some_and(is_word)
        };
        !glued(needle.chars().next(), before) && !glued(needle.chars().next_back(), after)
    })
}

/// Where the block that opens at `open` ends (after its brace).
pub(crate) fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// Blanks items under `#[cfg(test)]` and `#[cfg(all(test, ...))]`.
fn blank_tests(code: &str) -> String {
    let mut out = code.to_owned();
    for attribute in ["#[cfg(test)]", "#[cfg(all(test"] {
        while let Some(start) = out.find(attribute) {
            // The item ends with its block, or with a semicolon when it has none.
            let body = out[start..].find(['{', ';']).map_or(out.len(), |at| start + at);
            let end = if out[body..].starts_with('{') { block_end(&out, body) } else { body + 1 };
            let end = end.min(out.len());
            out.replace_range(start..end, &blank(&out[start..end]));
        }
    }
    out
}

/// Blanks comments, and what is inside of string and character literals.
fn blank_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after_word = out.chars().next_back().is_some_and(is_word);
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_len(rest)
        } else if let Some(len) = raw_string_len(rest).filter(|_| !after_word) {
            len
        } else if c == '"' {
            string_len(rest)
        } else if let Some(len) = (c == '\'').then(|| char_len(rest)).flatten() {
            len
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        // Blanks count in bytes, so that places in the text and in the code agree.
        out.extend(rest[..skipped].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
        rest = &rest[skipped..];
    }
    out
}

fn comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else if let Some(c) = rest.chars().next() {
            at += c.len_utf8();
        } else {
            return text.len();
        }
        if depth == 0 {
            return at;
        }
    }
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, `br"…"` and so on.
fn raw_string_len(text: &str) -> Option<usize> {
    let body = text.strip_prefix('b').or_else(|| text.strip_prefix('c')).unwrap_or(text);
    let body = body.strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let body = body[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let head = text.len() - body.len();
    Some(body.find(&close).map_or(text.len(), |at| head + at + close.len()))
}

/// A character literal; `None` for a lifetime.
fn char_len(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        // The escaped character may be a quote itself; the end comes after it.
        chars.next()?;
        return chars.find(|&(_, c)| c == '\'').map(|(at, _)| at + 1);
    }
    let (at, second) = chars.next()?;
    (second == '\'').then_some(at + 1)
}
