//! Everything alone, and what a kill at each point leaves.

use super::layout::{CELL_EXTRA, CELL_INFLIGHT, CELL_LOAD, MAX_BLOB};
use super::region::LINE;
use super::*;
use crate::core::endpoints::Cell;
use crate::core::sync::{AtomicU64, Ordering};
use std::sync::Arc;

pub(super) fn small() -> Layout {
    Layout { slots: 5, processes: 4, blob: 64, picker_words: 8, areas: vec![Area { bytes: 24, per: Per::Slots(2) }] }
}

pub(super) fn region(layout: &Layout) -> Region {
    Region::heap(layout.bytes() as usize / 8)
}

pub(super) fn segment() -> Segment {
    Segment::create(&region(&small()), small()).unwrap()
}

fn pid_is(pids: &[u32]) -> impl Fn(Process) -> bool {
    move |process| pids.contains(&process.pid)
}

/// In flight, load and correction of a slot.
pub(super) fn counts(segment: &Segment, slot: u32) -> (i64, i64, i64) {
    let cell = segment.cell(slot).unwrap();
    let word = |at: usize| cell[at].load(Ordering::Acquire) as i64;
    (word(CELL_INFLIGHT), word(CELL_LOAD), word(CELL_EXTRA))
}

pub(super) fn take(segment: &Segment, seat: &Seat, slot: u32, units: u64) {
    let cell = segment.cell(slot).unwrap();
    assert!(seat.take(slot, units, || add(cell, units)));
}

pub(super) fn give(segment: &Segment, seat: &Seat, slot: u32, units: u64) {
    let cell = segment.cell(slot).unwrap();
    seat.give(slot, units, || sub(cell, units));
}

/// What changes a slot's counts, one step after another, as [`Seat::take`] and the others do it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Take(u64),
    Give(u64),
    Shift(u64),
    Correct(u64),
}

/// The first so many steps of a change; five are all of them.
pub(super) fn steps(segment: &Segment, seat: &Seat, slot: u32, change: Change, count: usize) {
    let (work, own) = seat.pair(slot).unwrap();
    let cell = segment.cell(slot).unwrap();
    let (requests, units) = match change {
        Change::Take(units) => (1, units),
        Change::Give(units) => (-1i64, units.wrapping_neg()),
        Change::Shift(units) => (0, units),
        Change::Correct(_) => (0, 0),
    };
    let mut told = 0;
    for step in 0..count {
        match (step, change) {
            (0, _) => _ = work.fetch_add(1, Ordering::AcqRel),
            (1, Change::Correct(extra)) => {
                told = extra.wrapping_sub(cell[CELL_EXTRA].swap(extra, Ordering::AcqRel));
            }
            (1, _) => _ = cell[CELL_INFLIGHT].fetch_add(requests as u64, Ordering::SeqCst),
            (2, Change::Correct(_)) => _ = cell[CELL_LOAD].fetch_add(told, Ordering::SeqCst),
            (2, _) => _ = cell[CELL_LOAD].fetch_add(units, Ordering::SeqCst),
            (3, _) => _ = own.fetch_add(units, Ordering::AcqRel),
            _ => _ = work.fetch_add(((1u64 << 40) - 1).wrapping_add((requests as u64) << 16), Ordering::AcqRel),
        }
    }
}

#[test]
fn a_segment_is_what_was_made() {
    let region = region(&small());
    assert_eq!(Segment::open(&region, &small().areas).unwrap_err(), OpenError::Unfinished);
    let made = Segment::create(&region, small()).unwrap();
    let opened = Segment::open(&region, &small().areas).unwrap();
    assert_eq!(opened.layout(), &small());
    take(&made, &made.join(1, 1).unwrap(), 4, 7);
    assert_eq!(counts(&opened, 4), (1, 7, 0));
    assert!(opened.cell(5).is_none());
    assert_eq!(opened.area(0).unwrap().words().len(), 9);
    assert!(opened.area(1).is_none());
    assert_eq!(Segment::create(&region, small()).unwrap_err(), OpenError::Occupied);
}

#[test]
fn cells_of_the_segment_are_aligned_as_cells_of_endpoints() {
    let segment = segment();
    let first: *const AtomicU64 = &segment.cell(1).unwrap()[0];
    assert!((first as usize).is_multiple_of(align_of::<Cell>()));
    assert_eq!(size_of::<Cell>(), LINE * 8);
    let cells = segment.cells().mapped::<[AtomicU64; LINE]>().unwrap();
    cells[1][CELL_INFLIGHT].store(3, Ordering::Release);
    assert_eq!((cells.len(), counts(&segment, 1)), (5, (3, 0, 0)));
}

