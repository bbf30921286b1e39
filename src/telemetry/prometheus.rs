//! Renders metrics in Prometheus' text format, version 0.0.4.
//!
//! In: families with their samples. Out: text in the order given, with one `HELP` and one `TYPE`
//! line a family and everything escaped that has to be. Names are ours and constant, so they are
//! asserted and not escaped; label values may be anything.

use std::fmt::{self, Write as _};

use crate::mesh::{Family, MetricKind};

/// The content type that scrapers expect.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole answer to a scrape.
pub(crate) fn render(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families {
        write_family(&mut out, family).expect("invariant: writing to a String cannot fail");
    }
    out
}

fn write_family(out: &mut String, family: &Family) -> fmt::Result {
    let Family { name, help, kind, samples } = family;
    debug_assert!(is_metric_name(name), "not a metric name: {name}");
    let kind = match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
    };
    write!(out, "# HELP {name} ")?;
    write_escaped(out, help, false)?;
    write!(out, "\n# TYPE {name} {kind}\n")?;
    for (labels, value) in samples {
        out.push_str(name);
        let mut separator = '{';
        for (label, text) in labels {
            debug_assert!(is_metric_name(label) && !label.contains(':'), "not a label: {label}");
            write!(out, "{separator}{label}=\"")?;
            write_escaped(out, text, true)?;
            out.push('"');
            separator = ',';
        }
        if separator == ',' {
            out.push('}');
        }
        writeln!(out, " {}", Number(*value))?;
    }
    Ok(())
}

/// Help texts escape backslash and line feed; label values the quote too.
fn write_escaped(out: &mut String, text: &str, quote: bool) -> fmt::Result {
    for c in text.chars() {
        match c {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '"' if quote => out.write_str("\\\"")?,
            c => out.write_char(c)?,
        }
    }
    Ok(())
}

fn is_metric_name(name: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b':';
    name.bytes().next().is_some_and(first) && name.bytes().all(|b| first(b) || b.is_ascii_digit())
}

/// The format's spelling of the numbers that Rust spells otherwise.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_nan() {
            f.write_str("NaN")
        } else if self.0.is_infinite() {
            f.write_str(if self.0 > 0.0 { "+Inf" } else { "-Inf" })
        } else {
            write!(f, "{}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_render_as_prometheus_reads_them() {
        let families = [
            Family {
                name: "a_total",
                help: "Counts \\ and\nlines.",
                kind: MetricKind::Counter,
                samples: vec![(Vec::new(), 9_007_199_254_740_992.0)],
            },
            Family {
                name: "b",
                help: "Gauge \"quoted\".",
                kind: MetricKind::Gauge,
                samples: vec![
                    (vec![("x", "q\"b\\n\n".into()), ("y", "ü".into())], 0.5),
                    (vec![("x", String::new())], 0.0),
                ],
            },
        ];
        assert_eq!(
            render(&families),
            "# HELP a_total Counts \\\\ and\\nlines.\n\
             # TYPE a_total counter\n\
             a_total 9007199254740992\n\
             # HELP b Gauge \"quoted\".\n\
             # TYPE b gauge\n\
             b{x=\"q\\\"b\\\\n\\n\",y=\"ü\"} 0.5\n\
             b{x=\"\"} 0\n"
        );
    }

    #[test]
    fn odd_floats_have_the_formats_names() {
        let spelled = |value| Number(value).to_string();
        assert_eq!(spelled(f64::NAN), "NaN");
        assert_eq!(spelled(f64::INFINITY), "+Inf");
        assert_eq!(spelled(f64::NEG_INFINITY), "-Inf");
        assert_eq!(spelled(3.0), "3");
    }

    #[test]
    fn nothing_renders_as_nothing() {
        assert_eq!(render(&[]), "");
    }
}
