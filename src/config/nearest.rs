//! "Did you mean": the known key closest to a mistyped one.

use super::setting::Setting;

/// Further apart than this, a suggestion would be a guess and not a help.
const EDITS_MAX: usize = 3;

/// The sentence that follows "unknown key": a suggestion, or all keys when none is close. Secrets,
/// which a file may not hold, are neither.
pub(super) fn hint(key: &str) -> String {
    // Underscores are the commonest slip; they don't count as an edit.
    let typed = key.to_ascii_lowercase().replace('_', "-");
    let known = || Setting::ALL.into_iter().filter(|setting| !setting.is_secret());
    let nearest = known().map(|s| (edits(&typed, s.key()), s)).min();
    match nearest {
        Some((distance, setting)) if distance <= EDITS_MAX.min(setting.key().len() / 2) => {
            format!("did you mean \"{setting}\"?")
        }
        _ => format!("known keys: {}", known().map(Setting::key).collect::<Vec<_>>().join(", ")),
    }
}

/// Levenshtein distance, one row at a time. Both words are short: keys, not documents.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(edits("", "bind"), 4);
        assert_eq!(edits("bind", "bind"), 0);
        assert_eq!(edits("bnid", "bind"), 2);
        assert_eq!(edits("seeds", "seed"), 1);
    }

    #[test]
    fn close_keys_are_suggested_and_far_ones_are_not() {
        assert_eq!(hint("seeds"), "did you mean \"seed\"?");
        assert_eq!(hint("log_format"), "did you mean \"log-format\"?");
        assert_eq!(hint("Bnd"), "did you mean \"bind\"?");
        assert!(hint("quorum").starts_with("known keys: cluster, name,"), "{}", hint("quorum"));
        assert!(!hint("quorum").contains(" key,"), "{}", hint("quorum"));
    }
}
