//! What Envoy's tests and gRPC's proposal say, and where the robust mode sees more.

use super::outlier::{Detector, Flavour, OutlierDetection, Reason, Volume, success_rate_threshold};
use crate::core::time::Nanos;

const SECOND: u64 = 1_000_000_000;

fn config() -> OutlierDetection {
    OutlierDetection {
        flavour: Flavour::Envoy,
        interval: Nanos(10 * SECOND),
        base_ejection_time: Nanos(30 * SECOND),
        max_ejection_time: Nanos(300 * SECOND),
        max_ejection_time_jitter: Nanos::ZERO,
        max_ejection_percent: 100,
        always_eject_one_host: false,
        consecutive_5xx: 5,
        enforcing_consecutive_5xx: 100,
        consecutive_gateway_failure: 5,
        enforcing_consecutive_gateway_failure: 0,
        split_external_local_origin_errors: false,
        consecutive_local_origin_failure: 5,
        enforcing_consecutive_local_origin_failure: 100,
        enforcing_success_rate: 100,
        enforcing_local_origin_success_rate: 100,
        success_rate_minimum_hosts: 5,
        success_rate_request_volume: 100,
        success_rate_stdev_factor: 1900,
        enforcing_failure_percentage: 0,
        enforcing_failure_percentage_local_origin: 0,
        failure_percentage_threshold: 85,
        failure_percentage_minimum_hosts: 5,
        failure_percentage_request_volume: 50,
        successful_active_health_check_uneject_host: true,
        deviations: 3.5,
        failure_floor: 0.1,
        latency_factor: None,
        latency_floor: 0.05,
    }
}

fn at(seconds: u64) -> Nanos {
    Nanos(seconds * SECOND)
}

fn of(config: OutlierDetection, hosts: u32) -> Detector {
    let mut detector = Detector::new(config.check().unwrap(), 1, Nanos::ZERO);
    (0..hosts).for_each(|slot| detector.join(slot));
    detector
}

fn rates(percents: &[u64]) -> Vec<(u32, Volume)> {
    let of = |p: u64| Volume { successes: p, failures: 100 - p, ..Volume::default() };
    (0u32..).zip(percents).map(|(slot, &p)| (slot, of(p))).collect()
}

#[test]
fn the_threshold_is_that_of_envoys_example() {
    let example: Vec<(u32, f64)> = [50.0, 100.0, 100.0, 100.0, 100.0].into_iter().map(|r| (0, r)).collect();
    assert_eq!(success_rate_threshold(&example, 1.9), 52.0);
    assert_eq!(of(config(), 5).tick(&rates_of(50), at(10)), [0]);
    assert_eq!(of(config(), 4).tick(&rates(&[50, 100, 100, 100]), at(10)), [0; 0], "too few hosts");
    let strict = OutlierDetection { success_rate_stdev_factor: 2100, ..config() };
    assert_eq!(of(strict, 5).tick(&rates_of(50), at(10)), [0; 0]);
    let volume = OutlierDetection { success_rate_request_volume: 101, ..config() };
    assert_eq!(of(volume, 5).tick(&rates_of(50), at(10)), [0; 0]);
}

fn rates_of(first: u64) -> Vec<(u32, Volume)> {
    rates(&[first, 100, 100, 100, 100])
}

#[test]
fn an_ejection_grows_and_healthy_intervals_shrink_it() {
    let mut detector = of(config(), 2);
    for (ejected, back) in [(1, 40), (41, 110), (111, 210)] {
        assert!(detector.crossed(0, Reason::Consecutive5xx, at(ejected)));
        assert!(!detector.crossed(0, Reason::Consecutive5xx, at(ejected)), "it is out");
        assert_eq!(detector.back_at(0), Some(at(back)));
        assert_eq!(detector.tick(&[], Nanos(back * SECOND - 1)), [0; 0]);
        assert_eq!(detector.tick(&[], at(back)), [0]);
    }
    // Two healthy intervals after the one in which it came back: the fourth ejection is the second again.
    detector.tick(&[], at(230));
    detector.tick(&[], at(240));
    assert!(detector.crossed(0, Reason::Consecutive5xx, at(241)));
    assert_eq!(detector.back_at(0), Some(at(310)));
    assert_eq!(detector.host(0).unwrap().ejections, 4);
    // After so long a silence everything is forgotten, and nobody stays out.
    assert_eq!(detector.tick(&[], at(1_000_000)), [0]);
    assert!(detector.crossed(0, Reason::Consecutive5xx, at(1_000_001)));
    assert_eq!(detector.back_at(0), Some(at(1_000_040)));
}

