//! Kubernetes quantities: what a text like `1500m` or `2Gi` is in thousandths, in whole units, as a float, and in
//! canonical form. Two representations, as there: 64 bits and a power of ten while it fits, else a big decimal. Their
//! overflows differ, and both are reproduced.

use crate::core::error::ConfigError;
use num_bigint::{BigInt, BigUint, Sign};

/// Powers of ten, from nano up, that the scales know.
const NANO: i32 = -9;
const MILLI: i32 = -3;

/// Digits that certainly fit in 64 bits.
const SAFE_DIGITS: i64 = 18;

/// Exponents beyond this are refused where the number does not fit in 64 bits: writing them out would fill the memory.
const LARGEST_EXPONENT: i32 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Exponent,
    Decimal,
    Binary,
}

/// The value itself.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Amount {
    /// `value * 10^scale`.
    Small(i64, i32),
    /// `value * 10^-scale`.
    Big(BigInt, i32),
}

/// A parsed quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity {
    amount: Amount,
    format: Format,
    /// The text itself, where it counts as canonical already.
    kept: Option<String>,
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, i32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

fn refuse(text: &str, allowed: &str) -> ConfigError {
    let shown: String = text.chars().take(60).collect();
    ConfigError::new("quantity", format!("{shown:?}"), allowed)
}

const FORM: &str = "a Kubernetes quantity: digits, then one of n u m k M G T P E Ki Mi Gi Ti Pi Ei or an exponent e3";

fn suffix(text: &str) -> Option<(Format, i32)> {
    if let Some((_, e)) = DECIMAL.iter().find(|(s, _)| *s == text) {
        return Some((Format::Decimal, *e));
    }
    if let Some((_, e)) = BINARY.iter().find(|(s, _)| *s == text) {
        return Some((Format::Binary, *e));
    }
    let exponent = text.strip_prefix(['e', 'E']).filter(|t| !t.is_empty())?;
    // Cut to 32 bits, as there.
    Some((Format::Exponent, exponent.parse::<i64>().ok()? as i32))
}

/// A text taken apart: sign, digits without leading zeros, digits behind the point, suffix.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Option<Parts<'_>> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = |t: &str| t.len() - t.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let stripped = rest.trim_start_matches('0');
    let (whole, mut rest) = stripped.split_at_checked(digits(stripped))?;
    let mut fraction = "";
    if let Some(behind) = rest.strip_prefix('.') {
        (fraction, rest) = behind.split_at_checked(digits(behind))?;
    }
    let letters = rest.len() - rest.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c)).len();
    let behind = rest.get(letters..)?;
    let behind = behind.strip_prefix(['-', '+']).unwrap_or(behind);
    if digits(behind) != behind.len() {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(Parts { negative, whole, fraction, suffix: rest })
}

/// Reads a quantity.
pub fn parse(text: &str) -> Result<Quantity, ConfigError> {
    if text.is_empty() {
        return Err(refuse(text, FORM));
    }
    let Parts { negative, whole, fraction, suffix: unit } = split(text).ok_or_else(|| refuse(text, FORM))?;
    let (format, exponent) = suffix(unit).ok_or_else(|| refuse(text, FORM))?;
    let digits = i64::try_from(whole.len() + fraction.len()).unwrap_or(i64::MAX);
    let (scale, factor, room) = match format {
        Format::Exponent | Format::Decimal => (exponent, 1, SAFE_DIGITS.saturating_sub(digits)),
        // A binary unit of 2^20 is worth about six digits.
        Format::Binary if fraction.is_empty() => {
            (0, 1_i64.checked_shl(exponent.unsigned_abs()).unwrap_or(0), 14 - digits - i64::from(exponent * 3 / 10))
        }
        Format::Binary => (0, 1, -1),
    };
    let scale = i64::from(scale) - i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    if room >= 0
        && let Ok(scale) = i32::try_from(scale)
        && scale >= NANO
    {
        let shifted = format!("{whole}{fraction}");
        let value: i64 = shifted.parse().map_err(|_| refuse(text, FORM))?;
        if let Some(product) = value.checked_mul(factor) {
            let canonical = match format {
                Format::Binary => value & 7 != 0,
                _ => scale % 3 == 0 && !shifted.ends_with("000") && !shifted.starts_with('0'),
            };
            let amount = Amount::Small(if negative { -product } else { product }, scale);
            return Ok(Quantity { amount, format, kept: canonical.then(|| text.to_owned()) });
        }
    }
    big(text, negative, &format!("{whole}{fraction}"), scale, exponent, format)
}

fn power(exponent: u32) -> BigUint {
    BigUint::from(10_u32).pow(exponent)
}

