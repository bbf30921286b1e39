//! Numbers as people read them.

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in nanoseconds to three digits, in the unit that suits it.
pub(super) fn nanos(nanos: u64) -> String {
    // Three digits are shown: what a double loses beyond 2^53 is not among them.
    let nanos = nanos as f64;
    let (value, unit) = [(1e9, "s"), (1e6, "ms"), (1e3, "us")]
        .into_iter()
        .find(|(scale, _)| nanos >= *scale)
        .map_or((nanos, "ns"), |(scale, unit)| (nanos / scale, unit));
    let decimals = match value {
        _ if unit == "ns" => 0,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1_000, 123_456, 1_234_567].map(count);
        assert_eq!(texts, ["0", "999", "1,000", "123,456", "1,234,567"]);
    }

    #[test]
    fn durations_take_the_unit_that_suits() {
        let texts = [7, 1_240, 41_200, 412_000, 1_240_000, 2_500_000_000].map(nanos);
        assert_eq!(texts, ["7 ns", "1.24 us", "41.2 us", "412 us", "1.24 ms", "2.50 s"]);
    }
}
