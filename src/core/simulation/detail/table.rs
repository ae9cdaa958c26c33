//! Requests, their attempts, the places where they are served, and the events between them.

use super::AttemptId;
use super::batch::Batch;
use super::station::Station;
use std::cmp::Ordering;
use std::collections::VecDeque;

pub(crate) const NEVER: u64 = u64::MAX;
/// No server, no user.
pub(crate) const NONE: u32 = u32::MAX;

/// A request's place in the table, and which of those that had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId {
    pub(crate) at: u32,
    pub(crate) generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Free,
    /// On its way to the server.
    Travelling,
    /// In the shared queue.
    Pooled,
    /// In the server's queue.
    Waiting,
    Served,
    /// Its answer is on the way.
    Answering,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) generation: u32,
    pub(crate) done: bool,
    pub(crate) serial: u64,
    pub(crate) arrival: u64,
    pub(crate) work: f64,
    pub(crate) key: u64,
    pub(crate) class: u32,
    pub(crate) priority: u8,
    pub(crate) user: u32,
    /// Attempts sent.
    pub(crate) sent: u32,
    /// Attempts under way, and those of them that count.
    pub(crate) open: u32,
    pub(crate) live: [Option<AttemptId>; 2],
    pub(crate) last_server: u32,
    pub(crate) started: u64,
    pub(crate) first_token: u64,
    pub(crate) hedged: bool,
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) row: u32,
    /// What the shared queue said that it would wait.
    pub(crate) eta: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) generation: u32,
    pub(crate) stage: Stage,
    pub(crate) request: u32,
    pub(crate) server: u32,
    /// The balancer's mark; `None` when no balancer chose.
    pub(crate) ticket: Option<u64>,
    pub(crate) sent_at: u64,
    pub(crate) started: u64,
    /// What the server's clock of work showed when it began.
    pub(crate) mark: f64,
    pub(crate) work: f64,
    pub(crate) hedge: bool,
    /// When it reached its server, and how many requests were there.
    pub(crate) reached: u64,
    pub(crate) met: u32,
}

/// What a server knows of itself.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// How many requests the last ones met, and how long they took in nanoseconds.
    pub(crate) recent: VecDeque<(u32, u64)>,
    /// Answers and busy slot nanoseconds since the last report.
    pub(crate) answers: u64,
    pub(crate) busy: u128,
    pub(crate) since: u64,
    pub(crate) at: u64,
}

/// How a server serves.
#[derive(Debug)]
pub(crate) enum Work {
    Station(Station),
    Batch(Box<Batch>),
}

/// A server's part of a detailed run.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) work: Work,
    /// Which of the scheduled ends counts, and when it is.
    pub(crate) epoch: u32,
    pub(crate) scheduled: u64,
    pub(crate) up: bool,
    /// Balancers know that it is dead.
    pub(crate) hidden: bool,
    pub(crate) speed: f64,
    pub(crate) neighbour: f64,
    pub(crate) warmth: f64,
    pub(crate) busy: u32,
    /// It stands in the queue of workers that wait for work.
    pub(crate) asks: bool,
    pub(crate) signals: Signals,
}

impl Place {
    pub(crate) fn factor(&self) -> f64 {
        self.speed * self.neighbour * self.warmth
    }

    /// Requests that it could begin at once.
    pub(crate) fn room(&self) -> bool {
        self.up
            && match &self.work {
                Work::Station(station) => station.room(),
                Work::Batch(batch) => batch.serving() + batch.line.len() < batch.limit,
            }
    }

    /// Requests in service and waiting here.
    pub(crate) fn present(&self) -> u32 {
        self.waiting()
            + match &self.work {
                Work::Station(station) => station.serving,
                Work::Batch(batch) => batch.serving(),
            }
    }

    pub(crate) fn waiting(&self) -> u32 {
        match &self.work {
            Work::Station(station) => station.line.len(),
            Work::Batch(batch) => batch.line.len(),
        }
    }
}

/// What happens. The order of the first word decides at one instant: ends, then timeouts, then the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Server { server: u32, epoch: u32 },
    Answer(AttemptId),
    Reach(AttemptId),
    Deadline(RequestId),
    Expire(AttemptId),
    Hedge(RequestId),
    Retry(RequestId),
    Think(u32),
    Crash(u32),
    Detect(u32),
    Restore(u32),
    Neighbour { server: u32, on: bool },
    Warm { server: u32, step: u32 },
    Report,
}

impl What {
    pub(crate) fn order(self) -> u8 {
        match self {
            What::Server { .. } | What::Answer(_) => 0,
            What::Deadline(_) | What::Expire(_) => 1,
            What::Crash(_)
            | What::Detect(_)
            | What::Restore(_)
            | What::Neighbour { .. }
            | What::Warm { .. }
            | What::Report => 2,
            What::Reach(_) | What::Hedge(_) | What::Retry(_) | What::Think(_) => 3,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) at: u64,
    pub(crate) order: u8,
    pub(crate) number: u64,
    pub(crate) what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
/// The earliest is the greatest, as heaps like it.
impl Ord for Event {
    fn cmp(&self, other: &Event) -> Ordering {
        (other.at, other.order, other.number).cmp(&(self.at, self.order, self.number))
    }
}

/// Requests bring credit, retries and hedges take it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    share: Option<f64>,
    most: f64,
    credit: f64,
}

impl Budget {
    pub(crate) fn new(share: Option<f64>, burst: f64) -> Budget {
        // Less than one is never enough for one.
        Budget { share, most: burst.max(1.0), credit: burst }
    }

    pub(crate) fn earn(&mut self) {
        if let Some(share) = self.share {
            self.credit = (self.credit + share).min(self.most);
        }
    }

    pub(crate) fn spend(&mut self) -> bool {
        if self.share.is_none() {
            return true;
        }
        // A share such as 0.1 adds up to a hair below 1.
        let enough = self.credit >= 1.0 - 1e-9;
        if enough {
            self.credit = (self.credit - 1.0).max(0.0);
        }
        enough
    }
}