#[test]
fn the_longest_ejection_is_a_limit_and_at_least_the_base() {
    let mut detector = of(OutlierDetection { max_ejection_time: at(1), ..config() }, 2);
    for start in [0, 40, 80] {
        detector.crossed(0, Reason::Consecutive5xx, at(start));
        assert_eq!(detector.back_at(0), Some(at(start + 30)));
        detector.tick(&[], at(start + 30));
    }
}

#[test]
fn jitter_is_within_its_bound_and_by_seed() {
    let until = |seed| {
        let config = OutlierDetection { max_ejection_time_jitter: at(100), interval: Nanos(1_000_000), ..config() };
        let mut detector = Detector::new(config, seed, Nanos::ZERO);
        detector.join(0);
        detector.crossed(0, Reason::Consecutive5xx, at(0));
        detector.back_at(0).unwrap()
    };
    let all: Vec<Nanos> = (0..50).map(until).collect();
    assert!(all.iter().all(|&t| t >= at(30) && t <= at(130)));
    assert_eq!(until(7), until(7));
    assert!(all.iter().any(|&t| t < at(60)) && all.iter().any(|&t| t > at(100)));
}

#[test]
fn how_many_may_be_out_is_counted_with_the_next_one() {
    let out = |config, hosts: u32| {
        let mut detector = of(config, hosts);
        (0..hosts).filter(|&slot| detector.crossed(slot, Reason::Consecutive5xx, at(1))).count()
    };
    let percent = |max_ejection_percent| OutlierDetection { max_ejection_percent, ..config() };
    assert_eq!([out(percent(10), 9), out(percent(10), 10), out(percent(10), 29)], [0, 1, 2]);
    assert_eq!([out(percent(100), 3), out(percent(0), 3), out(percent(66), 3)], [3, 0, 1]);
    let one = OutlierDetection { always_eject_one_host: true, ..percent(10) };
    assert_eq!([out(one, 3), out(one, 29)], [1, 2]);
    let grpc = OutlierDetection { flavour: Flavour::Grpc, ..percent(10) };
    assert_eq!([out(grpc, 3), out(grpc, 20), out(grpc, 21)], [1, 2, 3]);
}

#[test]
fn who_leaves_is_counted_no_longer() {
    let mut detector = of(OutlierDetection { max_ejection_percent: 50, ..config() }, 2);
    assert!(detector.crossed(0, Reason::Consecutive5xx, at(1)));
    assert!(!detector.crossed(1, Reason::Consecutive5xx, at(1)));
    detector.leave(0);
    detector.join(2);
    assert!(detector.crossed(1, Reason::Consecutive5xx, at(1)));
    assert!(!detector.crossed(9, Reason::Consecutive5xx, at(1)), "unknown");
    assert!(detector.uneject(1, at(2)));
    assert!(!detector.uneject(1, at(2)));
}

#[test]
fn what_is_not_enforced_is_not_done() {
    let never = OutlierDetection { enforcing_consecutive_5xx: 0, ..config() };
    assert!(!of(never, 1).crossed(0, Reason::Consecutive5xx, at(1)));
    assert!(!of(never, 1).crossed(0, Reason::GatewayFailure, at(1)));
    let half = OutlierDetection { enforcing_consecutive_5xx: 50, ..config() };
    let mut detector = of(half, 1000);
    let n = (0..1000).filter(|&slot| detector.crossed(slot, Reason::Consecutive5xx, at(1))).count();
    assert!((400..600).contains(&n), "{n}");
}

#[test]
fn a_failure_percentage_counts_from_its_threshold_and_for_grpc_above_it() {
    let rule = OutlierDetection {
        enforcing_success_rate: 0,
        enforcing_failure_percentage: 100,
        failure_percentage_threshold: 40,
        failure_percentage_minimum_hosts: 2,
        ..config()
    };
    assert_eq!(of(rule, 3).tick(&rates(&[60, 61, 100]), at(10)), [0]);
    let grpc = OutlierDetection { flavour: Flavour::Grpc, ..rule };
    assert_eq!(of(grpc, 3).tick(&rates(&[60, 59, 100]), at(10)), [1]);
    let few = OutlierDetection { failure_percentage_minimum_hosts: 4, ..rule };
    assert_eq!(of(few, 3).tick(&rates(&[0, 0, 0]), at(10)), [0; 0]);
    let volume = OutlierDetection { failure_percentage_request_volume: 101, ..rule };
    assert_eq!(of(volume, 3).tick(&rates(&[0, 0, 0]), at(10)), [0; 0]);
}

