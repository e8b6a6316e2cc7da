//! Grants on the command line: `--grant 'https://ledger.example=read,write;class=pii;max-ttl=60s'`, or JSON.

use clap::Args;
use serde_json::{Value, json};

use super::arguments;
use crate::domain::grant::Grant;

/// What is asked for, or what a task may at most allow.
#[derive(Debug, Args)]
pub(super) struct GrantArguments {
    /// One audience and its actions: `<audience>=read,write`, and optionally `;class=a,b` and `;max-ttl=60s`
    #[arg(long, value_name = "GRANT", value_parser = entry, help_heading = "Grant")]
    grant: Vec<Value>,
    /// RFC 9396 authorization_details: a JSON array, or `@` and a file that holds one
    #[arg(long, value_name = "JSON", value_parser = details, conflicts_with = "grant", help_heading = "Grant")]
    authorization_details: Option<Details>,
}

/// A checked grant, in JSON.
#[derive(Clone, Debug)]
struct Details(String);

impl GrantArguments {
    /// The grant in JSON; `None` if none was given.
    pub(super) fn json(self) -> Option<String> {
        match self.authorization_details {
            Some(Details(json)) => Some(json),
            None if self.grant.is_empty() => None,
            None => Some(Value::Array(self.grant).to_string()),
        }
    }
}

fn details(text: &str) -> Result<Details, String> {
    check(&arguments::text_or_file(text)?).map(Details)
}

fn entry(text: &str) -> Result<Value, String> {
    let mut parts = text.split(';');
    let access = parts.next().unwrap_or_default();
    let (audience, actions) = access
        .rsplit_once('=')
        .ok_or("write the audience and its actions as `https://ledger.example=read,write`")?;
    let mut entry = json!({
        "type": "resource_access", "audience": audience, "actions": words(actions),
    });
    for part in parts {
        let (member, value) = match part.split_once('=') {
            Some(("class", classes)) => ("data_class", words(classes)),
            Some(("max-ttl", ttl)) => ("max_ttl_seconds", seconds(ttl)?),
            _ => {
                return Err(format!(
                    "`{part}` is not known; there are `class=a,b` and `max-ttl=60s`"
                ));
            }
        };
        let entry = entry.as_object_mut().ok_or("is no entry")?;
        if entry.insert(member.to_owned(), value).is_some() {
            return Err(format!("`{part}` stands there twice"));
        }
    }
    check(&json!([entry]).to_string())?;
    Ok(entry)
}

fn seconds(text: &str) -> Result<Value, String> {
    let span = arguments::span(text)?;
    if span.micros() % 1_000_000 != 0 {
        return Err("give `max-ttl` in whole seconds".to_owned());
    }
    Ok(span.seconds().into())
}

fn words(text: &str) -> Value {
    text.split(',').collect()
}

fn check(json: &str) -> Result<String, String> {
    Grant::parse(json).map(|grant| grant.to_json()).map_err(|refusal| refusal.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorthand_says_what_the_json_says() {
        let short = entry("https://l.example/?a=b=read,write;class=pii;max-ttl=60s").unwrap();
        let long = r#"{"type":"resource_access","audience":"https://l.example/?a=b",
            "actions":["read","write"],"data_class":["pii"],"max_ttl_seconds":60}"#;
        assert_eq!(short, serde_json::from_str::<Value>(long).unwrap());
        assert!(details(&format!("[{long}]")).is_ok());
    }

    #[test]
    fn what_is_no_grant_is_refused_before_anything_is_sent() {
        for text in [
            "",
            "https://l.example",
            "https://l.example=",
            "=read",
            "a=*",
            "a=read, write",
            "a=read;class=",
            "a=read;max-ttl=0s",
            "a=read;max-ttl=1500ms",
            "a=read;ttl=60s",
            "a=read;class=x;class=y",
        ] {
            assert!(entry(text).is_err(), "{text}");
        }
        for text in ["", "[]", "{}", "[{\"type\":\"other\"}]", "@/nowhere/grant.json"] {
            assert!(details(text).is_err(), "{text}");
        }
    }
}
