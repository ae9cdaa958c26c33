//! Rules, and the router that asks them in order: those of an Application Load Balancer, or nginx's locations.

use super::glob::Glob;
use super::location::{Found, Location, Locations};
use super::request::{Refusal, Request};
use super::targets::Weighted;
use super::uri;
use crate::core::error::ConfigError;
use crate::core::rng;
use crate::core::sync::{AtomicU64, Ordering};
use std::collections::HashMap;

/// The largest priority, as at AWS.
pub const LOWEST: u32 = 50_000;

/// When a rule is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// The lower the number, the earlier.
    Number(u32),
    /// After those with a number, in the order of the list.
    #[default]
    Listed,
    /// When no other rule fits.
    Default,
}

/// A rule as it is configured. An empty list is no condition; the conditions must all hold, and of each one value.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// When it is asked.
    pub priority: Priority,
    /// Patterns of the path.
    pub paths: Vec<String>,
    /// nginx's location, instead of patterns.
    pub location: Option<String>,
    /// Patterns of the host; names of a server where there is a location.
    pub hosts: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// Names of headers, each with patterns.
    pub headers: Vec<(String, Vec<String>)>,
    /// Conditions on the query: each a list of key, if any, and pattern of the value.
    pub query: Vec<Vec<(Option<String>, String)>>,
    /// Names and weights of the targets.
    pub targets: Vec<(String, u64)>,
}

/// How a router reads requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether AWS's limits hold for rules without locations.
    pub alb_limits: bool,
    /// Whether a path that fits another rule once it is made normal is refused, or goes by what was sent.
    pub refuse_ambiguous: bool,
    /// nginx's `merge_slashes`.
    pub merge_slashes: bool,
    /// Whether a path that lacks the slash of a location is sent there.
    pub redirect: bool,
    /// Where the draws among targets start.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { alb_limits: true, refuse_ambiguous: true, merge_slashes: true, redirect: true, seed: 0 }
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this target of this rule.
    Forward {
        /// The rule's place in the list.
        rule: usize,
        /// The target's place in the rule.
        target: usize,
    },
    /// The client is to ask for this path instead.
    Redirect {
        /// The rule's place in the list.
        rule: usize,
        /// The path, escaped, with the query.
        to: String,
    },
    /// Nowhere.
    Refused(Refusal),
}

#[derive(Debug)]
struct Conditions {
    rule: usize,
    paths: Vec<Glob>,
    hosts: Vec<Glob>,
    methods: Vec<Vec<u8>>,
    headers: Vec<(Vec<u8>, Vec<Glob>)>,
    query: Vec<Vec<(Option<Glob>, Glob)>>,
}

impl Conditions {
    fn hold(&self, request: &Request, path: &[u8]) -> bool {
        let any = |globs: &[Glob], text: &[u8]| globs.is_empty() || globs.iter().any(|glob| glob.matches(text));
        any(&self.paths, path)
            && any(&self.hosts, request.host.as_bytes())
            && (self.methods.is_empty() || self.methods.contains(&request.method))
            && self.headers.iter().all(|(name, globs)| {
                let mut values = request.headers.iter().filter(|(known, _)| known == name);
                values.any(|(_, value)| globs.iter().any(|glob| glob.matches(value)))
            })
            && self.query.iter().all(|wanted| {
                request.pairs().any(|(key, value)| {
                    wanted.iter().any(|(k, v)| k.as_ref().is_none_or(|k| k.matches(key)) && v.matches(value))
                })
            })
    }
}

/// The servers of nginx, by name.
#[derive(Debug, Default)]
struct Servers {
    all: Vec<Locations>,
    exact: HashMap<String, usize>,
    /// `*.example.com` as `.example.com`, the longest first.
    heads: Vec<(String, usize)>,
    /// `www.*` as `www.`, the longest first.
    tails: Vec<(String, usize)>,
    default: Option<usize>,
}

#[derive(Debug)]
enum Plan {
    Ordered(Vec<Conditions>),
    Servers(Servers),
}

/// Rules that are ready to be asked.
#[derive(Debug)]
pub struct Router {
    plan: Plan,
    targets: Vec<Weighted>,
    options: Options,
    draws: AtomicU64,
}

fn field(rule: usize, name: &str) -> String {
    format!("rules[{rule}].{name}")
}

