//! Patterns with wildcards as an Application Load Balancer has them: `*` is any text, also none, `?` is one character.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    One,
    Many,
}

/// A pattern. It is matched against the whole text, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    fold: bool,
}

impl Glob {
    /// A pattern; `fold` ignores the case of ASCII letters, `escapes` lets a backslash make a wildcard plain.
    #[must_use]
    pub fn new(pattern: &str, fold: bool, escapes: bool) -> Glob {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut bytes = pattern.bytes();
        while let Some(byte) = bytes.next() {
            let token = match byte {
                b'\\' if escapes => Token::Byte(bytes.next().unwrap_or(b'\\')),
                b'*' => Token::Many,
                b'?' => Token::One,
                other => Token::Byte(other),
            };
            // Two stars in a row are one.
            if token != Token::Many || tokens.last() != Some(&Token::Many) {
                tokens.push(match token {
                    Token::Byte(byte) if fold => Token::Byte(byte.to_ascii_lowercase()),
                    other => other,
                });
            }
        }
        Glob { tokens, fold }
    }

    /// How many wildcards it has, several stars in a row being one.
    #[must_use]
    pub fn wildcards(&self) -> usize {
        self.tokens.iter().filter(|token| !matches!(token, Token::Byte(_))).count()
    }

    /// Whether the whole text fits. At most (length of text) x (length of pattern) steps, whatever the pattern.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let (mut at, mut token) = (0, 0);
        // Where to go on when it does not fit: behind the last star, one byte further than the last time.
        let mut again: Option<(usize, usize)> = None;
        while let Some(&byte) = text.get(at) {
            let byte = if self.fold { byte.to_ascii_lowercase() } else { byte };
            match self.tokens.get(token) {
                Some(Token::Many) => {
                    token += 1;
                    again = Some((at, token));
                }
                Some(Token::One) => (at, token) = (at + 1, token + 1),
                Some(&Token::Byte(wanted)) if wanted == byte => (at, token) = (at + 1, token + 1),
                _ => match again {
                    Some((from, behind)) => {
                        (at, token) = (from + 1, behind);
                        again = Some((from + 1, behind));
                    }
                    None => return false,
                },
            }
        }
        self.tokens.iter().skip(token).all(|token| *token == Token::Many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        Glob::new(pattern, false, false).matches(text.as_bytes())
    }

    #[test]
    fn the_examples_of_the_manual() {
        assert!(fits("/img/*", "/img/picture.jpg"));
        assert!(fits("/img/*", "/img/"));
        assert!(!fits("/img/*", "/img"));
        assert!(fits("/img/*/pics", "/img/a/b/pics"));
        assert!(!fits("/img/*/pics", "/img/pics"));
        assert!(fits("/a?c", "/abc"));
        assert!(!fits("/a?c", "/ac"));
        assert!(!fits("/IMG/*", "/img/x"));
    }

    #[test]
    fn nothing_and_stars_at_every_end() {
        assert!(fits("", ""));
        assert!(!fits("", "a"));
        assert!(fits("***", ""));
        assert!(fits("*a*b*", "xxaxxbxx"));
        assert!(!fits("*a*b", "ab a"));
        assert!(!fits("?", ""));
        assert!(fits("*?", "a"));
    }

    #[test]
    fn case_and_escapes_only_when_asked_for() {
        assert!(Glob::new("*.Example.COM", true, false).matches(b"TEST.example.com"));
        let star = Glob::new("what\\?", false, true);
        assert!(star.matches(b"what?") && !star.matches(b"whatx"));
        assert_eq!((star.wildcards(), Glob::new("a**?", false, false).wildcards()), (0, 2));
        assert!(Glob::new("a\\", false, true).matches(b"a\\"));
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = Glob::new(&"*a".repeat(60), false, false);
        assert!(!pattern.matches(&[b'b'; 20_000]));
        assert!(!pattern.matches(&[&[b'a'; 20_000][..], b"b"].concat()));
    }
}
