//! nginx's `location`: exact, prefix, prefix that ends the search, and regular expressions.

use crate::core::error::ConfigError;
use regex::bytes::{Regex, RegexBuilder};
use std::collections::HashMap;

/// One location as it is configured.
#[derive(Clone, Debug)]
pub enum Location {
    /// `= /path`: this path and no other.
    Exact(String),
    /// `/path`, or `^~ /path`, which keeps regular expressions from being asked.
    Prefix(String, bool),
    /// `~ expression`, or `~* expression` for either case.
    Pattern(Regex),
}

/// What PCRE reads differently from the engine here, and would not be told by it.
const DIFFERENT: [(&str, &str); 10] = [
    ("++", "a possessive quantifier"),
    ("*+", "a possessive quantifier"),
    ("?+", "a possessive quantifier"),
    ("}+", "a possessive quantifier"),
    ("(?R", "a recursion"),
    ("(?u", "the flag u"),
    ("{,", "a quantifier without a lower bound"),
    ("\\<", "\\<"),
    ("\\>", "\\>"),
    ("\\b{", "a brace behind \\b"),
];

/// Looks for what would silently mean something else than in PCRE.
fn foreign(pattern: &str) -> Option<&'static str> {
    let mut rest = pattern;
    let mut class = false;
    while let Some(first) = rest.chars().next() {
        if !class && let Some((_, what)) = DIFFERENT.iter().find(|(text, _)| rest.starts_with(text)) {
            return Some(what);
        }
        if class && ["&&", "--", "~~"].iter().any(|text| rest.starts_with(text)) {
            return Some("an operation on character classes");
        }
        if class && first == '[' && !rest.starts_with("[:") {
            return Some("a class inside a class");
        }
        let skip = match first {
            // Whatever is escaped opens and closes nothing.
            '\\' => first.len_utf8() + rest.chars().nth(1).map_or(0, char::len_utf8),
            '[' if !class => {
                class = true;
                // A bracket at the front is a plain character.
                ["[^]", "[]", "[^", "["].iter().find(|front| rest.starts_with(**front)).map_or(1, |front| front.len())
            }
            '[' => rest.find(":]").map_or(1, |end| end + 2),
            ']' => {
                class = false;
                1
            }
            other => other.len_utf8(),
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
    None
}

impl Location {
    /// Reads what stands behind `location` in nginx's configuration.
    ///
    /// # Errors
    /// [`ConfigError`] for a path that does not begin with a slash, a named location, or an expression that is none
    /// or that PCRE would read differently.
    pub fn parse(field: &str, text: &str) -> Result<Location, ConfigError> {
        let allowed = "\"/prefix\", \"= /path\", \"^~ /prefix\", \"~ expression\" or \"~* expression\"";
        let refuse = |allowed: &str| ConfigError::new(field, format!("{text:?}"), allowed);
        let (modifier, rest) = match text.split_once(|c: char| c.is_ascii_whitespace()) {
            Some((modifier @ ("=" | "^~" | "~" | "~*"), rest)) => (modifier, rest.trim_ascii_start()),
            _ => ("", text),
        };
        if let "~" | "~*" = modifier {
            if let Some(what) = foreign(rest) {
                return Err(refuse(&format!("an expression without {what}, which PCRE reads differently")));
            }
            // Bytes and ASCII, as PCRE without its UTF mode.
            let made = RegexBuilder::new(rest).unicode(false).case_insensitive(modifier == "~*").build();
            return made.map(Location::Pattern).map_err(|error| {
                let why = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
                refuse(&format!(
                    "an expression of the regex crate, which has neither look-around nor back-references ({why})"
                ))
            });
        }
        if !rest.starts_with('/') {
            return Err(refuse(allowed));
        }
        Ok(match modifier {
            "=" => Location::Exact(rest.to_owned()),
            modifier => Location::Prefix(rest.to_owned(), modifier == "^~"),
        })
    }
}

/// What a search has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// This rule's location.
    Rule(usize),
    /// The path lacks the slash at the end that this rule's location has: nginx sends the client there.
    Slash(usize),
}

/// The locations of one server, by rule.
#[derive(Clone, Debug, Default)]
pub struct Locations {
    exact: HashMap<Vec<u8>, usize>,
    /// The longest first.
    prefixes: Vec<(Vec<u8>, bool, usize)>,
    patterns: Vec<(Regex, usize)>,
}

