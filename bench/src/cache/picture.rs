//! Bars as SVG: one picture for each part, one row for each contender.
//!
//! In: results. Out: files. Ours is blue, bounds are grey.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::contender::WEFT;
use super::hits;
use super::part::Part;
use super::results::{Results, RowKind};
use crate::plot::escape;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 44.0;
const ROW: f64 = 22.0;
const BAR: f64 = 14.0;
const OURS: &str = "#0072b2";
const THEIRS: &str = "#d55e00";
const BOUND: &str = "#999999";

/// One bar.
struct Bar {
    name: String,
    value: f64,
    colour: &'static str,
}

/// Makes the folder.
///
/// # Errors
/// When it can't be made.
pub(crate) fn prepare(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
}

/// Writes a picture for each part that ran.
///
/// # Errors
/// When the folder can't be written to.
pub(crate) fn write(results: &Results, folder: &Path) -> anyhow::Result<()> {
    let put = |name: &str, text: String| {
        let path = folder.join(format!("{name}.svg"));
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    for (part, rows) in &results.speed {
        let threads = rows.iter().flat_map(|(_, row)| row.mops.keys()).max();
        let Some(threads) = threads else { continue };
        let bar = |(name, row): &(&'static str, super::results::Row)| {
            let colour = match row.kind {
                RowKind::Weft => OURS,
                RowKind::Peer => THEIRS,
                RowKind::Bound => BOUND,
            };
            let value = row.mops.get(threads).copied().unwrap_or_default();
            Bar { name: (*name).to_owned(), value, colour }
        };
        let title = format!("{}: Mops, {threads} threads", part.title());
        put(part.name(), bars(&title, rows.iter().map(bar).collect()))?;
    }
    if !results.bytes.is_empty() {
        let bar = |row: &super::bytes::Weighed| Bar {
            name: row.name.to_owned(),
            value: row.bytes,
            colour: colour(row.name),
        };
        let text = bars(Part::BytesPerEntry.title(), results.bytes.iter().map(bar).collect());
        put(Part::BytesPerEntry.name(), text)?;
    }
    let mut percents: Vec<f64> = results.hits.iter().map(|row| row.percent).collect();
    percents.sort_by(f64::total_cmp);
    percents.dedup();
    for percent in percents {
        let title = format!("mean hit ratio over traces, room for {percent} % of the keys");
        let mean = hits::mean(&results.hits, percent).into_iter();
        let bar = |(name, ratio): (String, f64)| Bar {
            colour: colour(&name),
            value: ratio * 100.0,
            name,
        };
        put(
            &format!("{}_{percent}", Part::HitRatio.name()),
            bars(&title, mean.map(bar).collect()),
        )?;
    }
    Ok(())
}

fn colour(name: &str) -> &'static str {
    match name {
        WEFT => OURS,
        hits::OPTIMUM | "papaya" | "scc::HashIndex" | "HashMap" => BOUND,
        _ => THEIRS,
    }
}

/// The longest bar on top.
fn bars(title: &str, mut rows: Vec<Bar>) -> String {
    rows.sort_by(|a, b| b.value.total_cmp(&a.value));
    let longest = rows.first().map_or(0.0, |bar| bar.value).max(f64::MIN_POSITIVE);
    let height = TOP + ROW * rows.len() as f64 + 12.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"14\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    for (index, bar) in rows.iter().enumerate() {
        let top = TOP + ROW * index as f64;
        let length = ((WIDTH - LEFT - RIGHT) * bar.value / longest).max(0.0);
        let (name_at, base, end) = (LEFT - 8.0, top + 12.0, LEFT + length + 6.0);
        let (name, colour, value) = (escape(&bar.name), bar.colour, bar.value);
        writeln!(
            text,
            "<text x=\"{name_at}\" y=\"{base}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
             <text x=\"{end:.1}\" y=\"{base}\">{value:.1}</text>"
        )
        .ok();
    }
    text.push_str("</svg>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::assert_well_formed;

    #[test]
    fn bars_are_well_formed_whatever_is_in_them() {
        let bar = |name: &str, value| Bar { name: name.into(), value, colour: OURS };
        let picture = bars("a < b", vec![bar("<x>", 1.0), bar("y", 40.0), bar("zero", 0.0)]);
        assert_well_formed(&picture);
        assert!(picture.find(">y<") < picture.find("&lt;x&gt;"), "the longest comes first");
        assert_well_formed(&bars("none", Vec::new()));
    }
}
