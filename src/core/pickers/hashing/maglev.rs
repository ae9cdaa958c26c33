//! Envoy's Maglev table.

use super::super::{Allow, Choice, Context, Draws, Policy, all_free, fill_places, fill_singly};
use super::bounded::{Bound, Envoy};
use crate::core::endpoints::{Member, View};
use crate::core::error::ConfigError;
use crate::core::hash;
use crate::core::sync::Mode;

/// The largest table, Envoy's own limit.
pub const MAX_TABLE: u64 = 5_000_011;

/// How often a taken key is hashed on before all members are asked.
const REHASHES: u64 = 32;

/// Maglev hashing (Eisenbud et al., NSDI 2016) with the weights and the table of Envoy 1.40.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maglev {
    /// Entries of the table, a prime.
    pub table_size: u64,
    /// Envoy's `hash_balance_factor`.
    pub bounded_load: Option<Bound>,
}

impl Default for Maglev {
    fn default() -> Maglev {
        Maglev { table_size: 65_537, bounded_load: None }
    }
}

impl Maglev {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] when the size is not a prime up to [`MAX_TABLE`].
    pub fn check(self) -> Result<Maglev, ConfigError> {
        let n = self.table_size;
        let prime = n >= 2 && (2..).take_while(|d| d * d <= n).all(|d: u64| !n.is_multiple_of(d));
        if n > MAX_TABLE || !prime {
            return Err(ConfigError::new("table_size", n, format!("a prime from 2 to {MAX_TABLE}, such as 65537")));
        }
        Ok(self)
    }
}

/// The table: positions of members, in 16 bits where they fit.
#[derive(Debug, Default)]
pub struct Index {
    members: Vec<Member>,
    narrow: Vec<u16>,
    wide: Vec<u32>,
    size: u64,
}

impl Index {
    #[inline(always)]
    fn owner(&self, key: u64) -> Option<Member> {
        let at = key.checked_rem(self.size)? as usize;
        let position = match self.narrow.get(at) {
            Some(&position) => u32::from(position),
            None => *self.wide.get(at)?,
        };
        self.members.get(position as usize).copied()
    }

    /// Tries the key hashed on as Envoy's retries are, then every member from a place that the key decides.
    #[inline(never)]
    fn walk(&self, key: u64, cx: &Context<'_>, allow: Allow<'_>) -> Option<Choice> {
        let usable = |member: &Member| cx.view.available(*member) && allow(member.index);
        for attempt in 0..REHASHES {
            let member = self.owner(key ^ 0u64.wrapping_sub(attempt))?;
            if usable(&member) {
                return Some(member.into());
            }
        }
        let from = key.checked_rem(self.members.len() as u64)? as usize;
        let (head, tail) = (self.members.get(..from)?, self.members.get(from..)?);
        tail.iter().chain(head).find(|m| usable(m)).map(|&m| m.into())
    }
}

impl Maglev {
    /// A pick that is not simply the key's home.
    #[inline(never)]
    fn slowly(&self, index: &Index, cx: &Context<'_>, key: u64, allow: Option<Allow<'_>>) -> Option<Choice> {
        let anybody = allow.unwrap_or(&|_| true);
        let home = index.walk(key, cx, anybody)?;
        match self.bounded_load {
            Some(bound) => Envoy { bound, members: &index.members, key, allow }.pick(home, cx),
            None => Some(home),
        }
    }
}

impl Policy for Maglev {
    type Index<M: Mode> = Index;
    const KEYED: bool = true;

