//! Metric queries.

use std::{collections::HashMap, sync::Arc};

use super::{
    builder::{ERROR, PRESERVE},
    deletes::Hidden,
    labels::{self, Labels},
    limits::Limits,
    logql::{Grouping, Metric, Range, RangeOp, VectorOp},
    pipeline::{Extraction, Pipeline},
    store::Tenant,
};

/// A value of a series.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Of the series.
    pub labels: Arc<Labels>,
    /// At the instant.
    pub value: f64,
}

/// What a query runs on.
pub struct Evaluation<'a> {
    /// `None` before the first push.
    pub tenant: Option<&'a Tenant>,
    /// What it is held to.
    pub limits: &'a Limits,
    /// Present time in nanoseconds.
    pub now: i64,
}

/// Result, or the text of a 400.
type Result<T> = std::result::Result<T, String>;

/// Samples of a selection, sorted by time.
struct Selected {
    /// Labels of every series.
    series: Vec<Arc<Labels>>,
    /// Time, place of the series, value.
    samples: Vec<(i64, u32, f64)>,
}

impl Evaluation<'_> {
    /// Values at each of some instants, which ascend.
    pub fn run(&self, metric: &Metric, times: &[i64]) -> Result<Vec<Vec<Sample>>> {
        let vectors = self.vectors(metric, times)?;
        let too_many = match vectors.as_slice() {
            [one] => one.len() > self.limits.max_query_series,
            many => {
                let all = many.iter().flatten().map(|sample| &sample.labels);
                all.collect::<std::collections::HashSet<_>>().len() > self.limits.max_query_series
            }
        };
        if too_many { Err(self.too_many_series()) } else { Ok(vectors) }
    }

    /// The refusal of more series than are allowed.
    pub fn too_many_series(&self) -> String {
        let limit = self.limits.max_query_series;
        if self.limits.has_newer_words {
            return format!(
                "maximum number of series ({limit}) reached for a single query; consider reducing query \
                 cardinality by adding more specific stream selectors, reducing the time range, or \
                 aggregating results with functions like sum(), count() or topk()"
            );
        }
        format!("maximum of series ({limit}) reached for a single query")
    }

    fn vectors(&self, metric: &Metric, times: &[i64]) -> Result<Vec<Vec<Sample>>> {
        match metric {
            Metric::Literal(value) => {
                let sample = Sample { labels: Arc::default(), value: *value };
                Ok(vec![vec![sample]; times.len()])
            }
            Metric::Range(range) => self.range(range, range.grouping.as_ref(), times),
            Metric::Vector { op, count, grouping, inner } => {
                let vectors = match &**inner {
                    // Only a sum hands its groups down to where labels are made.
                    Metric::Range(range)
                        if *op == VectorOp::Sum
                            && range.grouping.is_none()
                            && matches!(
                                range.op,
                                RangeOp::Count | RangeOp::Bytes | RangeOp::Sum
                            ) =>
                    {
                        self.range(range, Some(grouping), times)?
                    }
                    inner => self.vectors(inner, times)?,
                };
                Ok(vectors.into_iter().map(|v| aggregated(*op, *count, grouping, v)).collect())
            }
            Metric::Binary { op, left, right } => {
                let lefts = self.vectors(left, times)?;
                let rights = self.vectors(right, times)?;
                let scalars = [left, right].map(|side| matches!(**side, Metric::Literal(_)));
                let both = lefts.into_iter().zip(rights);
                Ok(both.map(|(left, right)| combined(op, left, right, scalars)).collect())
            }
            Metric::Pieces(pieces) => {
                let mut joined = vec![Vec::new(); times.len()];
                for piece in pieces {
                    for (all, vector) in joined.iter_mut().zip(self.run(piece, times)?) {
                        all.extend(vector);
                    }
                }
                Ok(joined)
            }
        }
    }

    fn range(
        &self,
        range: &Range,
        grouping: Option<&Grouping>,
        times: &[i64],
    ) -> Result<Vec<Vec<Sample>>> {
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            return Ok(Vec::new());
        };
        let (from, to) = (first - range.offset - range.interval, last - range.offset);
        let selected = self.select(range, grouping, from, to);
        let mut vectors = Vec::with_capacity(times.len());
        for time in times {
            // Open at the start, closed at the end.
            let end = time - range.offset;
            let begin = selected.samples.partition_point(|s| s.0 <= end - range.interval);
            let end = selected.samples.partition_point(|s| s.0 <= end);
            let vector = over_time(range.op, &selected.series, &selected.samples[begin..end]);
            for sample in &vector {
                let error = labels::get(&sample.labels, ERROR);
                let asked = labels::get(&sample.labels, PRESERVE) == Some("true");
                if let Some(error) = error.filter(|_| !asked) {
                    return Err(pipeline_error(error, &sample.labels));
                }
            }
            vectors.push(vector);
        }
        Ok(vectors)
    }

    /// Samples from `from` to `to`, both included: Loki reads the first one as
    /// well, though no window holds it.
    fn select(&self, range: &Range, grouping: Option<&Grouping>, from: i64, to: i64) -> Selected {
        let unwrap = range.unwrap.as_deref();
        let mut wanted = grouping.cloned().unwrap_or(Grouping { names: Vec::new(), without: true });
        let mut pipeline =
            Pipeline::for_samples(&range.log.stages, &Extraction { unwrap, grouping });
        if let Some(unwrap) = unwrap.filter(|_| wanted.without) {
            wanted.names.push(unwrap.label.clone());
        }
        let mut selected = Selected { series: Vec::new(), samples: Vec::new() };
        let mut known: HashMap<String, u32> = HashMap::new();
        let mut key = String::new();
        let Some(tenant) = self.tenant else { return selected };
        for stream in &tenant.streams {
            let entries = stream.between(from, to.saturating_add(1));
            if entries.is_empty() || !range.log.matches(&stream.labels) {
                continue;
            }
            let mut hidden = Hidden::of(tenant, stream, self.now, self.limits.delete_delay);
            for entry in entries {
                if !entry.visible || hidden.hides(entry) {
                    continue;
                }
                let Some(mut labels) = pipeline.run(&stream.labels, entry) else { continue };
                let value = match unwrap {
                    Some(unwrap) => match pipeline.unwrapped(&mut labels, unwrap) {
                        Some(value) => value,
                        None => continue,
                    },
                    None if range.op == RangeOp::Bytes => entry.line.len() as f64,
                    None => 1.0,
                };
                let labels = labels.grouped(&wanted);
                key.clear();
                for (name, value) in &labels {
                    key.extend([name, "\0", value, "\0"]);
                }
                let series = match known.get(&key) {
                    Some(series) => *series,
                    None => {
                        let set = labels.iter().map(|(n, v)| (Arc::from(*n), Arc::from(*v)));
                        selected.series.push(Arc::new(set.collect()));
                        let series = (selected.series.len() - 1) as u32;
                        known.insert(key.clone(), series);
                        series
                    }
                };
                selected.samples.push((entry.ts, series, value));
            }
        }
        selected.samples.sort_by_key(|sample| sample.0);
        selected
    }
}

