//! Named memory, mapped.
#![allow(unsafe_code)]

use crate::core::endpoints::counters::mapped_bytes;
use crate::core::error::ConfigError;
use crate::core::shared::{Layout, Region};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FlockOperation, Mode};
use rustix::io::Errno;
use rustix::shm::{self, OFlags};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// No segment is larger: 4,096 endpoints and 1,024 processes need less.
const MOST_BYTES: u64 = 1 << 30;

/// A name's memory, and nobody else makes or unmakes it as long as this is there.
pub(crate) struct Named {
    name: String,
    file: File,
}

fn path(name: &str) -> String {
    format!("/aibalance-{name}")
}

impl Drop for Named {
    fn drop(&mut self) {
        // Said, and not left to the closing: a child of a fork may have the file too.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn of_another(owner: u32) -> String {
    format!("a name of this user's: the memory belongs to user {owner}, and this is user {}", me())
}

/// Why the system does not let this user have the memory of a name.
fn forbidden(name: &str) -> String {
    // Memory that cannot be opened can be looked at.
    let meta = cfg!(target_os = "linux").then(|| std::fs::symlink_metadata(format!("/dev/shm{}", path(name))));
    match meta {
        Some(Ok(meta)) if meta.uid() != me() => of_another(meta.uid()),
        Some(Ok(_)) => "memory that its owner may read and write: its permissions forbid it".to_owned(),
        Some(Err(_)) => format!("memory that user {} may make: it must not write in /dev/shm", me()),
        None => "a name of this user's: the memory belongs to another user".to_owned(),
    }
}

/// The error of a call to the system, in words.
fn refused(name: &str, what: &str, errno: Errno) -> ConfigError {
    let allowed = match errno {
        Errno::ACCESS | Errno::PERM => forbidden(name),
        Errno::NOENT => {
            "a name that some process has a shared pool of; there is none. Containers have to share /dev/shm \
             (such as docker's --ipc) to see each other's"
                .to_owned()
        }
        Errno::NOSPC | Errno::NOMEM => format!("{what}: /dev/shm is full"),
        Errno::NOSYS | Errno::NOTSUP | Errno::ROFS => {
            format!("{what}: this system has no shared memory (is /dev/shm mounted and writable?)")
        }
        other => format!("{what}: {other} (is /dev/shm mounted and writable?)"),
    };
    ConfigError::new("shared", format!("{name:?}"), allowed)
}

impl Named {
    /// Opens the memory of a name and waits until nobody else makes it; with `make`, makes it where there is none.
    pub fn open(name: &str, make: bool) -> Result<Named, ConfigError> {
        let flags = OFlags::RDWR | if make { OFlags::CREATE } else { OFlags::empty() };
        let fail = |what: &'static str| move |errno| refused(name, what, errno);
        loop {
            let file =
                File::from(shm::open(path(name), flags, Mode::RUSR | Mode::WUSR).map_err(fail("it cannot be opened"))?);
            let named = Named { name: name.to_owned(), file };
            named.check()?;
            rustix::fs::flock(&named.file, FlockOperation::LockExclusive).map_err(fail("it cannot be locked"))?;
            // Whoever had the lock may have made the name's memory anew.
            if named.is_current() {
                return Ok(named);
            }
        }
    }

    fn meta(&self) -> Result<std::fs::Metadata, ConfigError> {
        let io = |error: std::io::Error| {
            refused(&self.name, "it cannot be looked at", Errno::from_io_error(&error).unwrap_or(Errno::IO))
        };
        self.file.metadata().map_err(io)
    }

    /// Whose it is, who else may write there, and how large it is.
    fn check(&self) -> Result<(), ConfigError> {
        let meta = self.meta()?;
        let refuse = |allowed: String| Err(ConfigError::new("shared", format!("{:?}", self.name), allowed));
        if meta.uid() != me() {
            return refuse(of_another(meta.uid()));
        }
        if meta.mode() & 0o077 != 0 {
            return refuse("memory that its owner alone may use: its permissions are open to others".to_owned());
        }
        if meta.len() > MOST_BYTES {
            return refuse(format!("at most {MOST_BYTES} bytes of memory: it has {}", meta.len()));
        }
        Ok(())
    }

    fn is_current(&self) -> bool {
        let now = shm::open(path(&self.name), OFlags::RDWR, Mode::empty()).map(File::from);
        let of = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
        now.is_ok_and(|now| of(&now) == of(&self.file))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> Result<bool, ConfigError> {
        Ok(self.meta()?.len() == 0)
    }

    /// Gives up what has the name. Those who still have the memory keep it.
    pub fn give_up(self) -> Result<(), ConfigError> {
        unlink(&self.name)
    }

    /// Gives it the size of a layout.
    pub fn resize(&self, layout: &Layout) -> Result<(), ConfigError> {
        let io = |errno| refused(&self.name, "it cannot be given its size", errno);
        rustix::fs::ftruncate(&self.file, mapped_bytes(layout)).map_err(io)
    }

    /// Maps all of it.
    pub fn map(&self) -> Result<Region, ConfigError> {
        let bytes = self.meta()?.len() as usize;
        let fail = |why: String| ConfigError::new("shared", format!("{:?}", self.name), why);
        if bytes < 8 {
            return Err(fail("memory with a shared pool in it: it is truncated".to_owned()));
        }
        let map: MmapRaw = MmapOptions::new()
            .len(bytes)
            .map_raw(&self.file)
            .map_err(|error| fail(format!("memory that can be mapped: {error}")))?;
        let (start, keep) = (map.as_mut_ptr(), Arc::new(map));
        // SAFETY: so many bytes are mapped from there on, readable and writable, until the mapping is dropped, which
        // `keep` puts off. This process uses them through the region alone. That nobody truncates the file meanwhile is
        // the owner's promise, as for every mapping: nobody else may open it.
        let region = unsafe { Region::from_raw(start.cast(), bytes / 8, keep) };
        region.ok_or_else(|| fail("memory that is aligned to pages".to_owned()))
    }
}

/// Takes a name away; those who have the memory go on.
pub(crate) fn unlink(name: &str) -> Result<(), ConfigError> {
    shm::unlink(path(name)).map_err(|errno| refused(name, "it cannot be unlinked", errno))
}
