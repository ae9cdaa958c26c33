//! HAProxy's `balance roundrobin`, whose weights change while it runs.
//!
//! Servers wait in three queues: those whose turn of this round is to come (`Init`, heaviest first), those that have
//! had one and have more of this round (`Current`, by position) and those that are through with it (`Next`). A turn
//! moves a server on by the total weight over its own, the remainder is kept. A full server uses up its turn. Weights
//! are sixteenths, as in HAProxy, so that a round has 16 picks a unit of weight.

use super::super::{Choice, Draws};
use super::{Start, heir_of, sixteenths};
use crate::core::endpoints::{Member, View};
use crate::core::sync::Mutex;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// A random start goes at most this far into the first round.
const MAX_RANDOM: u64 = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    /// Not at all: it is down.
    Out,
    Init,
    Current,
    Next,
}

#[derive(Clone, Copy, Debug)]
struct Server {
    /// Weight in sixteenths.
    weight: i64,
    /// Position at which its next turn is.
    position: i64,
    /// Position of the last turn.
    last: i64,
    /// Remainder of the division that made the position.
    rest: i64,
    queue: Queue,
    key: i64,
    /// When it was put there: first in, first out among equals.
    stamp: u64,
}

/// A place in a queue: key, stamp, place among the servers.
type Waiting = Reverse<(i64, u64, u32)>;

#[derive(Clone, Debug, Default)]
struct State {
    servers: Vec<Server>,
    init: BinaryHeap<Waiting>,
    current: BinaryHeap<Waiting>,
    next: BinaryHeap<Waiting>,
    /// Weight of all that are up.
    total: i64,
    /// Weight of the running round.
    round: i64,
    position: i64,
    stamp: u64,
}

impl Server {
    fn out(weight: i64) -> Server {
        Server { weight, position: 0, last: 0, rest: 0, queue: Queue::Out, key: 0, stamp: 0 }
    }
}

impl State {
    /// Everybody's turn is to come.
    fn fresh(members: &[Member], weight: impl Fn(&Member) -> i64) -> State {
        let mut state = State::default();
        for (at, member) in (0u32..).zip(members) {
            let weight = weight(member);
            state.total += weight;
            state.servers.push(Server::out(weight));
            state.put(at, Queue::Init);
        }
        (state.round, state.position) = (state.total, state.total);
        state
    }

    fn server(&mut self, at: u32) -> Option<&mut Server> {
        self.servers.get_mut(at as usize)
    }

    fn put(&mut self, at: u32, queue: Queue) {
        self.stamp += 1;
        let stamp = self.stamp;
        let Some(server) = self.server(at) else { return };
        server.queue = queue;
        server.stamp = stamp;
        server.key = match queue {
            Queue::Current => 256 * server.position + (4096 + server.rest - server.weight) / 16,
            _ => 4096 - server.weight,
        };
        let waiting = Reverse((server.key, stamp, at));
        match queue {
            Queue::Init => self.init.push(waiting),
            Queue::Current => self.current.push(waiting),
            Queue::Next => self.next.push(waiting),
            Queue::Out => {}
        }
    }

    /// Puts a server where its position belongs: into this round or the next.
    fn put_again(&mut self, at: u32) {
        let (round, total) = (self.round, self.total);
        let Some(server) = self.server(at) else { return };
        if server.position >= 2 * round || server.position >= round + total {
            server.position -= round;
            self.put(at, Queue::Next);
        } else {
            self.put(at, Queue::Current);
        }
    }

    /// The server whose turn it is, out of its queue; `None` when this round has nobody left.
    fn take(&mut self) -> Option<u32> {
        let due = self.current.peek().map(|Reverse((_, _, at))| *at);
        let now = self.position;
        let is_due = due.is_some_and(|at| self.server(at).is_some_and(|s| s.position <= now));
        if is_due || self.init.is_empty() {
            return self.current.pop().map(|Reverse((_, _, at))| at);
        }
        let Reverse((_, _, at)) = self.init.pop()?;
        let server = self.server(at)?;
        (server.position, server.rest) = (0, 0);
        Some(at)
    }

