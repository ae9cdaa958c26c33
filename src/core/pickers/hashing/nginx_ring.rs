//! nginx's ring: `hash ... consistent`.

use super::super::{Allow, Choice, Context, Draws, Policy};
use super::circle::{Circle, Point};
use super::nginx::{TRIES, Turns, peers};
use super::ring::MAX_RING;
use crate::core::endpoints::{Member, View};
use crate::core::hash;
use crate::core::sync::Mode;
use std::collections::HashMap;

/// Points for a unit of weight.
const POINTS: u64 = 160;

/// Marks a key that is not empty.
const GIVEN: u64 = 1 << 32;

/// Consistent hashing as nginx does it (1.22 and 1.31). An endpoint's `hash_key` is the text of its `server` line;
/// those of one text share their keys by smooth round robin. Endpoints that may not be picked keep their points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NginxRing;

/// The circle of names, and who goes by each name.
pub struct Index<M: Mode> {
    circle: Circle,
    /// For each name its eligible members; several where a name is listed more than once.
    names: Vec<Vec<Member>>,
    turns: Turns<M>,
}

impl<M: Mode> Index<M> {
    #[inline(never)]
    fn walk(&self, from: usize, cx: &Context<'_>, allow: Option<Allow<'_>>) -> Option<Choice> {
        let size = self.circle.len();
        for step in 0..TRIES {
            let Some(at) = (from + step).checked_rem(size) else { break };
            let group = self.names.get(self.circle.owner(at)? as usize)?;
            match group.as_slice() {
                [] => {}
                [one] => {
                    if cx.view.available(*one) && allow.is_none_or(|allow| allow(one.index)) {
                        return Some((*one).into());
                    }
                }
                several => {
                    let named =
                        |index: u32| several.iter().any(|m| m.index == index) && allow.is_none_or(|allow| allow(index));
                    if let Some(choice) = self.turns.next(cx, Some(&named)) {
                        return Some(choice);
                    }
                }
            }
        }
        self.turns.next(cx, allow)
    }
}

/// The bytes that the points of a name go on from: host and port with a zero byte between them.
fn base(name: &str) -> u32 {
    let address = name.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("unix:")).map(|_| name.get(5..));
    let (host, port) = match address {
        Some(path) => (path.unwrap_or(""), ""),
        None => match name.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
            _ => (name, ""),
        },
    };
    let mut state = crc32fast::Hasher::new();
    for part in [host.as_bytes(), &[0], port.as_bytes()] {
        state.update(part);
    }
    state.finalize()
}

impl Policy for NginxRing {
    type Index<M: Mode> = Index<M>;
    const KEYED: bool = true;

    fn plain_keys(&self) -> bool {
        false
    }

    #[inline(always)]
    fn bytes_key(&self, bytes: &[u8]) -> Option<u64> {
        Some(if bytes.is_empty() { 0 } else { GIVEN | u64::from(hash::crc32(bytes)) })
    }

    #[inline(always)]
    fn ready_key(&self, hash: u64) -> Option<u64> {
        Some(GIVEN | (hash & u64::from(u32::MAX)))
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Index<M>], draws: &Draws) -> Index<M> {
        let peers = peers(view, members);
        let total: u64 = peers.iter().map(|p| p.weight).sum();
        // Weights that would make a ring beyond reason are scaled down together.
        let scale = (MAX_RING as f64 / (total.max(1) as f64 * POINTS as f64)).min(1.0);
        let mut order: HashMap<&str, u32> = HashMap::new();
        let mut names: Vec<Vec<Member>> = Vec::new();
        let mut points: Vec<Point> = Vec::new();
        for peer in &peers {
            let name: &str = view.hash_keys.get(peer.member.index as usize).map_or("", |k| k);
            let owner = *order.entry(name).or_insert_with(|| {
                names.push(Vec::new());
                names.len() as u32 - 1
            });
            if let Some(group) = names.get_mut(owner as usize).filter(|_| peer.eligible) {
                group.push(peer.member);
            }
            let base = base(name);
            let mut previous = 0u32;
            for _ in 0..(((peer.weight * POINTS) as f64 * scale).round() as u64).max(1) {
                let mut state = crc32fast::Hasher::new_with_initial(base);
                state.update(&previous.to_le_bytes());
                previous = state.finalize();
                points.push(Point { hash: u64::from(previous) << 32, owner });
            }
        }
        // Of points in one place the first listed stays: owners are numbered in that order.
        points.sort_unstable();
        points.dedup_by_key(|point| point.hash);
        let before: Vec<&Turns<M>> = before.iter().map(|index| &index.turns).collect();
        Index { circle: Circle::new(points), names, turns: Turns::build(view, members, &before, draws) }
    }

    fn build_cost(&self, members: usize) -> u64 {
        members as u64 * POINTS * 60
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
        if key == 0 {
            return index.turns.next(cx, None);
        }
        let at = index.circle.find(key << 32);
        if let [one] = index.names.get(index.circle.owner(at)? as usize)?.as_slice()
            && cx.view.available(*one)
        {
            return Some((*one).into());
        }
        index.walk(at, cx, None)
    }

    fn choose<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        if key == 0 {
            return index.turns.next(cx, Some(allow));
        }
        index.walk(index.circle.find(key << 32), cx, Some(allow))
    }

    fn no_key<M: Mode>(&self, draws: &Draws) -> u64 {
        GIVEN | (draws.next::<M>() >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_at_its_last_colon_when_only_digits_follow() {
        let of = |bytes: &[u8]| hash::crc32(bytes);
        assert_eq!(base("10.0.0.1:80"), of(b"10.0.0.1\x0080"));
        assert_eq!(base("[::1]:80"), of(b"[::1]\x0080"));
        assert_eq!(base("::1"), of(b":\0\x31"));
        assert_eq!(base("backend"), of(b"backend\0"));
        assert_eq!(base("a:http"), of(b"a:http\0"));
        assert_eq!(base("unix:/tmp/s:1"), of(b"/tmp/s:1\0"));
        assert_eq!(base("h:"), of(b"h\0"));
    }
}