/// What does not fit in 64 bits, kept to the nano, rounded up.
fn big(
    text: &str,
    negative: bool,
    digits: &str,
    scale: i64,
    exponent: i32,
    mut format: Format,
) -> Result<Quantity, ConfigError> {
    let mut value: BigUint = digits.parse().map_err(|_| refuse(text, FORM))?;
    if format == Format::Binary {
        value <<= exponent.unsigned_abs();
    }
    let zero = value == BigUint::ZERO;
    let mut scale = i32::try_from(-scale).map_err(|_| refuse(text, "an exponent within 10000"))?;
    if scale < -LARGEST_EXPONENT {
        return Err(refuse(text, "an exponent within 10000"));
    }
    if !zero {
        let shift = scale.saturating_add(NANO);
        if shift > 0 {
            // So far below a nano that dividing it out is pointless: it is rounded up to one.
            if usize::try_from(shift).unwrap_or(usize::MAX) > digits.len() + 40 {
                value = BigUint::from(1_u32);
            } else {
                let divisor = power(shift.unsigned_abs());
                let rest = &value % &divisor != BigUint::ZERO;
                value = value / divisor + u32::from(rest);
            }
        } else {
            value *= power(shift.unsigned_abs());
        }
        scale = -NANO;
    }
    if format == Format::Binary {
        let unit = power(9);
        if value > BigUint::from(i64::MAX.unsigned_abs()) * &unit {
            value = BigUint::from(i64::MAX.unsigned_abs());
            scale = 0;
        } else if !zero && value < unit {
            format = Format::Decimal;
        }
    }
    let sign = if negative { Sign::Minus } else { Sign::Plus };
    Ok(Quantity { amount: Amount::Big(BigInt::from_biguint(sign, value), scale), format, kept: None })
}

/// Times a power of ten in 64 bits. Short ones wrap around, others give 0 when they overflow, as there.
fn scale_up(value: i64, by: i32) -> i64 {
    match by {
        0..=3 | 6 | 9 if value == i64::MIN && by > 0 => 0,
        0..=3 | 6 | 9 => value.wrapping_mul(10_i64.pow(by.unsigned_abs())),
        _ if value == 0 => 0,
        _ => 10_i64.checked_pow(by.unsigned_abs()).and_then(|f| value.checked_mul(f)).unwrap_or(0),
    }
}

/// Divided by a power of ten, rounded away from zero.
fn scale_down(value: i64, by: i32) -> i64 {
    match 10_i64.checked_pow(by.unsigned_abs()) {
        Some(divisor) => value / divisor + if value % divisor == 0 { 0 } else { value.signum() },
        None => value.signum(),
    }
}

/// The lowest 64 bits, as a conversion without a check gives them.
fn low_bits(value: &BigInt) -> i64 {
    let low = value.magnitude().iter_u64_digits().next().unwrap_or(0);
    let low = if value.sign() == Sign::Minus { low.wrapping_neg() } else { low };
    low.cast_signed()
}

/// Exponents of ten as Go has them: one rounding of the positive power, one of its reciprocal.
fn pow10(n: i32) -> f64 {
    if n < -323 {
        0.0
    } else if n > 308 {
        f64::INFINITY
    } else {
        let (high, low) = (n.unsigned_abs() / 32, n.unsigned_abs() % 32);
        let exact = |e: u32| format!("1e{e}").parse::<f64>().unwrap_or(f64::INFINITY);
        match (n < 0, high) {
            (false, 0) => exact(low),
            (false, _) => exact(32 * high) * exact(low),
            (true, 0) => 1.0 / exact(low),
            (true, _) => format!("1e-{}", 32 * high).parse::<f64>().unwrap_or(0.0) / exact(low),
        }
    }
}

impl Quantity {
    /// At a power of ten, rounded up, in 64 bits. What does not fit gives what Kubernetes gives.
    fn at_scale(&self, wanted: i32) -> i64 {
        match &self.amount {
            Amount::Small(value, scale) if *scale < wanted => scale_down(*value, wanted - *scale),
            Amount::Small(value, scale) => scale_up(*value, *scale - wanted),
            Amount::Big(value, scale) => {
                let shift = *scale + wanted;
                if shift <= 0 {
                    let factor = 10_i64.checked_pow(shift.unsigned_abs()).unwrap_or(i64::MIN);
                    return low_bits(value).wrapping_mul(factor);
                }
                if *value < BigInt::from(i64::MAX) && shift < 19 {
                    // Cut toward zero and one up, which is one or two too many below zero.
                    let (low, divisor) = (low_bits(value), 10_i64.pow(shift.unsigned_abs()));
                    return low / divisor + i64::from(low % divisor != 0);
                }
                let divisor = BigInt::from(power(shift.unsigned_abs()));
                let rest = value % &divisor != BigInt::ZERO;
                low_bits(&(value / divisor)).wrapping_add(i64::from(rest))
            }
        }
    }

    /// In thousandths, rounded up.
    #[must_use]
    pub fn milli(&self) -> i64 {
        self.at_scale(MILLI)
    }

