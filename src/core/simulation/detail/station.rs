//! A server that shares its speed among the requests it serves: first come first served, by priority, processor sharing.
//!
//! All requests in service progress alike, so one clock of work a server is enough: a request that begins when the clock
//! shows v with w seconds of work is done when it shows v + w, whatever happens to the server's speed meanwhile.

use super::AttemptId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A float that is not NaN, ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark(f64);
impl Eq for Mark {}
impl PartialOrd for Mark {
    fn partial_cmp(&self, other: &Mark) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Mark {
    fn cmp(&self, other: &Mark) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Requests that wait, by priority (0 first), then in order of arrival. One that was cancelled is passed over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    heap: BinaryHeap<Reverse<(u8, u64, AttemptId)>>,
    /// How many wait, without the cancelled.
    len: u32,
}

impl Line {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn push(&mut self, priority: u8, order: u64, id: AttemptId) {
        self.heap.push(Reverse((priority, order, id)));
        self.len += 1;
    }

    /// One that waits here was taken away; the caller has marked it.
    pub(crate) fn forget(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    /// The first that `waits`, without taking it.
    pub(crate) fn peek(&mut self, waits: impl Fn(AttemptId) -> bool) -> Option<AttemptId> {
        while let Some(&Reverse((_, _, id))) = self.heap.peek() {
            if waits(id) {
                return Some(id);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the first that `waits`.
    pub(crate) fn pop(&mut self, waits: impl Fn(AttemptId) -> bool) -> Option<AttemptId> {
        let first = self.peek(waits)?;
        self.heap.pop();
        self.len = self.len.saturating_sub(1);
        Some(first)
    }
}

/// A server with cores that its requests share.
#[derive(Clone, Debug)]
pub(crate) struct Station {
    /// Requests that run at full speed together.
    cores: u32,
    /// Requests in service at once; more wait.
    pub(crate) limit: u32,
    /// Seconds of work a nanosecond and core.
    rate: f64,
    at: u64,
    clock: f64,
    pub(crate) serving: u32,
    running: BinaryHeap<Reverse<(Mark, AttemptId)>>,
    pub(crate) line: Line,
    /// Work that the cores could do while busy, in seconds: what work conservation is checked against.
    pub(crate) offered: f64,
}

impl Station {
    pub(crate) fn new(cores: u32, limit: u32, speed: f64, now: u64) -> Station {
        Station {
            cores: cores.max(1),
            limit: limit.max(1),
            rate: speed / 1e9,
            at: now,
            clock: 0.0,
            serving: 0,
            running: BinaryHeap::new(),
            line: Line::default(),
            offered: 0.0,
        }
    }

    /// Cores at work.
    pub(crate) fn busy(&self) -> u32 {
        self.serving.min(self.cores)
    }

    pub(crate) fn room(&self) -> bool {
        self.serving < self.limit
    }

    /// Seconds of work a nanosecond that each request gets.
    fn pace(&self) -> f64 {
        if self.serving > self.cores { self.rate * f64::from(self.cores) / f64::from(self.serving) } else { self.rate }
    }

    /// Moves the clock on. Before every change.
    pub(crate) fn advance(&mut self, now: u64) {
        let passed = now.saturating_sub(self.at) as f64;
        self.at = now;
        if self.serving == 0 {
            self.clock = 0.0;
            return;
        }
        self.clock += passed * self.pace();
        self.offered += passed * self.rate * f64::from(self.busy());
    }

    pub(crate) fn set_speed(&mut self, speed: f64) {
        self.rate = speed / 1e9;
    }

    /// What the clock shows; only differences mean something.
    pub(crate) fn clock(&self) -> f64 {
        self.clock
    }

    /// A request begins; what the clock shows is returned.
    pub(crate) fn start(&mut self, id: AttemptId, work: f64) -> f64 {
        if self.serving == 0 {
            self.clock = 0.0;
            self.running.clear();
        }
        self.serving += 1;
        self.running.push(Reverse((Mark(self.clock + work.max(0.0)), id)));
        self.clock
    }

    /// A request in service ended or was taken away; its entry is passed over later.
    pub(crate) fn stop(&mut self) {
        self.serving = self.serving.saturating_sub(1);
    }

    /// The request that is done first, and when, if nothing changes.
    pub(crate) fn next(&mut self, runs: impl Fn(AttemptId) -> bool) -> Option<(u64, AttemptId)> {
        while let Some(&Reverse((mark, id))) = self.running.peek() {
            if !runs(id) {
                self.running.pop();
                continue;
            }
            let pace = self.pace();
            if pace <= 0.0 {
                return None;
            }
            let left = ((mark.0 - self.clock).max(0.0) / pace + 0.5) as u64;
            return Some((self.at.saturating_add(left).min(u64::MAX - 1), id));
        }
        None
    }

    /// Everything is lost, in service and in line.
    pub(crate) fn clear(&mut self) {
        self.serving = 0;
        self.running.clear();
        self.line = Line::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    fn id(n: u32) -> AttemptId {
        AttemptId { at: n, generation: 0 }
    }

    #[test]
    fn two_share_one_core() {
        let mut s = Station::new(1, 10, 1.0, 0);
        s.advance(0);
        s.start(id(1), 2.0);
        assert_eq!(s.next(|_| true), Some((2 * S, id(1))));
        s.advance(S);
        s.start(id(2), 0.5);
        // One second is left of the first, half of it for each: the second is done at 2 s.
        assert_eq!(s.next(|_| true), Some((2 * S, id(2))));
        s.advance(2 * S);
        s.stop();
        assert_eq!(s.next(|who| who != id(2)), Some((5 * S / 2, id(1))));
        s.set_speed(0.5);
        assert_eq!(s.next(|who| who != id(2)), Some((3 * S, id(1))));
        s.set_speed(0.0);
        assert_eq!(s.next(|who| who != id(2)), None);
        assert!((s.offered - 2.0).abs() < 1e-12);
    }

    #[test]
    fn cores_serve_at_full_speed_until_they_are_shared() {
        let mut s = Station::new(2, 4, 2.0, 0);
        for n in 0..2 {
            s.start(id(n), 2.0);
        }
        assert_eq!((s.next(|_| true), s.busy(), s.room()), (Some((S, id(0))), 2, true));
        for n in 2..4 {
            s.start(id(n), 2.0);
        }
        assert_eq!((s.next(|_| true), s.busy(), s.room()), (Some((2 * S, id(0))), 2, false));
        s.clear();
        assert_eq!((s.next(|_| true), s.busy()), (None, 0));
    }

    #[test]
    fn a_line_keeps_priorities_and_passes_over_the_cancelled() {
        let mut line = Line::default();
        for (n, priority) in [(0, 1), (1, 0), (2, 1), (3, 0)] {
            line.push(priority, u64::from(n), id(n));
        }
        assert_eq!(line.len(), 4);
        line.forget();
        assert_eq!(line.pop(|who| who != id(1)), Some(id(3)));
        assert_eq!(line.peek(|_| true), Some(id(0)));
        assert_eq!(line.pop(|_| true), Some(id(0)));
        assert_eq!(line.pop(|_| true), Some(id(2)));
        assert_eq!((line.len(), line.pop(|_| true)), (0, None));
    }
}