#[repr(C)]
struct Two {
    first: AtomicU64,
    rest: [AtomicU64; 2],
}
crate::words! { Two { first, rest } }

#[test]
fn areas_hold_values_made_of_words() {
    let segment = segment();
    let values = segment.area(0).unwrap().mapped::<Two>().unwrap();
    assert_eq!(values.len(), 3);
    values[2].rest[1].store(9, Ordering::Release);
    values[2].first.store(1, Ordering::Release);
    let words = segment.area(0).unwrap();
    assert_eq!((words.words()[6].load(Ordering::Acquire), words.words()[8].load(Ordering::Acquire)), (1, 9));
    assert!(words.part(1, 9).is_none() && words.part(usize::MAX, 2).is_none());
    assert!(words.part(1, 8).is_some());
}

#[test]
fn memory_of_somebody_else_is_used_where_it_is_aligned() {
    let keep = Region::heap(32);
    let start = keep.words().as_ptr().cast_mut().cast::<u64>();
    let region = super::region::from_heap_for_tests(start, 32, Arc::new(keep.clone())).unwrap();
    region.words()[31].store(5, Ordering::Release);
    assert_eq!(keep.words()[31].load(Ordering::Acquire), 5);
    let odd = start.wrapping_add(1);
    assert!(super::region::from_heap_for_tests(odd, 16, Arc::new(keep)).is_none());
}

#[test]
fn other_memory_is_refused() {
    let (layout, areas) = (small(), small().areas);
    let region = region(&layout);
    Segment::create(&region, layout.clone()).unwrap();
    let open = |at: usize, value: u64| {
        let before = region.words()[at].swap(value, Ordering::AcqRel);
        let error = Segment::open(&region, &areas).unwrap_err();
        region.words()[at].store(before, Ordering::Release);
        error
    };
    assert_eq!(open(0, 0), OpenError::Unfinished);
    assert_eq!(open(0, 1), OpenError::Foreign);
    assert_eq!(open(1, 2), OpenError::Version { found: 2, expected: 1 });
    (2..9).for_each(|at| assert_eq!(open(at, 3), OpenError::Corrupted));
    let whole = layout.bytes();
    for words in [0, 1, 95, 96, whole as usize / 8 - 1] {
        let short = region.part(0, words).unwrap();
        let error = Segment::open(&short, &areas).unwrap_err();
        assert!(matches!(error, OpenError::Truncated { found, .. } if found == words as u64 * 8), "{error}");
    }
    assert_eq!(Segment::open(&region, &[]).unwrap_err(), OpenError::Layout);
    let other = [Area { bytes: 24, per: Per::Slot }];
    assert!(Segment::open(&region, &other).is_err());
    assert!(Segment::open(&region, &areas).is_ok());
}

#[test]
fn layouts_that_cannot_be_are_refused() {
    let area = |bytes| vec![Area { bytes, per: Per::Segment }];
    let base = Layout::default;
    for (layout, field) in [
        (Layout { slots: 0, ..base() }, "slots"),
        (Layout { slots: 65_537, ..base() }, "slots"),
        (Layout { processes: 0, ..base() }, "processes"),
        (Layout { blob: MAX_BLOB + 1, ..base() }, "blob"),
        (Layout { picker_words: u32::MAX, ..base() }, "picker_words"),
        (Layout { areas: area(12), ..base() }, "areas[0].bytes"),
        (Layout { areas: area(0), ..base() }, "areas[0].bytes"),
        (Layout { areas: vec![Area { bytes: 8, per: Per::Slots(0) }; 17], ..base() }, "areas"),
    ] {
        assert_eq!(layout.check().unwrap_err().field, field);
    }
    let least = Layout { slots: 1, processes: 1, blob: 0, picker_words: 0, areas: Vec::new() };
    let segment = Segment::create(&region(&least), least.clone()).unwrap();
    let seat = segment.join(1, 1).unwrap();
    let writer = segment.lock(&seat, |_| true).unwrap();
    assert_eq!(writer.publish(b"x"), Err(PublishError::TooLarge { bytes: 1, room: 0 }));
    assert_eq!(writer.publish(b""), Ok(1));
    assert_eq!((segment.read(), segment.words(1, 1).is_none()), (Ok((1, Vec::new())), true));
}