    fn build<M: Mode>(&self, view: &View, members: &[Member], _: &[&Index], _: &Draws) -> Index {
        struct Turn {
            member: u32,
            offset: u64,
            skip: u64,
            weight: f64,
            target: f64,
        }
        let size = self.table_size;
        let total: f64 = members.iter().map(|m| m.weight).sum();
        let mut order: Vec<(&str, u32, f64)> = (0u32..)
            .zip(members)
            .map(|(i, m)| (view.hash_keys.get(m.index as usize).map_or("", |k| k), i, m.weight / total))
            .collect();
        order.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let most = order.iter().fold(0.0f64, |most, entry| most.max(entry.2));
        let mut turns: Vec<Turn> = order
            .iter()
            .map(|&(key, member, weight)| Turn {
                member,
                offset: hash::xxh64(key.as_bytes()) % size,
                skip: hash::xxh64_with_seed(key.as_bytes(), 1) % (size - 1).max(1) + 1,
                weight,
                target: 0.0,
            })
            .collect();
        let mut table = vec![u32::MAX; size as usize];
        let mut left = if turns.is_empty() { 0 } else { size };
        let mut round = 1.0;
        'fill: while left > 0 {
            for turn in &mut turns {
                // Envoy's rule, in its own arithmetic: a host sits out rounds until its share has caught up.
                if round * turn.weight < turn.target {
                    continue;
                }
                turn.target += most;
                loop {
                    let at = turn.offset;
                    turn.offset += turn.skip;
                    if turn.offset >= size {
                        turn.offset -= size;
                    }
                    match table.get_mut(at as usize) {
                        Some(place) if *place == u32::MAX => {
                            *place = turn.member;
                            break;
                        }
                        Some(_) => {}
                        None => break 'fill,
                    }
                }
                left -= 1;
                if left == 0 {
                    break 'fill;
                }
            }
            round += 1.0;
        }
        let members = members.to_vec();
        if members.is_empty() {
            Index::default()
        } else if members.len() <= usize::from(u16::MAX) {
            Index { members, narrow: table.iter().map(|&p| p as u16).collect(), wide: Vec::new(), size }
        } else {
            Index { members, narrow: Vec::new(), wide: table, size }
        }
    }

    fn build_cost(&self, members: usize) -> u64 {
        self.table_size * 20 + members as u64 * 100
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64) -> Option<Choice> {
        self.quick::<M>(index, cx, key).or_else(|| self.go_on::<M>(index, cx, key))
    }

    const QUICK: bool = true;

    #[inline(always)]
    fn quick<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64) -> Option<Choice> {
        let member = index.owner(key)?;
        if cx.view.available(member) && self.bounded_load.is_none() {
            return Some(member.into());
        }
        None
    }

    fn go_on<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64) -> Option<Choice> {
        self.slowly(index, cx, key, None)
    }

    fn choose<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        self.slowly(index, cx, key, Some(allow))
    }

    fn fill_keys<M: Mode>(&self, index: &Index, cx: &Context<'_>, keys: &[u64], out: &mut [u32]) -> usize {
        let places = all_free(cx, &index.members).filter(|_| self.bounded_load.is_none());
        let Some(places) = places else { return fill_singly::<M, Self>(self, index, cx, keys, out) };
        let Some(by) = Divisor::new(index.size) else { return 0 };
        let (narrow, wide) = (&index.narrow[..], &index.wide[..]);
        if wide.is_empty() {
            fill_places(&places, keys, out, |key| narrow.get(by.rest(key) as usize).map_or(0, |&p| u32::from(p)))
        } else {
            fill_places(&places, keys, out, |key| wide.get(by.rest(key) as usize).copied().unwrap_or(0))
        }
    }
}

/// Remainders by two multiplications instead of a division.
#[derive(Clone, Copy, Debug)]
struct Divisor {
    by: u64,
    /// 2^64 / by, rounded down.
    inverse: u64,
}

impl Divisor {
    fn new(by: u64) -> Option<Divisor> {
        let inverse = (1u128 << 64).checked_div(u128::from(by))?;
        Some(Divisor { by, inverse: u64::try_from(inverse).unwrap_or(u64::MAX) })
    }

    /// n modulo the divisor. The quotient is at most one too small, since n * (2^64 mod by) / by < 2^64.
    #[inline(always)]
    fn rest(self, n: u64) -> u64 {
        let quotient = ((u128::from(n) * u128::from(self.inverse)) >> 64) as u64;
        let rest = n.wrapping_sub(quotient.wrapping_mul(self.by));
        if rest >= self.by { rest - self.by } else { rest }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn remainders_are_those_of_a_division() {
        assert!(Divisor::new(0).is_none());
        for by in [2, 3, 7, 251, 65_537, MAX_TABLE] {
            let divisor = Divisor::new(by).unwrap();
            let near = (0..64).flat_map(|bit| [(1u64 << bit).wrapping_sub(1), 1 << bit, (1 << bit) + 1]);
            let multiples = (0..64).map(|bit| (u64::MAX >> bit) / by * by);
            let random = (0..10_000).map(|i| crate::core::rng::draw(by, i));
            let edges = multiples.flat_map(|m| [m.wrapping_sub(1), m, m.saturating_add(by - 1)]);
            for n in near.chain(edges).chain(random).chain([0, u64::MAX]) {
                assert_eq!(divisor.rest(n), n % by, "{n} modulo {by}");
            }
        }
    }
}
