//! From the text of an expression to [`Node`]s, through Python's grammar.

use ruff_python_ast::{self as ast, BoolOp, CmpOp, Expr, Number, Operator, UnaryOp};
use ruff_python_parser::parse_expression;
use ruff_text_size::Ranged;

use super::{
    UnsupportedExpression,
    node::{Arithmetic, Attribute, Comparison, Function, Method, Node, Part},
};

/// What those want who take the data point for an object.
const IS_DICTIONARY: &str = "; a data point is a dictionary, as in `datapoint[\"vol\"][\"qty\"]`";

/// Deepest nesting of parts.
const DEEPEST: usize = 100;

type Parsed = Result<Node, UnsupportedExpression>;

/// Reads an expression.
pub(super) fn parse(text: &str) -> Parsed {
    // Python's `eval` does the same, and no more.
    let body = text.trim_start_matches([' ', '\t']);
    let reader = Reader { text, skipped: text.len() - body.len() };
    if let Some((at, problem)) = unreadable(body) {
        return Err(reader.refusal(at, problem, ""));
    }
    if let Some((before, last)) = body.rsplit_once('\n')
        && !last.is_empty()
        && last.trim_start_matches([' ', '\t']).is_empty()
    {
        return Err(reader.refusal(before.len() + 1, "a last line of blanks", ""));
    }
    let parsed = parse_expression(body).map_err(|error| UnsupportedExpression::Syntax {
        expression: text.to_owned(),
        problem: error.error.to_string(),
        place: reader.place(error.location.start().to_usize()),
    })?;
    reader.node(parsed.expr(), 0)
}

/// What the grammar crate must not see, and where.
fn unreadable(body: &str) -> Option<(usize, &'static str)> {
    // It calls itself, without a limit, for brackets and for what stands before
    // its operand or between two that are read from the right.
    let (mut open, mut before, mut sign) = (0_usize, 0, false);
    for (at, c) in body.char_indices() {
        let rest = &body[at..];
        match c {
            // It skips the one, and lets the other stand in texts; Python does not.
            '\u{feff}' if at == 0 => return Some((at, "U+FEFF")),
            '\0' => return Some((at, "a NUL character")),
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            '+' | '-' | '~' => before += usize::from(sign),
            _ if ["not", "else", "lambda", "**"].iter().any(|word| rest.starts_with(word)) => {
                before += 1;
            }
            _ => {}
        }
        sign = matches!(c, '+' | '-' | '~') || sign && c.is_whitespace();
        if open.max(before) > DEEPEST {
            return Some((at, "nesting as deep as this"));
        }
    }
    None
}

struct Reader<'a> {
    /// The whole text.
    text: &'a str,
    /// How many bytes stand before what is parsed.
    skipped: usize,
}