#[test]
fn a_membership_is_read_as_it_was_published() {
    let segment = segment();
    let seat = segment.join(1, 1).unwrap();
    assert_eq!(segment.read(), Ok((0, Vec::new())));
    let writer = segment.lock(&seat, |_| true).unwrap();
    for length in [0, 1, 7, 8, 9, 64] {
        let bytes: Vec<u8> = (0..length).map(|i| i as u8 ^ 0x5a).collect();
        let epoch = writer.publish(&bytes).unwrap();
        assert_eq!((segment.epoch(), segment.read()), (epoch, Ok((epoch, bytes))));
    }
    let before = segment.read();
    assert!(writer.publish(&[0; 65]).is_err());
    assert_eq!(segment.read(), before);
}

#[test]
fn a_crash_while_publishing_leaves_the_old_in_force() {
    let segment = segment();
    let (a, b) = (segment.join(1, 1).unwrap(), segment.join(2, 1).unwrap());
    let writer = segment.lock(&a, |_| true).unwrap();
    writer.publish(b"the old one").unwrap();
    std::mem::forget(writer); // killed with the lock held...
    let half = segment.plan.halves[0].clone();
    segment.region.words()[half.start].store(2, Ordering::Release); // ...and the next one half written.
    segment.region.words()[half.start + LINE].store(77, Ordering::Release);
    assert_eq!(segment.read(), Ok((1, b"the old one".to_vec())));
    let locked = segment.lock(&b, |_| true).unwrap_err();
    assert_eq!(locked.by, Some(Process { row: 0, pid: 1, start: 1 }));
    let writer = segment.lock(&b, pid_is(&[2])).unwrap();
    assert_eq!(writer.publish(b"the new one"), Ok(2));
    drop(writer);
    assert_eq!(segment.read(), Ok((2, b"the new one".to_vec())));
}

#[test]
fn writers_are_one_at_a_time() {
    let segment = segment();
    let (a, b) = (segment.join(1, 1).unwrap(), segment.join(2, 1).unwrap());
    let first = segment.lock(&a, |_| true).unwrap();
    assert!(segment.lock(&b, |_| true).is_err());
    // Another thread of the holder waits like everybody, whatever `alive` thinks of it.
    assert!(segment.lock(&a, |_| false).is_err());
    // Taken for dead: the lock is another's then, and releasing it changes nothing.
    let second = segment.lock(&b, pid_is(&[2])).unwrap();
    assert_eq!(first.publish(b"late"), Err(PublishError::Lost));
    drop(first);
    assert!(segment.lock(&a, |_| true).is_err());
    assert_eq!(second.publish(b"right"), Ok(1));
    drop(second);
    assert!(segment.lock(&a, |_| true).is_ok());
}

#[test]
fn a_lock_of_a_row_that_has_another_process_by_now_is_free() {
    let segment = segment();
    let (a, b) = (segment.join(1, 1).unwrap(), segment.join(2, 1).unwrap());
    std::mem::forget(segment.lock(&a, |_| true).unwrap());
    assert_eq!(segment.take_back(&b, pid_is(&[2])).freed, 1);
    let again = segment.join(3, 1).unwrap();
    assert_eq!(again.row(), a.row());
    assert!(segment.lock(&b, |_| true).is_ok());
}

#[test]
fn a_table_has_room_for_so_many_processes() {
    let segment = segment();
    let seats: Vec<Seat> = (1..=4).map(|pid| segment.join(pid, 9).unwrap()).collect();
    assert_eq!(segment.join(5, 9).unwrap_err(), TableFull(4));
    assert!(segment.leave(&seats[2]));
    assert_eq!(segment.processes().len(), 3);
    let new = segment.join(5, 9).unwrap();
    assert_eq!((new.row(), new.generation()), (2, seats[2].generation() + 1));
    assert!(segment.has(&new) && !segment.has(&seats[2]));
    assert!(segment.leave(&seats[2]), "it has left already");
    assert!(segment.has(&new));
    assert_eq!(segment.take_back(&seats[0], |p| p.pid != 2 && p.pid != 5).freed, 2);
}

#[test]
fn a_table_full_of_the_dead_is_emptied_from_outside() {
    let segment = segment();
    let seats: Vec<Seat> = (1..=4).map(|pid| segment.join(pid, 9).unwrap()).collect();
    take(&segment, &seats[1], 0, 3);
    // Somebody who did that was killed, too.
    let state = segment.state(4);
    assert!(segment.turn(4, state, super::processes::State { pid: 7, kind: super::processes::Kind::Live, ..state }));
    assert!(segment.make_room(8, 9, |_| true).busy);
    let report = segment.make_room(8, 9, pid_is(&[1, 3, 4]));
    assert_eq!((report.dead, report.freed), (1, 1));
    assert_eq!((counts(&segment, 0), segment.join(8, 9).unwrap().row()), ((0, 0, 0), 1));
}