    fn advance(&mut self, at: u32) {
        let (total, now) = (self.total, self.position);
        self.position += 1;
        let Some(server) = self.server(at) else { return };
        if server.position == 0 {
            server.position = now;
        }
        server.last = server.position;
        server.position += total.checked_div(server.weight).unwrap_or(0);
        server.rest += total.checked_rem(server.weight).unwrap_or(0);
        if server.rest >= server.weight {
            server.rest -= server.weight;
            server.position += 1;
        }
    }

    fn turn(&mut self, usable: impl Fn(u32) -> bool) -> Option<u32> {
        let (mut switched, mut full) = (false, Vec::new());
        let found = loop {
            match self.take() {
                Some(at) => {
                    self.advance(at);
                    if usable(at) {
                        break Some(at);
                    }
                    full.push(at);
                }
                None if switched => break None,
                None => {
                    switched = true;
                    std::mem::swap(&mut self.init, &mut self.next);
                    for waiting in &self.init {
                        if let Some(server) = self.servers.get_mut(waiting.0.2 as usize) {
                            server.queue = Queue::Init;
                        }
                    }
                    self.round = self.total;
                    self.position = self.round;
                }
            }
        };
        if let Some(at) = found {
            self.put_again(at);
        }
        for at in full.into_iter().rev() {
            if switched { self.put(at, Queue::Init) } else { self.put_again(at) }
        }
        found
    }

    /// Takes servers out of the heaps where `queue` says something else by now. Changes are rare, turns are not.
    fn sort(&mut self) {
        let (init, current, next) = (Queue::Init, Queue::Current, Queue::Next);
        for (queue, heap) in [(init, &mut self.init), (current, &mut self.current), (next, &mut self.next)] {
            let waiting = (0u32..).zip(&self.servers).filter(|(_, s)| s.queue == queue);
            *heap = waiting.map(|(at, s)| Reverse((s.key, s.stamp, at))).collect();
        }
    }

    fn down(&mut self, at: u32) {
        if let Some(server) = self.servers.get_mut(at as usize).filter(|s| s.queue != Queue::Out) {
            server.queue = Queue::Out;
            self.total -= server.weight;
        }
    }

    fn up(&mut self, at: u32, weight: i64) {
        self.total += weight;
        let ahead = (self.total + self.round - self.position).checked_div(weight).unwrap_or(0);
        let position = self.position + ahead;
        if let Some(server) = self.server(at) {
            (server.weight, server.position) = (weight, position);
        }
        self.put_again(at);
    }

    fn reweigh(&mut self, at: u32, weight: i64) {
        let (round, now) = (self.round, self.position);
        let Some(server) = self.servers.get_mut(at as usize) else { return };
        self.total += weight - server.weight;
        server.weight = weight;
        if server.queue == Queue::Init {
            return self.put(at, Queue::Init);
        }
        if server.queue == Queue::Next {
            server.position += round;
        }
        let step = self.total.checked_div(weight).unwrap_or(0);
        server.rest = 0;
        server.position = server.position.min(server.last + step);
        if server.position < now + 2 {
            server.position = now + step;
        }
        self.put_again(at);
    }
}

/// The servers, also those that are down, and their queues.
#[derive(Debug, Default)]
pub struct Index {
    all: Vec<Member>,
    state: Mutex<State>,
}

impl Index {
    pub(super) fn build(start: Start, view: &View, members: &[Member], before: &[&Index], draws: &Draws) -> Index {
        let weight = sixteenths(members);
        if let Some(old) = heir_of(before, members, |old| &old.all) {
            return Index::changed(old, view, members, weight);
        }
        let mut state = State::fresh(members, weight);
        let picks = match start {
            Start::After(n) => n,
            Start::Random => start.picks(draws).checked_rem((state.total as u64).min(MAX_RANDOM)).unwrap_or(0),
        };
        for _ in 0..picks {
            state.turn(|_| true);
        }
        Index { all: members.to_vec(), state: Mutex::new(state) }
    }

