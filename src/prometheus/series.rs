//! Answers over many series, read as they arrive.
//!
//! The answer to a question about all scopes is large, and most of it is wanted
//! only in a compact form. So the body is cut into the elements of its `result`
//! while it comes in, each is read by itself, and what is left, the envelope
//! without elements, is read at the end like any other answer. No more than one
//! element is held as JSON.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

/// Instants at which a query is evaluated, at equal distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The first one.
    pub first: DateTime<Utc>,
    /// Seconds from one to the next.
    pub seconds: u32,
    /// How many there are, at least one.
    pub count: u32,
}

impl Steps {
    /// The last one.
    pub fn last(&self) -> DateTime<Utc> {
        let steps = i64::from(self.count.saturating_sub(1));
        self.first + TimeDelta::seconds(steps * i64::from(self.seconds))
    }

    /// The number of the step at an instant, in seconds since the epoch.
    fn index(&self, instant: f64) -> Option<i64> {
        #[expect(clippy::cast_precision_loss, reason = "seconds of our time are exact")]
        let since = instant - self.first.timestamp() as f64;
        let steps = (since / f64::from(self.seconds)).round();
        // Prometheus counts in milliseconds.
        if (since - steps * f64::from(self.seconds)).abs() >= 0.000_5 || steps.abs() > 1e9 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "small, and whole")]
        let index = steps as i64;
        Some(index)
    }
}

/// A series of an answer over several steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Values of the labels that were asked for, in their order; empty without one.
    pub labels: Box<[Box<str>]>,
    /// Its values.
    pub values: Values,
}

/// Values of a series as text, which may be `NaN` or `+Inf`, with the numbers of their
/// steps, in the order of time. All of them are one text: there are millions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    text: String,
    /// Number of the step, and where the value ends in the text.
    ends: Vec<(u32, usize)>,
}

impl Values {
    /// Room for some values.
    fn with_capacity(values: usize) -> Self {
        Self { text: String::new(), ends: Vec::with_capacity(values) }
    }

    /// Adds the value of a step.
    pub fn push(&mut self, step: u32, value: &str) {
        self.text.push_str(value);
        self.ends.push((step, self.text.len()));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The steps and their values.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        let mut begin = 0;
        self.ends.iter().map(move |(step, end)| {
            let value = self.text.get(std::mem::replace(&mut begin, *end)..*end);
            (*step, value.unwrap_or_default())
        })
    }

    fn last_step(&self) -> Option<u32> {
        self.ends.last().map(|(step, _)| *step)
    }

    fn shrink(mut self) -> Self {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        self
    }
}

/// How an element of an answer is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeriesSeed<'a> {
    /// Labels that are wanted.
    pub labels: &'a [&'a str],
    /// Steps that were asked for.
    pub steps: Steps,
    /// Whether there may be one more at the start, which is left out.
    pub may_exceed: bool,
}

impl SeriesSeed<'_> {
    /// Reads one element.
    pub fn read(self, json: &[u8]) -> Result<Series, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(json);
        let series = self.deserialize(&mut json)?;
        json.end()?;
        Ok(series)
    }
}

impl<'de> DeserializeSeed<'de> for SeriesSeed<'_> {
    type Value = Series;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Series, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for SeriesSeed<'_> {
    type Value = Series;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a series")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Series, A::Error> {
        let mut labels = None;
        let mut values = None;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match &*key.0 {
                "metric" => labels = Some(map.next_value_seed(LabelsSeed(self.labels))?),
                "value" => {
                    let (instant, value) = map.next_value::<(f64, Text<'de>)>()?;
                    let mut found = Values::with_capacity(1);
                    self.add(instant, &value.0, &mut found)?;
                    values = Some(found);
                }
                "values" => values = Some(map.next_value_seed(ValuesSeed(self))?),
                // Histograms, which are no numbers.
                other => return Err(A::Error::custom(format!("a series has `{other}`"))),
            }
        }
        let missing = |name| A::Error::custom(format!("a series without `{name}`"));
        Ok(Series {
            labels: labels.ok_or_else(|| missing("metric"))?,
            values: values.ok_or_else(|| missing("values"))?.shrink(),
        })
    }
}

