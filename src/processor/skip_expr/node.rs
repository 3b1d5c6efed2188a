//! Parts of an expression, as they are evaluated.

use std::ops::RangeInclusive;

/// A part of an expression.
#[derive(Debug, Clone)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Tuple(Vec<Node>),
    Dict(Vec<(Node, Node)>),
    /// Stands only behind `in`.
    Set(Vec<Node>),
    /// What `keys`, `values` or `items` gives. Stands only behind `in` and as the
    /// argument of a function.
    View {
        of: Box<Node>,
        part: Part,
    },
    /// The data point.
    Datapoint,
    /// `left and right and ...`, or the same with `or`.
    Logic {
        and: bool,
        operands: Vec<Node>,
    },
    Not(Box<Node>),
    Negative(Box<Node>),
    Positive(Box<Node>),
    Arithmetic {
        op: Arithmetic,
        left: Box<Node>,
        right: Box<Node>,
    },
    Power {
        base: Box<Node>,
        exponent: u32,
    },
    /// `first op second op third ...`
    Compare {
        first: Box<Node>,
        rest: Vec<(Comparison, Node)>,
    },
    If {
        test: Box<Node>,
        yes: Box<Node>,
        no: Box<Node>,
    },
    Item {
        of: Box<Node>,
        key: Box<Node>,
    },
    /// `of[start:stop:step]`
    Slice {
        of: Box<Node>,
        bounds: [Option<Box<Node>>; 3],
    },
    Attribute {
        of: Box<Node>,
        attribute: Attribute,
    },
    Method {
        of: Box<Node>,
        method: Method,
        arguments: Vec<Node>,
    },
    Call {
        function: Function,
        arguments: Vec<Node>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Keys,
    Values,
    Items,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Is,
    IsNot,
    In,
    NotIn,
}

/// What is no method of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    Real,
    Imag,
    Numerator,
    Denominator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    StartsWith,
    EndsWith,
    Lower,
    Upper,
    Strip,
    LStrip,
    RStrip,
    RemovePrefix,
    RemoveSuffix,
    Replace,
    Split,
    Find,
    Index,
    Count,
}

impl Method {
    /// The method of a name, and how many arguments it takes.
    pub(super) fn named(name: &str) -> Option<(Self, RangeInclusive<usize>)> {
        Some(match name {
            "get" => (Self::Get, 1..=2),
            "startswith" => (Self::StartsWith, 1..=3),
            "endswith" => (Self::EndsWith, 1..=3),
            "lower" => (Self::Lower, 0..=0),
            "upper" => (Self::Upper, 0..=0),
            "strip" => (Self::Strip, 0..=1),
            "lstrip" => (Self::LStrip, 0..=1),
            "rstrip" => (Self::RStrip, 0..=1),
            "removeprefix" => (Self::RemovePrefix, 1..=1),
            "removesuffix" => (Self::RemoveSuffix, 1..=1),
            "replace" => (Self::Replace, 2..=3),
            "split" => (Self::Split, 0..=2),
            "find" => (Self::Find, 1..=1),
            "index" => (Self::Index, 1..=1),
            "count" => (Self::Count, 1..=1),
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Len,
    Str,
    Repr,
    Int,
    Float,
    Bool,
    Abs,
    Round,
    Min,
    Max,
    Any,
    All,
}

impl Function {
    /// The function of a name, and how many arguments it takes.
    pub(super) fn named(name: &str) -> Option<(Self, RangeInclusive<usize>)> {
        Some(match name {
            "len" => (Self::Len, 1..=1),
            "str" => (Self::Str, 1..=1),
            "repr" => (Self::Repr, 1..=1),
            "int" => (Self::Int, 1..=1),
            "float" => (Self::Float, 1..=1),
            "bool" => (Self::Bool, 1..=1),
            "abs" => (Self::Abs, 1..=1),
            "round" => (Self::Round, 1..=2),
            "min" => (Self::Min, 1..=usize::MAX),
            "max" => (Self::Max, 1..=usize::MAX),
            "any" => (Self::Any, 1..=1),
            "all" => (Self::All, 1..=1),
            _ => return None,
        })
    }

    /// Whether it looks through its only argument.
    pub(super) fn takes_view(self) -> bool {
        matches!(self, Self::Len | Self::Bool | Self::Min | Self::Max | Self::Any | Self::All)
    }
}
