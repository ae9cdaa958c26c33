//! Formulas over triggers: the expression language of expr-lang, by the crate of that name.

use super::{from_milli, go_i64};
use expr::{Context, Environment, Program, Value};
use thiserror::Error;

/// The longest formula, in bytes.
pub const LONGEST: usize = 4096;

/// The deepest nesting of brackets.
const DEEPEST: usize = 64;

/// A formula that cannot be used, or that failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("formula: {message}")]
pub struct FormulaError {
    /// What is wrong.
    pub message: String,
}

fn wrong(message: impl ToString) -> FormulaError {
    FormulaError { message: message.to_string() }
}

/// A compiled formula.
#[derive(Debug)]
pub struct Formula {
    text: String,
    names: Vec<String>,
    program: Program,
    environment: Environment<'static>,
    nullable: bool,
}

impl Formula {
    /// Compiles a formula over triggers, and tries it once with each of them at -1, as KEDA does.
    pub fn new(text: &str, names: Vec<String>) -> Result<Formula, FormulaError> {
        if text.len() > LONGEST {
            return Err(wrong(format!("{} bytes are too many; up to {LONGEST} are allowed", text.len())));
        }
        if nesting(text) > DEEPEST {
            return Err(wrong(format!("brackets nest too deep; up to {DEEPEST} levels are allowed")));
        }
        if text.contains("..") {
            return Err(wrong("ranges (..) are not supported: they make lists of any length"));
        }
        let mut environment = Environment::new();
        environment.add_function("repeat", |_| {
            Err("repeat() is not supported: it makes texts of any length".to_owned().into())
        });
        let program = expr::compile(text).map_err(wrong)?;
        // Without this, `a` would be a trigger that nobody knows and nil.
        let formula = Formula { text: text.to_owned(), names, program, environment, nullable: text.contains("??") };
        formula.run(|_| Some(-1.0))?;
        Ok(formula)
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The triggers that it may name.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn run(&self, value: impl Fn(&str) -> Option<f64>) -> Result<Option<f64>, FormulaError> {
        let mut context = Context::default();
        for name in &self.names {
            context.insert(name.clone(), value(name).map_or(Value::Nil, Value::Float));
        }
        match self.environment.run(&self.program, &context).map_err(wrong)? {
            Value::Float(x) => Ok(Some(x)),
            Value::Integer(n) => Ok(Some(n as f64)),
            Value::String(s) => s.trim().parse().map(Some).map_err(|_| wrong(format!("{s:?} is not a number"))),
            Value::Nil if self.nullable => Ok(None),
            other => Err(wrong(format!("the result {other} is not a number"))),
        }
    }

    /// The result for triggers in thousandths; `None` for a trigger is nil, and so is it for the result.
    pub fn evaluate(&self, value: impl Fn(&str) -> Option<i64>) -> Result<Option<f64>, FormulaError> {
        self.run(|name| value(name).map(from_milli))
    }
}

/// A result in thousandths, cut toward zero.
#[must_use]
pub fn in_milli(result: f64) -> i64 {
    go_i64(result * 1000.0)
}

fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    // Each of these nests as deep as it is long, too.
    deepest + text.matches(['?', '!', '-']).count() / 8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn result(text: &str, a: i64, b: Option<i64>) -> Result<Option<i64>, FormulaError> {
        let formula = Formula::new(text, vec!["a".to_owned(), "b".to_owned()])?;
        Ok(formula.evaluate(|name| if name == "a" { Some(a) } else { b })?.map(in_milli))
    }

    #[test]
    fn formulas_are_computed_and_cut_toward_zero() {
        let cases = [
            ("a + b", 3500),
            ("a * 0.3333333", 499),
            ("b - a * 3", -2500),
            ("max([a, b])", 2000),
            ("let x = a * 2; x > b ? x : 5", 3000),
            ("count([a, b], # > 1) > 1 ? 5 : 6", 5000),
            ("float(a)", 1500),
            ("a / 0", i64::MIN),
        ];
        for (text, expected) in cases {
            assert_eq!(result(text, 1500, Some(2000)), Ok(Some(expected)), "{text}");
        }
    }

    #[test]
    fn nil_is_a_value_where_the_formula_provides_for_it() {
        assert_eq!(result("b ?? 4", 0, None), Ok(Some(4000)));
        assert_eq!(result("b ?? nil", 0, None), Ok(None));
        assert!(result("b + 1", 0, None).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in ["", "a +", "c + 1", "a % 3", "a > 2", "filter([a, b], # > 1)[0]", "sum(1..9)", "repeat(\"x\", 9)"]
        {
            assert!(result(text, 1500, Some(2000)).is_err(), "{text}");
        }
        assert!(result(&"(".repeat(5000), 0, None).is_err());
        let deep = format!("{}a{}", "(".repeat(500), ")".repeat(500));
        assert!(result(&deep, 0, None).is_err());
        assert!(result(&"!".repeat(3000), 0, None).is_err());
    }
}
