//! Points on a circle of 64-bit hashes, and a fast way to the one that follows a key.

use crate::core::sync::Mutex;
use std::sync::Arc;

/// A point and who owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub hash: u64,
    pub owner: u32,
}

/// For [`Circle::changed`]: an owner whose points go.
pub(super) const GONE: u32 = u32::MAX;

/// The sorted points, and for the leading bits of a hash the first point that may follow it.
#[derive(Debug, Default)]
pub(super) struct Circle {
    points: Vec<Point>,
    first: Vec<u32>,
    shift: u32,
    spare: Spare,
}

/// The memory of a circle that is gone, for the one after the next: fresh pages for a hundred megabytes cost the kernel
/// more time than all else here, and that time is taken from those who pick.
type Spare = Arc<Mutex<Option<(Vec<Point>, Vec<u32>)>>>;

/// From so many points on memory is kept.
const LARGE: usize = 65_536;

impl Drop for Circle {
    fn drop(&mut self) {
        // With nobody else there is no next circle.
        if self.points.len() >= LARGE
            && Arc::strong_count(&self.spare) > 1
            && let Some(mut spare) = self.spare.try_lock()
        {
            *spare = Some((std::mem::take(&mut self.points), std::mem::take(&mut self.first)));
        }
    }
}

impl Circle {
    pub fn new(mut points: Vec<Point>) -> Circle {
        points.sort_unstable();
        let (mut first, spare) = (Vec::new(), Spare::default());
        let shift = lookup(&points, &mut first);
        Circle { points, first, shift, spare }
    }

    /// The circle once some owners' points are gone and others have come, without sorting those that stay. `now` has for
    /// each owner who that is from now on, [`GONE`] for those whose points go.
    pub fn changed(&self, now: &[u32], mut come: Vec<Point>) -> Circle {
        come.sort_unstable();
        let (mut points, mut first) = self.spare.try_lock().and_then(|mut spare| spare.take()).unwrap_or_default();
        points.clear();
        points.reserve(self.points.len() + come.len());
        let mut come = come.into_iter().peekable();
        let renamed = self.points.iter().filter_map(|point| {
            let owner = now.get(point.owner as usize).copied().filter(|&owner| owner != GONE)?;
            Some(Point { owner, ..*point })
        });
        for point in renamed {
            while let Some(earlier) = come.next_if(|new| *new < point) {
                points.push(earlier);
            }
            points.push(point);
        }
        points.extend(come);
        // Owners may have changed places: of points with one hash the first owner's is the first.
        for run in points.chunk_by_mut(|a, b| a.hash == b.hash).filter(|run| run.len() > 1) {
            run.sort_unstable();
        }
        let shift = lookup(&points, &mut first);
        Circle { points, first, shift, spare: self.spare.clone() }
    }

    /// The position of the first point at or after a hash, around the circle.
    #[inline(always)]
    pub fn find(&self, key: u64) -> usize {
        let mut at = self.first.get((key >> self.shift) as usize).copied().unwrap_or(0) as usize;
        while self.points.get(at).is_some_and(|point| point.hash < key) {
            at += 1;
        }
        if at >= self.points.len() { 0 } else { at }
    }

    /// Who owns the first point at or after a hash, in as many steps for nearly every hash: in bulk a branch that is hard to
    /// foresee costs more than a step.
    #[inline(always)]
    pub fn owner_of(&self, key: u64) -> u32 {
        let mut at = self.first.get((key >> self.shift) as usize).copied().unwrap_or(0) as usize;
        let before = |at: usize| self.points.get(at).is_some_and(|point| point.hash < key);
        at += usize::from(before(at));
        at += usize::from(before(at));
        while before(at) {
            at += 1;
        }
        self.points.get(at).or(self.points.first()).map_or(0, |point| point.owner)
    }

    /// Who owns the point at a position.
    #[inline(always)]
    pub fn owner(&self, at: usize) -> Option<u32> {
        self.points.get(at).map(|point| point.owner)
    }