impl SeriesSeed<'_> {
    fn add<E: Error>(self, instant: f64, value: &str, found: &mut Values) -> Result<(), E> {
        let misplaced = || E::custom(format!("a value at {instant}, which was not asked for"));
        let index = self.steps.index(instant).ok_or_else(misplaced)?;
        match u32::try_from(index).ok().filter(|index| *index < self.steps.count) {
            Some(index) if found.last_step().is_some_and(|last| last >= index) => {
                Err(E::custom(format!("the value at {instant} is not in the order of time")))
            }
            Some(index) => {
                found.push(index, value);
                Ok(())
            }
            None if self.may_exceed && index == -1 => Ok(()),
            None => Err(misplaced()),
        }
    }
}

struct LabelsSeed<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for LabelsSeed<'_> {
    type Value = Box<[Box<str>]>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LabelsSeed<'_> {
    type Value = Box<[Box<str>]>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut labels: Vec<Box<str>> = vec![Box::default(); self.0.len()];
        while let Some(name) = map.next_key::<Text<'de>>()? {
            let value = map.next_value::<Text<'de>>()?;
            // A definition may name a label twice.
            for (wanted, label) in self.0.iter().zip(&mut labels) {
                if *wanted == name.0 {
                    *label = Box::from(&*value.0);
                }
            }
        }
        Ok(labels.into())
    }
}

struct ValuesSeed<'a>(SeriesSeed<'a>);

impl<'de> DeserializeSeed<'de> for ValuesSeed<'_> {
    type Value = Values;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ValuesSeed<'_> {
    type Value = Values;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = Values::with_capacity(self.0.steps.count.min(1_024) as usize);
        while let Some((instant, value)) = seq.next_element::<(f64, Text<'de>)>()? {
            self.0.add(instant, &value.0, &mut found)?;
        }
        Ok(found)
    }
}

/// Text of an answer, borrowed from it where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        input.deserialize_str(TextVisitor)
    }
}

/// Where elements of an answer stand: in the array that is in the object that is
/// in the object which is the answer.
const PLACE: [u8; 3] = [b'{', b'{', b'['];

/// Cuts a body into the elements of its `result` and what is around them.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// The body without elements.
    envelope: Vec<u8>,
    /// The element that is being read.
    element: Vec<u8>,
    /// Brackets that are open.
    open: Vec<u8>,
    in_string: bool,
    is_escaped: bool,
}

