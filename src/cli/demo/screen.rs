//! What the demo shows while it runs, on stderr, so that stdout carries the verdict alone.
//!
//! On a terminal, a small table is redrawn in place below the events; elsewhere, one plain line a
//! second. [`render`] and [`plain_line`] are pure: rows in, text out.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::text::{count, nanos};

/// Between two redraws of the table: fast enough to look alive, slow enough to be read.
const REDRAW: Duration = Duration::from_millis(250);
/// Between two plain lines.
const PLAIN: Duration = Duration::from_secs(1);

/// What a peer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Joining,
    Ready,
    Publishing,
    Stopped,
    Killed,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Publishing => "publishing",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
        }
    }

    /// The terminal's own green, yellow and red; plain text is never coloured.
    fn colour(self) -> &'static str {
        match self {
            Self::Publishing | Self::Ready => "32",
            Self::Joining => "33",
            Self::Killed => "31",
            Self::Stopped => "0",
        }
    }
}

/// One peer, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) published: u64,
    pub(super) applied: u64,
    /// Records owed to it that it has not applied.
    pub(super) behind: u64,
    /// 99th percentile of its latencies in nanoseconds; none before the first.
    pub(super) p99: Option<u64>,
}

/// Where progress is shown.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    colour: bool,
    began: Instant,
    drawn_at: Instant,
    /// Lines of the table that stand on the terminal now.
    lines: usize,
}

impl Screen {
    /// Looks at the environment: a terminal that can move its cursor gets the table.
    pub(super) fn on_stderr() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let terminal = io::stderr().is_terminal() && !dumb;
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let began = Instant::now();
        Self { terminal, colour, began, drawn_at: began, lines: 0 }
    }

    /// Prints a line that stays.
    pub(super) fn say(&mut self, event: &str) {
        let erase = self.erase();
        show(&format!("{erase}{} {event}\n", stamp(self.began.elapsed())));
    }

    /// Whether it is time to show the rows again.
    pub(super) fn is_due(&self) -> bool {
        let pause = if self.terminal { REDRAW } else { PLAIN };
        self.drawn_at.elapsed() >= pause
    }

    /// Shows the rows.
    pub(super) fn draw(&mut self, rows: &[Row]) {
        self.drawn_at = Instant::now();
        if !self.terminal {
            show(&format!("{} {}\n", stamp(self.began.elapsed()), plain_line(rows)));
            return;
        }
        let erase = self.erase();
        let table = render(rows, self.colour);
        self.lines = table.len();
        // Without wrapping (?7l) a narrow terminal cuts lines off, and the count stays right.
        show(&format!("{erase}\x1b[?7l{}\n\x1b[?7h", table.join("\n")));
    }

    /// Removes the table; the verdict follows.
    pub(super) fn finish(&mut self) {
        show(&self.erase());
    }

    /// What takes the table off the terminal.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.lines) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }
}

/// A closed stderr is no reason to end the demo.
fn show(text: &str) {
    io::stderr().lock().write_all(text.as_bytes()).ok();
}

fn stamp(elapsed: Duration) -> String {
    format!("{:5.1} s ", elapsed.as_secs_f64())
}

/// The table, line by line.
pub(super) fn render(rows: &[Row], colour: bool) -> Vec<String> {
    let wide = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("peer".len());
    let mut lines = vec![format!(
        "  {:wide$}  {:10}  {:>11}  {:>11}  {:>8}  {:>8}",
        "peer", "state", "published", "applied", "behind", "p99"
    )];
    lines.extend(rows.iter().map(|row| {
        let mut state = format!("{:10}", row.state.word());
        if colour {
            state = format!("\x1b[{}m{state}\x1b[0m", row.state.colour());
        }
        let name = &row.name;
        let p99 = row.p99.map_or_else(|| "-".into(), nanos);
        let (published, applied) = (count(row.published), count(row.applied));
        let behind = count(row.behind);
        format!("  {name:wide$}  {state}  {published:>11}  {applied:>11}  {behind:>8}  {p99:>8}")
    }));
    lines
}

/// The same in one line.
pub(super) fn plain_line(rows: &[Row]) -> String {
    let published = rows.iter().map(|row| row.published).sum();
    let applied = rows.iter().map(|row| row.applied).sum();
    let behind = rows.iter().map(|row| row.behind).max().unwrap_or(0);
    let p99 = rows.iter().filter_map(|row| row.p99).max().map_or_else(|| "-".into(), nanos);
    let mut line = format!(
        "published {}, applied {}, furthest behind {}, worst p99 {p99}",
        count(published),
        count(applied),
        count(behind)
    );
    for row in rows.iter().filter(|row| matches!(row.state, State::Joining | State::Killed)) {
        line.push_str(&format!(", {} {}", row.name, row.state.word()));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |name: &str, state, published, behind, p99| Row {
            name: name.into(),
            state,
            published,
            applied: 4 * published,
            behind,
            p99,
        };
        vec![
            row("peer-1", State::Publishing, 16_004, 3, Some(412_000)),
            row("peer-2", State::Killed, 9_120, 0, Some(1_240_000)),
            row("peer-3", State::Joining, 0, 0, None),
        ]
    }

    #[test]
    fn the_table_lines_up() {
        let expected = "
  peer    state         published      applied    behind       p99
  peer-1  publishing       16,004       64,016         3    412 us
  peer-2  killed            9,120       36,480         0   1.24 ms
  peer-3  joining               0            0         0         -";
        assert_eq!(render(&rows(), false).join("\n"), expected.trim_start_matches('\n'));
    }

    #[test]
    fn colours_change_no_width() {
        let coloured = render(&rows(), true);
        assert!(coloured[1].contains("\x1b[32mpublishing\x1b[0m"));
        let stripped: Vec<String> = coloured
            .iter()
            .map(|line| {
                ["32", "31", "33", "0"]
                    .iter()
                    .fold(line.clone(), |line, code| line.replace(&format!("\x1b[{code}m"), ""))
            })
            .collect();
        assert_eq!(stripped, render(&rows(), false));
    }

    #[test]
    fn the_plain_line_names_who_is_missing() {
        assert_eq!(
            plain_line(&rows()),
            "published 25,124, applied 100,496, furthest behind 3, worst p99 1.24 ms, \
             peer-2 killed, peer-3 joining"
        );
    }
}
