//! What an endpoint has to do, in tokens and blocks: what was sent there, corrected by what its engine reports.

use super::lane::Lane;
use crate::core::endpoints::counters::Kept;
use crate::core::endpoints::signals::{Engine, Signals};
use crate::core::time::Nanos;

/// What was sent to an endpoint and is in flight.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Requests.
    pub requests: u64,
    /// Tokens of prompts whose first token has not come.
    pub prefill: u64,
    /// Blocks in use that no hash names: ends of prompts, and answers.
    pub private: u64,
    /// Where reports arrive.
    pub source: Option<(Kept<Signals>, usize)>,
    told: Option<Told>,
}

/// A report, and what was in flight when it came.
#[derive(Clone, Copy, Debug)]
struct Told {
    engine: Engine,
    requests: u64,
    prefill: u64,
    decode: u64,
}

/// The load that scores compare.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Requests there.
    pub requests: f64,
    /// Tokens to prefill.
    pub prefill: f64,
    /// Blocks in use.
    pub decode: f64,
    /// Whether there is a report that is too old.
    pub stale: bool,
}

/// What was told, plus what came and minus what went since.
fn corrected(told: f64, before: u64, now: u64) -> f64 {
    (told + (now as f64 - before as f64)).max(0.0)
}

impl Lane {
    /// Notes what is in flight when a report has come. To be called before anything changes.
    pub(super) fn catch_up(&mut self) {
        let Some((signals, at)) = &self.load.source else { return };
        let engine = signals.get(*at).and_then(Signals::engine);
        let same = match (&engine, &self.load.told) {
            (Some(engine), Some(told)) => engine.count == told.engine.count,
            (None, None) => true,
            _ => false,
        };
        if !same {
            let (requests, prefill, decode) = (self.load.requests, self.load.prefill, self.decode_blocks());
            self.load.told = engine.map(|engine| Told { engine, requests, prefill, decode });
        }
    }

    /// The load, by a report that is no older than `age`, and by what was sent. A prompt that is only reported is taken
    /// to have `mean` tokens.
    pub(super) fn seen(&self, now: Nanos, age: Nanos, mean: f64) -> Seen {
        let load = &self.load;
        let decode = self.decode_blocks();
        let own =
            Seen { requests: load.requests as f64, prefill: load.prefill as f64, decode: decode as f64, stale: false };
        let Some(told) = &load.told else { return own };
        if now.since(told.engine.at) > age {
            return Seen { stale: true, ..own };
        }
        let or = |told: Option<f64>, before: u64, now: u64| told.map(|told| corrected(told, before, now));
        let engine = &told.engine;
        let blocks = engine.kv_cache.map(|share| share * f64::from(self.capacity));
        Seen {
            requests: or(engine.requests, told.requests, load.requests).unwrap_or(own.requests),
            prefill: or(engine.waiting.map(|n| n * mean), told.prefill, load.prefill).unwrap_or(own.prefill),
            decode: or(blocks, told.decode, decode).unwrap_or(own.decode),
            stale: false,
        }
    }
}

#[allow(clippy::indexing_slicing)]
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::Block;

    fn lane() -> Lane {
        let mut lane = Lane::new("a".into(), 100);
        lane.load.source = Block::for_slots(1).signals_of(0);
        lane
    }

    fn tell(lane: &Lane, requests: Option<f64>, waiting: Option<f64>, kv_cache: Option<f64>, at: u64) {
        if let Some((signals, _)) = &lane.load.source {
            signals[0].tell_engine(requests, waiting, kv_cache, Nanos(at));
        }
    }

    const AGE: Nanos = Nanos(10);

    #[test]
    fn without_a_report_what_was_sent_is_the_load() {
        let mut lane = lane();
        lane.catch_up();
        (lane.load.requests, lane.load.prefill, lane.load.private) = (2, 30, 4);
        let seen = lane.seen(Nanos(99), AGE, 10.0);
        assert_eq!(seen, Seen { requests: 2.0, prefill: 30.0, decode: 4.0, stale: false });
    }

    #[test]
    fn a_report_is_corrected_by_what_was_sent_since() {
        let mut lane = lane();
        (lane.load.requests, lane.load.prefill, lane.load.private) = (2, 30, 4);
        tell(&lane, Some(5.0), Some(3.0), Some(0.5), 1);
        lane.catch_up();
        assert_eq!(lane.seen(Nanos(2), AGE, 10.0), Seen { requests: 5.0, prefill: 30.0, decode: 50.0, stale: false });
        (lane.load.requests, lane.load.prefill, lane.load.private) = (3, 70, 0);
        lane.catch_up();
        assert_eq!(lane.seen(Nanos(2), AGE, 10.0), Seen { requests: 6.0, prefill: 70.0, decode: 46.0, stale: false });
        // A second report at the same instant is another one.
        tell(&lane, Some(0.0), None, Some(0.0), 1);
        lane.catch_up();
        assert_eq!(lane.seen(Nanos(2), AGE, 10.0), Seen { requests: 0.0, prefill: 70.0, decode: 0.0, stale: false });
        (lane.load.requests, lane.load.private) = (0, 0);
        assert_eq!(lane.seen(Nanos(2), AGE, 10.0).requests, 0.0, "never below zero");
    }

    #[test]
    fn an_old_report_is_stale_and_none_is_not() {
        let mut lane = lane();
        tell(&lane, Some(5.0), None, None, 1);
        lane.catch_up();
        assert!(!lane.seen(Nanos(11), AGE, 1.0).stale);
        assert_eq!(lane.seen(Nanos(12), AGE, 1.0), Seen { stale: true, ..Seen::default() });
        if let Some((signals, _)) = &lane.load.source {
            signals[0].forget();
        }
        lane.catch_up();
        assert!(!lane.seen(Nanos(12), AGE, 1.0).stale);
    }
}
