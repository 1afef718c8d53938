//! Numbers as commands print them.

/// The f64 with the fewest digits that equals `value` in f32.
pub fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(value.into())
}

/// Groups digits: `1234567` as `1 234 567`.
pub fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Formats bytes in the unit that leaves one to three digits.
pub fn bytes(n: usize) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (n as f64, "bytes");
    for next in units {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    if unit == "bytes" { format!("{n} bytes") } else { format!("{value:.2} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::{bytes, grouped};

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            (grouped(0), grouped(999), grouped(3_238_048_528)),
            ("0".into(), "999".into(), "3 238 048 528".into())
        );
        assert_eq!((bytes(999), bytes(8_056_173_048)), ("999 bytes".into(), "8.06 GB".into()));
    }
}
