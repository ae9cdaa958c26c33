use super::Outcome::{Degraded, Fail, Pass, Warming};
use super::*;

fn rules() -> Thresholds {
    Thresholds { healthy: 2, unhealthy: 3, start: Start::Initial, warm_up: false, warming_timeout: None, damping: None }
}

fn s(seconds: u64) -> Nanos {
    Nanos(seconds * 1_000_000_000)
}

fn run(rules: Thresholds, outcomes: &[Outcome]) -> Vec<Status> {
    let mut state = HealthState::new(rules).unwrap();
    outcomes.iter().map(|&o| state.report(o, None, None, Nanos::ZERO)).collect()
}

#[test]
fn one_pass_is_enough_for_a_fresh_target_and_failures_in_a_row_count() {
    use Status::{Healthy as H, Initial as I, Unhealthy as U};
    assert_eq!(run(rules(), &[Fail, Pass]), [I, H]);
    assert_eq!(run(rules(), &[Fail, Fail, Fail, Pass, Pass]), [I, I, U, U, H]);
    assert_eq!(run(rules(), &[Pass, Fail, Fail, Pass, Fail, Fail, Fail]), [H, H, H, H, H, H, U]);
    // A failure between takes the passes back.
    assert_eq!(run(rules(), &[Fail, Fail, Fail, Pass, Fail, Pass, Pass]), [I, I, U, U, U, U, H]);
    let one = Thresholds { healthy: 1, unhealthy: 1, ..rules() };
    assert_eq!(run(one, &[Fail, Pass, Fail]), [U, H, U]);
}

#[test]
fn the_counter_is_haproxys() {
    let mut state = HealthState::new(Thresholds { start: Start::Up, ..rules() }).unwrap();
    assert_eq!(state.counter(), 2);
    let mut count = |o| {
        state.report(o, None, None, Nanos::ZERO);
        state.counter()
    };
    assert_eq!([Pass, Fail, Fail, Fail, Pass, Fail, Pass, Pass].map(&mut count), [4, 3, 2, 0, 1, 0, 1, 4]);
}

#[test]
fn the_four_starts_of_haproxy_differ() {
    use Status::{Healthy as H, Unhealthy as U};
    let from = |start, outcomes: &[Outcome]| run(Thresholds { start, ..rules() }, outcomes);
    assert_eq!(from(Start::Up, &[Fail]), [U]);
    assert_eq!(from(Start::FullyUp, &[Fail, Fail, Fail]), [H, H, U]);
    assert_eq!(from(Start::Down, &[Pass]), [H]);
    assert_eq!(from(Start::FullyDown, &[Pass, Pass]), [U, H]);
}

#[test]
fn huge_thresholds_do_not_overflow() {
    let huge = Thresholds { healthy: u32::MAX, unhealthy: u32::MAX, ..rules() };
    assert_eq!(run(huge, &[Pass, Fail]), [Status::Healthy, Status::Healthy]);
    for broken in [Thresholds { healthy: 0, ..rules() }, Thresholds { unhealthy: 0, ..rules() }] {
        assert!(HealthState::new(broken).is_err());
    }
}

#[test]
fn degraded_counts_as_a_pass_and_ends_with_a_plain_one() {
    use Status::{Degraded as D, Healthy as H, Unhealthy as U};
    assert_eq!(run(rules(), &[Degraded, Pass, Degraded, Fail, Fail, Fail]), [D, H, D, D, D, U]);
}

#[test]
fn warming_ends_only_after_model_and_inference() {
    let warm_up = Thresholds { warm_up: true, ..rules() };
    let mut state = HealthState::new(warm_up).unwrap();
    let mut tell = |o, loaded, inferred| state.report(o, loaded, inferred, Nanos::ZERO);
    assert_eq!(tell(Pass, None, None), Status::Warming);
    assert_eq!(tell(Pass, Some(true), None), Status::Warming);
    assert_eq!(tell(Warming, Some(true), Some(false)), Status::Warming);
    assert_eq!(tell(Pass, Some(true), Some(true)), Status::Healthy);
    // Warm once: "not ready" is a failure now, and after a fall the model has to be seen again.
    assert_eq!(tell(Warming, Some(false), None), Status::Healthy);
    assert_eq!(tell(Fail, None, None), Status::Healthy);
    assert_eq!(tell(Fail, None, None), Status::Unhealthy);
    assert_eq!(tell(Pass, None, None), Status::Unhealthy);
    assert_eq!(tell(Pass, None, None), Status::Warming);
    assert_eq!(tell(Pass, Some(true), Some(true)), Status::Healthy);
}

