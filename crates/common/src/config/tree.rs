//! The merged tree of keys, and reading it into the types that the services declare.
//!
//! Written by hand instead of going through `toml::Value`, for two reasons: the text of a variable
//! has no type until its key asks for one, and an error must name the key and who set it.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::Path;

use serde::de::value::{MapAccessDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};

use super::{Error, read_file};

/// What a key whose value is the name of a file ends in.
const FILE_SUFFIX: &str = "_file";

/// A value and who set it.
#[derive(Debug, Clone)]
pub(super) struct Node {
    source: String,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Table(BTreeMap<String, Node>),
    /// Has a type: it came from TOML.
    Typed(toml::Value),
    /// The text of a variable or of a secret file.
    Text(String),
}

impl Node {
    pub(super) fn table() -> Node {
        Node { source: String::new(), value: Value::Table(BTreeMap::new()) }
    }

    pub(super) fn from_file(table: toml::Table, file: &str) -> Node {
        let entries = table.into_iter().map(|(key, value)| {
            let node = match value {
                toml::Value::Table(table) => Node::from_file(table, file),
                value @ (toml::Value::String(_)
                | toml::Value::Integer(_)
                | toml::Value::Float(_)
                | toml::Value::Boolean(_)
                | toml::Value::Datetime(_)
                | toml::Value::Array(_)) => {
                    Node { source: file.to_owned(), value: Value::Typed(value) }
                }
            };
            (key, node)
        });
        Node { source: file.to_owned(), value: Value::Table(entries.collect()) }
    }

    /// Puts the text of a variable at a path of keys.
    pub(super) fn set(
        &mut self,
        keys: &[String],
        variable: &str,
        text: String,
    ) -> Result<(), Error> {
        let refuse = |reason: &str| {
            Err(Error::Variable { name: variable.to_owned(), reason: reason.to_owned() })
        };
        let Some((key, rest)) = keys.split_first() else {
            self.source = variable.to_owned();
            self.value = Value::Text(text);
            return Ok(());
        };
        if key.is_empty() {
            return refuse("a key of its path is empty");
        }
        // Variables come in order of their names, so the shorter path of two was set before.
        let Value::Table(entries) = &mut self.value else {
            return refuse(&format!("{} has already set a value above it", self.source));
        };
        let entry = entries.entry(key.clone()).or_insert_with(|| Node {
            source: variable.to_owned(),
            value: Value::Table(BTreeMap::new()),
        });
        entry.set(rest, variable, text)
    }

    /// Replaces every `key_file = "path"` by `key = "what the file says, trimmed"`.
    pub(super) fn read_secret_files(&mut self) -> Result<(), Error> {
        self.read_secret_files_under("")
    }

    fn read_secret_files_under(&mut self, path: &str) -> Result<(), Error> {
        let Value::Table(entries) = &mut self.value else { return Ok(()) };
        let named: Vec<String> =
            entries.keys().filter(|key| key.len() > FILE_SUFFIX.len()).cloned().collect();
        for key in named {
            let Some(target) = key.strip_suffix(FILE_SUFFIX) else { continue };
            let Some(node) = entries.remove(&key) else { continue };
            let file = match &node.value {
                Value::Text(file) | Value::Typed(toml::Value::String(file)) => file.clone(),
                Value::Table(_) | Value::Typed(_) => {
                    entries.insert(key, node);
                    continue;
                }
            };
            if let Some(other) = entries.get(target) {
                let at = format!("{path}{target} (set by {} and by {})", other.source, node.source);
                return Err(Error::Key { at, reason: format!("give {target} or {key}, not both") });
            }
            let named_by = format!("{path}{key}, {}", node.source);
            let text = read_file(Path::new(&file), &named_by)?.trim().to_owned();
            entries
                .insert(target.to_owned(), Node { source: node.source, value: Value::Text(text) });
        }
        entries
            .iter_mut()
            .try_for_each(|(key, node)| node.read_secret_files_under(&format!("{path}{key}.")))
    }

    pub(super) fn into_deserializer(self) -> NodeDeserializer {
        NodeDeserializer(self)
    }
}

/// An error on its way up: each table that it passes adds its key.
#[derive(Debug)]
pub(super) struct Problem {
    path: Vec<String>,
    source: Option<String>,
    reason: String,
}

impl Problem {
    pub(super) fn into_error(self) -> Error {
        let Problem { mut path, source, reason } = self;
        path.reverse();
        let path = if path.is_empty() { "configuration".to_owned() } else { path.join(".") };
        let at = match source.filter(|source| !source.is_empty()) {
            Some(source) => format!("{path} (set by {source})"),
            None => path,
        };
        Error::Key { at, reason }
    }

    fn under(mut self, key: &str) -> Problem {
        self.path.push(key.to_owned());
        self
    }

    fn set_by(mut self, source: &str) -> Problem {
        self.source.get_or_insert_with(|| source.to_owned());
        self
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: Display>(message: T) -> Problem {
        Problem { path: Vec::new(), source: None, reason: message.to_string() }
    }
}

impl From<toml::de::Error> for Problem {
    fn from(error: toml::de::Error) -> Problem {
        // The message alone: line and column would be of one value, not of the file.
        de::Error::custom(error.message())
    }
}

/// Reads one node as whatever the type asks for.
pub(super) struct NodeDeserializer(Node);

/// Text read as the type that is asked for, the rest as TOML reads it.
macro_rules! read_number {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            self.scalar(|value| value.$method(visitor))
        }
    )*};
}

