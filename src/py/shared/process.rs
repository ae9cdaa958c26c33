//! Which process this is, and whether another is still there.

use crate::core::shared::Process;

/// The pid of this process, and when it started: a number that another process with the same pid has not, and that says in
/// which namespace the pid means something.
pub(crate) fn this() -> (u32, u64) {
    let pid = std::process::id();
    let ticks = stat(pid).map_or(0, |stat| stat.1);
    (pid, word(ticks))
}

/// Never zero, which stands for "not known".
fn word(ticks: u64) -> u64 {
    (namespace() << 48 | ticks & 0xffff_ffff_ffff).max(1)
}

/// Tells pid namespaces apart: containers have their own.
#[cfg(target_os = "linux")]
fn namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino());
    (inode ^ inode >> 16) & 0xffff
}

#[cfg(not(target_os = "linux"))]
fn namespace() -> u64 {
    0
}

/// Whether a process ended and only waits to be noticed by its parent, and its start in ticks since the machine's.
#[cfg(target_os = "linux")]
fn stat(pid: u32) -> Option<(bool, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have any character in it.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let over = matches!(fields.next()?, "Z" | "X" | "x");
    Some((over, fields.nth(18)?.parse().ok()?))
}

#[cfg(not(target_os = "linux"))]
fn stat(_: u32) -> Option<(bool, u64)> {
    None
}

/// Whether the system has a process of this pid at all.
fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Whether a process is there, and is the one that is meant. Of one in another pid namespace nothing can be known from
/// here: it counts as alive, and those beside it take back what it leaves.
pub(crate) fn alive(process: Process) -> bool {
    let Process { pid, start, .. } = process;
    if start != 0 && start >> 48 != namespace() {
        return true;
    }
    match stat(pid) {
        Some((over, ticks)) => !over && (start == 0 || word(ticks) == start),
        None => {
            !cfg!(target_os = "linux") && exists(pid) || cfg!(target_os = "linux") && !proc_is_there() && exists(pid)
        }
    }
}

fn proc_is_there() -> bool {
    std::fs::metadata("/proc/self/stat").is_ok()
}