#[test]
fn requests_without_an_answer_are_judged_apart_where_that_is_asked_for() {
    let rule = OutlierDetection { split_external_local_origin_errors: true, ..config() };
    let volumes: Vec<(u32, Volume)> = (0..5)
        .map(|slot| (slot, Volume { successes: 100, unreached: if slot == 3 { 50 } else { 0 }, ..Volume::default() }))
        .collect();
    assert_eq!(of(rule, 5).tick(&volumes, at(10)), [3]);
    let off = OutlierDetection { enforcing_local_origin_success_rate: 0, ..rule };
    assert_eq!(of(off, 5).tick(&volumes, at(10)), [0; 0]);
}

#[test]
fn several_that_are_equally_bad_hide_from_the_mean_and_not_from_the_median() {
    let five = rates(&[20, 20, 100, 100, 100]);
    assert_eq!(of(config(), 5).tick(&five, at(10)), [0; 0]);
    let robust = OutlierDetection {
        flavour: Flavour::Robust,
        failure_percentage_threshold: 90,
        failure_percentage_minimum_hosts: 3,
        ..config()
    };
    assert_eq!(of(robust, 5).tick(&five, at(10)), [0, 1]);
    // A host that is hardly worse than perfect ones: Envoy's rule takes it out, the floor does not.
    let hardly = rates(&[99, 100, 100, 100, 100]);
    assert_eq!(of(config(), 5).tick(&hardly, at(10)), [0]);
    assert_eq!(of(robust, 5).tick(&hardly, at(10)), [0; 0]);
    let no_floor = OutlierDetection { failure_floor: 0.0, ..robust };
    assert_eq!(of(no_floor, 5).tick(&hardly, at(10)), [0]);
    // A majority, of which the median says nothing: too much is too much.
    let most = rates(&[5, 5, 5, 100, 100]);
    assert_eq!(of(robust, 5).tick(&most, at(10)), [0, 1, 2]);
    let few = OutlierDetection { max_ejection_percent: 20, failure_percentage_threshold: 30, ..robust };
    assert_eq!(of(few, 5).tick(&rates(&[60, 20, 40, 100, 100]), at(10)), [1], "the worst first");
    let loose = OutlierDetection { deviations: 1e9, failure_percentage_threshold: 100, ..robust };
    assert_eq!(of(loose, 5).tick(&rates(&[20, 90, 95, 100, 85]), at(10)), [0; 0]);
}

#[test]
fn the_slow_are_outliers_by_the_median_too() {
    let slow = |seconds: [f64; 4]| -> Vec<(u32, Volume)> {
        (0u32..)
            .zip(seconds)
            .map(|(slot, s)| (slot, Volume { successes: 100, latency: Some(s), ..Volume::default() }))
            .collect()
    };
    let robust = OutlierDetection {
        flavour: Flavour::Robust,
        failure_percentage_minimum_hosts: 3,
        latency_factor: Some(3.0),
        ..config()
    };
    assert_eq!(of(robust, 4).tick(&slow([0.1, 0.1, 0.11, 1.0]), at(10)), [3]);
    assert_eq!(of(robust, 4).tick(&slow([0.1, 0.1, 0.11, 0.29]), at(10)), [0; 0], "not three times the median");
    assert_eq!(of(robust, 4).tick(&slow([0.001, 0.001, 0.001, 0.04]), at(10)), [0; 0], "below the floor");
    let off = OutlierDetection { latency_factor: None, ..robust };
    assert_eq!(of(off, 4).tick(&slow([0.1, 0.1, 0.1, 9.0]), at(10)), [0; 0]);
}

#[test]
fn nobody_and_one_are_no_trouble() {
    assert_eq!(of(config(), 0).tick(&[], at(1_000)), [0; 0]);
    let mut one = of(config(), 1);
    assert_eq!(one.tick(&rates(&[0]), at(10)), [0; 0]);
    assert_eq!(one.tick(&rates(&[0]), Nanos(5)), [0; 0], "time goes backwards");
    assert_eq!(one.tick(&[], Nanos::MAX), [0; 0]);
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |edit: &dyn Fn(&mut OutlierDetection)| {
        let mut config = config();
        edit(&mut config);
        config.check().is_err()
    };
    assert!(!refused(&|_| ()));
    assert!(refused(&|c| c.interval = Nanos::ZERO));
    assert!(refused(&|c| c.base_ejection_time = Nanos(5)));
    assert!(refused(&|c| c.max_ejection_percent = 101));
    assert!(refused(&|c| c.enforcing_success_rate = 101));
    assert!(refused(&|c| c.deviations = f64::NAN));
    assert!(refused(&|c| c.failure_floor = 1.5));
    assert!(refused(&|c| c.latency_factor = Some(0.0)));
    assert!(refused(&|c| c.latency_floor = -1.0));
}
