//! One operation of the API: a method on a path.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::schema;
use crate::api::{
    access::KeystoneFault,
    answer::Answer,
    body,
    error::Message,
    query,
    v1::{NotAllowed, fault::Told, wsme},
};

/// Describes a type of answers.
type Describe = fn(&mut SchemaGenerator) -> Schema;

fn describe_type<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What is said of a method on a path.
#[derive(Debug, Clone)]
pub struct Operation {
    method: &'static str,
    path: String,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Vec<(u16, &'static str, Option<Describe>)>,
}

/// What is told when a peer is away: Keystone in its own way.
#[derive(JsonSchema)]
#[schemars(inline, untagged)]
#[expect(dead_code, reason = "only described: each is written where it is made")]
enum Away<T> {
    Other(T),
    Keystone(KeystoneFault),
}

impl Operation {
    /// An operation on a path, whose variable parts stand in braces.
    pub fn new(method: &'static str, path: &str, summary: &'static str) -> Self {
        let variable = |part: &str| part.strip_prefix('{')?.strip_suffix('}').map(str::to_owned);
        let parameters = path.split('/').filter_map(variable).map(|name| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "schema": {"type": "string", "minLength": 1},
            })
        });
        Self {
            method,
            path: path.to_owned(),
            summary,
            parameters: parameters.collect(),
            body: None,
            answers: Vec::new(),
        }
    }

    /// Its method, in small letters.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Its path.
    pub fn path(&self) -> String {
        self.path.clone()
    }

    /// With arguments of version 2.
    #[must_use]
    pub fn arguments(mut self, specs: &[query::Spec]) -> Self {
        for (name, kind) in specs {
            let (schema, is_list) = schema::of_argument(*kind);
            let mut parameter = json!({"name": name, "in": "query", "schema": schema});
            if is_list {
                parameter["style"] = json!("form");
                parameter["explode"] = json!(false);
            }
            self.parameters.push(parameter);
        }
        self
    }

    /// With an argument that is one of these words.
    #[must_use]
    pub fn choice(mut self, name: &str, words: &[&str]) -> Self {
        for parameter in &mut self.parameters {
            if parameter["name"] == name {
                parameter["schema"] = schema::one_of(words);
            }
        }
        self
    }

    /// With arguments of version 1; those that the path has are not said again.
    #[must_use]
    pub fn attributes(mut self, attributes: &[wsme::Attribute]) -> Self {
        for (name, kind, needed) in attributes {
            if !self.path.contains(&format!("{{{name}}}")) {
                self.parameters.push(json!({
                    "name": name,
                    "in": "query",
                    "required": needed,
                    "schema": schema::of_attribute(*kind),
                }));
            }
        }
        self
    }

    /// With a body of version 2.
    #[must_use]
    pub fn body(self, specs: &[body::Spec]) -> Self {
        self.body_like(schema::of_body(specs))
    }

    /// With a body of version 1.
    #[must_use]
    pub fn object(self, attributes: &[wsme::Attribute]) -> Self {
        self.body_like(schema::of_object(attributes))
    }

    /// With a body like this.
    #[must_use]
    pub fn body_like(mut self, schema: Value) -> Self {
        self.body = Some(schema);
        self
    }

    /// It answers this type, in JSON. There is no way to say it by a schema: that
    /// would be another than what is written.
    #[must_use]
    pub(in crate::api) fn answers<T: Answer>(self, status: u16, meaning: &'static str) -> Self {
        self.answers_with(status, meaning, describe_type::<T>)
    }

    fn answers_with(mut self, status: u16, meaning: &'static str, describe: Describe) -> Self {
        self.answers.push((status, meaning, Some(describe)));
        self
    }

    /// It answers this, without a body.
    #[must_use]
    pub fn ends(mut self, status: u16, meaning: &'static str) -> Self {
        self.answers.push((status, meaning, None));
        self
    }

    /// It may find nothing.
    #[must_use]
    pub fn may_miss(self) -> Self {
        let error = self.error();
        self.answers_with(404, "There is nothing that fits.", error)
    }

    /// It may be in the way of what there is.
    #[must_use]
    pub fn may_clash(self) -> Self {
        let error = self.error();
        self.answers_with(409, "There is something of this kind already.", error)
    }

    fn is_v1(&self) -> bool {
        self.path.starts_with("/v1")
    }

    fn error(&self) -> Describe {
        match self.is_v1() {
            true => describe_type::<Told>,
            false => describe_type::<Message>,
        }
    }

    /// What those are told who may not do it.
    fn forbidden(&self) -> Describe {
        match self.path.contains("/module_config/") {
            true => describe_type::<NotAllowed>,
            false => self.error(),
        }
    }

    /// The forms of an answer; version 1 has XML, too.
    fn content(&self, schema: &Schema) -> Value {
        match self.is_v1() {
            true => json!({
                "application/json": {"schema": schema},
                "application/xml": {},
                "text/xml": {},
            }),
            false => json!({"application/json": {"schema": schema}}),
        }
    }

    /// The operation as OpenAPI has it; the generator keeps the types of its answers.
    pub fn describe(&self, generator: &mut SchemaGenerator) -> Value {
        let mut answers = self.answers.clone();
        let mut refuses = |status: u16, meaning: &'static str, describe: Describe| {
            if answers.iter().all(|(known, ..)| *known != status) {
                answers.push((status, meaning, Some(describe)));
            }
        };
        if self.path.starts_with("/v") {
            let of_keystone = describe_type::<KeystoneFault>;
            let away = match self.is_v1() {
                true => describe_type::<Away<Told>>,
                false => describe_type::<Away<Message>>,
            };
            refuses(400, "The request is not as it should be.", self.error());
            refuses(401, "There is no token, or none that is good.", of_keystone);
            refuses(403, "The policy does not allow it.", self.forbidden());
            refuses(503, "A peer is away. `Retry-After` says when to try again.", away);
        }
        if self.body.is_some() {
            refuses(413, "The body is too large.", self.error());
            refuses(415, "The body is of another type than JSON.", self.error());
        }
        let mut answers: Map<String, Value> = answers
            .into_iter()
            .map(|(status, meaning, describe)| {
                let mut answer = json!({"description": meaning});
                if let Some(describe) = describe {
                    answer["content"] = self.content(&describe(generator));
                }
                (status.to_string(), answer)
            })
            .collect();
        if self.is_v1() {
            let told = "`Accept` has none of the forms of answers.";
            let content = json!({"text/plain": {}, "text/html": {}});
            answers.insert("406".to_owned(), json!({"description": told, "content": content}));
        }
        let mut described = json!({
            "summary": self.summary,
            "operationId": self.id(),
            "tags": [self.tag()],
            "parameters": self.parameters,
            "responses": answers,
        });
        if let Some(schema) = &self.body {
            let content = json!({"application/json": {"schema": schema}});
            described["requestBody"] = json!({"required": true, "content": content});
        }
        described
    }

    /// A name made of method and path: `get_v2_scope`.
    fn id(&self) -> String {
        let words = self.path.split(|c: char| !c.is_ascii_alphanumeric());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        [&[self.method], words.as_slice()].concat().join("_")
    }

    /// The part of the API: `v1 hashmap`.
    fn tag(&self) -> String {
        let words: Vec<&str> = self.path.split('/').filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [version, "rating", "module_config", module, ..] => format!("{version} {module}"),
            [version @ ("v1" | "v2"), part, ..] => format!("{version} {part}"),
            _ => "about".to_owned(),
        }
    }
}