impl NodeDeserializer {
    /// A number or a boolean: the text of a variable is read as a TOML literal.
    fn scalar<T>(
        self,
        read: impl FnOnce(toml::Value) -> Result<T, toml::de::Error>,
    ) -> Result<T, Problem> {
        let Node { source, value } = self.0;
        let value = match value {
            Value::Typed(value) => value,
            Value::Text(text) => text_as_toml(&text).unwrap_or(toml::Value::String(text)),
            Value::Table(_) => toml::Value::Table(toml::Table::new()),
        };
        read(value).map_err(|error| Problem::from(error).set_by(&source))
    }
}

/// The value that a text stands for in TOML; `None` when it stands for none.
fn text_as_toml(text: &str) -> Option<toml::Value> {
    format!("value = {}", text.trim()).parse::<toml::Table>().ok()?.remove("value")
}

impl<'de> Deserializer<'de> for NodeDeserializer {
    type Error = Problem;

    read_number! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32
        deserialize_f64 deserialize_i128 deserialize_u128
    }

    /// A text stays a text unless a number, a list or a table was asked for.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let Node { source, value } = self.0;
        match value {
            Value::Table(entries) => {
                visitor.visit_map(TableAccess { source, entries: entries.into_iter(), value: None })
            }
            Value::Text(text) => {
                visitor.visit_string(text).map_err(|problem: Problem| problem.set_by(&source))
            }
            Value::Typed(value) => {
                value.deserialize_any(visitor).map_err(|error| Problem::from(error).set_by(&source))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let Node { source, value } = self.0;
        let value = match value {
            Value::Text(text) => Value::Typed(text_as_toml(&text).ok_or_else(|| {
                let problem: Problem = de::Error::custom("expected a list, written as TOML");
                problem.set_by(&source)
            })?),
            Value::Typed(_) | Value::Table(_) => value,
        };
        let Value::Typed(toml::Value::Array(items)) = value else {
            let problem: Problem = de::Error::custom("expected a list");
            return Err(problem.set_by(&source));
        };
        let items = items.into_iter().map(|item| NodeDeserializer(typed_node(item, &source)));
        visitor
            .visit_seq(SeqDeserializer::new(items))
            .map_err(|problem: Problem| problem.set_by(&source))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let Node { source, value } = self.0;
        let value = match value {
            Value::Text(text) => match text_as_toml(&text) {
                Some(toml::Value::Table(table)) => Node::from_file(table, &source).value,
                Some(_) | None => Value::Text(text),
            },
            Value::Typed(_) | Value::Table(_) => value,
        };
        NodeDeserializer(Node { source, value }).deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let Node { source, value } = self.0;
        let result: Result<V::Value, Problem> = match value {
            Value::Text(text) | Value::Typed(toml::Value::String(text)) => {
                StringDeserializer::new(text).deserialize_enum(name, variants, visitor)
            }
            Value::Typed(value) => {
                value.deserialize_enum(name, variants, visitor).map_err(Problem::from)
            }
            Value::Table(entries) => MapAccessDeserializer::new(TableAccess {
                source: source.clone(),
                entries: entries.into_iter(),
                value: None,
            })
            .deserialize_enum(name, variants, visitor),
        };
        result.map_err(|problem| problem.set_by(&source))
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Problem> for NodeDeserializer {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn typed_node(value: toml::Value, source: &str) -> Node {
    match value {
        toml::Value::Table(table) => Node::from_file(table, source),
        value @ (toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)) => Node { source: source.to_owned(), value: Value::Typed(value) },
    }
}

/// Walks a table, and tells errors which key they are under and who set it.
struct TableAccess {
    source: String,
    entries: std::collections::btree_map::IntoIter<String, Node>,
    value: Option<(String, Node)>,
}

impl<'de> MapAccess<'de> for TableAccess {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        let Some((key, node)) = self.entries.next() else { return Ok(None) };
        let source = node.first_source().to_owned();
        self.value = Some((key.clone(), node));
        seed.deserialize(StringDeserializer::new(key.clone()))
            .map(Some)
            .map_err(|problem: Problem| problem.under(&key).set_by(&source))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let (key, node) = self.value.take().expect("serde asks for a key before its value");
        let source = node.source.clone();
        seed.deserialize(NodeDeserializer(node)).map_err(|problem| {
            let problem = problem.under(&key);
            if source.is_empty() { problem.set_by(&self.source) } else { problem.set_by(&source) }
        })
    }
}

impl Node {
    /// Who set this node, or the first thing inside a table that nobody set as a whole.
    fn first_source(&self) -> &str {
        match &self.value {
            Value::Table(entries) if self.source.is_empty() => {
                entries.values().next().map_or("", Node::first_source)
            }
            Value::Table(_) | Value::Typed(_) | Value::Text(_) => &self.source,
        }
    }
}