impl Router {
    /// A router of these rules.
    ///
    /// # Errors
    /// [`ConfigError`] that names rule and field.
    pub fn new(rules: &[Rule], options: Options) -> Result<Router, ConfigError> {
        let located = rules.iter().filter(|rule| rule.location.is_some()).count();
        if located > 0
            && let Some(at) = rules.iter().position(|rule| rule.location.is_none())
        {
            return Err(ConfigError::new(
                field(at, "location"),
                "None",
                "a location, as other rules of this router have",
            ));
        }
        let most = if located == 0 && options.alb_limits { 999 } else { super::targets::MOST };
        let targets = rules.iter().enumerate().map(|(i, rule)| Weighted::new(&field(i, "to"), &rule.targets, most));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        let plan = if located > 0 { Plan::Servers(Servers::new(rules)?) } else { ordered(rules, options.alb_limits)? };
        Ok(Router { plan, targets, options, draws: AtomicU64::new(0) })
    }

    /// The shares of a rule's targets.
    #[must_use]
    pub fn shares(&self, rule: usize) -> Vec<f64> {
        self.targets.get(rule).map(Weighted::shares).unwrap_or_default()
    }

    /// Where a request goes. A key sends equal requests to equal targets; without one the next draw decides.
    pub fn route(&self, request: &Request, key: Option<u64>) -> Decision {
        match self.find(request) {
            Err(refusal) => Decision::Refused(refusal),
            Ok(Found::Slash(rule)) => {
                let mut to =
                    request.normal(self.options.merge_slashes).map(|path| uri::escaped(&path)).unwrap_or_default();
                to.push('/');
                if !request.query.is_empty() {
                    to.push('?');
                    to.push_str(&String::from_utf8_lossy(&request.query));
                }
                Decision::Redirect { rule, to }
            }
            Ok(Found::Rule(rule)) => {
                let target = self.targets.get(rule).and_then(|targets| match key {
                    Some(key) => targets.keyed(key),
                    None => targets.draw(rng::draw(self.options.seed, self.draws.fetch_add(1, Ordering::Relaxed))),
                });
                match target {
                    Some(target) => Decision::Forward { rule, target },
                    None => Decision::Refused(Refusal::NoWeight),
                }
            }
        }
    }

    fn find(&self, request: &Request) -> Result<Found, Refusal> {
        match &self.plan {
            Plan::Servers(servers) => {
                let path = request.normal(self.options.merge_slashes)?;
                let server = servers.of(&request.host).and_then(|at| servers.all.get(at));
                server.and_then(|s| s.find(&path, self.options.redirect)).ok_or(Refusal::NoRule)
            }
            Plan::Ordered(rules) => {
                let first = |path: &[u8]| rules.iter().find(|rule| rule.hold(request, path)).map(|rule| rule.rule);
                let sent = first(&request.path);
                // The server behind reads the normal path: a rule must not open by one reading what it closes by the other.
                if self.options.refuse_ambiguous && uri::complex(&request.path) {
                    for merge in [true, false] {
                        if first(&uri::normal(&request.path, merge)?) != sent {
                            return Err(Refusal::Ambiguous);
                        }
                    }
                }
                sent.map(Found::Rule).ok_or(Refusal::NoRule)
            }
        }
    }
}

/// The rules in the order in which they are asked.
fn ordered(rules: &[Rule], limits: bool) -> Result<Plan, ConfigError> {
    let mut order: Vec<usize> = (0..rules.len()).collect();
    order.sort_by_key(|&i| rules.get(i).map(|rule| rule.priority));
    for pair in order.windows(2) {
        let &[a, b] = pair else { continue };
        let (Some(one), Some(two)) = (rules.get(a), rules.get(b)) else { continue };
        match (one.priority, two.priority) {
            (Priority::Number(n), Priority::Number(m)) if n == m => {
                let allowed = format!("a priority of its own; rules[{a}] has the same");
                return Err(ConfigError::new(field(b, "priority"), n, allowed));
            }
            (Priority::Default, Priority::Default) => {
                let allowed = format!("one default rule; rules[{a}] is one");
                return Err(ConfigError::new(field(b, "priority"), "\"default\"", allowed));
            }
            _ => {}
        }
    }
    let mut out = Vec::with_capacity(rules.len());
    for at in order {
        let Some(rule) = rules.get(at) else { continue };
        out.push(conditions(at, rule, limits)?);
    }
    Ok(Plan::Ordered(out))
}

