#![allow(clippy::unwrap_used)]

use super::*;

fn rule(priority: Priority, path: &str) -> Rule {
    Rule { priority, paths: vec![path.into()], targets: vec![("t".into(), 1)], ..Rule::default() }
}

fn at(location: &str, hosts: &[&str]) -> Rule {
    Rule {
        location: Some(location.into()),
        hosts: hosts.iter().map(|h| (*h).into()).collect(),
        targets: vec![("t".into(), 1)],
        ..Rule::default()
    }
}

fn get(target: &str, host: &str) -> Request {
    Request::new(b"GET", target.as_bytes(), Some(host.as_bytes()), &[]).unwrap()
}

fn chosen(router: &Router, target: &str, host: &str) -> Result<usize, Refusal> {
    match router.route(&get(target, host), None) {
        Decision::Forward { rule, .. } => Ok(rule),
        Decision::Redirect { rule, .. } => Ok(1000 + rule),
        Decision::Refused(why) => Err(why),
    }
}

#[test]
fn the_lowest_number_first_and_the_default_last() {
    let default = Rule { priority: Priority::Default, targets: vec![("t".into(), 1)], ..Rule::default() };
    let rules = [
        default,
        rule(Priority::Number(10), "/a/*"),
        rule(Priority::Number(5), "/a/b/*"),
        rule(Priority::Listed, "/l"),
    ];
    let router = Router::new(&rules, Options::default()).unwrap();
    for (path, expected) in [("/a/b/c", 2), ("/a/x", 1), ("/l", 3), ("/z", 0)] {
        assert_eq!(chosen(&router, path, ""), Ok(expected));
    }
}

#[test]
fn every_condition_must_hold_and_of_each_one_value() {
    let only = Rule {
        paths: vec!["/a".into(), "/b".into()],
        hosts: vec!["*.Example.com".into()],
        methods: vec!["GET".into()],
        headers: vec![("X-Tier".into(), vec!["gold*".into()])],
        query: vec![vec![(Some("v".into()), "2".into()), (None, "canary".into())]],
        targets: vec![("t".into(), 1)],
        ..Rule::default()
    };
    let router = Router::new(&[only], Options { alb_limits: false, ..Options::default() }).unwrap();
    let asked = |method: &str, target: &str, host: &str, tier: &str| {
        let headers = [(&b"x-tier"[..], &b"none"[..]), (b"X-TIER", tier.as_bytes())];
        let request = Request::new(method.as_bytes(), target.as_bytes(), Some(host.as_bytes()), &headers).unwrap();
        matches!(router.route(&request, None), Decision::Forward { .. })
    };
    assert!(asked("GET", "/b?v=2", "X.example.COM:443", "GOLDEN"));
    assert!(asked("GET", "/a?x=canary", "x.example.com", "gold"));
    assert!(!asked("get", "/b?v=2", "x.example.com", "gold"));
    assert!(!asked("GET", "/c?v=2", "x.example.com", "gold"));
    assert!(!asked("GET", "/b?v=2", "example.com", "gold"));
    assert!(!asked("GET", "/b?v=2", "x.example.com", "silver"));
    assert!(!asked("GET", "/b?v=3", "x.example.com", "gold"));
    assert!(!asked("GET", "/b", "x.example.com", "gold"));
}

#[test]
fn a_path_that_servers_would_read_differently_is_refused() {
    let rules = [rule(Priority::Number(1), "/public/*"), rule(Priority::Number(2), "/admin/*")];
    let router = Router::new(&rules, Options::default()).unwrap();
    let plain = Router::new(&rules, Options { refuse_ambiguous: false, ..Options::default() }).unwrap();
    for path in ["/public/../admin/x", "/public/%2e%2e/admin/x", "/public%2f../admin/x", "//public/x"] {
        assert_eq!(chosen(&router, path, ""), Err(Refusal::Ambiguous), "{path}");
    }
    assert_eq!(chosen(&router, "/public/../../x", ""), Err(Refusal::Path));
    assert_eq!(chosen(&router, "/public/a%20b//c", ""), Ok(0));
    assert_eq!(chosen(&plain, "/public/../admin/x", ""), Ok(0));
}

