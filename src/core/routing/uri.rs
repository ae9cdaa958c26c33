//! Request targets, hosts and paths: taken apart strictly, and made normal as nginx does.

use super::request::Refusal;

/// A request target, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// What an absolute target says before its path.
    pub authority: Option<&'a [u8]>,
    /// The path as it was sent.
    pub path: &'a [u8],
    /// What follows the question mark; empty when there is none.
    pub query: &'a [u8],
}

/// Takes a request target apart: `/path?query`, or `http://host/path?query`. Every other form (`*`, `host:port`) is
/// none that could be routed.
///
/// # Errors
/// [`Refusal::Target`], also for blanks, control characters and fragments, which no target may hold.
pub fn target(raw: &[u8]) -> Result<Target<'_>, Refusal> {
    if raw.iter().any(|&b| b <= b' ' || b == 0x7f || b == b'#') {
        return Err(Refusal::Target);
    }
    let (authority, rest) = if raw.first() == Some(&b'/') {
        (None, raw)
    } else {
        let at = raw.windows(3).position(|w| w == b"://").ok_or(Refusal::Target)?;
        let scheme = raw.get(..at).unwrap_or_default();
        if ![&b"http"[..], b"https", b"ws", b"wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(Refusal::Target);
        }
        let rest = raw.get(at + 3..).unwrap_or_default();
        let end = rest.iter().position(|&b| b == b'/' || b == b'?').unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).ok_or(Refusal::Target)?;
        if authority.is_empty() {
            return Err(Refusal::Target);
        }
        (Some(authority), rest)
    };
    let (path, query) = match rest.iter().position(|&b| b == b'?') {
        Some(mark) => (rest.get(..mark).unwrap_or_default(), rest.get(mark + 1..).unwrap_or_default()),
        None => (rest, &[][..]),
    };
    Ok(Target { authority, path: if path.is_empty() { b"/" } else { path }, query })
}

/// A host as rules see it: lower case, without port and without the dot at the end.
///
/// # Errors
/// [`Refusal::Host`] for what is neither a name, an IPv4 address nor a bracketed IPv6 address.
pub fn host(raw: &[u8]) -> Result<String, Refusal> {
    let (name, port) = if raw.first() == Some(&b'[') {
        let end = raw.iter().position(|&b| b == b']').ok_or(Refusal::Host)?;
        let (name, port) = raw.split_at_checked(end + 1).ok_or(Refusal::Host)?;
        let inside = name.get(1..end).unwrap_or_default();
        if inside.is_empty() || !inside.iter().all(|&b| b.is_ascii_hexdigit() || b == b':' || b == b'.') {
            return Err(Refusal::Host);
        }
        (name, port)
    } else {
        let end = raw.iter().position(|&b| b == b':').unwrap_or(raw.len());
        let (name, port) = raw.split_at_checked(end).ok_or(Refusal::Host)?;
        let name = name.strip_suffix(b".").unwrap_or(name);
        let plain = |&b: &u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
        if name.is_empty() || !name.iter().all(plain) || name.split(|&b| b == b'.').any(<[u8]>::is_empty) {
            return Err(Refusal::Host);
        }
        (name, port)
    };
    let port = match port.split_first() {
        None => port,
        Some((b':', digits)) => digits,
        Some(_) => return Err(Refusal::Host),
    };
    if port.len() > 5 || !port.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Host);
    }
    Ok(String::from_utf8_lossy(name).to_ascii_lowercase())
}

fn hex(byte: Option<&u8>) -> Result<u8, Refusal> {
    let digit = byte.and_then(|&b| char::from(b).to_digit(16)).ok_or(Refusal::Path)?;
    Ok(digit as u8)
}