fn pipeline_error(error: &str, labels: &Labels) -> String {
    format!(
        "pipeline error: '{error}' for series: '{}'.\nUse a label filter to intentionally skip \
         this error. (e.g | __error__!=\"{error}\").\nTo skip all potential errors you can match \
         empty errors.(e.g __error__=\"\")\nThe label filter can also be specified after unwrap. \
         (e.g | unwrap latency | __error__=\"\" )\n",
        labels::set_text(labels)
    )
}

/// One value per series that has a sample.
fn over_time(op: RangeOp, series: &[Arc<Labels>], samples: &[(i64, u32, f64)]) -> Vec<Sample> {
    let mut state: Vec<Option<(f64, f64)>> = vec![None; series.len()];
    for (_, place, value) in samples {
        let (result, count) = state[*place as usize].unwrap_or((
            match op {
                RangeOp::Min => f64::INFINITY,
                RangeOp::Max => f64::NEG_INFINITY,
                _ => 0.0,
            },
            0.0,
        ));
        let count = count + 1.0;
        let result = match op {
            RangeOp::Count => count,
            RangeOp::Bytes | RangeOp::Sum => result + value,
            RangeOp::Min => result.min(*value),
            RangeOp::Max => result.max(*value),
            RangeOp::Avg => result + (value - result) / count,
        };
        state[*place as usize] = Some((result, count));
    }
    let found = series.iter().zip(state);
    found
        .filter_map(|(labels, state)| Some(Sample { labels: labels.clone(), value: state?.0 }))
        .collect()
}

fn aggregated(op: VectorOp, count: usize, grouping: &Grouping, vector: Vec<Sample>) -> Vec<Sample> {
    let mut groups: Vec<(Labels, Vec<Sample>)> = Vec::new();
    let mut known: HashMap<Labels, usize> = HashMap::new();
    for sample in vector {
        let named = |name: &Arc<str>| grouping.names.contains(name);
        let all = sample.labels.iter();
        let group: Labels = if grouping.without {
            // Empty labels do not survive this.
            all.filter(|(name, value)| !named(name) && !value.is_empty()).cloned().collect()
        } else {
            all.filter(|(name, _)| named(name)).cloned().collect()
        };
        let place = *known.entry(group.clone()).or_insert_with(|| {
            groups.push((group, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(sample);
    }
    let mut results = Vec::new();
    for (labels, mut samples) in groups {
        let values = samples.iter().map(|sample| sample.value);
        let number = samples.len() as f64;
        let value = match op {
            VectorOp::Sum => values.sum(),
            VectorOp::Min => values.fold(f64::INFINITY, f64::min),
            VectorOp::Max => values.fold(f64::NEG_INFINITY, f64::max),
            VectorOp::Avg => values.sum::<f64>() / number,
            VectorOp::Count => number,
            VectorOp::Top | VectorOp::Bottom => {
                samples.sort_by(|a, b| a.value.total_cmp(&b.value));
                if op == VectorOp::Top {
                    samples.reverse();
                }
                results.extend(samples.into_iter().take(count));
                continue;
            }
        };
        results.push(Sample { labels: Arc::new(labels), value });
    }
    results
}

fn combined(op: &str, left: Vec<Sample>, right: Vec<Sample>, scalars: [bool; 2]) -> Vec<Sample> {
    let apply = |left: f64, right: f64| match op {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        _ => left / right,
    };
    let with = |samples: Vec<Sample>, value: &dyn Fn(f64) -> f64| {
        let each = samples.into_iter();
        each.map(|Sample { labels, value: old }| Sample { labels, value: value(old) }).collect()
    };
    match scalars {
        [true, _] => with(right, &|value| apply(left[0].value, value)),
        [_, true] => with(left, &|value| apply(value, right[0].value)),
        _ => {
            let rights: HashMap<&Labels, f64> =
                right.iter().map(|sample| (&*sample.labels, sample.value)).collect();
            let pair = |Sample { labels, value }: Sample| {
                let value = apply(value, *rights.get(&*labels)?);
                Some(Sample { labels, value })
            };
            left.into_iter().filter_map(pair).collect()
        }
    }
}