#[test]
fn limits_are_those_of_aws() {
    let many = |n: usize| Rule { paths: (0..n).map(|i| format!("/{i}")).collect(), ..rule(Priority::Listed, "") };
    let wild = |n: usize| rule(Priority::Listed, &"/*".repeat(n));
    let two = Rule { hosts: vec!["a.b".into(); 3], ..many(3) };
    let long = |n: usize| rule(Priority::Listed, &"a".repeat(n));
    let heavy = |w: u64| Rule { targets: vec![("t".into(), w)], ..many(1) };
    for good in [many(3), wild(5), long(128), heavy(999)] {
        assert!(Router::new(&[good], Options::default()).is_ok());
    }
    for bad in [many(4), wild(6), two, long(129), heavy(1000)] {
        assert!(Router::new(std::slice::from_ref(&bad), Options::default()).is_err(), "{bad:?}");
        assert!(Router::new(&[bad], Options { alb_limits: false, ..Options::default() }).is_ok());
    }
    let twice = [rule(Priority::Number(1), "/a"), rule(Priority::Number(1), "/b")];
    let error = Router::new(&twice, Options::default()).unwrap_err();
    assert_eq!(error.field, "rules[1].priority");
    assert!(Router::new(&[rule(Priority::Number(0), "/a")], Options::default()).is_err());
    assert!(Router::new(&[rule(Priority::Default, "/a")], Options::default()).is_err());
}

#[test]
fn servers_first_and_then_their_locations_alone() {
    let rules = [
        at("/", &[]),
        at("/a", &["x.com"]),
        at("/", &["*.x.com"]),
        at("/", &["*.long.x.com"]),
        at("/", &["mail.*"]),
        at("/b/", &["x.com"]),
    ];
    let router = Router::new(&rules, Options::default()).unwrap();
    for (path, host, expected) in [
        ("/q", "nobody", Ok(0)),
        ("/q", "", Ok(0)),
        ("/a/b", "x.com", Ok(1)),
        ("/q", "x.com", Err(Refusal::NoRule)),
        ("/q", "w.x.com", Ok(2)),
        ("/q", "w.long.x.com", Ok(3)),
        ("/q", "mail.x.com", Ok(2)),
        ("/q", "mail.y", Ok(4)),
        ("/b", "x.com", Ok(1005)),
        ("/%62/", "x.com", Ok(5)),
    ] {
        assert_eq!(chosen(&router, path, host), expected, "{path} {host}");
    }
    let to = match router.route(&get("/b?q=1", "x.com"), None) {
        Decision::Redirect { to, .. } => to,
        other => panic!("{other:?}"),
    };
    assert_eq!(to, "/b/?q=1");
    let still = Router::new(&rules, Options { redirect: false, ..Options::default() }).unwrap();
    assert_eq!(chosen(&still, "/b", "x.com"), Err(Refusal::NoRule));
}

#[test]
fn locations_and_patterns_do_not_mix() {
    assert!(Router::new(&[at("/", &[]), rule(Priority::Listed, "/a")], Options::default()).is_err());
    let both = Rule { methods: vec!["GET".into()], ..at("/", &[]) };
    assert_eq!(Router::new(&[both], Options::default()).unwrap_err().field, "rules[0].method");
    assert!(Router::new(&[at("/", &[]), at("/", &[])], Options::default()).is_err());
    assert!(Router::new(&[at("/", &["a"]), at("/", &["b"])], Options::default()).is_ok());
    assert!(Router::new(&[at("/", &["a:80"])], Options::default()).is_err());
    assert!(Router::new(&[], Options::default()).is_ok());
}

#[test]
fn draws_follow_the_seed_and_keys_stay() {
    let two = Rule { targets: vec![("a".into(), 1), ("b".into(), 1)], ..rule(Priority::Listed, "*") };
    let made = |seed| {
        let router = Router::new(std::slice::from_ref(&two), Options { seed, ..Options::default() }).unwrap();
        (0..64).map(|_| router.route(&get("/", ""), None)).collect::<Vec<_>>()
    };
    assert_eq!(made(1), made(1));
    assert_ne!(made(1), made(2));
    let router = Router::new(std::slice::from_ref(&two), Options::default()).unwrap();
    assert_eq!(router.route(&get("/", ""), Some(9)), router.route(&get("/", ""), Some(9)));
    let none = Rule { targets: vec![("a".into(), 0)], ..two };
    let router = Router::new(&[none], Options::default()).unwrap();
    assert_eq!(router.route(&get("/", ""), None), Decision::Refused(Refusal::NoWeight));
}