#[test]
fn who_leaves_with_leases_out_keeps_them() {
    let segment = segment();
    let (a, b) = (segment.join(1, 1).unwrap(), segment.join(2, 1).unwrap());
    take(&segment, &a, 2, 10);
    assert!(!segment.leave(&a));
    assert_eq!(segment.take_back(&b, |_| true), Report::default());
    // It comes back, with another seat for the same counts.
    let back = segment.join(1, 1).unwrap();
    assert_eq!((back.row(), back.has(2)), (a.row(), (1, 10)));
    assert!(!segment.leave(&back));
    give(&segment, &a, 2, 10);
    assert_eq!(counts(&segment, 2), (0, 0, 0));
    assert_eq!(segment.take_back(&b, |_| true).freed, 1);
    // Another start time: another process, though the pid is the same.
    take(&segment, &b, 2, 10);
    assert!(!segment.leave(&b));
    assert_ne!(segment.join(2, 2).unwrap().row(), b.row());
}

#[test]
fn a_kill_at_any_point_leaves_counts_that_an_audit_puts_right() {
    for change in [Change::Take(5), Change::Give(7), Change::Shift(3), Change::Correct(400)] {
        for count in 0..=5 {
            let segment = segment();
            let (a, b) = (segment.join(1, 1).unwrap(), segment.join(2, 1).unwrap());
            take(&segment, &a, 1, 7);
            take(&segment, &b, 1, 70);
            steps(&segment, &a, 1, change, count);
            let before = counts(&segment, 1);
            let report = segment.take_back(&b, pid_is(&[2]));
            assert_eq!((report.dead, report.freed, report.pending), (1, 1, 0), "{change:?} {count}");
            let (inflight, load, extra) = counts(&segment, 1);
            assert_eq!((inflight, load - extra), (1, 70), "{change:?} {count}");
            let taken = Taken { slot: 1, requests: before.0 - inflight, units: before.1 - load };
            assert_eq!(report.taken, if taken.requests == 0 && taken.units == 0 { vec![] } else { vec![taken] });
            assert_eq!(segment.take_back(&b, pid_is(&[2])), Report::default(), "once");
            give(&segment, &b, 1, 70);
            assert_eq!(counts(&segment, 1), (0, extra, extra));
        }
    }
}

#[test]
fn the_steps_are_those_of_the_seat() {
    let (here, there) = (segment(), segment());
    let (a, b) = (here.join(1, 1).unwrap(), there.join(1, 1).unwrap());
    let same = || {
        let words = |segment: &Segment| -> Vec<u64> {
            segment.region.words().iter().map(|w| w.load(Ordering::Acquire)).collect()
        };
        assert_eq!(words(&here), words(&there));
    };
    steps(&here, &a, 1, Change::Take(9), 5);
    take(&there, &b, 1, 9);
    same();
    steps(&here, &a, 1, Change::Shift(4u64.wrapping_neg()), 5);
    b.shift(1, 4u64.wrapping_neg(), || _ = there.cell(1).unwrap()[CELL_LOAD].fetch_sub(4, Ordering::SeqCst));
    same();
    steps(&here, &a, 1, Change::Give(5), 5);
    give(&there, &b, 1, 5);
    same();
    assert_eq!((a.has(1), b.has(1)), ((0, 0), (0, 0)));
}

#[test]
fn a_refusal_counts_nothing_and_a_slot_that_is_not_there_takes_nothing() {
    let segment = segment();
    let seat = segment.join(1, 1).unwrap();
    assert!(!seat.take(0, 5, || false));
    assert_eq!((seat.has(0), counts(&segment, 0)), ((0, 0), (0, 0, 0)));
    assert!(!seat.take(5, 5, || panic!("there is no slot 5")));
    seat.give(u32::MAX, 5, || panic!("nor this one"));
    seat.shift(u32::MAX, 5, || panic!("nor this one"));
    assert_eq!(seat.has(5), (0, 0));
    assert!(segment.leave(&seat));
}

#[test]
fn counts_of_a_process_go_below_zero_and_back() {
    let segment = segment();
    let seat = segment.join(1, 1).unwrap();
    give(&segment, &seat, 3, 2);
    give(&segment, &seat, 3, 2);
    assert_eq!(seat.has(3), (-2, -4));
    take(&segment, &seat, 3, 2);
    take(&segment, &seat, 3, 2);
    assert!(segment.leave(&seat));
}