fn conditions(at: usize, rule: &Rule, limits: bool) -> Result<Conditions, ConfigError> {
    if let Priority::Number(n) = rule.priority
        && !(1..=LOWEST).contains(&n)
    {
        let allowed = format!("a whole number from 1 to {LOWEST}, \"default\" or None");
        return Err(ConfigError::new(field(at, "priority"), n, allowed));
    }
    let made = Conditions {
        rule: at,
        paths: rule.paths.iter().map(|p| Glob::new(p, false, false)).collect(),
        hosts: rule.hosts.iter().map(|p| Glob::new(p, true, false)).collect(),
        methods: rule.methods.iter().map(|m| m.clone().into_bytes()).collect(),
        headers: rule
            .headers
            .iter()
            .map(|(name, values)| {
                (name.to_ascii_lowercase().into_bytes(), values.iter().map(|v| Glob::new(v, true, false)).collect())
            })
            .collect(),
        query: rule
            .query
            .iter()
            .map(|pairs| {
                let glob = |text: &String| Glob::new(text, true, true);
                pairs.iter().map(|(key, value)| (key.as_ref().map(glob), glob(value))).collect()
            })
            .collect(),
    };
    if rule.priority == Priority::Default {
        let free = rule.paths.is_empty() && rule.hosts.is_empty() && rule.methods.is_empty();
        if !(free && rule.headers.is_empty() && rule.query.is_empty()) {
            return Err(ConfigError::new(field(at, "priority"), "\"default\"", "a default rule without conditions"));
        }
    }
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    for (name, values) in &rule.headers {
        if name.is_empty() || !name.bytes().all(token) || name.eq_ignore_ascii_case("host") {
            let allowed = "names of headers, without wildcards; for Host there is host=";
            return Err(ConfigError::new(field(at, "headers"), format!("{name:?}"), allowed));
        }
        if values.is_empty() {
            let name = field(at, &format!("headers[{name:?}]"));
            return Err(ConfigError::new(name, "nothing", "at least one value"));
        }
    }
    if let Some(empty) = rule.query.iter().position(Vec::is_empty) {
        return Err(ConfigError::new(field(at, &format!("query[{empty}]")), "nothing", "at least one value"));
    }
    for method in &rule.methods {
        let known = |byte: u8| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_';
        if method.is_empty() || method.len() > 40 || !method.bytes().all(known) {
            let allowed = "up to 40 of A-Z, hyphen and underscore";
            return Err(ConfigError::new(field(at, "method"), format!("{method:?}"), allowed));
        }
    }
    if limits {
        check_limits(at, rule, &made)?;
    }
    Ok(made)
}

/// What AWS allows of one rule.
fn check_limits(at: usize, rule: &Rule, made: &Conditions) -> Result<(), ConfigError> {
    let texts = |name: &'static str, values: &[String]| -> Vec<(String, String)> {
        values.iter().map(|v| (name.to_owned(), v.clone())).collect()
    };
    let mut lists = vec![texts("path", &rule.paths), texts("host", &rule.hosts), texts("method", &rule.methods)];
    for (name, values) in &rule.headers {
        if name.len() > 40 {
            return Err(ConfigError::new(field(at, "headers"), format!("{name:?}"), "names of up to 40 characters"));
        }
        lists.push(values.iter().map(|v| (format!("headers[{name:?}]"), v.clone())).collect());
    }
    for pairs in &rule.query {
        lists.push(
            pairs.iter().map(|(k, v)| ("query".to_owned(), format!("{}{v}", k.as_deref().unwrap_or("")))).collect(),
        );
    }
    for list in &lists {
        for (name, value) in list {
            let longest = if name == "query" { 256 } else { 128 };
            if value.is_empty() || value.chars().count() > longest {
                let allowed = "1 to 128 characters (AWS's limit; alb_limits=False lifts it)";
                return Err(ConfigError::new(field(at, name), format!("{value:.40?}"), allowed));
            }
        }
        if let Some((name, _)) = list.first()
            && list.len() > 3
        {
            let allowed = "up to 3 values a condition (AWS's limit; alb_limits=False lifts it)";
            return Err(ConfigError::new(field(at, name), format!("{} values", list.len()), allowed));
        }
    }
    let values: usize = lists.iter().map(Vec::len).sum();
    if values > 5 {
        let allowed = "up to 5 values a rule (AWS's limit; alb_limits=False lifts it)";
        return Err(ConfigError::new(format!("rules[{at}]"), format!("{values} values"), allowed));
    }
    let globs = made.paths.iter().chain(&made.hosts).chain(made.headers.iter().flat_map(|(_, globs)| globs));
    let pairs = made.query.iter().flatten().flat_map(|(key, value)| key.iter().chain([value]));
    let wildcards: usize = globs.chain(pairs).map(Glob::wildcards).sum();
    if wildcards > 5 {
        let allowed = "up to 5 wildcards a rule (AWS's limit; alb_limits=False lifts it)";
        return Err(ConfigError::new(format!("rules[{at}]"), format!("{wildcards} wildcards"), allowed));
    }
    Ok(())
}

