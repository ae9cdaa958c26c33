//! Replacing the instances of a group in batches.

/// How many may be replaced at once.
///
/// Without an upper percentage those that may be missing go first, and one always goes. With one, the room above
/// and below counts, and one more is launched first if neither leaves any.
#[must_use]
pub fn batch(desired: i64, min_healthy: i64, max_healthy: Option<i64>) -> i64 {
    // What has to stay healthy is rounded up, so that the share is kept.
    let kept = (i128::from(desired) * i128::from(min_healthy) + 99) / 100;
    let spare = i64::try_from(i128::from(desired) - kept).unwrap_or(0).max(0);
    let over = max_healthy.map_or(0, |p| desired.saturating_mul(p.saturating_sub(100)) / 100).max(0);
    spare.saturating_add(over).clamp(i64::from(desired > 0), desired.max(0))
}

/// The instances that have to be replaced before a checkpoint is reached.
#[must_use]
pub fn instances_at(desired: i64, percent: i64) -> i64 {
    i64::try_from((i128::from(desired) * i128::from(percent) + 99) / 100).unwrap_or(desired)
}

/// The checkpoints that so many replaced instances have passed: the highest is told, the ones before it are skipped,
/// unless they were told already.
#[must_use]
pub fn checkpoints(desired: i64, percents: &[i64], before: i64, replaced: i64) -> (Vec<i64>, Option<i64>) {
    let passed = percents.iter().copied().filter(|p| {
        let at = instances_at(desired, *p);
        at <= replaced && at > before
    });
    let mut skipped: Vec<i64> = passed.collect();
    let told = skipped.pop();
    (skipped, told)
}

/// One batch of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// When it begins, in nanoseconds from the start.
    pub at: u64,
    /// How many instances it replaces.
    pub count: i64,
    /// How many were replaced when it is done.
    pub replaced: i64,
    /// The checkpoint that it reaches, in percent.
    pub checkpoint: Option<i64>,
}

/// The batches of a refresh in which nothing goes wrong: each takes a warm-up, each checkpoint a delay after it.
#[must_use]
pub fn timeline(desired: i64, size: i64, percents: &[i64], warmup: u64, delay: u64) -> Vec<Batch> {
    let (mut out, mut at, mut replaced) = (Vec::new(), 0_u64, 0_i64);
    let last = percents.iter().copied().max().unwrap_or(100);
    let end = instances_at(desired, last).min(desired);
    while replaced < end {
        // A batch stops at the next checkpoint.
        let next = percents.iter().map(|p| instances_at(desired, *p)).find(|n| *n > replaced).unwrap_or(end);
        let count = size.max(1).min(next - replaced);
        let before = replaced;
        replaced += count;
        let (_, checkpoint) = checkpoints(desired, percents, before, replaced);
        out.push(Batch { at, count, replaced, checkpoint });
        at = at.saturating_add(warmup).saturating_add(if checkpoint.is_some() { delay } else { 0 });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_keeps_the_healthy_share() {
        assert_eq!(batch(10, 80, None), 2);
        assert_eq!(batch(10, 100, None), 1);
        assert_eq!(batch(10, 0, None), 10);
        assert_eq!(batch(20, 90, None), 2);
        assert_eq!(batch(10, 95, None), 1);
        assert_eq!(batch(10, 100, Some(120)), 2);
        assert_eq!(batch(10, 100, Some(100)), 1);
        assert_eq!(batch(0, 90, None), 0);
    }

    #[test]
    fn checkpoints_tell_the_highest() {
        assert_eq!(checkpoints(2, &[10, 40, 100], 0, 1), (vec![10], Some(40)));
        assert_eq!(checkpoints(2, &[10, 40, 100], 1, 2), (vec![], Some(100)));
        assert_eq!(checkpoints(10, &[], 0, 5), (vec![], None));
    }

    #[test]
    fn the_documented_timeline() {
        let minute = 60;
        let batches = timeline(10, 2, &[20, 50], 10 * minute, 15 * minute);
        let seen: Vec<_> = batches.iter().map(|b| (b.at / minute, b.count)).collect();
        assert_eq!(seen, [(0, 2), (25, 2), (35, 1)]);
        assert_eq!(batches.last().map(|b| b.checkpoint), Some(Some(50)));
    }
}
