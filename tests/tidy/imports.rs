//! Who may see whom: the levels of the core and the directions of the root package.
//!
//! In: a source and a table. Out: one line for each import that points the wrong way. Paths are
//! read where they stand, in `use` and in code: `crate::x::…`, `super::…` where it leaves the
//! module, and groups of either. A glob or a re-export at the crate's root would hide a direction,
//! so a path through the root has to name a module of the table.

use super::source::{Source, find_words, is_word, line_at};

/// What a module may see.
pub(crate) struct Module {
    pub(crate) name: &'static str,
    pub(crate) sees: Sees,
    /// Paths from outside that are closed to it, and why.
    pub(crate) closed: &'static [(&'static str, &'static str)],
}

/// The modules of its own package that a module may see.
pub(crate) enum Sees {
    /// All below this level; same-level modules only when the flag says so.
    Below { level: u8, siblings: bool },
    /// Exactly these.
    Only(&'static [&'static str]),
}

/// Among what a module may see: types that the crate's root exports, named without their module.
/// For modules that use the library as its users do.
pub(crate) const PUBLIC: &str = "the crate's public types";

/// Checks one file of the package whose sources are under `root`.
pub(crate) fn check(source: &Source, root: &str, table: &[Module]) -> Vec<String> {
    let Some(place) = source.path.strip_prefix(root).and_then(|p| p.strip_suffix(".rs")) else {
        return Vec::new();
    };
    let mut module: Vec<&str> = place.trim_start_matches('/').split('/').collect();
    if module.last() == Some(&"mod") {
        module.pop();
    }
    // The roots tie everything together and are seen by nothing.
    if matches!(module[..], ["lib" | "main"]) {
        return Vec::new();
    }
    let Some(own) = table.iter().find(|row| row.name == module[0]) else {
        return vec![format!(
            "{}: module `{}` is not in tests/tidy.rs' table",
            source.path, module[0]
        )];
    };
    let mut complaints = Vec::new();
    for (at, seen) in seen_modules(&source.shipped, module.len()) {
        let public = seen.starts_with(char::is_uppercase)
            && matches!(own.sees, Sees::Only(names) if names.contains(&PUBLIC));
        if public {
            continue;
        }
        let verdict = match table.iter().find(|row| row.name == seen) {
            Some(other) => allowed(own, other),
            None => {
                Err("it is not a module of tests/tidy.rs' table; name the module it lives in"
                    .into())
            }
        };
        if let Err(why) = verdict {
            let line = line_at(&source.shipped, at);
            let own = own.name;
            complaints
                .push(format!("{}:{line}: `{own}` must not see `{seen}`: {why}", source.path));
        }
    }
    for (path, why) in own.closed {
        for at in find_words(&source.shipped, path) {
            let line = line_at(&source.shipped, at);
            let own = own.name;
            complaints
                .push(format!("{}:{line}: `{own}` must not see `{path}`: {why}", source.path));
        }
    }
    complaints
}

fn allowed(own: &Module, other: &Module) -> Result<(), String> {
    if own.name == other.name {
        return Ok(());
    }
    match (&own.sees, &other.sees) {
        (Sees::Only(names), _) if names.contains(&other.name) => Ok(()),
        (Sees::Only(names), _) => Err(format!("it sees only {names:?}")),
        (Sees::Below { level, siblings }, Sees::Below { level: theirs, .. }) => {
            if theirs < level || (theirs == level && *siblings) {
                Ok(())
            } else if theirs == level {
                Err(format!("siblings of level {level} do not see each other"))
            } else {
                Err(format!("level {level} does not see level {theirs}"))
            }
        }
        (Sees::Below { .. }, Sees::Only(_)) => Err("it has no level".into()),
    }
}

/// Modules of the crate's root that the code names, and where. `depth` is how deep the file's own
/// module lies, to tell which `super` leads to the root.
fn seen_modules(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut seen = Vec::new();
    for at in find_words(code, "crate::") {
        // `$crate::` in a macro is a path too, and means the same here.
        names(code, at + "crate::".len(), &mut seen);
    }
    for at in find_words(code, "super::") {
        if code[..at].ends_with("super::") {
            continue; // Counted with the first of the chain.
        }
        let rest = &code[at..];
        let tail = rest.trim_start_matches("super::");
        let supers = (rest.len() - tail.len()) / "super::".len();
        if supers == depth {
            names(code, code.len() - tail.len(), &mut seen);
        }
    }
    seen
}

/// The first names of the path, or of each path of the group, that begins at `at`.
fn names(code: &str, at: usize, seen: &mut Vec<(usize, String)>) {
    let rest = &code[at..];
    if !rest.starts_with('{') {
        let name: String = rest.chars().take_while(|&c| is_word(c) || c == '*').collect();
        // A macro that the root exports by name is no module.
        if !rest[name.len()..].starts_with('!') {
            seen.push((at, name));
        }
        return;
    }
    let (mut depth, mut fresh) = (0_usize, false);
    for (offset, c) in rest.char_indices() {
        match c {
            '{' => {
                depth += 1;
                fresh = depth == 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            ',' if depth == 1 => fresh = true,
            c if fresh && depth == 1 && !c.is_whitespace() => {
                fresh = false;
                names(code, at + offset, seen);
            }
            _ => {}
        }
    }
}
