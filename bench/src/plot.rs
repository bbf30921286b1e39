//! Latency distributions as one SVG: a panel per rate, a line per system.
//!
//! In: histograms of nanoseconds. Out: text. Across: the share of records, stretched towards its
//! end (50 %, 90 %, 99 %, ...), where systems differ. Up: latency, logarithmic.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// One system's line.
pub(crate) struct Line {
    /// The system's name.
    pub(crate) name: String,
    /// Nanoseconds.
    pub(crate) latency_ns: Histogram<u64>,
}

/// One rate's lines.
pub(crate) struct Panel {
    /// What was measured.
    pub(crate) title: String,
    /// How each system did.
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 720.0;
const PANEL_HEIGHT: f64 = 320.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;
/// Marks across; the last is where the plot ends: beyond it single records decide.
const SHARES: [(f64, &str); 6] = [
    (0.0, "0 %"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
];
/// Points per line: one for every two or three pixels.
const POINTS: u32 = 200;
/// Told apart by colour-blind readers too (Okabe and Ito's palette).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// How far across a share of records is, in decades of what is left above it.
fn across(share: f64) -> f64 {
    -(1.0 - share).log10()
}

/// The whole picture.
#[must_use]
pub(crate) fn svg(panels: &[Panel]) -> String {
    let height = PANEL_HEIGHT * panels.len().max(1) as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        writeln!(text, "<g transform=\"translate(0 {})\">", PANEL_HEIGHT * index as f64).ok();
        draw(&mut text, panel);
        text.push_str("</g>\n");
    }
    text.push_str("</svg>\n");
    text
}

/// Whole decades of microseconds that hold all lines.
fn decades(panel: &Panel) -> (i32, i32) {
    let measured = || panel.lines.iter().filter(|line| !line.latency_ns.is_empty());
    let decade = |nanos: u64| (nanos.max(1) as f64 / 1_000.0).log10();
    let low = measured().map(|line| decade(line.latency_ns.min())).fold(f64::INFINITY, f64::min);
    let last = SHARES[SHARES.len() - 1].0;
    let high = measured()
        .map(|line| decade(line.latency_ns.value_at_quantile(last)))
        .fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return (0, 1);
    }
    // Latencies of nanoseconds to hours are some 13 decades: far inside the type.
    let (low, high) = (low.floor() as i32, high.ceil() as i32);
    (low, high.max(low + 1))
}

fn draw(text: &mut String, panel: &Panel) {
    let (low, high) = decades(panel);
    let span = f64::from(high - low);
    let end = across(SHARES[SHARES.len() - 1].0);
    let x = |share: f64| LEFT + (WIDTH - LEFT - RIGHT) * across(share) / end;
    let bottom = PANEL_HEIGHT - BOTTOM;
    let y = |decade: f64| bottom - (bottom - TOP) * (decade - f64::from(low)) / span;

    writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"24\" font-size=\"14\" font-weight=\"bold\">{}</text>",
        escape(&panel.title)
    )
    .ok();
    for (share, label) in SHARES {
        let at = x(share);
        writeln!(text, "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>").ok();
        let under = bottom + 18.0;
        writeln!(text, "<text x=\"{at:.1}\" y=\"{under}\" text-anchor=\"middle\">{label}</text>")
            .ok();
    }
    for decade in low..=high {
        let at = y(f64::from(decade));
        let end = WIDTH - RIGHT;
        writeln!(text, "<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#ddd\"/>").ok();
        let (left, down, label) = (LEFT - 8.0, at + 4.0, micros(decade));
        writeln!(text, "<text x=\"{left}\" y=\"{down:.1}\" text-anchor=\"end\">{label}</text>")
            .ok();
    }
    for (index, line) in panel.lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut path = String::new();
        for point in 0..=POINTS {
            let share = 1.0 - 10_f64.powf(-end * f64::from(point) / f64::from(POINTS));
            let nanos = line.latency_ns.value_at_quantile(share).max(1) as f64;
            let decade = (nanos / 1_000.0).log10().clamp(f64::from(low), f64::from(high));
            let command = if point == 0 { 'M' } else { 'L' };
            write!(path, "{command}{:.1} {:.1}", x(share), y(decade)).ok();
        }
        writeln!(text, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>")
            .ok();
        let (right, down) = (WIDTH - RIGHT + 14.0, TOP + 14.0 + 20.0 * index as f64);
        let name = escape(&line.name);
        writeln!(text, "<text x=\"{right}\" y=\"{down}\" fill=\"{colour}\">{name}</text>").ok();
    }
}

/// `10^decade` microseconds in the unit that suits it.
fn micros(decade: i32) -> String {
    let (power, unit) = match decade {
        ..0 => (decade + 3, "ns"),
        0..3 => (decade, "us"),
        3..6 => (decade - 3, "ms"),
        _ => (decade - 6, "s"),
    };
    format!("{} {unit}", 10_f64.powi(power))
}

/// Text as XML wants it.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Checks that every element is closed in order and no text has a bare angle bracket.
#[cfg(test)]
pub(crate) fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("an element ends");
        assert!(!text.contains('>'), "bare bracket in {text:?}");
        assert_eq!(tag.matches('"').count() % 2, 0, "an open quote in {tag:?}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a name"));
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::histogram;

    #[test]
    fn pictures_are_well_formed_whatever_is_in_them() {
        let mut full = histogram();
        (1..10_000).for_each(|value| full.record(value * 1_000).expect("in range"));
        let line = |name: &str, latency_ns: &Histogram<u64>| Line {
            name: name.into(),
            latency_ns: latency_ns.clone(),
        };
        let panel = |lines| Panel { title: "a < b & c".into(), lines };
        let panels = [
            panel(vec![line("weft", &full), line("<peer>", &histogram())]),
            panel(vec![line("nothing", &histogram())]),
            panel(Vec::new()),
        ];
        let picture = svg(&panels);
        assert_well_formed(&picture);
        assert!(picture.contains("a &lt; b &amp; c") && picture.contains("1 us"));
        assert_well_formed(&svg(&[]));
    }

    #[test]
    fn decades_have_names() {
        assert_eq!([-1, 0, 2, 3, 7].map(micros), ["100 ns", "1 us", "100 us", "1 ms", "10 s"]);
    }
}