    /// The point at a position.
    pub fn point(&self, at: usize) -> Option<Point> {
        self.points.get(at).copied()
    }

    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// The owners of the points from a position on, once around.
    pub fn from(&self, at: usize) -> impl Iterator<Item = u32> {
        let (tail, head) = (self.points.get(at..).unwrap_or(&[]), self.points.get(..at).unwrap_or(&[]));
        tail.iter().chain(head).map(|point| point.owner)
    }
}

/// For every value of the leading bits, the first point not below it. About one point a value, so that a search ends
/// within a step or two.
fn lookup(points: &[Point], first: &mut Vec<u32>) -> u32 {
    let bits = usize::BITS - points.len().max(1).leading_zeros();
    let shift = 64 - bits;
    first.clear();
    first.reserve(1 << bits);
    let mut at = 0u32;
    for lead in 0..(1u64 << bits) {
        while points.get(at as usize).is_some_and(|p| p.hash < lead << shift) {
            at += 1;
        }
        first.push(at);
    }
    shift
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::rng::Rng;

    #[test]
    fn a_changed_circle_is_the_circle_of_what_there_is_then() {
        let mut rng = Rng::new(11);
        // Few hashes, so that many points share one.
        let mut points = |owner: u32, n: u32| -> Vec<Point> {
            (0..n).map(|_| Point { hash: u64::from(rng.below(60)) << 57, owner }).collect()
        };
        for round in 0..200u32 {
            let owners: Vec<Vec<Point>> = (0..6).map(|owner| points(owner, 1 + round % 7)).collect();
            let before = Circle::new(owners.concat());
            // Who stays changes place with the others.
            let now: Vec<u32> = (0..6).map(|o| if (o + round) % 3 == 0 { GONE } else { (o + 2) % 6 }).collect();
            let come = points(6, round % 5);
            let stay = before.points.iter().filter_map(|p| {
                let owner = now.get(p.owner as usize).copied().filter(|&o| o != GONE)?;
                Some(Point { owner, ..*p })
            });
            let after = Circle::new(stay.chain(come.iter().copied()).collect());
            let changed = before.changed(&now, come);
            assert_eq!((&changed.points, &changed.first), (&after.points, &after.first), "round {round}");
        }
    }

    #[test]
    fn a_circle_finds_what_a_sorted_list_has() {
        let mut rng = Rng::new(13);
        for round in 0..300u32 {
            // From none at all to many, spread out or close together.
            let narrow = [0, 20, 63][round as usize % 3];
            let mut points: Vec<Point> = (0..round * round / 60)
                .map(|_| Point { hash: rng.next_u64() >> narrow, owner: rng.below(1 + 7 * round) })
                .collect();
            let circle = Circle::new(points.clone());
            points.sort_unstable();
            let edges = points.iter().flat_map(|p| [p.hash, p.hash.wrapping_add(1), p.hash.wrapping_sub(1)]);
            for key in edges.chain([0, 1, u64::MAX]) {
                let found = points.iter().position(|p| p.hash >= key).unwrap_or(0);
                assert_eq!(circle.find(key), found, "round {round}, key {key:x}");
                assert_eq!(circle.owner(found), points.get(found).map(|p| p.owner));
                assert_eq!(circle.owner_of(key), points.get(found).map_or(0, |p| p.owner));
            }
        }
    }

    #[test]
    fn the_memory_of_a_large_circle_is_used_again() {
        let mut rng = Rng::new(12);
        let points: Vec<Point> = (0..70_000).map(|owner| Point { hash: rng.next_u64(), owner }).collect();
        let now: Vec<u32> = (0..70_000).collect();
        let one = Circle::new(points.clone());
        let two = one.changed(&now, Vec::new());
        let place = one.points.as_ptr();
        drop(one);
        let three = two.changed(&now, Vec::new());
        assert_eq!((three.points.as_ptr(), &three.points), (place, &two.points));
        let spare = two.spare.clone();
        drop(two);
        drop(three);
        assert!(spare.lock().is_some());
    }
}