#[test]
fn a_warm_up_that_takes_too_long_is_a_failure() {
    let limited = Thresholds { warm_up: true, warming_timeout: Some(s(60)), ..rules() };
    let mut state = HealthState::new(limited).unwrap();
    assert_eq!(state.report(Warming, None, None, s(1)), Status::Warming);
    assert_eq!(state.report(Warming, None, None, s(60)), Status::Warming);
    assert_eq!(state.report(Pass, None, None, s(61)), Status::Unhealthy);
}

#[test]
fn one_that_flaps_is_held_back_until_its_penalty_has_decayed() {
    let damping = Damping { half_life: s(60), suppress: 1.9, reuse: 1.0, max_hold: s(600) };
    let jumpy = Thresholds { healthy: 1, unhealthy: 1, damping: Some(damping), ..rules() };
    let mut state = HealthState::new(jumpy).unwrap();
    let seen: Vec<Status> = [(Pass, 0), (Fail, 1), (Pass, 2), (Fail, 3), (Pass, 4), (Pass, 50), (Pass, 70)]
        .map(|(o, at)| state.report(o, None, None, s(at)))
        .to_vec();
    use Status::{Healthy as H, Unhealthy as U};
    assert_eq!(seen, [H, U, H, U, U, U, H]);
    assert!(state.penalty(s(70)) < 1.0);
    // Let back by time alone.
    let mut state = HealthState::new(jumpy).unwrap();
    for (outcome, at) in [(Pass, 0), (Fail, 1), (Pass, 2), (Fail, 3), (Pass, 4)] {
        state.report(outcome, None, None, s(at));
    }
    assert_eq!((state.status(s(10)), state.status(s(100))), (U, H));
}

#[test]
fn no_one_is_held_longer_than_max_hold() {
    let damping = Damping { half_life: s(60), suppress: 2.0, reuse: 1.0, max_hold: s(90) };
    let mut state =
        HealthState::new(Thresholds { healthy: 1, unhealthy: 1, damping: Some(damping), ..rules() }).unwrap();
    for _ in 0..100 {
        state.report(Pass, None, None, s(1));
        state.report(Fail, None, None, s(1));
    }
    state.report(Pass, None, None, s(2));
    assert_eq!((state.status(s(90)), state.status(s(92))), (Status::Unhealthy, Status::Healthy));
    for broken in [
        Damping { half_life: Nanos::ZERO, ..damping },
        Damping { reuse: 0.0, ..damping },
        Damping { suppress: 1.0, ..damping },
        Damping { suppress: f64::NAN, ..damping },
    ] {
        assert!(broken.check().is_err(), "{broken:?}");
    }
}

#[test]
fn a_drain_covers_everything_and_ends_as_unused() {
    let mut state = HealthState::new(rules()).unwrap();
    state.report(Pass, None, None, s(0));
    state.drain(s(300), s(0));
    assert_eq!(state.status(s(0)), Status::Draining);
    assert_eq!(state.report(Fail, None, None, s(299)), Status::Draining);
    assert_eq!(state.status(s(300)), Status::Unused);
    // Time does not go back.
    state.report(Pass, None, None, s(301));
    assert_eq!(state.status(s(1)), Status::Unused);
    state.undrain(s(302));
    assert_eq!(state.status(s(302)), Status::Healthy);
    assert!(deregistration_delay(3601.0).is_err() && deregistration_delay(f64::NAN).is_err());
    assert_eq!(deregistration_delay(0.0), Ok(Nanos::ZERO));
}

#[test]
fn unchecked_is_unavailable_and_starts_again() {
    let mut state = HealthState::new(rules()).unwrap();
    state.report(Pass, None, None, s(1));
    state.disable(true, s(2));
    assert_eq!(state.status(s(2)), Status::Unavailable);
    state.disable(false, s(3));
    assert_eq!(state.status(s(3)), Status::Initial);
}
