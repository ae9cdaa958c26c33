//! Pods as the replica calculator sees them, with their metrics, joined once.

use std::collections::HashMap;
use std::sync::Arc;

/// An instant in signed nanoseconds of the policy's clock: a pod may have started before the clock did.
pub type Instant = i64;

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not started.
    Pending,
    /// Running.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Not known.
    Unknown,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 5] = [Phase::Pending, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Unknown];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Running => "running",
            Phase::Succeeded => "succeeded",
            Phase::Failed => "failed",
            Phase::Unknown => "unknown",
        }
    }
}

/// The Ready condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It serves.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// A container's requests by resource, in thousandths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: Arc<str>,
    /// What it asks for.
    pub requests: Vec<(Arc<str>, i64)>,
    /// An init container.
    pub init: bool,
    /// An init container that runs on beside the others.
    pub sidecar: bool,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name, unique among the pods.
    pub name: Arc<str>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether it is being deleted.
    pub deleted: bool,
    /// Its Ready condition, if there is one.
    pub ready: Option<Ready>,
    /// When that last changed.
    pub ready_since: Instant,
    /// When it was started.
    pub started: Option<Instant>,
    /// Its containers.
    pub containers: Vec<Container>,
    /// Requests of the pod as a whole; empty for none.
    pub requests: Vec<(Arc<str>, i64)>,
}

/// One pod's value of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// In thousandths.
    pub value: i64,
    /// When its window ended.
    pub at: Instant,
    /// How long that was, in nanoseconds.
    pub window: i64,
}

/// A metric, one value a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// In the order of the pods; None for those without.
    pub samples: Vec<Option<Sample>>,
    /// Values of pods that are not in the list.
    pub strangers: Vec<(Arc<str>, Sample)>,
}

/// Values by the pods' names.
pub type Values = Vec<(Arc<str>, Sample)>;

/// Pods and what they reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    pods: Vec<Pod>,
    series: Vec<(Arc<str>, Option<Series>)>,
}

impl Pods {
    /// Joins pods and their metrics; the error is a name that two pods have.
    pub fn new(pods: Vec<Pod>, metrics: Vec<(Arc<str>, Option<Values>)>) -> Result<Pods, Arc<str>> {
        let mut places: HashMap<Arc<str>, usize> = HashMap::with_capacity(pods.len());
        for (i, pod) in pods.iter().enumerate() {
            if places.insert(Arc::clone(&pod.name), i).is_some() {
                return Err(Arc::clone(&pod.name));
            }
        }
        let join = |values: Values| {
            let mut series = Series { samples: vec![None; pods.len()], strangers: Vec::new() };
            for (name, sample) in values {
                match places.get(&name).and_then(|i| series.samples.get_mut(*i)) {
                    Some(place) => *place = Some(sample),
                    None => series.strangers.push((name, sample)),
                }
            }
            series
        };
        let series = metrics.into_iter().map(|(name, values)| (name, values.map(join))).collect();
        Ok(Pods { pods, series })
    }

    /// The pods.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The metrics by name; None is one that could not be had.
    #[must_use]
    pub fn series(&self) -> &[(Arc<str>, Option<Series>)] {
        &self.series
    }

    /// A metric's values.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|(n, _)| **n == *name)?.1.as_ref()
    }

    /// How many run and are ready, deleted ones included.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.pods.iter().filter(|p| p.phase == Phase::Running && p.ready == Some(Ready::True)).count()
    }
}

/// Why a request is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRequest {
    /// This container of this pod does not say.
    Missing(Arc<str>, Arc<str>),
    /// The pod as a whole does not say.
    MissingOfPod(Arc<str>),
    /// This pod has no such container.
    NoContainer(Arc<str>),
}

fn requested(requests: &[(Arc<str>, i64)], resource: &str) -> Option<i64> {
    requests.iter().find(|(n, _)| **n == *resource).map(|(_, v)| *v)
}

impl Pod {
    /// What it requests of a resource, all its containers together or one of them, in thousandths.
    pub fn request(&self, resource: &str, container: Option<&str>) -> Result<i64, NoRequest> {
        if container.is_none() && !self.requests.is_empty() {
            return requested(&self.requests, resource)
                .or_else(|| self.aggregate(resource))
                .ok_or_else(|| NoRequest::MissingOfPod(Arc::clone(&self.name)));
        }
        let mut sum = 0_i64;
        let mut found = container.is_none();
        for c in self.containers.iter().filter(|c| !c.init || c.sidecar) {
            if container.is_some_and(|name| name != &*c.name) {
                continue;
            }
            found = true;
            let missing = || NoRequest::Missing(Arc::clone(&c.name), Arc::clone(&self.name));
            sum = sum.wrapping_add(requested(&c.requests, resource).ok_or_else(missing)?);
        }
        if found { Ok(sum) } else { Err(NoRequest::NoContainer(Arc::clone(&self.name))) }
    }

    /// What its containers request together, for a pod that states another resource as a whole: those that do not say
    /// count nothing, and a start by init containers may need more than the running.
    fn aggregate(&self, resource: &str) -> Option<i64> {
        let requests = |c: &Container| requested(&c.requests, resource);
        let mut sum = self.containers.iter().filter(|c| !c.init).filter_map(requests).reduce(i64::wrapping_add);
        let (mut beside, mut start) = (0_i64, None);
        for c in self.containers.iter().filter(|c| c.init) {
            let Some(own) = requests(c) else { continue };
            let need = own.wrapping_add(beside);
            if c.sidecar {
                beside = need;
                sum = Some(sum.unwrap_or(0).wrapping_add(own));
            }
            start = start.max(Some(need));
        }
        sum.max(start)
    }
}
