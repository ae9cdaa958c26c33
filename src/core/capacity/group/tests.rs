use super::*;
use crate::core::capacity::offers::Strategy;
use crate::core::capacity::termination::Termination;
use crate::core::rng::Rng;

fn secs(s: u64) -> Nanos {
    Nanos(s * 1_000_000_000)
}

fn offer(kind: &str, zone: &str, market: Market, price: f64) -> Offer {
    Offer { kind: kind.into(), zone: zone.into(), market, price, depth: None, interruption_rate: 0.1, priority: 0 }
}

fn config(min: i64, max: i64, desired: i64) -> GroupConfig {
    GroupConfig {
        bounds: Bounds { min, max },
        desired,
        offers: ["a", "b", "c"].map(|z| offer("t", z, Market::OnDemand, 1.0)).to_vec(),
        base: 0,
        percent: 100,
        spot: Strategy::LowestPrice(2),
        on_demand: Strategy::Prioritized,
        fallback: false,
        pool: None,
        launch_hook: None,
        terminate_hook: None,
        times: Times {
            launch: Some(secs(60)),
            start: Some(secs(20)),
            load: Some(secs(30)),
            warm: Some(secs(10)),
            drain: secs(100),
            stop: Some(secs(5)),
            terminate: Some(secs(15)),
            timeout: secs(600),
        },
        termination: vec![Termination::Default],
        protect_new: false,
        best_effort: true,
        zone_rebalance: true,
        capacity_rebalance: false,
        grace: Nanos::ZERO,
        retry: secs(60),
        template: 1,
        configuration: false,
    }
}

fn kinds(actions: &[Action], number: u64) -> Vec<(&'static str, u64)> {
    actions.iter().filter(|a| a.number == number).map(|a| (a.kind, a.at.0 / 1_000_000_000)).collect()
}

#[test]
fn a_life() {
    let mut g = Group::new(config(0, 4, 1));
    let mut all = g.step(Nanos::ZERO);
    assert_eq!(g.next_change(), Some(secs(60)));
    all.extend(g.step(secs(500)));
    all.extend(g.act(&Command::Desired(0, vec![]), secs(500)).unwrap());
    all.extend(g.step(secs(10_000)));
    let expected = [
        ("launch", 0),
        ("load", 60),
        ("warm", 90),
        ("put_in_service", 100),
        ("drain", 500),
        ("stop", 600),
        ("terminate", 605),
    ];
    assert_eq!(kinds(&all, 1), expected);
    assert_eq!((g.instances.len(), g.counts.gone, g.next_change()), (0, 1, None));
    assert!(g.act(&Command::Desired(5, vec![]), secs(1)).is_err());
    assert!(g.act(&Command::Events(vec![(9, Event::Launched, Nanos::ZERO)]), secs(1)).is_err());
}

#[test]
fn a_silent_hook_abandons() {
    let mut c = config(0, 4, 1);
    c.launch_hook = Some(Hook { heartbeat: secs(100), most: secs(250), abandon: true });
    let mut g = Group::new(c.clone());
    g.step(Nanos::ZERO);
    g.step(secs(100));
    let beat = Command::Events(vec![(1, Event::Heartbeat, Nanos::ZERO)]);
    g.act(&beat, secs(150)).unwrap();
    assert_eq!(g.next_change(), Some(secs(250)));
    g.act(&beat, secs(240)).unwrap();
    assert_eq!(g.next_change(), Some(secs(310)), "no longer than 250 s in all");
    let all = g.step(secs(310));
    assert_eq!(kinds(&all, 1), [("terminate", 310)]);
    assert_eq!(g.active().map(|i| i.zone.as_str()).collect::<Vec<_>>(), ["b"], "the zone that failed is left alone");
    c.launch_hook = Some(Hook { heartbeat: secs(100), most: secs(250), abandon: false });
    let mut g = Group::new(c);
    g.step(Nanos::ZERO);
    assert!(kinds(&g.step(secs(160)), 1).contains(&("load", 160)), "continue goes on");
}

