//! The price of on-demand and spot together.

/// What a group costs when a share of it is on demand and the rest is spot at a discount; `all_on_demand` is its price
/// without spot.
#[must_use]
pub fn blended(all_on_demand: f64, on_demand_share: f64, spot_discount: f64) -> f64 {
    all_on_demand * (on_demand_share + (1.0 - on_demand_share) * (1.0 - spot_discount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blend_lies_between_its_parts() {
        assert!((blended(10_000.0, 0.2, 0.75) - 4000.0).abs() < 1e-9);
        assert!((blended(10_000.0, 0.0, 0.7) - 3000.0).abs() < 1e-9);
        assert_eq!(blended(10_000.0, 1.0, 0.65), 10_000.0);
    }
}
