//! Reading a configuration that arrives as a plain map, with errors that name the field and what is allowed.

use crate::core::autoscaling::told::Plain;
use crate::core::autoscaling::{Bounds, MAX_CAPACITY, MAX_METRIC};
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// A year: no window, delay or cooldown is longer.
const YEAR: f64 = 31_536_000.0;

/// Named values of a configuration.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    at: String,
    fields: &'a [(String, Plain)],
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

impl<'a> Config<'a> {
    /// A reader of a map; `at` is what its fields' names begin with.
    pub fn new(at: impl Into<String>, value: &'a Plain) -> Result<Config<'a>, ConfigError> {
        let at = at.into();
        match value {
            Plain::Map(fields) => Ok(Config { at, fields }),
            other => Err(ConfigError::new(at, shown(other), "named values")),
        }
    }

    fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    fn value(&self, name: &str) -> &'a Plain {
        self.fields.iter().find(|(n, _)| n == name).map_or(&Plain::Nothing, |(_, v)| v)
    }

    /// An error about a field.
    #[must_use]
    pub fn refuse(&self, name: &str, allowed: impl Into<String>) -> ConfigError {
        ConfigError::new(self.path(name), shown(self.value(name)), allowed)
    }

    /// Whether it is None or left out.
    #[must_use]
    pub fn is_none(&self, name: &str) -> bool {
        matches!(self.value(name), Plain::Nothing)
    }

    /// A finite number for which `fits` holds.
    pub fn number(&self, name: &str, allowed: &str, fits: impl Fn(f64) -> bool) -> Result<f64, ConfigError> {
        let x = match self.value(name) {
            Plain::Real(x) => *x,
            Plain::Whole(n) => *n as f64,
            _ => f64::NAN,
        };
        if x.is_finite() && x.abs() <= MAX_METRIC && fits(x) { Ok(x) } else { Err(self.refuse(name, allowed)) }
    }

    /// A number above 0.
    pub fn positive(&self, name: &str) -> Result<f64, ConfigError> {
        self.number(name, "a number above 0, up to 2^360", |x| x > 0.0)
    }

    /// Any finite number.
    pub fn finite(&self, name: &str) -> Result<f64, ConfigError> {
        self.number(name, "a finite number up to 2^360", |_| true)
    }

    /// A share above 0, at most 1.
    pub fn share(&self, name: &str) -> Result<f64, ConfigError> {
        self.number(name, "a number above 0, at most 1", |x| x > 0.0 && x <= 1.0)
    }

    /// Seconds, up to a year.
    pub fn seconds(&self, name: &str) -> Result<Nanos, ConfigError> {
        self.seconds_up_to(name, YEAR)
    }

    /// Seconds, up to so many.
    pub fn seconds_up_to(&self, name: &str, most: f64) -> Result<Nanos, ConfigError> {
        self.number(name, &format!("seconds from 0 to {most}"), |x| (0.0..=most).contains(&x)).map(Nanos::from_secs_f64)
    }

    /// A whole number in a range.
    pub fn whole(&self, name: &str, low: i64, high: i64) -> Result<i64, ConfigError> {
        match self.value(name) {
            Plain::Whole(n) if (low..=high).contains(n) => Ok(*n),
            _ => Err(self.refuse(name, format!("a whole number from {low} to {high}"))),
        }
    }

    /// A capacity.
    pub fn capacity(&self, name: &str) -> Result<i64, ConfigError> {
        self.whole(name, 0, MAX_CAPACITY)
    }

    /// Yes or no.
    pub fn flag(&self, name: &str) -> Result<bool, ConfigError> {
        match self.value(name) {
            Plain::Flag(b) => Ok(*b),
            _ => Err(self.refuse(name, "True or False")),
        }
    }

    /// A text that is not empty.
    pub fn text(&self, name: &str) -> Result<&'a str, ConfigError> {
        match self.value(name) {
            Plain::Text(t) if !t.is_empty() => Ok(t),
            _ => Err(self.refuse(name, "a text that is not empty")),
        }
    }

    /// One of several words.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let word = if let Plain::Text(t) = self.value(name) { t.as_str() } else { "" };
        choices.iter().find(|(n, _)| *n == word).map(|(_, c)| *c).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(n, _)| *n).collect();
            self.refuse(name, format!("one of {}", names.join(", ")))
        })
    }

    /// What `read` makes of a field, or nothing for None.
    pub fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Self, &str) -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        if self.is_none(name) { Ok(None) } else { read(self, name).map(Some) }
    }

    /// Bounds under these names.
    pub fn bounds(&self, low: &str, high: &str) -> Result<Bounds, ConfigError> {
        let min = self.capacity(low)?;
        let max = self.capacity(high)?;
        if max < min {
            return Err(self.refuse(high, format!("a whole number from {low} ({min}) to {MAX_CAPACITY}")));
        }
        Ok(Bounds { min, max })
    }

    /// The maps of a list.
    pub fn maps(&self, name: &str) -> Result<Vec<Config<'a>>, ConfigError> {
        match self.value(name) {
            Plain::List(items) => {
                items.iter().enumerate().map(|(i, v)| Config::new(format!("{}[{i}]", self.path(name)), v)).collect()
            }
            _ => Err(self.refuse(name, "a sequence")),
        }
    }

    /// The whole numbers of a list.
    pub fn wholes(&self, name: &str) -> Result<Vec<i64>, ConfigError> {
        let Plain::List(items) = self.value(name) else { return Err(self.refuse(name, "a sequence")) };
        items
            .iter()
            .map(|v| if let Plain::Whole(n) = v { Ok(*n) } else { Err(self.refuse(name, "whole numbers")) })
            .collect()
    }

    /// The finite numbers of a list.
    pub fn numbers(&self, name: &str) -> Result<Vec<f64>, ConfigError> {
        let Plain::List(items) = self.value(name) else { return Err(self.refuse(name, "a sequence of numbers")) };
        let each = |(i, v): (usize, &Plain)| match v {
            Plain::Real(x) if x.is_finite() => Ok(*x),
            Plain::Whole(n) => Ok(*n as f64),
            other => Err(ConfigError::new(format!("{}[{i}]", self.path(name)), shown(other), "a finite number")),
        };
        items.iter().enumerate().map(each).collect()
    }
}
