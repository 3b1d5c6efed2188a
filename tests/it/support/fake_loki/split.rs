//! How Loki cuts a query up before it runs it. Each part has parsers of its
//! own and is held to the limits by itself.

use super::logql::{Grouping, Metric, Range, RangeOp, Stage, VectorOp};

/// An instant query with its ranges cut into pieces of `length`.
///
/// The pieces are joined as Loki joins them, wrong results included: a `max`
/// over sums becomes the sum of every piece's `max`.
pub fn by_range(metric: Metric, length: i64) -> Metric {
    if length == 0 || !splittable(&metric) {
        return metric;
    }
    mapped(&metric, None, length)
}

fn splittable(metric: &Metric) -> bool {
    match metric {
        Metric::Vector { op, inner, .. } => *op != VectorOp::Bottom && splittable(inner),
        Metric::Range(range) => range.op != RangeOp::Avg,
        Metric::Binary { left, right, .. } => {
            splittable(left)
                || matches!(**left, Metric::Literal(_)) && splittable(right)
                || matches!(**right, Metric::Literal(_))
        }
        Metric::Literal(_) | Metric::Pieces(_) => false,
    }
}

fn interval(metric: &Metric) -> i64 {
    let mut interval = 0;
    metric.clone().each_range(&mut |range| interval = range.interval);
    interval
}

fn mapped(metric: &Metric, pushed: Option<&Metric>, length: i64) -> Metric {
    match metric {
        Metric::Vector { op, count, grouping, inner } => {
            if interval(metric) <= length {
                return metric.clone();
            }
            let whole = matches!(op, VectorOp::Count | VectorOp::Top | VectorOp::Bottom)
                || matches!(**inner, Metric::Binary { .. });
            let pushed = (!whole).then_some(metric);
            let inner = Box::new(mapped(inner, pushed, length));
            Metric::Vector { op: *op, count: *count, grouping: grouping.clone(), inner }
        }
        Metric::Range(range) => mapped_range(range, metric, pushed, length),
        Metric::Binary { op, left, right } => Metric::Binary {
            op,
            left: Box::new(mapped(left, pushed, length)),
            right: Box::new(mapped(right, pushed, length)),
        },
        Metric::Literal(_) | Metric::Pieces(_) => metric.clone(),
    }
}

fn mapped_range(range: &Range, metric: &Metric, pushed: Option<&Metric>, length: i64) -> Metric {
    let extracts = range.log.stages.iter().any(|stage| matches!(stage, Stage::Json));
    if range.interval <= length || range.grouping.is_none() && pushed.is_none() && extracts {
        return metric.clone();
    }
    let part = pushed.unwrap_or(metric);
    let mut pieces = Vec::new();
    let mut begin = 0;
    while begin < range.interval {
        let mut piece = part.clone();
        let rest = length.min(range.interval - begin);
        piece.each_range(&mut |inner| {
            inner.interval = rest;
            inner.offset += begin;
        });
        pieces.push(piece);
        begin += length;
    }
    // The oldest piece comes first.
    pieces.reverse();
    let pieces = Metric::Pieces(pieces);
    let op = match range.op {
        RangeOp::Min => VectorOp::Min,
        RangeOp::Max => VectorOp::Max,
        RangeOp::Count | RangeOp::Bytes if extracts => return pieces,
        _ => VectorOp::Sum,
    };
    let all = Grouping { names: Vec::new(), without: true };
    let grouping = range.grouping.clone().unwrap_or(all);
    Metric::Vector { op, count: 0, grouping, inner: Box::new(pieces) }
}

/// A window of lines, `start..end`, cut at multiples of `length`.
pub fn by_time(start: i64, end: i64, length: i64) -> Vec<(i64, i64)> {
    if length == 0 {
        return vec![(start, end)];
    }
    let mut parts = Vec::new();
    let mut from = start;
    while from < end {
        let to = ((from.div_euclid(length) + 1) * length).min(end);
        parts.push((from, to));
        from = to;
    }
    parts
}

/// The steps of a range query in its parts. The frontend first moves the start
/// down and the end up to multiples of the step.
pub fn by_step(start: i64, end: i64, step: i64, metric: &Metric, length: i64) -> Vec<Vec<i64>> {
    let steps = |from: i64, to: i64| -> Vec<i64> {
        std::iter::successors(Some(from), |at| Some(at + step)).take_while(|at| *at <= to).collect()
    };
    if length == 0 {
        return vec![steps(start, end)];
    }
    let (first, last) = (start - start.rem_euclid(step), end + (-end).rem_euclid(step));
    if first >= last {
        return vec![steps(start, end)];
    }
    let mut length = length;
    metric.clone().each_range(&mut |range| length = length.max(range.interval));
    let all = steps(first, last);
    if step >= length {
        return all.into_iter().map(|at| vec![at]).collect();
    }
    let mut parts: Vec<Vec<i64>> = Vec::new();
    for at in all {
        match parts.last_mut() {
            Some(part) if part[0].div_euclid(length) == at.div_euclid(length) => part.push(at),
            // The very last step stays with the part before it.
            Some(part) if at == last => part.push(at),
            _ => parts.push(vec![at]),
        }
    }
    parts
}
