//! `skip_datapoints_expression`: which rated points are not stored.
//!
//! The reference evaluates the expression as Python. Until a real evaluator is
//! here, the constants `False` and `True` are understood and everything else
//! is refused at the start: points that should not be billed must not be
//! stored by mistake.

/// What to do with rated points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Store all.
    None,
    /// Store none.
    All,
}

/// Why an expression is refused.
#[derive(Debug, thiserror::Error)]
pub enum UnsupportedExpression {
    /// It is no constant.
    #[error("skip_datapoints_expression `{0}` is not supported yet: only `False` and `True` are")]
    NoConstant(String),
    /// Metrics that make one type of data points have different ones.
    #[error(
        "the metrics that make data points of type `{0}` have different skip_datapoints_expressions"
    )]
    Several(String),
}

impl Skip {
    /// Reads an expression.
    ///
    /// # Errors
    /// Anything but a constant.
    pub fn parse(expression: &str) -> Result<Self, UnsupportedExpression> {
        match expression.trim() {
            "False" | "None" | "0" | "" => Ok(Self::None),
            "True" | "1" => Ok(Self::All),
            other => Err(UnsupportedExpression::NoConstant(other.to_owned())),
        }
    }
}