impl Reader<'_> {
    /// The number of the character at a byte of what is parsed.
    fn place(&self, at: usize) -> usize {
        let before = self.text.get(..self.skipped + at).unwrap_or(self.text);
        before.chars().count() + 1
    }

    fn refusal(
        &self,
        at: usize,
        problem: impl Into<String>,
        hint: &'static str,
    ) -> UnsupportedExpression {
        UnsupportedExpression::Part {
            expression: self.text.to_owned(),
            problem: problem.into(),
            place: self.place(at),
            hint,
        }
    }

    fn refuse<T>(
        &self,
        part: &impl Ranged,
        problem: impl Into<String>,
    ) -> Result<T, UnsupportedExpression> {
        Err(self.refusal(part.start().to_usize(), problem, ""))
    }

    fn node(&self, expr: &Expr, depth: usize) -> Parsed {
        if depth > DEEPEST {
            return self.refuse(expr, "nesting as deep as this");
        }
        let depth = depth + 1;
        let boxed = |expr: &Expr| self.node(expr, depth).map(Box::new);
        Ok(match expr {
            Expr::NoneLiteral(_) => Node::None,
            Expr::BooleanLiteral(literal) => Node::Bool(literal.value),
            Expr::NumberLiteral(literal) => self.number(expr, &literal.value)?,
            Expr::StringLiteral(literal) => {
                let text = literal.value.to_str();
                let source = &self.text[self.skipped..][literal.range().to_std_range()];
                // The grammar crate puts this for half a character, which
                // Python's texts can hold and ours cannot.
                if text.contains(char::REPLACEMENT_CHARACTER) && source.contains('\\') {
                    return self.refuse(expr, "a text with U+FFFD and escapes");
                }
                Node::Text(text.to_owned())
            }
            Expr::List(list) => Node::List(self.nodes(&list.elts, depth)?),
            Expr::Tuple(tuple) => Node::Tuple(self.nodes(&tuple.elts, depth)?),
            Expr::Dict(dict) => {
                let pairs = dict.items.iter().map(|item| match &item.key {
                    Some(key) => Ok((self.node(key, depth)?, self.node(&item.value, depth)?)),
                    None => self.refuse(&item.value, "`**`"),
                });
                Node::Dict(pairs.collect::<Result<_, _>>()?)
            }
            Expr::Name(name) if name.id.as_str() == "datapoint" => Node::Datapoint,
            Expr::Name(name) => return self.refuse(expr, format!("the name `{}`", name.id)),
            Expr::BoolOp(logic) => Node::Logic {
                and: logic.op == BoolOp::And,
                operands: self.nodes(&logic.values, depth)?,
            },
            Expr::UnaryOp(unary) => {
                let operand = boxed(&unary.operand)?;
                match unary.op {
                    UnaryOp::Not => Node::Not(operand),
                    UnaryOp::USub => Node::Negative(operand),
                    UnaryOp::UAdd => Node::Positive(operand),
                    UnaryOp::Invert => return self.refuse(expr, "the operator `~`"),
                }
            }
            Expr::BinOp(binary) => return self.binary(expr, binary, depth),
            Expr::Compare(compare) => return self.compare(compare, depth),
            Expr::If(choice) => Node::If {
                test: boxed(&choice.test)?,
                yes: boxed(&choice.body)?,
                no: boxed(&choice.orelse)?,
            },
            Expr::Subscript(item) => match &*item.slice {
                Expr::Slice(slice) => {
                    let bound = |bound: &Option<Box<Expr>>| bound.as_deref().map(boxed).transpose();
                    let bounds = [bound(&slice.lower)?, bound(&slice.upper)?, bound(&slice.step)?];
                    Node::Slice { of: boxed(&item.value)?, bounds }
                }
                key => Node::Item { of: boxed(&item.value)?, key: boxed(key)? },
            },
            Expr::Call(call) => return self.call(expr, call, depth),
            Expr::Attribute(attribute) => {
                let of = boxed(&attribute.value)?;
                let attribute = match attribute.attr.as_str() {
                    "real" => Attribute::Real,
                    "imag" => Attribute::Imag,
                    "numerator" => Attribute::Numerator,
                    "denominator" => Attribute::Denominator,
                    name => {
                        let hint = match *of {
                            Node::Datapoint => IS_DICTIONARY,
                            _ => "",
                        };
                        let problem = format!("the attribute `{name}`");
                        return Err(self.refusal(expr.start().to_usize(), problem, hint));
                    }
                };
                Node::Attribute { of, attribute }
            }
            Expr::Set(_) => return self.refuse(expr, "a set that does not stand behind `in`"),
            _ => return self.refuse(expr, "this kind of expression"),
        })
    }

    fn nodes(&self, exprs: &[Expr], depth: usize) -> Result<Vec<Node>, UnsupportedExpression> {
        exprs.iter().map(|expr| self.node(expr, depth)).collect()
    }

    fn number(&self, expr: &Expr, number: &Number) -> Parsed {
        match number {
            Number::Int(number) => {
                let small = number.as_u64().map(i128::from);
                match small.or_else(|| number.to_string().replace('_', "").parse().ok()) {
                    Some(number) => Ok(Node::Int(number)),
                    None => self.refuse(expr, "a whole number as large as this"),
                }
            }
            Number::Float(number) => Ok(Node::Float(*number)),
            Number::Complex { .. } => self.refuse(expr, "a complex number"),
        }
    }

    fn binary(&self, expr: &Expr, binary: &ast::ExprBinOp, depth: usize) -> Parsed {
        let left = self.node(&binary.left, depth)?;
        let op = match binary.op {
            Operator::Add => Arithmetic::Add,
            Operator::Sub => Arithmetic::Subtract,
            Operator::Mult => Arithmetic::Multiply,
            Operator::Div => Arithmetic::Divide,
            Operator::FloorDiv => Arithmetic::FloorDivide,
            Operator::Mod if matches!(left, Node::Text(_)) => {
                return self.refuse(expr, "the operator `%` of a text");
            }
            Operator::Mod => Arithmetic::Remainder,
            Operator::Pow => return self.power(left, &binary.right, depth),
            other => return self.refuse(expr, format!("the operator `{other}`")),
        };
        let right = self.node(&binary.right, depth)?;
        Ok(Node::Arithmetic { op, left: Box::new(left), right: Box::new(right) })
    }

    /// A power: of anything, if the exponent is a small whole number that is
    /// written out; of a number that is written out, if it is a negative one.
    fn power(&self, base: Node, exponent: &Expr, depth: usize) -> Parsed {
        let (number, is_negative) = match self.node(exponent, depth)? {
            Node::Int(number) => (u32::try_from(number).ok(), false),
            Node::Negative(number) => match *number {
                Node::Int(number) => (u32::try_from(number).ok(), true),
                _ => (None, true),
            },
            _ => (None, false),
        };
        let Some(number) = number.filter(|number| *number < 100) else {
            return self.refuse(exponent, "an exponent that is no number from -99 to 99");
        };
        if is_negative {
            let base = match base {
                Node::Int(base) => base as f64,
                Node::Float(base) => base,
                _ => return self.refuse(exponent, "a negative exponent of no written number"),
            };
            let power = base.powf(-f64::from(number));
            return match power.is_finite() {
                true => Ok(Node::Float(power)),
                false => self.refuse(exponent, "a power as large as this"),
            };
        }
        if let Node::Int(base) = base
            && base.checked_pow(number).is_none()
        {
            return self.refuse(exponent, "a power as large as this");
        }
        Ok(Node::Power { base: Box::new(base), exponent: number })
    }

    fn compare(&self, compare: &ast::ExprCompare, depth: usize) -> Parsed {
        let mut left: &Expr = &compare.left;
        let first = Box::new(self.node(left, depth)?);
        let mut rest = Vec::with_capacity(compare.ops.len());
        for (at, (op, right)) in compare.ops.iter().zip(&compare.comparators).enumerate() {
            let op = comparison(*op);
            let is_single =
                |expr: &Expr| matches!(expr, Expr::NoneLiteral(_) | Expr::BooleanLiteral(_));
            if matches!(op, Comparison::Is | Comparison::IsNot)
                && !is_single(left)
                && !is_single(right)
            {
                // What else is one object, and what two, each Python decides anew.
                return self.refuse(right, "`is` without None, True or False");
            }
            let is_last = at + 1 == compare.ops.len();
            let node = match op {
                Comparison::In | Comparison::NotIn if is_last => match right {
                    Expr::Set(set) => Node::Set(self.nodes(&set.elts, depth)?),
                    right => self.view(right, depth)?,
                },
                _ => self.node(right, depth)?,
            };
            rest.push((op, node));
            left = right;
        }
        Ok(Node::Compare { first, rest })
    }

    /// What is looked through: a view of a dictionary is, too.
    fn view(&self, expr: &Expr, depth: usize) -> Parsed {
        if let Expr::Call(call) = expr
            && call.arguments.is_empty()
            && let Expr::Attribute(attribute) = &*call.func
            && let Some(part) = part(attribute.attr.as_str())
        {
            return Ok(Node::View { of: Box::new(self.node(&attribute.value, depth + 1)?), part });
        }
        self.node(expr, depth)
    }

    fn call(&self, expr: &Expr, call: &ast::ExprCall, depth: usize) -> Parsed {
        if let Some(keyword) = call.arguments.keywords.first() {
            return self.refuse(keyword, "an argument with a name");
        }
        let given = &call.arguments.args;
        let count = |name: &str| format!("`{name}` with {} arguments", given.len());
        match &*call.func {
            Expr::Attribute(attribute) => {
                let name = attribute.attr.as_str();
                let of = Box::new(self.node(&attribute.value, depth)?);
                if part(name).is_some() {
                    let problem = format!("`{name}()` that no function or `in` looks through");
                    return self.refuse(expr, problem);
                }
                let Some((method, allowed)) = Method::named(name) else {
                    return self.refuse(expr, format!("the method `{name}`"));
                };
                if !allowed.contains(&given.len()) {
                    return self.refuse(expr, count(name));
                }
                Ok(Node::Method { of, method, arguments: self.nodes(given, depth)? })
            }
            Expr::Name(name) => {
                let Some((function, allowed)) = Function::named(name.id.as_str()) else {
                    return self.refuse(expr, format!("the function `{}`", name.id));
                };
                if !allowed.contains(&given.len()) {
                    return self.refuse(expr, count(name.id.as_str()));
                }
                let arguments = match &**given {
                    [only] if function.takes_view() => vec![self.view(only, depth)?],
                    given => self.nodes(given, depth)?,
                };
                Ok(Node::Call { function, arguments })
            }
            _ => self.refuse(expr, "this call"),
        }
    }
}

/// The part of a dictionary that a method gives.
fn part(name: &str) -> Option<Part> {
    match name {
        "keys" => Some(Part::Keys),
        "values" => Some(Part::Values),
        "items" => Some(Part::Items),
        _ => None,
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
