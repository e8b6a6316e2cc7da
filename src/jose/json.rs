//! JSON objects read without leniency: no member name twice, bounded depth and size.
//!
//! `serde_json` takes the last of two members with one name, where another reader takes the first: whoever signs the
//! document and whoever checks it would then see two different ones.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// A JSON object.
pub type Object = Map<String, Value>;

/// Objects and arrays within one another, the outermost counted. Room for an `act` for each of 17 tasks in a line.
pub const MAX_DEPTH: usize = 20;

/// A text is not a strict JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Longer than the caller allows.
    #[error("the JSON document has more than {0} bytes")]
    TooLarge(usize),
    /// Not UTF-8, not JSON (RFC 8259), a number beyond a double, or something after the end.
    #[error("not a JSON document")]
    Syntax,
    /// An array, a string, a number, `true`, `false` or `null`.
    #[error("the JSON document is not an object")]
    NotAnObject,
    /// RFC 8259 section 4 leaves open what it means; RFC 7515 section 4 lets us refuse.
    #[error("the JSON document has an object with two members of one name")]
    DuplicateMember,
    /// More than [`MAX_DEPTH`].
    #[error("the JSON document is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Reads an object of at most `max_bytes`.
///
/// # Errors
/// [`JsonError`] names the rule that the document breaks; it holds nothing of its text.
pub fn parse_object(bytes: &[u8], max_bytes: usize) -> Result<Object, JsonError> {
    if bytes.len() > max_bytes {
        return Err(JsonError::TooLarge(max_bytes));
    }
    let fault = Cell::new(JsonError::Syntax);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { levels_left: MAX_DEPTH, fault: &fault }
        .deserialize(&mut reader)
        .map_err(|_| fault.get())?;
    reader.end().map_err(|_| JsonError::Syntax)?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(JsonError::NotAnObject),
    }
}

/// Builds a [`Value`] as `serde_json` does, except that it refuses. `fault` carries the reason around serde's error.
#[derive(Clone, Copy)]
struct Strict<'f> {
    levels_left: usize,
    fault: &'f Cell<JsonError>,
}

impl Strict<'_> {
    fn refuse<E: Error>(self, fault: JsonError) -> E {
        self.fault.set(fault);
        E::custom(fault)
    }

    fn inner<E: Error>(self) -> Result<Self, E> {
        match self.levels_left.checked_sub(1) {
            Some(levels_left) => Ok(Self { levels_left, ..self }),
            None => Err(self.refuse(JsonError::TooDeep)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| self.refuse(JsonError::Syntax))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(inner)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut object = Object::new();
        while let Some(name) = members.next_key::<String>()? {
            let Entry::Vacant(member) = object.entry(name) else {
                return Err(self.refuse(JsonError::DuplicateMember));
            };
            member.insert(members.next_value_seed(inner)?);
        }
        Ok(Value::Object(object))
    }
}

/// Reads a value and drops it, as strictly as [`parse_object`] reads one that lies so many levels deep.
pub(super) struct PassedOver {
    /// How many levels of [`MAX_DEPTH`] are left for it.
    pub(super) levels_left: usize,
}

impl<'de> DeserializeSeed<'de> for PassedOver {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let fault = Cell::new(JsonError::Syntax);
        let strict = Strict { levels_left: self.levels_left, fault: &fault };
        strict.deserialize(deserializer).map(drop)
    }
}

/// What is written as an object: of an array serde would make a struct as well.
pub(super) struct Written<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Object, JsonError> {
        parse_object(text.as_bytes(), 1024)
    }

    #[test]
    fn reads_what_serde_json_reads() {
        let text = r#"{"a":[1,-2,1.5,true,null,"\u00e4"],"b":{"c":{}}}"#;
        assert_eq!(
            Value::Object(parse(text).unwrap()),
            serde_json::from_str::<Value>(text).unwrap()
        );
    }

    #[test]
    fn class_10_a_member_name_that_occurs_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"exp":1,"exp":2}"#,
            r#"{"exp":1,"\u0065xp":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":[[{"b":1,"b":1}]]}"#,
        ] {
            assert_eq!(parse(text), Err(JsonError::DuplicateMember), "{text}");
        }
    }

    #[test]
    fn class_15_depth_and_size_are_bounded() {
        let nested = |levels: usize| format!("{}{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        let fitting = nested(MAX_DEPTH - 1).replace(r#":}"#, r#":{}}"#);
        assert!(parse(&fitting).is_ok());
        assert_eq!(parse(&nested(MAX_DEPTH + 1)), Err(JsonError::TooDeep));
        assert_eq!(parse(&format!(r#"{{"a":{}"#, "[".repeat(900))), Err(JsonError::TooDeep));
        assert_eq!(parse_object(b"{\"a\":1}", 6), Err(JsonError::TooLarge(6)));
    }

    #[test]
    fn class_10_what_is_no_json_object_is_refused() {
        for text in
            ["", "{", "{}{}", "{} x", r#"{"exp":1e400}"#, r#"{"a":NaN}"#, "{'a':1}", r#"{"a":01}"#]
        {
            assert_eq!(parse(text), Err(JsonError::Syntax), "{text}");
        }
        for text in ["[]", "1", "null", r#""{}""#] {
            assert_eq!(parse(text), Err(JsonError::NotAnObject), "{text}");
        }
        assert_eq!(parse_object(b"{\"a\":\"\xff\"}", 64), Err(JsonError::Syntax));
        assert_eq!(parse(r#"{"a":"\ud800"}"#), Err(JsonError::Syntax));
    }
}