    /// In whole units, rounded up.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.at_scale(0)
    }

    /// Its sign: -1, 0 or 1.
    #[must_use]
    pub fn sign(&self) -> i64 {
        match &self.amount {
            Amount::Small(v, _) => v.signum(),
            Amount::Big(v, _) => match v.sign() {
                Sign::Minus => -1,
                Sign::NoSign => 0,
                Sign::Plus => 1,
            },
        }
    }

    /// As a float: digits times a power of ten as written, so that `0.3` and `300m` differ in the last bit.
    #[must_use]
    pub fn approximate(&self) -> f64 {
        let (base, exponent) = match &self.amount {
            Amount::Small(v, s) => (*v as f64, *s),
            // The text goes through the standard library's reader, which rounds to the nearest.
            Amount::Big(v, s) => (v.to_string().parse().unwrap_or(f64::NAN), -*s),
        };
        if exponent == 0 { base } else { base * pow10(exponent) }
    }

    /// The canonical text, as the API stores it.
    #[must_use]
    pub fn canonical(&self) -> String {
        if let Some(text) = &self.kept {
            return text.clone();
        }
        if self.sign() == 0 {
            return "0".to_owned();
        }
        let (mut digits, mut exponent) = match &self.amount {
            Amount::Small(v, s) => (BigInt::from(*v), *s),
            Amount::Big(v, s) => (v.clone(), -*s),
        };
        let ten = BigInt::from(10);
        while &digits % &ten == BigInt::ZERO {
            digits /= &ten;
            exponent += 1;
        }
        // Without a fraction now: whole if the exponent is not negative.
        if self.format == Format::Binary && exponent >= 0 {
            let mut whole = &digits * BigInt::from(power(exponent.unsigned_abs()));
            if *whole.magnitude() >= BigUint::from(1024_u32) {
                let unit = BigInt::from(1024);
                let mut times = 0_usize;
                while &whole % &unit == BigInt::ZERO {
                    whole /= &unit;
                    times += 1;
                }
                let name = times.checked_sub(1).and_then(|i| BINARY.get(i)).map_or("", |(s, _)| s);
                return format!("{whole}{name}");
            }
        }
        while exponent % 3 != 0 {
            digits *= &ten;
            exponent -= 1;
        }
        let decimal = self.format != Format::Exponent;
        match DECIMAL.iter().find(|(_, e)| *e == exponent).filter(|_| decimal || exponent == 0) {
            Some((name, _)) => format!("{digits}{name}"),
            None => format!("{digits}e{exponent}"),
        }
    }
}

/// A float in thousandths, rounded up as its shortest decimal text would be; None if that does not fit.
#[must_use]
pub fn milli_of(value: f64) -> Option<i64> {
    let scaled = value * 1000.0;
    let near = scaled.round();
    let exact = if near / 1000.0 == value { near } else { scaled.ceil() };
    // 2^63, which the range leaves out.
    (exact.abs() < 9_223_372_036_854_775_808.0).then_some(exact as i64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, milli: i64, value: i64, canonical: &str) {
        let q = parse(text).unwrap();
        assert_eq!((q.milli(), q.value(), q.canonical().as_str()), (milli, value, canonical), "{text}");
    }

    #[test]
    fn fractions_are_rounded_up_and_texts_canonical() {
        check("0", 0, 0, "0");
        check("1000m", 1000, 1, "1");
        check("0.5", 500, 1, "500m");
        check("1n", 1, 1, "1n");
        check("1024Mi", 1_073_741_824_000, 1_073_741_824, "1Gi");
        check("1.5Gi", 1_610_612_736_000, 1_610_612_736, "1536Mi");
        check(".5Ki", 512_000, 512, "512");
        check("-1.0005", -1001, -2, "-1000500u");
        check("Mi", 0, 0, "0");
        check("+3E2", 300_000, 300, "300");
        check("0.04240e9", 42_400_000_000, 42_400_000, "42400e3");
    }

    #[test]
    fn what_does_not_fit_overflows_as_in_kubernetes() {
        check("3E", 0, 3_000_000_000_000_000_000, "3E");
        check("606Ei", -1000, i64::MAX, "9223372036854775807");
        check("30625043312735694", -6_268_444_834_683_409_232, 30_625_043_312_735_694, "30625043312735694");
        check("1e2000", 0, 0, "100e1998");
        check("1e-1000000000", 1, 1, "1e-9");
        assert!(parse("12345678901234567890e1000000000").is_err());
    }

    #[test]
    fn floats_are_digits_times_a_power() {
        assert_eq!(parse("0.3").unwrap().approximate(), 0.300_000_000_000_000_04);
        assert_eq!(parse("300m").unwrap().approximate(), 0.3);
        assert_eq!(parse("1e400").unwrap().approximate(), f64::INFINITY);
        assert_eq!(parse("1e-330").unwrap().approximate(), 1e-9);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "1 G", "1.2.3", "--1", "x", "1ki", "1e", "1+5", "1eE", "１", "1E-", "0x10", "1_0"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.field, "quantity", "{text}");
        }
    }

    #[test]
    fn floats_in_thousandths() {
        assert_eq!(milli_of(7.5), Some(7500));
        assert_eq!(milli_of(0.1), Some(100));
        assert_eq!(milli_of(0.29), Some(290));
        assert_eq!(milli_of(1e-9), Some(1));
        assert_eq!(milli_of(-1e-9), Some(0));
        for bad in [f64::NAN, f64::INFINITY, 1e300, -1e300] {
            assert_eq!(milli_of(bad), None);
        }
    }
}
