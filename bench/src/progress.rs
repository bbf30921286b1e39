//! A bar on stderr while a benchmark runs; nothing when stderr is not a terminal.

use std::io::{self, IsTerminal, Write};

/// Characters of the bar.
const WIDTH: usize = 30;

/// The bar.
pub(crate) struct Progress {
    total: usize,
    done: usize,
    shown: bool,
}

impl Progress {
    /// For `total` steps.
    #[must_use]
    pub(crate) fn new(total: usize) -> Self {
        Self { total, done: 0, shown: io::stderr().is_terminal() }
    }

    /// Says what comes now; the step counts as done with the next call.
    pub(crate) fn step(&mut self, what: &str) {
        if self.shown {
            let text = bar(self.done, self.total, what);
            write!(io::stderr(), "\r\x1b[K{text}").ok();
        }
        self.done += 1;
    }
}

impl Progress {
    /// Takes the bar away, so that results can be printed.
    pub(crate) fn clear(&self) {
        if self.shown {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(done: usize, total: usize, what: &str) -> String {
    let filled = (done * WIDTH / total.max(1)).min(WIDTH);
    let (full, empty) = ("#".repeat(filled), ".".repeat(WIDTH - filled));
    format!("[{full}{empty}] {done}/{total} {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_and_never_overflows() {
        assert_eq!(bar(1, 3, "x"), format!("[{}{}] 1/3 x", "#".repeat(10), ".".repeat(20)));
        assert!(bar(9, 3, "").starts_with(&format!("[{}]", "#".repeat(WIDTH))));
        assert!(bar(0, 0, "").starts_with(&format!("[{}]", ".".repeat(WIDTH))));
    }
}
