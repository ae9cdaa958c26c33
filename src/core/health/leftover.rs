//! What a server that has to go will not have finished.

/// The requests that are expected to be still running `remaining` seconds from now, from how long each has run and how
/// long earlier ones took. A request that has outlived every earlier one is taken as memoryless with their mean, and
/// with no earlier ones nothing is expected to end.
#[must_use]
pub fn expected_left(ages: &[f64], latencies: &[f64], remaining: f64) -> f64 {
    let known: Vec<f64> = latencies.iter().copied().filter(|l| l.is_finite() && *l >= 0.0).collect();
    let remaining = if remaining > 0.0 { remaining } else { 0.0 };
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    let longer = |than: f64| known.iter().filter(|l| **l > than).count();
    let survives = |&age: &f64| {
        let alive = longer(age);
        if known.is_empty() || remaining == 0.0 {
            1.0
        } else if alive > 0 {
            longer(age + remaining) as f64 / alive as f64
        } else {
            (-remaining / mean.max(1e-9)).exp()
        }
    };
    // Not sum(): that of nothing is -0.0.
    ages.iter().map(survives).fold(0.0, |left, one| left + one)
}

#[cfg(test)]
mod tests {
    use super::expected_left;

    #[test]
    fn what_is_left_follows_from_ages_and_latencies() {
        let latencies = [1.0, 2.0, 3.0, 4.0];
        assert!(expected_left(&[], &latencies, 5.0).is_sign_positive());
        assert_eq!(expected_left(&[0.0, 0.0], &latencies, 2.0), 1.0);
        // One of 2.5 s is one of the two longest, of which one ends within a second.
        assert_eq!(expected_left(&[2.5], &latencies, 1.0), 0.5);
        assert_eq!(expected_left(&[2.5], &latencies, 0.0), 1.0);
        assert_eq!(expected_left(&[0.0, 9.0], &[], 100.0), 2.0);
        let old = expected_left(&[100.0], &latencies, 2.5);
        assert!((old - (-1.0f64).exp()).abs() < 1e-12);
        assert_eq!(expected_left(&[f64::NAN, f64::INFINITY], &[f64::NAN], f64::NAN), 2.0);
    }
}
