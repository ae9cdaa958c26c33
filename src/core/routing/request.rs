//! A request as rules see it.

use super::uri;
use std::borrow::Cow;

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No rule fits, and there is no default.
    NoRule,
    /// A rule fits, and none of its targets has any weight.
    NoWeight,
    /// The request target has a form that cannot be routed.
    Target,
    /// The host is malformed, given twice, or not the one of an absolute target.
    Host,
    /// The path is malformed or leads out of the root.
    Path,
    /// The path as sent and the path as servers understand it fit different rules.
    Ambiguous,
}

impl Refusal {
    /// A word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Refusal::NoRule => "no_rule",
            Refusal::NoWeight => "no_weight",
            Refusal::Target => "bad_target",
            Refusal::Host => "bad_host",
            Refusal::Path => "bad_path",
            Refusal::Ambiguous => "ambiguous_path",
        }
    }

    /// The HTTP status to answer with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Refusal::NoRule => 404,
            Refusal::NoWeight => 503,
            Refusal::Target | Refusal::Host | Refusal::Path | Refusal::Ambiguous => 400,
        }
    }
}

/// One header: its name in lower case, and its value.
pub type Header = (Vec<u8>, Vec<u8>);

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method, which is case-sensitive.
    pub method: Vec<u8>,
    /// The host in lower case without port; empty when the request names none.
    pub host: String,
    /// The path as it was sent.
    pub path: Vec<u8>,
    /// The query as it was sent, without the question mark.
    pub query: Vec<u8>,
    /// The headers.
    pub headers: Vec<Header>,
}

impl Request {
    /// A request from what was sent. `host` is the Host header when it is not among `headers`.
    ///
    /// # Errors
    /// [`Refusal`] when what was sent says two things at once, or nothing that could be routed.
    pub fn new(
        method: &[u8],
        target: &[u8],
        host: Option<&[u8]>,
        headers: &[(&[u8], &[u8])],
    ) -> Result<Request, Refusal> {
        let target = uri::target(target)?;
        let headers: Vec<Header> =
            headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect();
        let mut told: Option<String> = None;
        // Whoever is told of several hosts might believe another one than we do. Servers must answer 400 (RFC 9112).
        let mut sent = 0;
        let named = headers.iter().filter(|(name, _)| name == b"host").map(|(_, value)| value.as_slice());
        for (raw, header) in host
            .map(|h| (h, false))
            .into_iter()
            .chain(named.map(|h| (h, true)))
            .chain(target.authority.map(|a| (a, false)))
        {
            sent += usize::from(header);
            if raw.is_empty() && target.authority.is_none() {
                continue;
            }
            let found = uri::host(raw)?;
            if sent > 1 || told.as_ref().is_some_and(|before| *before != found) {
                return Err(Refusal::Host);
            }
            told = Some(found);
        }
        if sent > 1 {
            return Err(Refusal::Host);
        }
        Ok(Request {
            method: method.to_vec(),
            host: told.unwrap_or_default(),
            path: target.path.to_vec(),
            query: target.query.to_vec(),
            headers,
        })
    }

    /// The path as nginx understands it.
    ///
    /// # Errors
    /// [`Refusal::Path`].
    pub fn normal(&self, merge: bool) -> Result<Cow<'_, [u8]>, Refusal> {
        if uri::complex(&self.path) {
            uri::normal(&self.path, merge).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(&self.path))
        }
    }

    /// The pairs of the query, as they were sent.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.query.split(|&b| b == b'&').filter(|part| !part.is_empty()).map(|part| {
            let at = part.iter().position(|&b| b == b'=').unwrap_or(part.len());
            (part.get(..at).unwrap_or_default(), part.get(at + 1..).unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_wherever_it_is_said() {
        let made = |target: &str, host: Option<&str>, headers: &[(&[u8], &[u8])]| {
            Request::new(b"GET", target.as_bytes(), host.map(str::as_bytes), headers).map(|r| r.host)
        };
        assert_eq!(made("/", None, &[]), Ok(String::new()));
        assert_eq!(made("/", Some("A:80"), &[]), Ok("a".into()));
        assert_eq!(made("/", None, &[(b"HOST", b"A")]), Ok("a".into()));
        assert_eq!(made("http://a/x", Some("a:8080"), &[]), Ok("a".into()));
        assert_eq!(made("http://b/x", Some("a"), &[]), Err(Refusal::Host));
        assert_eq!(made("http://u@b/x", None, &[]), Err(Refusal::Host));
        assert_eq!(made("/", Some("a"), &[(b"host", b"b")]), Err(Refusal::Host));
        assert_eq!(made("/", None, &[(b"host", b"a"), (b"Host", b"a")]), Err(Refusal::Host));
        assert_eq!(made("/", None, &[(b"host", b""), (b"host", b"")]), Err(Refusal::Host));
        assert_eq!(made("http://a/", None, &[(b"host", b"")]), Err(Refusal::Host));
    }

    #[test]
    fn pairs_are_what_was_sent() {
        let request = Request::new(b"GET", b"/?a=1&&b&c=%20=x", None, &[]).unwrap();
        let pairs: Vec<_> = request.pairs().collect();
        assert_eq!(pairs, [(&b"a"[..], &b"1"[..]), (b"b", b""), (b"c", b"%20=x")]);
    }
}
