//! The largest of recent values: what a scale-down delay remembers.

use crate::core::autoscaling::plain::{Reader, counted, seconds};
use crate::core::autoscaling::told::Plain;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use std::collections::VecDeque;

const SECOND: u64 = 1_000_000_000;

/// The maximum over a sliding window of slots. It moves only when something is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxWindow {
    granularity: u64,
    slots: u64,
    // Falling values with rising slot numbers.
    maxima: VecDeque<(u64, i32)>,
}

impl MaxWindow {
    /// An empty one over `length`, in slots of `granularity`, which is a whole number of seconds.
    pub fn new(length: Nanos, granularity: Nanos) -> Result<MaxWindow, ConfigError> {
        if granularity.0 < SECOND || !granularity.0.is_multiple_of(SECOND) {
            let shown = seconds(granularity);
            return Err(ConfigError::new("granularity", shown, "a whole number of seconds, at least 1"));
        }
        let slots = length.0.div_ceil(granularity.0);
        if slots == 0 {
            return Err(ConfigError::new("window", seconds(length), "seconds above 0"));
        }
        Ok(MaxWindow { granularity: granularity.0, slots, maxima: VecDeque::new() })
    }

    /// Takes up a value. What it exceeds, and what has left the window, is forgotten.
    pub fn record(&mut self, at: Nanos, value: i32) {
        let slot = at.0 / self.granularity.max(1);
        while self.maxima.back().is_some_and(|(_, v)| *v < value) {
            self.maxima.pop_back();
        }
        while self.maxima.front().is_some_and(|(s, _)| s.saturating_add(self.slots) <= slot) {
            self.maxima.pop_front();
        }
        // In the slot of the last one it adds nothing: that one is as large and leaves no sooner.
        if self.maxima.back().is_none_or(|(s, _)| *s < slot) {
            self.maxima.push_back((slot, value));
        }
    }

    /// The largest value; `None` before the first.
    #[must_use]
    pub fn current(&self) -> Option<i32> {
        self.maxima.front().map(|(_, v)| *v)
    }

    /// The content as a plain value.
    #[must_use]
    pub fn state(&self) -> Plain {
        let row = |(slot, value): &(u64, i32)| Plain::List(vec![counted(*slot), Plain::Whole(i64::from(*value))]);
        Plain::Map(vec![
            ("granularity".to_owned(), counted(self.granularity)),
            ("slots".to_owned(), counted(self.slots)),
            ("maxima".to_owned(), Plain::List(self.maxima.iter().map(row).collect())),
        ])
    }

    /// One from what [`MaxWindow::state`] gave.
    pub fn from_state(state: &Reader<'_>) -> Result<MaxWindow, ConfigError> {
        let granularity = state.count("granularity")?;
        let slots = state.count("slots")?;
        let mut out = MaxWindow::new(Nanos(slots.saturating_mul(granularity)), Nanos(granularity))?;
        out.slots = slots;
        for pair in state.rows("maxima", 2)? {
            match pair.as_slice() {
                [Plain::Whole(slot), Plain::Whole(value)] => match (u64::try_from(*slot), i32::try_from(*value)) {
                    (Ok(slot), Ok(value)) => out.maxima.push_back((slot, value)),
                    _ => return Err(state.error("maxima", slot, "pairs of a slot and a 32-bit value")),
                },
                _ => return Err(state.error("maxima", "something else", "pairs of whole numbers")),
            }
        }
        let falls = out.maxima.iter().zip(out.maxima.iter().skip(1)).all(|(a, b)| a.0 < b.0 && a.1 >= b.1);
        if !falls {
            return Err(state.error("maxima", "out of order", "rising slots with falling values"));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * SECOND)
    }

    #[test]
    fn the_largest_stays_until_it_is_too_old() {
        let mut w = MaxWindow::new(at(6), at(2)).unwrap();
        assert_eq!(w.current(), None);
        for (t, value, expected) in [(0, 5, 5), (1, 3, 5), (2, 4, 5), (4, 1, 5), (6, 1, 4), (9, 0, 1), (60, -2, -2)] {
            w.record(at(t), value);
            assert_eq!(w.current(), Some(expected), "{t}");
        }
    }

    #[test]
    fn many_values_in_one_slot_do_not_grow_it() {
        let mut w = MaxWindow::new(at(2), at(2)).unwrap();
        for value in (0..1000).rev() {
            w.record(at(0), value);
        }
        assert_eq!(w.maxima.len(), 1);
        assert_eq!(w.current(), Some(999));
    }

    #[test]
    fn time_that_goes_back_forgets_nothing() {
        let mut w = MaxWindow::new(at(4), at(1)).unwrap();
        w.record(at(10), 3);
        w.record(at(2), 2);
        assert_eq!(w.current(), Some(3));
    }

    #[test]
    fn state_comes_back() {
        let mut w = MaxWindow::new(at(61), at(2)).unwrap();
        w.record(at(10), 3);
        w.record(at(14), 1);
        let state = w.state();
        assert_eq!(MaxWindow::from_state(&Reader::new("state", &state).unwrap()).unwrap(), w);
        assert!(MaxWindow::new(Nanos::ZERO, at(2)).is_err());
        assert!(MaxWindow::new(at(5), Nanos(7)).is_err());
    }
}
