//! One metric to a number of replicas. Operations are in Kubernetes' order, whole numbers cut where it cuts them, and
//! conversions out of range give what they give on amd64.

use super::pods::{NoRequest, Phase, Pod, Pods, Ready, Sample, Series};
use std::sync::Arc;

/// Where a metric comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A resource of the pods, or of one of their containers.
    Resource,
    /// A custom metric, one value a pod.
    Pods,
    /// One value of another object.
    Object,
    /// Values from outside the cluster.
    External,
}

/// Where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Percent of what the pods request.
    Utilization(i32),
    /// Thousandths a pod.
    AverageValue(i64),
    /// Thousandths.
    Value(i64),
}

/// A metric to hold at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSpec {
    /// The resource or the metric.
    pub name: Arc<str>,
    /// The name under which observations carry it.
    pub key: Arc<str>,
    /// Where it comes from.
    pub source: Source,
    /// The one container that counts.
    pub container: Option<Arc<str>>,
    /// Where it should be.
    pub target: Target,
}

/// What an observation says of a metric that is not one value a pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading<'a> {
    /// Nothing, or that it could not be had.
    Missing,
    /// A value in thousandths.
    One(i64),
    /// Several, which are added up.
    Many(&'a [i64]),
}

/// How far a ratio may be from 1 without consequences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Below.
    pub down: f64,
    /// Above.
    pub up: f64,
}

impl Tolerance {
    /// Both ends are within; NaN never is.
    #[must_use]
    pub fn within(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// What the calculation goes by besides the metric.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// `scale.spec.replicas`.
    pub current: i32,
    /// Replicas in service, which without pods stand for them.
    pub ready: i32,
    /// `scale.status.replicas`.
    pub status: i32,
    /// The pods; None stands for `current` of them, all ready, all alike.
    pub pods: Option<&'a Pods>,
    /// The tolerance.
    pub tolerance: Tolerance,
    /// How long the CPU of a started pod is doubted, in nanoseconds.
    pub cpu_initialization: i64,
    /// How long after its start a change to unready is the first report, in nanoseconds.
    pub readiness_delay: i64,
    /// Now.
    pub now: i64,
}

/// Why a metric gives no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The metric could not be had.
    Unavailable,
    /// There are no pods.
    NoPods,
    /// No pod that counts has a value.
    NoSamples,
    /// A request is not known.
    Request(NoRequest),
    /// All requests are zero.
    ZeroRequests,
}

impl Failure {
    /// For people.
    #[must_use]
    pub fn text(&self, resource: &str) -> String {
        match self {
            Failure::Unavailable => "the metric is unavailable".to_owned(),
            Failure::NoPods => "there are no pods".to_owned(),
            Failure::NoSamples => "no pod that counts has a value: they may be unready".to_owned(),
            Failure::Request(NoRequest::Missing(c, p)) => format!("container {c} of pod {p} requests no {resource}"),
            Failure::Request(NoRequest::MissingOfPod(p)) => format!("pod {p} requests no {resource}"),
            Failure::Request(NoRequest::NoContainer(p)) => format!("pod {p} has no such container"),
            Failure::ZeroRequests => format!("the pods request 0 of {resource}"),
        }
    }
}

/// What one metric asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// That many replicas.
    pub replicas: i32,
    /// The metric over its target, as it decided.
    pub ratio: f64,
    /// The replicas before they were rounded, and before the tolerance.
    pub need: f64,
    /// Whether the ratio is within the tolerance.
    pub within: bool,
    /// The metric, in thousandths: a pod's average, or the whole.
    pub usage: i64,
    /// Percent of what is requested, where that is the target.
    pub utilization: Option<i32>,
}

/// Rounded up to 32 bits, as amd64 converts.
#[must_use]
pub fn ceil_i32(value: f64) -> i32 {
    let up = value.ceil();
    if up > -2_147_483_649.0 && up < 2_147_483_648.0 { up as i32 } else { i32::MIN }
}

fn ceil_i64(value: f64) -> i64 {
    let up = value.ceil();
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&up) { up as i64 } else { i64::MIN }
}

fn capped_i32(value: f64) -> i32 {
    if value > f64::from(i32::MAX) { i32::MAX } else { ceil_i32(value) }
}

/// The number of replicas that a metric asks for.
pub fn propose(spec: &MetricSpec, reading: Reading<'_>, at: &Setting<'_>) -> Result<Proposal, Failure> {
    match (spec.source, spec.target) {
        (Source::Resource | Source::Pods, _) => match at.pods {
            Some(pods) => {
                let series = pods.find(&spec.key).ok_or(Failure::Unavailable)?;
                by_pods(spec, pods, series, at)
            }
            None => alike(spec, reading, at),
        },
        (_, Target::Value(target)) => by_value(total(reading, true)?, target, at),
        (_, Target::AverageValue(target)) => {
            per_pod(total(reading, false)?, target, at, spec.source == Source::External)
        }
        (_, Target::Utilization(_)) => Err(Failure::Unavailable),
    }
}

