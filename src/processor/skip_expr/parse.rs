//! From the text of an expression to [`Node`]s, through Python's grammar.

use ruff_python_ast::{self as ast, BoolOp, CmpOp, Expr, Number, Operator, UnaryOp};
use ruff_python_parser::parse_expression;
use ruff_text_size::Ranged;

use super::UnsupportedExpression;

/// A part of an expression.
#[derive(Debug, Clone)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Dict(Vec<(Node, Node)>),
    /// The data point.
    Datapoint,
    /// `left and right and ...`, or the same with `or`.
    Logic {
        and: bool,
        operands: Vec<Node>,
    },
    Not(Box<Node>),
    Negative(Box<Node>),
    Arithmetic {
        op: Arithmetic,
        left: Box<Node>,
        right: Box<Node>,
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
    Method {
        of: Box<Node>,
        method: Method,
        arguments: Vec<Node>,
    },
    Call {
        function: Function,
        argument: Box<Node>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    StartsWith,
    EndsWith,
    Lower,
    Upper,
    Strip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Len,
    Str,
    Int,
    Float,
    Abs,
}

type Parsed = Result<Node, UnsupportedExpression>;

/// Reads an expression.
pub(super) fn parse(text: &str) -> Parsed {
    let trimmed = text.trim();
    let parsed = parse_expression(trimmed).map_err(|error| UnsupportedExpression::Syntax {
        expression: text.to_owned(),
        problem: error.error.to_string(),
    })?;
    Reader { text: trimmed }.node(parsed.expr())
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn refuse<T>(
        &self,
        part: &Expr,
        problem: impl Into<String>,
    ) -> Result<T, UnsupportedExpression> {
        let before = self.text.get(..part.start().to_usize()).unwrap_or_default();
        Err(UnsupportedExpression::Part {
            expression: self.text.to_owned(),
            problem: problem.into(),
            place: before.chars().count() + 1,
        })
    }

    fn node(&self, expr: &Expr) -> Parsed {
        Ok(match expr {
            Expr::NoneLiteral(_) => Node::None,
            Expr::BooleanLiteral(literal) => Node::Bool(literal.value),
            Expr::NumberLiteral(literal) => match &literal.value {
                Number::Int(number) => match number.as_i64() {
                    Some(number) => Node::Int(number),
                    None => return self.refuse(expr, "a number beyond 64 bits"),
                },
                Number::Float(number) => Node::Float(*number),
                Number::Complex { .. } => return self.refuse(expr, "a complex number"),
            },
            Expr::StringLiteral(literal) => Node::Text(literal.value.to_str().to_owned()),
            Expr::List(ast::ExprList { elts, .. })
            | Expr::Tuple(ast::ExprTuple { elts, .. })
            | Expr::Set(ast::ExprSet { elts, .. }) => Node::List(self.nodes(elts)?),
            Expr::Dict(dict) => {
                let pairs = dict.items.iter().map(|item| match &item.key {
                    Some(key) => Ok((self.node(key)?, self.node(&item.value)?)),
                    None => self.refuse(expr, "`**`"),
                });
                Node::Dict(pairs.collect::<Result<_, _>>()?)
            }
            Expr::Name(name) if name.id.as_str() == "datapoint" => Node::Datapoint,
            Expr::Name(name) => return self.refuse(expr, format!("the name `{}`", name.id)),
            Expr::BoolOp(logic) => {
                Node::Logic { and: logic.op == BoolOp::And, operands: self.nodes(&logic.values)? }
            }
            Expr::UnaryOp(unary) => {
                let operand = Box::new(self.node(&unary.operand)?);
                match unary.op {
                    UnaryOp::Not => Node::Not(operand),
                    UnaryOp::USub => Node::Negative(operand),
                    UnaryOp::UAdd | UnaryOp::Invert => {
                        return self.refuse(expr, format!("the operator `{}`", unary.op));
                    }
                }
            }
            Expr::BinOp(binary) => {
                let op = match binary.op {
                    Operator::Add => Arithmetic::Add,
                    Operator::Sub => Arithmetic::Subtract,
                    Operator::Mult => Arithmetic::Multiply,
                    Operator::Div => Arithmetic::Divide,
                    other => return self.refuse(expr, format!("the operator `{other}`")),
                };
                let (left, right) = (self.node(&binary.left)?, self.node(&binary.right)?);
                Node::Arithmetic { op, left: Box::new(left), right: Box::new(right) }
            }
            Expr::Compare(compare) => {
                let rest = compare.ops.iter().zip(&compare.comparators);
                let rest = rest.map(|(op, right)| Ok((comparison(*op), self.node(right)?)));
                Node::Compare {
                    first: Box::new(self.node(&compare.left)?),
                    rest: rest.collect::<Result<_, _>>()?,
                }
            }
            Expr::If(choice) => Node::If {
                test: Box::new(self.node(&choice.test)?),
                yes: Box::new(self.node(&choice.body)?),
                no: Box::new(self.node(&choice.orelse)?),
            },
            Expr::Subscript(item) => {
                let (of, key) = (self.node(&item.value)?, self.node(&item.slice)?);
                Node::Item { of: Box::new(of), key: Box::new(key) }
            }
            Expr::Call(call) => return self.call(expr, call),
            Expr::Attribute(attribute) => {
                // A dictionary has no attributes in Python either.
                return self.refuse(expr, format!("the attribute `{}`", attribute.attr));
            }
            _ => return self.refuse(expr, "this kind of expression"),
        })
    }

    fn nodes(&self, exprs: &[Expr]) -> Result<Vec<Node>, UnsupportedExpression> {
        exprs.iter().map(|expr| self.node(expr)).collect()
    }

    fn call(&self, expr: &Expr, call: &ast::ExprCall) -> Parsed {
        if !call.arguments.keywords.is_empty() {
            return self.refuse(expr, "an argument with a name");
        }
        let mut arguments = self.nodes(&call.arguments.args)?;
        match &*call.func {
            Expr::Attribute(attribute) => {
                let (method, allowed) = match attribute.attr.as_str() {
                    "get" => (Method::Get, 1..=2),
                    "startswith" => (Method::StartsWith, 1..=1),
                    "endswith" => (Method::EndsWith, 1..=1),
                    "lower" => (Method::Lower, 0..=0),
                    "upper" => (Method::Upper, 0..=0),
                    "strip" => (Method::Strip, 0..=0),
                    other => return self.refuse(expr, format!("the method `{other}`")),
                };
                if !allowed.contains(&arguments.len()) {
                    return self.refuse(
                        expr,
                        format!("`{}` with {} arguments", attribute.attr, arguments.len()),
                    );
                }
                let of = Box::new(self.node(&attribute.value)?);
                Ok(Node::Method { of, method, arguments })
            }
            Expr::Name(name) => {
                let function = match name.id.as_str() {
                    "len" => Function::Len,
                    "str" => Function::Str,
                    "int" => Function::Int,
                    "float" => Function::Float,
                    "abs" => Function::Abs,
                    other => return self.refuse(expr, format!("the function `{other}`")),
                };
                match (arguments.pop(), arguments.is_empty()) {
                    (Some(argument), true) => {
                        Ok(Node::Call { function, argument: Box::new(argument) })
                    }
                    _ => self.refuse(expr, format!("`{}` without exactly one argument", name.id)),
                }
            }
            _ => self.refuse(expr, "this call"),
        }
    }
}

fn comparison(op: CmpOp) -> Comparison {
    match op {
        CmpOp::Eq => Comparison::Equal,
        CmpOp::NotEq => Comparison::NotEqual,
        CmpOp::Lt => Comparison::Less,
        CmpOp::LtE => Comparison::LessOrEqual,
        CmpOp::Gt => Comparison::Greater,
        CmpOp::GtE => Comparison::GreaterOrEqual,
        CmpOp::Is => Comparison::Is,
        CmpOp::IsNot => Comparison::IsNot,
        CmpOp::In => Comparison::In,
        CmpOp::NotIn => Comparison::NotIn,
    }
}
