//! A server that generates text by continuous batching: one token a step for each sequence in the batch.
//!
//! Step time is (a + b·B + c·P + d·K) / speed for B sequences that decode, P prompt tokens prefilled in the step and K tokens
//! in the KV cache, which is the shape of the measured profiles (Splitwise, Vidur). Prompts are prefilled first come first
//! served, at most a chunk of them a step, beside the decodes (Sarathi-Serve). A sequence that the KV cache cannot hold any
//! longer is preempted, the newest first, and computed anew later (vLLM). Full prompt blocks stay cached until room is
//! needed, the least recently used first.

use super::super::{CacheChange, Hears};
use super::AttemptId;
use super::station::Line;
use lru::LruCache;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// The cost of a step and what the server can hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchModel {
    /// Seconds of a step, whatever is in it.
    pub step_s: f64,
    /// Seconds a sequence that decodes.
    pub sequence_s: f64,
    /// Seconds a prompt token.
    pub prefill_s: f64,
    /// Seconds a token in the KV cache.
    pub cached_s: f64,
    /// Prompt tokens a step.
    pub chunk: u32,
    /// Tokens that the KV cache holds.
    pub kv_tokens: u64,
    /// Tokens a block of the prefix cache; zero for none.
    pub block_tokens: u32,
}

/// A sequence as it joins.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) id: AttemptId,
    pub(crate) priority: u8,
    pub(crate) order: u64,
    /// Prompt tokens, and those that were generated before a preemption.
    pub(crate) input: u64,
    /// Tokens still to generate, at least one.
    pub(crate) output: u64,
    /// Names of the prompt's full blocks; equal names, equal prefix.
    pub(crate) blocks: Vec<u64>,
}

#[derive(Debug)]
struct Running {
    sequence: Sequence,
    /// The step after which it is done; zero while its prompt is being read.
    last_step: u64,
    /// The step with which it began to decode.
    first_step: u64,
    /// KV tokens of its own at the begin of its decoding.
    held: u64,
    /// Blocks at the front of its prompt that are shared.
    pinned: usize,
}

/// What a step that ended brought.
#[derive(Debug, Default)]
pub(crate) struct Stepped {
    /// Who got the first token.
    pub(crate) first: Vec<AttemptId>,
    /// Who got the last.
    pub(crate) done: Vec<AttemptId>,
    /// Whose answer is a block longer.
    pub(crate) grown: Vec<AttemptId>,
}

/// The server.
#[derive(Debug)]
pub(crate) struct Batch {
    model: BatchModel,
    pub(crate) limit: u32,
    speed: f64,
    step: u64,
    /// A step is under way, with these prompt tokens a sequence.
    reading: Option<Vec<(AttemptId, u64)>>,
    decoding: u32,
    sequences: HashMap<AttemptId, Running>,
    prefill: VecDeque<(AttemptId, u64)>,
    ends: BinaryHeap<Reverse<(u64, AttemptId)>>,
    /// Who was admitted, in order.
    admitted: Vec<AttemptId>,
    /// Joined and not admitted.
    waiting: HashMap<AttemptId, Sequence>,
    pub(crate) line: Line,
    /// KV tokens of running sequences that are not in shared blocks.
    own: u64,
    pinned: HashMap<u64, u32>,
    idle: LruCache<u64, ()>,
    /// Tokens written, prompt tokens computed, prompt tokens found in the cache, preemptions, sequences times steps.
    pub(crate) written: u64,
    pub(crate) computed: u64,
    pub(crate) reused: u64,
    pub(crate) preempted: u64,
    /// Admitted since the flow last looked.
    pub(crate) started: Vec<AttemptId>,
    /// Admitted without a prompt to read: the step under way brings their first token.
    fresh: Vec<AttemptId>,
    /// What somebody wants to hear of.
    hears: Hears,
    /// Blocks that were taken in (true) and thrown out since the flow last looked.
    changes: Vec<(bool, u64)>,
    /// After which step whose answer is a block longer, and with which step it had begun.
    grows: BinaryHeap<Reverse<(u64, AttemptId, u64)>>,
}

impl Batch {
    pub(crate) fn new(model: BatchModel, limit: u32, speed: f64, hears: Hears) -> Batch {
        Batch {
            model,
            limit: limit.max(1),
            speed,
            step: 0,
            reading: None,
            decoding: 0,
            sequences: HashMap::new(),
            prefill: VecDeque::new(),
            ends: BinaryHeap::new(),
            admitted: Vec::new(),
            waiting: HashMap::new(),
            line: Line::default(),
            own: 0,
            pinned: HashMap::new(),
            idle: LruCache::unbounded(),
            written: 0,
            computed: 0,
            reused: 0,
            preempted: 0,
            started: Vec::new(),
            fresh: Vec::new(),
            hears,
            changes: Vec::new(),
            grows: BinaryHeap::new(),
        }
    }

    /// Sequences in the batch.
    pub(crate) fn serving(&self) -> u32 {
        self.sequences.len() as u32
    }

    pub(crate) fn set_speed(&mut self, speed: f64) {
        self.speed = speed;
    }

