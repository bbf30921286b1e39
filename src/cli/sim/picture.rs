//! Figures by size of the mesh, as one SVG: a panel above the other, a line for each figure.
//!
//! In: points. Out: text. Across: peers, logarithmic. Up: from zero, linear.

use std::fmt::Write as _;

/// One figure's line: its name, which needs no escaping, and (peers, value) ascending by peers.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// Lines with one scale.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) lines: Vec<Line>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 100.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 36.0;
/// Told apart by colour-blind readers too (Okabe and Ito's palette).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
/// Lines across a panel.
const STEPS: u32 = 4;

/// The whole picture.
pub(super) fn svg(panels: &[Panel]) -> String {
    let height = HEIGHT * panels.len() as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        writeln!(text, "<g transform=\"translate(0 {})\">", HEIGHT * index as f64).ok();
        draw(&mut text, panel);
        text.push_str("</g>\n");
    }
    text + "</svg>\n"
}

/// One, two or five times a power of ten, not below `value`.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-9).log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    factors.into_iter().map(|factor| factor * power).find(|&top| top >= value).unwrap_or(value)
}

fn draw(text: &mut String, panel: &Panel) {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let top = round_up(points().map(|&(_, value)| value).fold(0.0, f64::max));
    let logs = || points().map(|(peers, _)| peers.log10());
    let low = logs().fold(f64::INFINITY, f64::min);
    let span = (logs().fold(f64::NEG_INFINITY, f64::max) - low).max(1e-9);
    let bottom = HEIGHT - BOTTOM;
    let x = |peers: f64| LEFT + (WIDTH - LEFT - RIGHT) * (peers.log10() - low) / span;
    let y = |value: f64| bottom - (bottom - TOP) * value / top;

    writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"24\" font-size=\"14\" font-weight=\"bold\">{}</text>",
        panel.title
    )
    .ok();
    for step in 0..=STEPS {
        let value = top * f64::from(step) / f64::from(STEPS);
        let (at, left, right) = (y(value), LEFT - 8.0, WIDTH - RIGHT);
        writeln!(text, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>").ok();
        let down = at + 4.0;
        writeln!(text, "<text x=\"{left}\" y=\"{down:.1}\" text-anchor=\"end\">{value}</text>")
            .ok();
    }
    for (index, line) in panel.lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut path = String::new();
        for &(peers, value) in &line.points {
            let command = if path.is_empty() { 'M' } else { 'L' };
            write!(path, "{command}{:.1} {:.1}", x(peers), y(value)).ok();
            if index == 0 {
                let (at, under) = (x(peers), bottom + 18.0);
                writeln!(
                    text,
                    "<text x=\"{at:.1}\" y=\"{under}\" text-anchor=\"middle\">{peers}</text>"
                )
                .ok();
            }
        }
        let style = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"");
        writeln!(text, "<path d=\"{path}\" {style}/>").ok();
        let (right, down) = (WIDTH - RIGHT + 12.0, TOP + 14.0 + 20.0 * index as f64);
        writeln!(text, "<text x=\"{right}\" y=\"{down}\" fill=\"{colour}\">{}</text>", line.name)
            .ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_within_its_panel() {
        let line = Line { name: "packets", points: vec![(5.0, 0.0), (50.0, 7.0), (500.0, 18.4)] };
        let picture = svg(&[Panel { title: "idle", lines: vec![line] }]);
        assert!(picture.contains("M60.0 244.0L300.0 172.6L540.0 56.3"), "{picture}");
        assert!(picture.contains(">20<") && picture.contains(">500<"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
    }

    #[test]
    fn scales_end_at_round_numbers() {
        assert_eq!([0.3, 1.0, 1.1, 18.4, 51.0].map(round_up), [0.5, 1.0, 2.0, 20.0, 100.0]);
    }
}