#[test]
fn a_process_that_is_stopped_inside_delays_its_slot_only() {
    let segment = segment();
    let seats: Vec<Seat> = (1..=3).map(|pid| segment.join(pid, 1).unwrap()).collect();
    take(&segment, &seats[0], 0, 1);
    take(&segment, &seats[0], 1, 1);
    steps(&segment, &seats[1], 1, Change::Take(4), 2);
    let report = segment.take_back(&seats[2], pid_is(&[2, 3]));
    assert_eq!((report.dead, report.freed, report.pending), (1, 0, 1));
    assert_eq!((counts(&segment, 0), counts(&segment, 1)), ((0, 0, 0), (2, 1, 0)));
    // The stopped one dies as well: both are taken back at once.
    let report = segment.take_back(&seats[2], pid_is(&[3]));
    assert_eq!((report.dead, report.freed, report.pending), (1, 2, 0));
    assert_eq!(report.taken, [Taken { slot: 1, requests: 2, units: 1 }]);
    assert_eq!(counts(&segment, 1), (0, 0, 0));
}

#[test]
fn one_at_a_time_takes_back_and_a_dead_one_is_relieved() {
    let segment = segment();
    let seats: Vec<Seat> = (1..=3).map(|pid| segment.join(pid, 1).unwrap()).collect();
    take(&segment, &seats[0], 4, 6);
    let held = segment.lock_at(super::segment::TAKER_AT, &seats[1], |_| true).unwrap();
    assert!(segment.take_back(&seats[2], pid_is(&[2, 3])).busy);
    std::mem::forget(held);
    let report = segment.take_back(&seats[2], pid_is(&[3]));
    assert_eq!((report.busy, report.dead, report.freed), (false, 2, 2));
    assert_eq!(counts(&segment, 4), (0, 0, 0));
}

#[test]
fn a_slot_is_reused_when_it_is_empty_and_nobody_knows_it_any_more() {
    let segment = segment();
    let (a, b) = (segment.join(1, 1).unwrap(), segment.join(2, 1).unwrap());
    take(&segment, &b, 2, 1);
    let epoch = segment.lock(&a, |_| true).unwrap().publish(b"without slot 2").unwrap();
    a.seen(epoch);
    give(&segment, &b, 2, 1);
    assert!(!segment.may_reuse(2, epoch), "b may still hand it out");
    b.seen(epoch);
    assert!(segment.may_reuse(2, epoch));
    take(&segment, &b, 2, 1);
    assert!(!segment.may_reuse(2, epoch), "something is in flight");
    assert!(!segment.may_reuse(5, 0), "there is no such slot");
    // A dead process hands out nothing; one that joins reads what is in force.
    let epoch = segment.lock(&a, |_| true).unwrap().publish(b"").unwrap();
    a.seen(epoch);
    assert!(!segment.may_reuse(2, epoch));
    segment.take_back(&a, pid_is(&[1]));
    let _new = segment.join(7, 1).unwrap();
    assert!(segment.may_reuse(2, epoch));
}

#[test]
fn words_of_a_name_are_the_same_for_all() {
    let segment = segment();
    let first = segment.words(11, 2).unwrap();
    first.words()[1].store(5, Ordering::Release);
    let same = segment.words(11, 2).unwrap();
    assert_eq!(same.words()[1].load(Ordering::Acquire), 5);
    let other = segment.words(12, 5).unwrap();
    assert_eq!(other.words().len(), 5);
    assert!(other.words().iter().all(|word| word.load(Ordering::Acquire) == 0));
    assert!(segment.words(13, 2).is_none(), "there are eight");
    assert_eq!(segment.words(0, 1).unwrap().words().len(), 1);
    assert!(segment.words(0, 1).is_some());
    // Other parameters: other words, or none.
    assert!(segment.words(11, 3).is_none());
}

#[test]
fn a_name_whose_maker_died_is_given_words_by_the_next() {
    let segment = segment();
    let table = segment.region.part(segment.plan.table.start, segment.plan.table.len()).unwrap();
    let name = 77u64 ^ 1u64.rotate_left(32);
    let at = 2 * (name as usize % (table.words().len() / 2));
    table.words()[at].store(name, Ordering::Release);
    assert!(segment.words(77, 1).is_some());
    assert!(segment.words(77, 1).is_some());
    assert_eq!(segment.head.words()[super::segment::USED_AT].load(Ordering::Acquire), 1);
}