    pub(crate) fn stepping(&self) -> bool {
        self.reading.is_some()
    }

    /// Whether a sequence of so many tokens can ever be held.
    pub(crate) fn fits(&self, input: u64, output: u64) -> bool {
        input.saturating_add(output) <= self.model.kv_tokens
    }

    /// How many of these blocks, from the front, are cached here.
    fn matched(&self, blocks: &[u64]) -> usize {
        blocks.iter().take_while(|block| self.pinned.contains_key(block) || self.idle.contains(block)).count()
    }

    pub(crate) fn join(&mut self, sequence: Sequence) {
        self.line.push(sequence.priority, sequence.order, sequence.id);
        self.waiting.insert(sequence.id, sequence);
    }

    /// A sequence is taken away, wherever it is.
    pub(crate) fn cancel(&mut self, id: AttemptId) {
        if self.waiting.remove(&id).is_some() {
            self.line.forget();
        } else if self.sequences.contains_key(&id) {
            self.let_go(id);
        }
    }

    /// Everything is lost: sequences, waiting ones, the cache.
    pub(crate) fn abandon(&mut self) {
        let fresh = Batch::new(self.model, self.limit, self.speed, self.hears);
        let old = std::mem::replace(self, fresh);
        (self.written, self.computed, self.reused) = (old.written, old.computed, old.reused);
        self.preempted = old.preempted;
    }

    fn block(&self) -> u64 {
        u64::from(self.model.block_tokens)
    }

    fn used(&self) -> u64 {
        self.own + self.pinned.len() as u64 * self.block()
    }

    /// The share of the KV cache that requests use, 0 to 1.
    pub(crate) fn kv_share(&self) -> f64 {
        (self.used() as f64 / self.model.kv_tokens as f64).min(1.0)
    }

    /// How many tokens make a block of an answer.
    pub(crate) fn answer_block(&self) -> u32 {
        self.model.block_tokens.max(1)
    }

    /// What has changed in the prefix cache since the last call, in order.
    pub(crate) fn changes(&mut self) -> Vec<CacheChange> {
        let mut out: Vec<CacheChange> = Vec::new();
        for (stored, block) in self.changes.drain(..) {
            match (out.last_mut(), stored) {
                (Some(CacheChange::Stored(blocks)), true) | (Some(CacheChange::Removed(blocks)), false) => {
                    blocks.push(block);
                }
                (_, true) => out.push(CacheChange::Stored(vec![block])),
                (_, false) => out.push(CacheChange::Removed(vec![block])),
            }
        }
        out
    }

    /// Makes room for so many tokens more, from what is cached for nobody.
    fn make_room(&mut self, tokens: u64) -> bool {
        let block = self.block();
        loop {
            let cached = self.idle.len() as u64 * block;
            if self.used() + cached + tokens <= self.model.kv_tokens {
                return true;
            }
            let Some((name, ())) = self.idle.pop_lru() else { return false };
            if self.hears.cache {
                self.changes.push((false, name));
            }
        }
    }

    fn pin(&mut self, block: u64) {
        self.idle.pop(&block);
        *self.pinned.entry(block).or_insert(0) += 1;
    }

    fn unpin(&mut self, block: u64) {
        if let Some(count) = self.pinned.get_mut(&block) {
            *count -= 1;
            if *count == 0 {
                self.pinned.remove(&block);
                self.idle.put(block, ());
            }
        }
    }

    fn admit(&mut self) {
        while self.serving() < self.limit {
            let waiting = &self.waiting;
            let Some(id) = self.line.peek(|id| waiting.contains_key(&id)) else { return };
            let Some(sequence) = self.waiting.get(&id) else { return };
            let block = self.block();
            // Only full blocks are shared.
            let full = sequence.input.checked_div(block).unwrap_or(0);
            let shared = sequence.blocks.len().min(full as usize);
            let found = self.matched(sequence.blocks.get(..shared).unwrap_or_default());
            let rest = sequence.input.saturating_sub(shared as u64 * block);
            let need = rest + (shared - found) as u64 * block + 1;
            let blocks = sequence.blocks.clone();
            // What it shares must not be thrown out to make room for the rest.
            for &name in blocks.iter().take(found) {
                self.pin(name);
            }
            if !self.make_room(need) {
                for &name in blocks.iter().take(found).rev() {
                    self.unpin(name);
                }
                return;
            }
            for &name in blocks.iter().take(shared).skip(found) {
                self.pin(name);
                if self.hears.cache {
                    self.changes.push((true, name));
                }
            }
            let Some(sequence) = self.waiting.remove(&id) else { return };
            self.line.pop(|other| other == id);
            self.own += rest;
            // The last prompt token is always computed: its result is the first token written.
            let cached = (found as u64 * block).min(sequence.input.saturating_sub(1));
            let compute = sequence.input - cached;
            self.reused += cached;
            self.computed += compute;
            let reads = compute > 0;
            let (first_step, last_step) = if reads { (0, 0) } else { (self.step, self.step + sequence.output) };
            if reads {
                self.prefill.push_back((id, compute));
            } else {
                self.decoding += 1;
                self.ends.push(Reverse((last_step, id)));
                self.fresh.push(id);
                self.plan_growth(id, self.step);
            }
            self.sequences.insert(id, Running { sequence, last_step, first_step, held: rest, pinned: shared });
            self.admitted.push(id);
            self.started.push(id);
        }
    }

