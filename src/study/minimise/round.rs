//! Simpler values: shorter times, and numbers of fewer digits.

use std::time::Duration;

use tiershift_core::time::{SpanText, span_text};
use toml::Value;

/// Returns values that are simpler than one, the simplest first.
pub(super) fn rounder(value: &Value) -> Vec<Value> {
    match value {
        Value::Integer(number) => {
            digits(*number as f64).into_iter().map(|it| Value::Integer(it as i64)).collect()
        }
        Value::Float(number) => digits(*number).into_iter().map(Value::Float).collect(),
        Value::String(text) => {
            let simpler = spans(text).or_else(|| with_unit(text)).unwrap_or_default();
            simpler.into_iter().filter(|it| it != text).map(Value::String).collect()
        }
        Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => Vec::new(),
    }
}

/// Returns spans that are shorter than one, the shortest first, then rounder ones; `None` if it is not a span.
fn spans(text: &str) -> Option<Vec<String>> {
    let span: Duration = text.parse::<SpanText>().ok()?.into();
    let shorter = FACE.iter().filter(|&&(seconds, _)| span.as_secs_f64() > seconds as f64);
    let mut all: Vec<String> = shorter.map(|&(_, text)| text.to_owned()).collect();
    // If none of these works, a rounder one may: a little shorter, or longer.
    let seconds = span.as_secs();
    for unit in [3600, 600, 60, 10, 1] {
        let near = [seconds / unit * unit, seconds.div_ceil(unit) * unit];
        let near = near.into_iter().filter(|it| *it > 0 && *it < seconds + seconds / 4);
        all.extend(near.map(|it| span_text(Duration::from_secs(it))));
    }
    Some(all)
}

/// Returns a number with its unit in fewer digits: whole GiB for MiB if they are close; `None` if it is not a number.
fn with_unit(text: &str) -> Option<Vec<String>> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let mut all = Vec::new();
    let larger = LARGER.iter().find(|(small, _)| *small == unit.trim());
    if let Some((_, large)) = larger
        && number >= 1024.0
    {
        let whole = number / 1024.0;
        all.extend([whole.floor(), whole.ceil()].map(|it| format!("{it}{large}")));
        all.dedup();
    }
    all.extend(digits(number).into_iter().map(|it| format!("{it}{unit}")));
    Some(all)
}

/// Returns a number in one digit, then in two: rounded down, then up.
fn digits(number: f64) -> Vec<f64> {
    let mut unit = 1.0;
    while number.abs() / unit >= 10.0 {
        unit *= 10.0;
    }
    let rounds = [unit, unit / 10.0]
        .into_iter()
        .flat_map(|unit| [(number / unit).floor() * unit, (number / unit).ceil() * unit]);
    let mut all: Vec<f64> = Vec::new();
    for round in rounds.filter(|it| *it != 0.0 && *it != number) {
        if !all.contains(&round) {
            all.push(round);
        }
    }
    all
}

/// Usual spans, the shortest first [s].
const FACE: [(u64, &str); 16] = [
    (1, "1s"),
    (2, "2s"),
    (5, "5s"),
    (10, "10s"),
    (20, "20s"),
    (30, "30s"),
    (60, "1m"),
    (120, "2m"),
    (300, "5m"),
    (600, "10m"),
    (900, "15m"),
    (1200, "20m"),
    (1800, "30m"),
    (3600, "1h"),
    (7200, "2h"),
    (14_400, "4h"),
];
/// Units of size, and the next larger one.
const LARGER: [(&str, &str); 2] = [("KiB", "MiB"), ("MiB", "GiB")];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &Value, want: &[&str]) {
        let got: Vec<String> = rounder(value)
            .iter()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect();
        assert_eq!(got, want, "{value}");
    }

    #[test]
    fn numbers_lose_digits() {
        check(&Value::Integer(137), &["100", "200", "130", "140"]);
        check(&Value::Integer(4), &[]);
        check(&Value::Float(1024.0), &["1000.0", "2000.0", "1100.0"]);
        let sizes = ["8GiB", "9GiB", "8000MiB", "9000MiB", "8400MiB", "8500MiB"];
        check(&Value::String("8437MiB".to_owned()), &sizes);
        check(&Value::String("37%".to_owned()), &["30%", "40%"]);
        check(&Value::String("m12".to_owned()), &[]);
    }

    #[test]
    fn spans_become_those_that_people_say() {
        check(
            &Value::String("47s".to_owned()),
            &["1s", "2s", "5s", "10s", "20s", "30s", "40s", "50s"],
        );
        check(&Value::String("1s".to_owned()), &[]);
    }
}