    /// The same queues with other members: who has left goes down, who has come goes up.
    fn changed(old: &Index, view: &View, members: &[Member], weight: impl Fn(&Member) -> i64) -> Index {
        let mut state = old.state.lock().clone();
        let now: HashMap<u32, Member> = members.iter().map(|m| (m.slot, *m)).collect();
        let mut all = old.all.clone();
        for (at, member) in (0u32..).zip(&mut all) {
            match now.get(&member.slot) {
                Some(fresh) => *member = *fresh,
                None => state.down(at),
            }
        }
        // Those that are not in the pool any more are forgotten.
        let present: HashSet<u32> = view.slots.iter().copied().collect();
        let keep: Vec<bool> = all.iter().map(|m| present.contains(&m.slot)).collect();
        let mut kept = keep.iter();
        all.retain(|_| kept.next().copied().unwrap_or(false));
        let mut kept = keep.iter();
        state.servers.retain(|_| kept.next().copied().unwrap_or(false));
        for (at, member) in (0u32..).zip(&all) {
            let Some(fresh) = now.get(&member.slot) else { continue };
            let weight = weight(fresh);
            if let Some(server) = state.servers.get(at as usize)
                && server.queue != Queue::Out
                && server.weight != weight
            {
                state.reweigh(at, weight);
            }
        }
        let known: HashSet<u32> = all.iter().map(|m| m.slot).collect();
        for member in members.iter().filter(|m| !known.contains(&m.slot)) {
            all.push(*member);
            state.servers.push(Server {
                weight: 1,
                position: 0,
                last: 0,
                rest: 0,
                queue: Queue::Out,
                key: 0,
                stamp: 0,
            });
        }
        for (at, member) in (0u32..).zip(&all) {
            if let Some(fresh) = now.get(&member.slot)
                && state.servers.get(at as usize).is_some_and(|s| s.queue == Queue::Out)
            {
                state.up(at, weight(fresh));
            }
        }
        state.sort();
        Index { all, state: Mutex::new(state) }
    }

    pub(super) fn turn(&self, usable: &dyn Fn(Member) -> bool) -> Option<Choice> {
        let get = |at: u32| self.all.get(at as usize).copied();
        let at = self.state.lock().turn(|at| get(at).is_some_and(usable))?;
        get(at).map(Choice::from)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn index(weights: &[f64]) -> Index {
        let members: Vec<Member> =
            (0u32..).zip(weights).map(|(i, &weight)| Member { index: i, slot: i, weight }).collect();
        let state = State::fresh(&members, sixteenths(&members));
        Index { all: members, state: Mutex::new(state) }
    }

    #[allow(clippy::unwrap_used)]
    fn picks(index: &Index, n: usize) -> Vec<u32> {
        (0..n).map(|_| index.turn(&|_| true).unwrap().index).collect()
    }

    #[test]
    fn orders_and_exact_counts() {
        assert_eq!(picks(&index(&[1.0; 4]), 8), [0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(picks(&index(&[5.0, 1.0, 1.0]), 7), [0, 0, 0, 1, 0, 0, 2]);
        assert_eq!(picks(&index(&[4.0, 3.0, 2.0, 1.0]), 10), [0, 1, 0, 2, 1, 0, 3, 0, 1, 2]);
        let round = picks(&index(&[5.0, 1.0, 1.0]), 16 * 7);
        assert_eq!([0, 1, 2].map(|i| round.iter().filter(|&&p| p == i).count()), [80, 16, 16]);
    }

    #[test]
    fn nobody_free_is_nobody_and_the_queues_lose_nobody() {
        let index = index(&[3.0, 2.0, 1.0]);
        assert_eq!(index.turn(&|_| false), None);
        assert_eq!(index.turn(&|m| m.index == 2).unwrap().index, 2);
        let state = index.state.lock();
        assert_eq!(state.init.len() + state.current.len() + state.next.len(), 3);
    }

    #[test]
    fn heavy_weights_are_scaled_and_light_ones_keep_a_turn() {
        let index = index(&[1e15, 1e-9]);
        assert!(picks(&index, 4098).contains(&1));
    }
}
