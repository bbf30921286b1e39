//! Aligned columns: words to the left, numbers to the right, two spaces between.

use super::output::printable;

/// On which side a column's cells are even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A table with a line of titles. Cells are made safe for the terminal.
pub(super) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) const fn new(columns: [(&'static str, Align); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| match printable(&cell) {
            empty if empty.is_empty() => "-".to_owned(),
            cell => cell,
        }));
    }

    pub(super) fn render(&self) -> String {
        let titles = self.columns.map(|(title, _)| title.to_owned());
        let lines: Vec<&[String; N]> = std::iter::once(&titles).chain(&self.rows).collect();
        let mut widths = [0; N];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line.iter()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for line in lines {
            let mut text = String::new();
            for ((cell, width), (_, align)) in line.iter().zip(widths).zip(self.columns) {
                let cell = match align {
                    Align::Left => format!("{cell:<width$}  "),
                    Align::Right => format!("{cell:>width$}  "),
                };
                text.push_str(&cell);
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_even() {
        let mut table = Table::new([("NAME", Align::Left), ("HEAD", Align::Right)]);
        table.row(["a".into(), "12345".into()]);
        table.row(["longer\n".into(), String::new()]);
        assert_eq!(table.render(), "NAME       HEAD\na         12345\nlonger\\n      -\n");
    }
}