/// Whether nginx would change this path, or might. Cheap, and true too often rather than not often enough.
#[inline]
#[must_use]
pub fn complex(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().any(|&byte| {
        let odd = byte == b'%' || (before == b'/' && (byte == b'/' || byte == b'.'));
        before = byte;
        odd
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Inside,
    Slash,
    Dot,
    Dots,
}

/// Drops the last segment together with the two dots behind it.
fn up(out: &mut Vec<u8>) -> Result<(), Refusal> {
    // Behind the slash before the dots stands the segment that goes; above the root there is none.
    let before = out.len().checked_sub(4).and_then(|end| out.get(..=end)).ok_or(Refusal::Path)?;
    let slash = before.iter().rposition(|&b| b == b'/').ok_or(Refusal::Path)?;
    out.truncate(slash + 1);
    Ok(())
}

/// A path as nginx 1.31 compares it with locations: percent signs decoded once, `.` and `..` followed, and runs of
/// slashes made one (`merge`; nginx's `merge_slashes`). What was encoded counts: `%2e%2e%2f` is `../`.
///
/// # Errors
/// [`Refusal::Path`] for a path that leaves the root, a percent sign without two digits, or an encoded NUL.
pub fn normal(path: &[u8], merge: bool) -> Result<Vec<u8>, Refusal> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut place = Place::Inside;
    let mut bytes = path.iter();
    while let Some(&raw) = bytes.next() {
        let byte = if raw == b'%' { hex(bytes.next())? << 4 | hex(bytes.next())? } else { raw };
        if byte == 0 {
            return Err(Refusal::Path);
        }
        match (place, byte) {
            (Place::Slash, b'/') if merge => continue,
            (Place::Dot, b'/') => {
                out.pop();
                place = Place::Slash;
                continue;
            }
            (Place::Dots, b'/') => {
                up(&mut out)?;
                place = Place::Slash;
                continue;
            }
            (_, b'/') => place = Place::Slash,
            (Place::Slash, b'.') => place = Place::Dot,
            (Place::Dot, b'.') => place = Place::Dots,
            _ => place = Place::Inside,
        }
        out.push(byte);
    }
    match place {
        Place::Dot => drop(out.pop()),
        Place::Dots => up(&mut out)?,
        Place::Inside | Place::Slash => {}
    }
    Ok(out)
}

/// A path on the wire again: what nginx escapes in a redirect.
#[must_use]
pub fn escaped(path: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(path.len());
    for &byte in path {
        if byte.is_ascii_graphic()
            && !matches!(byte, b'%' | b'?' | b'#' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
        {
            out.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(path: &str) -> Option<String> {
        normal(path.as_bytes(), true).ok().map(|out| String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn paths_become_what_nginx_makes_of_them() {
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("/a//b///c", "/a/b/c"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../c", "/a/c"),
            ("/a/b/%2e%2E%2fc", "/a/c"),
            ("/a/...", "/a/..."),
            ("/a/.b/..c", "/a/.b/..c"),
            ("/a%20b%3Fc%23d%25e", "/a b?c#d%e"),
            ("/%252e%252e/", "/%2e%2e/"),
            ("/a%2Fb", "/a/b"),
            ("/a/..", "/"),
        ] {
            assert_eq!(made(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn paths_that_nginx_refuses() {
        for path in ["/..", "/a/../..", "/%2e%2e/x", "/a%", "/a%2", "/a%zz", "/a%00b"] {
            assert_eq!(normal(path.as_bytes(), true), Err(Refusal::Path), "{path}");
        }
    }

    #[test]
    fn slashes_stay_when_they_are_not_merged() {
        assert_eq!(normal(b"/a//b", false), Ok(b"/a//b".to_vec()));
        assert_eq!(normal(b"/a//../b", false), Ok(b"/a/b".to_vec()));
    }

    #[test]
    fn targets_of_every_form() {
        let parts = |t: Target<'static>| (t.authority, t.path, t.query);
        assert_eq!(target(b"/a?b?c").map(parts), Ok((None, &b"/a"[..], &b"b?c"[..])));
        assert_eq!(target(b"HTTP://h:8?x").map(parts), Ok((Some(&b"h:8"[..]), &b"/"[..], &b"x"[..])));
        assert_eq!(target(b"//evil/a").map(parts), Ok((None, &b"//evil/a"[..], &b""[..])));
        for bad in [&b""[..], b"*", b"a", b"h:80", b"ftp://h/", b"http:///a", b"/a b", b"/a\r\n", b"/a#b", b"/\x7f"] {
            assert_eq!(target(bad), Err(Refusal::Target));
        }
    }

    #[test]
    fn hosts_lose_port_and_case() {
        for (raw, expected) in
            [("A.b:80", "a.b"), ("a.", "a"), ("[::1]:8", "[::1]"), ("10.0.0.1", "10.0.0.1"), ("a:", "a")]
        {
            assert_eq!(host(raw.as_bytes()).as_deref(), Ok(expected));
        }
        for bad in [
            "", ".", ".a", "a..b", "a/b", "u@a", "a b", "[::1", "[]", "[::1]x", "a:b", "a:1:2", "*.a", "a\0", "é",
            "a:123456",
        ] {
            assert_eq!(host(bad.as_bytes()), Err(Refusal::Host), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_path_stays_as_it_is(path in "/([a.%/]|%2e|%2f|%25|%41){0,24}", merge: bool) {
            if let Ok(once) = normal(path.as_bytes(), merge) {
                prop_assert!(!merge || !once.windows(2).any(|w| w == b"//"));
                let again = normal(escaped(&once).as_bytes(), merge);
                prop_assert_eq!(again.as_ref(), Ok(&once));
            }
        }

        #[test]
        fn a_path_that_is_not_complex_is_normal(path in "/[a-c./]{0,16}") {
            if !complex(path.as_bytes()) {
                prop_assert_eq!(normal(path.as_bytes(), true), Ok(path.clone().into_bytes()));
            }
        }
    }
}