    /// Notes when the answer of a sequence that began to decode with a step will be a block longer.
    fn plan_growth(&mut self, id: AttemptId, first_step: u64) {
        if self.hears.growth {
            let at = self.step.saturating_add(u64::from(self.answer_block()));
            self.grows.push(Reverse((at, id, first_step)));
        }
    }

    /// Takes a sequence out of the batch and gives its memory back.
    fn let_go(&mut self, id: AttemptId) -> Option<Running> {
        let running = self.sequences.remove(&id)?;
        let grown = if running.last_step > 0 {
            self.decoding -= 1;
            self.step - running.first_step
        } else {
            self.prefill.retain(|entry| entry.0 != id);
            0
        };
        self.own = self.own.saturating_sub(running.held + grown);
        for &name in running.sequence.blocks.iter().take(running.pinned).rev() {
            self.unpin(name);
        }
        Some(running)
    }

    /// The newest sequence makes room: it waits again, with what it has written as part of its prompt.
    fn preempt(&mut self) -> bool {
        while let Some(id) = self.admitted.pop() {
            let Some(running) = self.let_go(id) else { continue };
            let grown = if running.last_step > 0 { self.step - running.first_step } else { 0 };
            let mut sequence = running.sequence;
            sequence.input += grown;
            sequence.output = sequence.output.saturating_sub(grown).max(1);
            self.preempted += 1;
            self.join(sequence);
            return true;
        }
        false
    }

    /// Begins a step; how long it takes in nanoseconds, or `None` when there is nothing to do.
    pub(crate) fn begin(&mut self) -> Option<u64> {
        if self.speed <= 0.0 {
            return None;
        }
        self.admit();
        // Each sequence that decodes writes a token into the cache.
        while self.decoding > 0 && !self.make_room(u64::from(self.decoding)) {
            // The last one always has room: what does not fit alone is not taken.
            if self.serving() <= 1 || !self.preempt() {
                break;
            }
        }
        if self.sequences.is_empty() {
            return None;
        }
        let mut left = u64::from(self.model.chunk);
        let mut reading = Vec::new();
        for &(id, tokens) in &self.prefill {
            if left == 0 {
                break;
            }
            let now = tokens.min(left);
            left -= now;
            reading.push((id, now));
        }
        let prompt = u64::from(self.model.chunk) - left;
        self.reading = Some(reading);
        let m = &self.model;
        let seconds = m.step_s
            + m.sequence_s * f64::from(self.decoding)
            + m.prefill_s * prompt as f64
            + m.cached_s * self.used() as f64;
        Some(((seconds / self.speed * 1e9 + 0.5) as u64).max(1))
    }

    /// Ends the step that is under way.
    pub(crate) fn end(&mut self) -> Stepped {
        let mut out = Stepped::default();
        let Some(reading) = self.reading.take() else { return out };
        self.written += u64::from(self.decoding);
        self.own += u64::from(self.decoding);
        self.step += 1;
        let live = &self.sequences;
        out.first.extend(self.fresh.drain(..).filter(|id| live.contains_key(id)));
        while let Some(&Reverse((at, id))) = self.ends.peek() {
            let current = self.sequences.get(&id).is_some_and(|running| running.last_step == at);
            if current && at > self.step {
                break;
            }
            self.ends.pop();
            if current {
                out.done.push(id);
            }
        }
        while let Some(&Reverse((at, id, since))) = self.grows.peek() {
            if at > self.step {
                break;
            }
            self.grows.pop();
            if self.sequences.get(&id).is_some_and(|running| running.last_step > 0 && running.first_step == since) {
                out.grown.push(id);
                self.plan_growth(id, since);
            }
        }
        for (id, tokens) in reading {
            let Some(entry) = self.prefill.iter_mut().find(|entry| entry.0 == id) else { continue };
            entry.1 -= tokens;
            if entry.1 > 0 {
                continue;
            }
            self.prefill.retain(|entry| entry.0 != id);
            // The end of the prompt brings the first token.
            let Some(running) = self.sequences.get_mut(&id) else { continue };
            self.written += 1;
            self.own += 1;
            running.held += 1;
            out.first.push(id);
            running.first_step = self.step;
            running.last_step = self.step + running.sequence.output - 1;
            running.sequence.output -= 1;
            running.sequence.input += 1;
            self.decoding += 1;
            if running.sequence.output == 0 {
                out.done.push(id);
            } else {
                self.ends.push(Reverse((running.last_step, id)));
                self.plan_growth(id, self.step);
            }
        }
        for &id in &out.done {
            self.let_go(id);
        }
        if self.admitted.len() > 64 + 2 * self.sequences.len() {
            let live = &self.sequences;
            self.admitted.retain(|id| live.contains_key(id));
        }
        out
    }
}