impl Servers {
    fn new(rules: &[Rule]) -> Result<Servers, ConfigError> {
        let mut out = Servers::default();
        for (at, rule) in rules.iter().enumerate() {
            if rule.priority != Priority::Listed {
                let allowed = "None beside a location: the longest wins, and expressions in the order of the list";
                return Err(ConfigError::new(field(at, "priority"), "given", allowed));
            }
            let others = [
                ("path", rule.paths.len()),
                ("method", rule.methods.len()),
                ("headers", rule.headers.len()),
                ("query", rule.query.len()),
            ];
            if let Some((name, _)) = others.iter().find(|(_, count)| *count > 0) {
                return Err(ConfigError::new(field(at, name), "given", "None beside a location"));
            }
            let location = Location::parse(&field(at, "location"), rule.location.as_deref().unwrap_or_default())?;
            let mut servers = Vec::new();
            for name in &rule.hosts {
                servers.push(out.named(&field(at, "host"), name)?);
            }
            if rule.hosts.is_empty() {
                let fresh = out.all.len();
                let default = *out.default.get_or_insert(fresh);
                servers.push(default);
            }
            servers.sort_unstable();
            servers.dedup();
            for server in servers {
                while out.all.len() <= server {
                    out.all.push(Locations::default());
                }
                let added = out.all.get_mut(server).map_or(Ok(()), |locations| locations.add(&location, at));
                if let Err(before) = added {
                    let text = format!("{:?}", rule.location.as_deref().unwrap_or_default());
                    let allowed = format!("a location that is new to its server; rules[{before}] has it");
                    return Err(ConfigError::new(field(at, "location"), text, allowed));
                }
            }
        }
        out.heads.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        out.tails.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Ok(out)
    }

    /// The server of a name in the configuration, a new one if need be.
    fn named(&mut self, field: &str, name: &str) -> Result<usize, ConfigError> {
        let lower = name.to_ascii_lowercase();
        let next = self.all.len();
        let refuse =
            || ConfigError::new(field, format!("{name:?}"), "\"name\", \"*.name\" or \"name.*\", without a port");
        let entry = |list: &mut Vec<(String, usize)>, text: &str| match list.iter().find(|(known, _)| known == text) {
            Some((_, at)) => *at,
            None => {
                list.push((text.to_owned(), next));
                next
            }
        };
        let valid = |text: &str| uri::host(text.as_bytes()).is_ok_and(|host| host == text);
        let at = if let Some(rest) = lower.strip_prefix("*.") {
            if !valid(rest) {
                return Err(refuse());
            }
            entry(&mut self.heads, &format!(".{rest}"))
        } else if let Some(rest) = lower.strip_suffix(".*") {
            if !valid(rest) {
                return Err(refuse());
            }
            entry(&mut self.tails, &format!("{rest}."))
        } else if valid(&lower) {
            *self.exact.entry(lower).or_insert(next)
        } else {
            return Err(refuse());
        };
        if at == next {
            self.all.push(Locations::default());
        }
        Ok(at)
    }

    /// nginx's order: the name itself, the longest `*.name`, the longest `name.*`, the server without names.
    fn of(&self, host: &str) -> Option<usize> {
        if let Some(&at) = self.exact.get(host) {
            return Some(at);
        }
        let longer = |name: &&(String, usize)| host.len() > name.0.len();
        let head = self.heads.iter().filter(longer).find(|(name, _)| host.ends_with(name.as_str()));
        let tail = || self.tails.iter().filter(longer).find(|(name, _)| host.starts_with(name.as_str()));
        head.or_else(tail).map(|(_, at)| *at).or(self.default)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
