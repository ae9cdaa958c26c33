//! Reading a memory that was written as a plain value, with errors that say where.

use super::told::Plain;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// A count as a plain value; what does not fit in 63 bits is the largest that does.
#[must_use]
pub fn counted(n: u64) -> Plain {
    Plain::Whole(i64::try_from(n).unwrap_or(i64::MAX))
}

/// An instant as a plain value: whole nanoseconds.
#[must_use]
pub fn instant(at: Nanos) -> Plain {
    counted(at.0)
}

/// Seconds, to the nearest float.
#[must_use]
pub fn seconds(n: Nanos) -> f64 {
    n.0 as f64 / 1e9
}

/// Named values and where they stand.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    at: String,
    fields: &'a [(String, Plain)],
}

impl<'a> Reader<'a> {
    /// A reader of a map.
    pub fn new(at: impl Into<String>, value: &'a Plain) -> Result<Reader<'a>, ConfigError> {
        let at = at.into();
        match value {
            Plain::Map(fields) => Ok(Reader { at, fields }),
            _ => Err(ConfigError::new(at, "what is not a dictionary", "a dictionary, as state() gives")),
        }
    }

    /// Its entries.
    #[must_use]
    pub fn entries(&self) -> &'a [(String, Plain)] {
        self.fields
    }

    /// An error about one of its fields.
    #[must_use]
    pub fn error(&self, name: &str, value: impl ToString, allowed: impl Into<String>) -> ConfigError {
        ConfigError::new(format!("{}.{name}", self.at), value, allowed)
    }

    /// A field that has to be there.
    pub fn get(&self, name: &str) -> Result<&'a Plain, ConfigError> {
        let found = self.fields.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v).ok_or_else(|| self.error(name, "nothing", "a key that is needed"))
    }

    /// A whole number.
    pub fn whole(&self, name: &str) -> Result<i64, ConfigError> {
        match self.get(name)? {
            Plain::Whole(n) => Ok(*n),
            other => Err(self.error(name, shown(other), "a whole number")),
        }
    }

    /// A whole number of 32 bits.
    pub fn small(&self, name: &str) -> Result<i32, ConfigError> {
        let n = self.whole(name)?;
        i32::try_from(n).map_err(|_| self.error(name, n, "a whole number that fits in 32 bits"))
    }

    /// A whole number of 0 or more.
    pub fn count(&self, name: &str) -> Result<u64, ConfigError> {
        let n = self.whole(name)?;
        u64::try_from(n).map_err(|_| self.error(name, n, "a whole number of 0 or more"))
    }

    /// A whole number of 0 or more, or nothing.
    pub fn optional_count(&self, name: &str) -> Result<Option<u64>, ConfigError> {
        if matches!(self.get(name)?, Plain::Nothing) { Ok(None) } else { self.count(name).map(Some) }
    }

    /// An instant, or nothing.
    pub fn optional_instant(&self, name: &str) -> Result<Option<Nanos>, ConfigError> {
        Ok(self.optional_count(name)?.map(Nanos))
    }

    /// A finite number.
    pub fn real(&self, name: &str) -> Result<f64, ConfigError> {
        self.number(name, self.get(name)?)
    }

    /// Yes or no.
    pub fn flag(&self, name: &str) -> Result<bool, ConfigError> {
        match self.get(name)? {
            Plain::Flag(b) => Ok(*b),
            other => Err(self.error(name, shown(other), "True or False")),
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<&'a str, ConfigError> {
        match self.get(name)? {
            Plain::Text(t) => Ok(t),
            other => Err(self.error(name, shown(other), "a text")),
        }
    }

    /// A map inside.
    pub fn map(&self, name: &str) -> Result<Reader<'a>, ConfigError> {
        Reader::new(format!("{}.{name}", self.at), self.get(name)?)
    }

    /// A map inside, or nothing.
    pub fn optional_map(&self, name: &str) -> Result<Option<Reader<'a>>, ConfigError> {
        if matches!(self.get(name)?, Plain::Nothing) { Ok(None) } else { self.map(name).map(Some) }
    }

    fn list(&self, name: &str) -> Result<&'a [Plain], ConfigError> {
        match self.get(name)? {
            Plain::List(items) => Ok(items),
            other => Err(self.error(name, shown(other), "a list")),
        }
    }

    fn number(&self, name: &str, value: &Plain) -> Result<f64, ConfigError> {
        match value {
            Plain::Real(x) if x.is_finite() => Ok(*x),
            // JSON of another hand may write 1 for 1.0.
            Plain::Whole(n) => Ok(*n as f64),
            other => Err(self.error(name, shown(other), "a finite number")),
        }
    }

    /// Finite numbers.
    pub fn reals(&self, name: &str) -> Result<Vec<f64>, ConfigError> {
        self.list(name)?.iter().map(|v| self.number(name, v)).collect()
    }

    /// Lists of one length.
    pub fn rows(&self, name: &str, length: usize) -> Result<Vec<&'a Vec<Plain>>, ConfigError> {
        let each = |v: &'a Plain| match v {
            Plain::List(row) if row.len() == length => Ok(row),
            other => Err(self.error(name, shown(other), format!("lists of {length} values"))),
        };
        self.list(name)?.iter().map(each).collect()
    }

    /// Whether it has the version and the kind that it must have.
    pub fn check(&self, version: i64, kind: &str) -> Result<(), ConfigError> {
        let found = self.whole("version")?;
        if found != version {
            return Err(self.error("version", found, version.to_string()));
        }
        let found = self.text("kind")?;
        if found != kind {
            return Err(self.error("kind", found, kind));
        }
        Ok(())
    }
}

fn shown(value: &Plain) -> String {
    match value {
        Plain::Nothing => "None".to_owned(),
        Plain::Flag(b) => if *b { "True" } else { "False" }.to_owned(),
        Plain::Whole(n) => n.to_string(),
        Plain::Real(x) => x.to_string(),
        Plain::Text(t) => format!("{:?}", t.chars().take(80).collect::<String>()),
        Plain::List(items) => format!("a list of {}", items.len()),
        Plain::Map(_) => "a dictionary".to_owned(),
    }
}