#[test]
fn a_random_life_holds_what_it_promises() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut c = config(0, 12, 3);
        c.capacity_rebalance = seed % 2 == 0;
        if seed % 3 == 0 {
            c.percent = 40;
            c.base = 1;
            c.offers.extend(["a", "b"].map(|z| offer("t", z, Market::Spot, 0.3)));
            c.offers.push(offer("u", "c", Market::Spot, 0.4));
        } else {
            let state = [PoolState::Stopped, PoolState::Hibernated, PoolState::Running][seed as usize % 3];
            c.pool = Some(Pool { min_size: 1, prepared: Some(8), reuse: seed % 2 == 1, state });
        }
        if seed % 4 == 0 {
            c.launch_hook = Some(Hook { heartbeat: secs(50), most: secs(200), abandon: true });
            c.terminate_hook = Some(Hook { heartbeat: secs(50), most: secs(200), abandon: false });
            c.times.load = None;
        }
        let mut g = Group::new(c);
        let mut t = 0;
        for _ in 0..150 {
            t += u64::from(rng.below(90));
            let number = 1 + u64::from(rng.below(20)).min(g.last);
            let command = match rng.below(9) {
                0 | 1 => Command::Desired(i64::from(rng.below(13)), vec![]),
                2..=6 => {
                    let event = Event::NAMES[rng.below(20) as usize].1;
                    Command::Events(vec![(g.last.saturating_sub(number).max(1), event, secs(120))])
                }
                7 => Command::Refresh(plan(90, (seed % 2 == 0).then_some(150)), Some((t as i64, false))),
                _ => Command::CancelRefresh,
            };
            let _ = g.act(&command, secs(t));
            assert_eq!(g.counts.launched, g.counts.gone + g.instances.len() as u64);
            // Protection alone may keep more than the limit.
            let kept = g.active().filter(|i| i.protected).count() as i64;
            assert!(g.size() <= g.limit().max(kept + g.limit()), "{seed} {t}");
            assert!(
                g.instances.iter().all(|i| i.until.is_some() || matches!(i.phase, Phase::InService | Phase::Waiting))
            );
            let again = kept::restored(&Group::new(g.config.clone()), &g.state()).unwrap();
            assert_eq!(again.state(), g.state());
        }
        for number in 1..=g.last {
            g.act(&Command::Events(vec![(number, Event::Unprotect, Nanos::ZERO)]), secs(t)).unwrap();
        }
        g.step(secs(t + 100_000));
        let quiet = g.active().all(|i| i.phase == Phase::InService) && g.instances.iter().all(|i| !i.phase.leaving());
        assert!(quiet || g.config.launch_hook.is_some() || g.config.times.load.is_none(), "{seed}");
    }
}

fn plan(min: i64, max: Option<i64>) -> Plan {
    Plan {
        min_healthy: min,
        max_healthy: max,
        checkpoints: vec![],
        delay: secs(0),
        skip_matching: false,
        auto_rollback: false,
        guarded: Guarded::Wait,
        stuck: secs(3600),
    }
}

#[test]
fn how_often_one_asks_does_not_matter() {
    let run = |every: u64| {
        let mut c = config(0, 10, 6);
        c.pool = Some(Pool { min_size: 2, prepared: None, reuse: true, state: PoolState::Stopped });
        let mut g = Group::new(c);
        let mut all = g.step(Nanos::ZERO);
        for t in 1..=1200 {
            if t == 300 {
                all.extend(g.act(&Command::Refresh(plan(50, Some(120)), Some((2, false))), secs(t)).unwrap());
            }
            if t == 1000 {
                all.extend(g.act(&Command::Desired(3, vec![]), secs(t)).unwrap());
            }
            if t % every == 0 {
                all.extend(g.step(secs(t)));
            }
        }
        all.extend(g.step(secs(5000)));
        (all, g.state())
    };
    let (fine, coarse) = (run(1), run(400));
    assert_eq!(fine.0, coarse.0);
    assert_eq!(fine.1, coarse.1);
}

#[test]
fn a_refresh_keeps_its_shares() {
    for (min, max) in [(50, None), (100, None), (90, Some(100)), (100, Some(150)), (0, None), (100, Some(100))] {
        let mut g = Group::new(config(0, 10, 10));
        g.step(Nanos::ZERO);
        g.step(secs(200));
        g.act(&Command::Refresh(plan(min, max), Some((2, false))), secs(200)).unwrap();
        let (mut least, mut most) = (10, 10);
        for t in 200..5000 {
            g.step(secs(t));
            least = least.min(g.serving());
            most = most.max(g.size());
        }
        assert_eq!(g.refresh.as_ref().map(|r| r.status), Some(RefreshStatus::Successful), "{min} {max:?}");
        assert!(g.active().all(|i| i.template == 2) && g.size() == 10);
        assert!(least >= (min / 10).min(if max.is_none() { 9 } else { 10 }), "{min} {max:?} {least}");
        assert!(most <= max.map_or(10, |m| (m / 10).max(11)), "{min} {max:?} {most}");
    }
}

#[test]
fn zones_are_evened_out() {
    let mut c = config(0, 20, 9);
    for o in &mut c.offers {
        if o.zone != "a" {
            o.depth = Some(1);
        }
    }
    let mut g = Group::new(c.clone());
    g.step(Nanos::ZERO);
    g.step(secs(500));
    let count = |g: &Group| g.zones().iter().map(|z| g.in_zone(z, false)).collect::<Vec<_>>();
    assert_eq!(count(&g), [7, 1, 1]);
    for o in &mut c.offers {
        o.depth = None;
    }
    g.act(&Command::Offers(c.offers), secs(500)).unwrap();
    for t in 500..3000 {
        g.step(secs(t));
        assert!(g.size() <= 22 && g.serving() >= 9, "{t}");
    }
    assert_eq!(count(&g), [3, 3, 3]);
}
