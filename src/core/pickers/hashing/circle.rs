//! Points on a circle of 64-bit hashes, and a fast way to the one that follows a key.

/// A point and who owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub hash: u64,
    pub owner: u32,
}

/// The sorted points, and for the leading bits of a hash the first point that may follow it.
#[derive(Debug, Default)]
pub(super) struct Circle {
    points: Vec<Point>,
    first: Vec<u32>,
    shift: u32,
}

impl Circle {
    pub fn new(mut points: Vec<Point>) -> Circle {
        points.sort_unstable();
        let (first, shift) = lookup(&points);
        Circle { points, first, shift }
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
fn lookup(points: &[Point]) -> (Vec<u32>, u32) {
    let bits = usize::BITS - points.len().max(1).leading_zeros();
    let shift = 64 - bits;
    let mut first = Vec::with_capacity(1 << bits);
    let mut at = 0u32;
    for lead in 0..(1u64 << bits) {
        while points.get(at as usize).is_some_and(|p| p.hash < lead << shift) {
            at += 1;
        }
        first.push(at);
    }
    (first, shift)
}