impl Cutter {
    /// Takes the next part of a body and hands on each element that it completes.
    pub fn push<E>(
        &mut self,
        part: &[u8],
        mut element: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // Begin of what is not taken over yet.
        let mut start = 0;
        for (at, byte) in part.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    if *byte == b'{' && self.open == PLACE {
                        self.envelope.extend_from_slice(&part[start..at]);
                        start = at;
                    }
                    self.open.push(*byte);
                }
                b'}' | b']' => {
                    self.open.pop();
                    if *byte == b'}' && self.open == PLACE {
                        match self.element.is_empty() {
                            true => element(&part[start..=at])?,
                            false => {
                                self.element.extend_from_slice(&part[start..=at]);
                                element(&self.element)?;
                                self.element.clear();
                            }
                        }
                        start = at + 1;
                    }
                }
                b',' if self.open == PLACE => {
                    self.envelope.extend_from_slice(&part[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
        }
        let rest = if self.is_inside() { &mut self.element } else { &mut self.envelope };
        rest.extend_from_slice(&part[start..]);
        Ok(())
    }

    fn is_inside(&self) -> bool {
        self.open.len() > PLACE.len()
            && self.open.starts_with(&PLACE)
            && self.open[PLACE.len()] == b'{'
    }

    /// What is around the elements; with a part of one if the body ended early.
    pub fn finish(mut self) -> Vec<u8> {
        self.envelope.append(&mut self.element);
        self.envelope
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    const ANSWER: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"a":"}],\"{","b":"ü\\"},"values":[[100,"1"],[130.000,"NaN"]]} ,
        {"values":[[160,"2e-7"]],"metric":{}}]},"warnings":["w {[","x"]}"#;

    fn steps() -> Steps {
        Steps { first: DateTime::from_timestamp(100, 0).unwrap(), seconds: 30, count: 3 }
    }

    fn seed(may_exceed: bool) -> SeriesSeed<'static> {
        SeriesSeed { labels: &["b", "a", "missing"], steps: steps(), may_exceed }
    }

    fn values(series: &Series) -> Vec<(u32, &str)> {
        assert_eq!(series.values.len(), series.values.iter().count());
        series.values.iter().collect()
    }

    fn cut(answer: &str, size: usize) -> (Vec<String>, String) {
        let (mut cutter, mut elements) = (Cutter::default(), Vec::new());
        for part in answer.as_bytes().chunks(size) {
            cutter
                .push(part, |element| {
                    elements.push(String::from_utf8(element.to_vec()).unwrap());
                    Ok::<_, ()>(())
                })
                .unwrap();
        }
        (elements, String::from_utf8(cutter.finish()).unwrap())
    }

    #[test]
    fn cuts_bodies_wherever_they_are_interrupted() {
        let whole: serde_json::Value = serde_json::from_str(ANSWER).unwrap();
        for size in [1, 2, 3, 7, 64, 10_000] {
            let (elements, envelope) = cut(ANSWER, size);
            assert_eq!(elements.len(), 2);
            let mut again: serde_json::Value = serde_json::from_str(&envelope).unwrap();
            assert_eq!(again["data"]["result"], serde_json::json!([]));
            again["data"]["result"] = elements
                .iter()
                .map(|element| serde_json::from_str::<serde_json::Value>(element).unwrap())
                .collect();
            assert_eq!(again, whole);
        }
    }

    #[test]
    fn leaves_other_answers_as_they_are() {
        for answer in [
            r#"{"status":"error","errorType":"bad_data","error":"no {"}"#,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#
                .replace(',', ", ")
                .as_str(),
            "<html>{{[{}</html>",
            "",
        ] {
            let (_, envelope) = cut(answer, 5);
            let is_json = answer.starts_with(r#"{"status":"error"#) || answer.is_empty();
            assert!(!is_json || envelope == answer, "{envelope}");
        }
        // Cut off in the middle, it is no JSON.
        let (elements, envelope) = cut(&ANSWER[..150], 40);
        assert!(
            elements.len() < 2 && serde_json::from_str::<serde_json::Value>(&envelope).is_err()
        );
    }

    #[test]
    fn reads_series() {
        let (elements, _) = cut(ANSWER, 64);
        let first = seed(false).read(elements[0].as_bytes()).unwrap();
        assert_eq!(first.labels.iter().map(|l| &**l).collect::<Vec<_>>(), ["ü\\", "}],\"{", ""]);
        assert_eq!(values(&first), [(0, "1"), (1, "NaN")]);
        let second = seed(false).read(elements[1].as_bytes()).unwrap();
        assert_eq!(values(&second), [(2, "2e-7")]);
        let instant = seed(false).read(br#"{"metric":{"a":"x"},"value":[130,"7"]}"#).unwrap();
        assert_eq!(values(&instant), [(1, "7")]);
    }

    #[test]
    fn refuses_what_was_not_asked_for() {
        for (series, told) in [
            (r#"{"metric":{},"values":[[70,"1"]]}"#, "at 70"),
            (r#"{"metric":{},"values":[[190,"1"]]}"#, "at 190"),
            (r#"{"metric":{},"values":[[101,"1"]]}"#, "at 101"),
            (r#"{"metric":{},"values":[[130,"1"],[130,"1"]]}"#, "order of time"),
            (r#"{"metric":{},"values":[[130,"1"],[100,"1"]]}"#, "order of time"),
            (r#"{"metric":{},"histogram":[1,{}]}"#, "`histogram`"),
            (r#"{"metric":{}}"#, "without `values`"),
            (r#"{"values":[]}"#, "without `metric`"),
            (r#"{"metric":{},"values":[[100,1]]}"#, "text"),
        ] {
            let error = seed(false).read(series.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(told), "{series}: {error}");
        }
        let before = r#"{"metric":{},"values":[[70,"0"],[100,"1"]]}"#;
        assert_eq!(values(&seed(true).read(before.as_bytes()).unwrap()), [(0, "1")]);
        for instant in [0, 40, 101, 190] {
            let series = format!(r#"{{"metric":{{}},"values":[[{instant},"1"]]}}"#);
            assert!(seed(true).read(series.as_bytes()).is_err(), "{instant}");
        }
    }
}