impl Locations {
    /// Adds the location of a rule.
    ///
    /// # Errors
    /// The rule that has the same location already.
    pub fn add(&mut self, location: &Location, rule: usize) -> Result<(), usize> {
        match location {
            Location::Exact(path) => {
                if let Some(&before) = self.exact.get(path.as_bytes()) {
                    return Err(before);
                }
                self.exact.insert(path.clone().into_bytes(), rule);
            }
            Location::Prefix(path, last) => {
                if let Some((_, _, before)) = self.prefixes.iter().find(|(known, _, _)| known == path.as_bytes()) {
                    return Err(*before);
                }
                let at = self.prefixes.partition_point(|(known, _, _)| known.len() >= path.len());
                self.prefixes.insert(at, (path.clone().into_bytes(), *last, rule));
            }
            Location::Pattern(expression) => self.patterns.push((expression.clone(), rule)),
        }
        Ok(())
    }

    /// The location of a normal path: an exact one at once; else the longest prefix, unless a regular expression fits,
    /// the first in order, and the prefix does not forbid to ask them.
    #[must_use]
    pub fn find(&self, path: &[u8], redirect: bool) -> Option<Found> {
        if let Some(&rule) = self.exact.get(path) {
            return Some(Found::Rule(rule));
        }
        let mut prefix = None;
        for (known, last, rule) in &self.prefixes {
            // A prefix of the very length comes after this one and wins over it.
            if redirect && known.len() == path.len() + 1 && known.starts_with(path) && known.ends_with(b"/") {
                let same = self.prefixes.iter().any(|(other, _, _)| other == path);
                if !same {
                    return Some(Found::Slash(*rule));
                }
            }
            if path.starts_with(known) {
                prefix = Some((*last, *rule));
                break;
            }
        }
        if let Some((true, rule)) = prefix {
            return Some(Found::Rule(rule));
        }
        let pattern = self.patterns.iter().find(|(expression, _)| expression.is_match(path)).map(|(_, rule)| *rule);
        pattern.or(prefix.map(|(_, rule)| rule)).map(Found::Rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(locations: &[&str], path: &str) -> Option<Found> {
        let mut all = Locations::default();
        for (i, text) in locations.iter().enumerate() {
            all.add(&Location::parse("location", text).unwrap(), i).unwrap();
        }
        all.find(path.as_bytes(), true)
    }

    #[test]
    fn the_example_of_the_manual() {
        let all = ["= /", "/", "/documents/", "^~ /images/", "~* \\.(gif|jpg|jpeg)$"];
        for (path, expected) in [
            ("/", 0),
            ("/index.html", 1),
            ("/documents/document.html", 2),
            ("/images/1.gif", 3),
            ("/documents/1.JPG", 4),
        ] {
            assert_eq!(found(&all, path), Some(Found::Rule(expected)), "{path}");
        }
    }

    #[test]
    fn a_missing_slash_redirects_before_expressions_are_asked() {
        assert_eq!(found(&["/api/", "~ ^/api"], "/api"), Some(Found::Slash(0)));
        assert_eq!(found(&["/api/", "= /api"], "/api"), Some(Found::Rule(1)));
        assert_eq!(found(&["/api/", "/api"], "/api"), Some(Found::Rule(1)));
        assert_eq!(found(&["/api/", "/"], "/ap"), Some(Found::Rule(1)));
        assert_eq!(found(&["/api/"], "/"), None);
    }

    #[test]
    fn expressions_are_asked_in_order_and_find_anywhere() {
        assert_eq!(found(&["~ b", "~ a"], "/xab"), Some(Found::Rule(0)));
        assert_eq!(found(&["~ A", "~* A"], "/a"), Some(Found::Rule(1)));
        assert_eq!(found(&["~ ^/v[0-9]+/"], "/v12/x"), Some(Found::Rule(0)));
        assert_eq!(found(&["~ ^/v[[:digit:]]+$"], "/v12"), Some(Found::Rule(0)));
    }

    #[test]
    fn what_pcre_reads_differently_is_refused() {
        for bad in [
            "~ a++",
            "~ a{2}+",
            "~ (?R)",
            "~ [a&&b]",
            "~ [[a]b]",
            "~ \\<a",
            "~ (?=a)",
            "~ (a)\\1",
            "~ a{,3}",
            "~ (",
            "~ [a--b]",
            "~ (?u)a",
            "x",
            "= x",
            "@named",
            "",
            "~ \\b{start}",
        ] {
            assert!(Location::parse("location", bad).is_err(), "{bad}");
        }
        for good in ["~ \\+\\+", "~ [+*?]+", "~ []a]+x", "~ \\[&&\\]", "~ [\\[]", "~ a+?b"] {
            assert!(Location::parse("location", good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_location_twice_is_told() {
        let mut all = Locations::default();
        all.add(&Location::parse("l", "/a").unwrap(), 0).unwrap();
        assert_eq!(all.add(&Location::parse("l", "^~ /a").unwrap(), 1), Err(0));
        assert_eq!(all.add(&Location::parse("l", "= /a").unwrap(), 1), Ok(()));
    }
}