/// The sum of values. Two rules against overflow, one a kind of target.
fn total(reading: Reading<'_>, value: bool) -> Result<i64, Failure> {
    let list = match reading {
        Reading::Missing => return Err(Failure::Unavailable),
        Reading::One(v) => return Ok(v),
        Reading::Many([]) => return Err(Failure::Unavailable),
        Reading::Many(list) => list,
    };
    let mut sum = 0_i64;
    for v in list {
        if value && *v > 0 && sum > i64::MAX - *v {
            return Ok(i64::MAX);
        }
        sum = sum.wrapping_add(*v);
        if !value && sum < 0 {
            return Ok(i64::MAX);
        }
    }
    Ok(sum)
}

fn by_value(usage: i64, target: i64, at: &Setting<'_>) -> Result<Proposal, Failure> {
    let ratio = usage as f64 / target as f64;
    let answer = |replicas, need, within| Proposal { replicas, ratio, need, within, usage, utilization: None };
    if at.current == 0 {
        return Ok(answer(ceil_i32(ratio), ratio, false));
    }
    let ready = match at.pods {
        None => f64::from(at.ready),
        Some(pods) => pods.ready() as f64,
    };
    let need = ratio * ready;
    if at.tolerance.within(ratio) {
        return Ok(answer(at.current, need, true));
    }
    if at.pods.is_some_and(|p| p.pods().is_empty()) {
        return Err(Failure::NoPods);
    }
    Ok(answer(capped_i32(need), need, false))
}

fn per_pod(total: i64, target: i64, at: &Setting<'_>, external: bool) -> Result<Proposal, Failure> {
    let status = f64::from(at.status);
    let ratio = total as f64 / (target as f64 * status);
    let need = total as f64 / target as f64;
    let within = at.tolerance.within(ratio);
    let replicas = match (within, external) {
        (true, _) => at.status,
        (false, true) => capped_i32(need.ceil()),
        (false, false) => ceil_i32(need),
    };
    let most = 9_223_372_036_854_775_807_i64 as f64;
    let usage = if external && total as f64 >= most { i64::MAX } else { ceil_i64(total as f64 / status) };
    Ok(Proposal { replicas, ratio, need, within, usage, utilization: None })
}

/// Without pods: `ready` of them have this value each, and what is asked for beyond them is not ready yet.
fn alike(spec: &MetricSpec, reading: Reading<'_>, at: &Setting<'_>) -> Result<Proposal, Failure> {
    let usage = total(reading, true)?;
    let pods = at.current.max(at.ready);
    if pods == 0 {
        return Err(Failure::NoPods);
    }
    if at.ready == 0 {
        return Err(Failure::NoSamples);
    }
    let (ready, all) = (i128::from(at.ready), i128::from(pods));
    let spread = |value: i64| i64::try_from(i128::from(value) * ready / all).unwrap_or(i64::MAX);
    let ratio = |usage: i64| match spec.target {
        // A percentage of what is requested, whole as there.
        Target::Utilization(target) => f64::from(whole_percent(usage)) / f64::from(target),
        Target::AverageValue(target) | Target::Value(target) => usage as f64 / target as f64,
    };
    let utilization = matches!(spec.target, Target::Utilization(_)).then(|| whole_percent(usage));
    let first = ratio(usage);
    let (second, counted) =
        if first > 1.0 && pods > at.ready { (ratio(spread(usage)), pods) } else { (first, at.ready) };
    let need = second * f64::from(counted);
    let within = at.tolerance.within(second);
    let replicas = ceil_i32(need);
    let turned = counted > at.ready && (second < 1.0 || replicas < at.current);
    let replicas = if within || turned { at.current } else { replicas };
    Ok(Proposal { replicas, ratio: second, need, within, usage, utilization })
}

fn whole_percent(milli: i64) -> i32 {
    i32::try_from(milli / 1000).unwrap_or(if milli < 0 { i32::MIN } else { i32::MAX })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Ignored,
    Unready,
    Missing,
    Counted(i64),
}

