//! `skip_datapoints_expression`: which rated points are not stored.
//!
//! The reference evaluates the text as Python, over a dictionary `datapoint`:
//!
//! ```text
//! {"vol": {"unit": ..., "qty": ...}, "rating": {"price": ...},
//!  "groupby": {...}, "metadata": {...}}
//! ```
//!
//! Quantity and price are `Decimal`s in it; labels are text, or whatever JSON
//! was pushed or left by a script.
//!
//! Here it is parsed with Python's grammar at the start ([`parse`] makes
//! [`node`]s of it) and evaluated natively for each point ([`eval`]); nothing
//! else of Python can be reached. What is understood gives Python's answer, or
//! raises where Python does; everything else is refused with its place in the
//! expression, since points that should not be billed must not be stored by
//! mistake. The list of what is understood is in `docs/RATING.md`.
//!
//! [`value`] holds Python's values, [`number`] its three kinds of numbers,
//! [`exact`] decimals of any length for them, [`text`] the methods of text.

mod eval;
mod exact;
mod node;
mod number;
mod parse;
mod text;
mod value;

use crate::dataframe::DataPoint;

use node::Node;
pub use value::EvalError;

/// Why an expression is refused.
#[derive(Debug, thiserror::Error)]
pub enum UnsupportedExpression {
    /// It is no Python expression.
    #[error(
        "skip_datapoints_expression `{expression}` is no expression: {problem} at character {place}"
    )]
    Syntax {
        /// The expression.
        expression: String,
        /// What the parser says.
        problem: String,
        /// Where, counted from 1.
        place: usize,
    },
    /// A part of it is not understood.
    #[error(
        "skip_datapoints_expression `{expression}`: {problem} at character {place} is not supported{hint}"
    )]
    Part {
        /// The expression.
        expression: String,
        /// The part.
        problem: String,
        /// Where it begins, counted from 1.
        place: usize,
        /// What to write instead, if that is known.
        hint: &'static str,
    },
    /// Metrics that make one type of data points have different ones.
    #[error(
        "the metrics that make data points of type `{0}` have different skip_datapoints_expressions"
    )]
    Several(String),
}

/// An expression, ready to be evaluated.
#[derive(Debug, Clone)]
pub struct Skip {
    text: String,
    node: Node,
}

impl PartialEq for Skip {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Skip {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is no expression, and what is not understood of it.
    pub fn parse(text: &str) -> Result<Self, UnsupportedExpression> {
        Ok(Self { text: text.to_owned(), node: parse::parse(text)? })
    }

    /// Whether a rated point is not to be stored.
    ///
    /// # Errors
    /// What raises in Python, too: a key that is not there, operands that do
    /// not go together.
    pub fn skips(&self, point: &DataPoint) -> Result<bool, EvalError> {
        Ok(eval::eval(&self.node, point)?.truth())
    }
}

#[cfg(test)]
mod tests;