fn group(pod: &Pod, sample: Option<&Sample>, cpu: bool, at: &Setting<'_>) -> Group {
    if pod.deleted || pod.phase == Phase::Failed {
        return Group::Ignored;
    }
    if pod.phase == Phase::Pending {
        return Group::Unready;
    }
    let Some(sample) = sample else { return Group::Missing };
    if cpu {
        let unready = match (pod.ready, pod.started) {
            (None, _) | (_, None) => true,
            (Some(ready), Some(started)) if started.saturating_add(at.cpu_initialization) > at.now => {
                ready == Ready::False || sample.at < pod.ready_since.saturating_add(sample.window)
            }
            (Some(ready), Some(started)) => {
                ready == Ready::False && started.saturating_add(at.readiness_delay) > pod.ready_since
            }
        };
        if unready {
            return Group::Unready;
        }
    }
    Group::Counted(sample.value)
}

/// Sums of one group of pods. All wrap around, as there.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: i64,
    value: i64,
    request: i64,
}

impl Sums {
    fn add(&mut self, value: i64, request: i64) {
        self.count += 1;
        self.value = self.value.wrapping_add(value);
        self.request = self.request.wrapping_add(request);
    }

    fn and(self, other: Sums) -> Sums {
        Sums {
            count: self.count + other.count,
            value: self.value.wrapping_add(other.value),
            request: self.request.wrapping_add(other.request),
        }
    }
}

fn by_pods(spec: &MetricSpec, pods: &Pods, series: &Series, at: &Setting<'_>) -> Result<Proposal, Failure> {
    if pods.pods().is_empty() {
        return Err(Failure::NoPods);
    }
    let cpu = spec.source == Source::Resource && *spec.name == *"cpu";
    let percent = match spec.target {
        Target::Utilization(p) => Some(p),
        _ => None,
    };
    let fill = |request: i64| match spec.target {
        Target::Utilization(p) => request.wrapping_mul(i64::from(p.max(100))) / 100,
        Target::AverageValue(target) | Target::Value(target) => target,
    };
    let (mut counted, mut unready, mut missing) = (Sums::default(), Sums::default(), Sums::default());
    for (pod, sample) in pods.pods().iter().zip(&series.samples) {
        // All pods must say what they request, also those that do not count.
        let request = match percent {
            Some(_) => pod.request(&spec.name, spec.container.as_deref()).map_err(Failure::Request)?,
            None => 0,
        };
        match group(pod, sample.as_ref(), cpu, at) {
            Group::Ignored => {}
            Group::Unready => unready.add(0, request),
            Group::Missing => missing.add(fill(request), request),
            Group::Counted(value) => counted.add(value, request),
        }
    }
    // Values of pods that are not in the list count in averages, and have no request.
    let mut strangers = Sums::default();
    for (_, sample) in &series.strangers {
        strangers.add(if percent.is_some() { 0 } else { sample.value }, 0);
    }
    if counted.count + strangers.count == 0 {
        return Err(Failure::NoSamples);
    }
    let rate = |own: Sums| rate(spec.target, own, strangers);
    let (ratio, usage, utilization) = rate(counted)?;
    let up_with_unready = unready.count > 0 && ratio > 1.0;
    if !up_with_unready && missing.count == 0 {
        let (need, within) = (ratio * counted.count as f64, at.tolerance.within(ratio));
        let replicas = if within { at.current } else { ceil_i32(need) };
        return Ok(Proposal { replicas, ratio, need, within, usage, utilization });
    }
    let mut filled = counted;
    if ratio < 1.0 {
        filled = filled.and(missing);
    } else if ratio > 1.0 {
        filled = filled.and(Sums { value: 0, ..missing });
    }
    if up_with_unready {
        filled = filled.and(unready);
    }
    let (second, ..) = rate(filled)?;
    let need = second * (filled.count + strangers.count) as f64;
    let within = at.tolerance.within(second);
    let turned = (ratio < 1.0 && second > 1.0) || (ratio > 1.0 && second < 1.0);
    let replicas = ceil_i32(need);
    let back = (second < 1.0 && replicas > at.current) || (second > 1.0 && replicas < at.current);
    let replicas = if within || turned || back { at.current } else { replicas };
    Ok(Proposal { replicas, ratio: second, need, within, usage, utilization })
}

/// The metric over its target, a pod's average, and the percentage if that is the target.
fn rate(target: Target, own: Sums, strangers: Sums) -> Result<(f64, i64, Option<i32>), Failure> {
    match target {
        Target::Utilization(target) => {
            if own.request == 0 {
                return Err(Failure::ZeroRequests);
            }
            // Whole percent before the ratio.
            let percent = own.value.wrapping_mul(100).wrapping_div(own.request) as i32;
            Ok((f64::from(percent) / f64::from(target), own.value.wrapping_div(own.count.max(1)), Some(percent)))
        }
        Target::AverageValue(target) | Target::Value(target) => {
            let all = own.and(strangers);
            let average = all.value.wrapping_div(all.count.max(1));
            Ok((average as f64 / target as f64, average, None))
        }
    }
}
