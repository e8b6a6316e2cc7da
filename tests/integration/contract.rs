//! The contract does not change by accident: every message, field number, enum value and RPC is in a golden file.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use leasehold::proto::v1;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FieldOptions, FileDescriptorSet,
    ServiceDescriptorProto,
};

const UPDATE: &str = "LEASEHOLD_UPDATE_GOLDEN";

#[test]
fn contract_is_the_one_in_the_golden_file() {
    holds("leasehold.v1");
}

#[test]
fn store_records_are_those_in_the_golden_file() {
    holds("leasehold.store.v1");
}

#[test]
fn golden_text_tells_a_renumbered_a_renamed_and_a_retyped_field() {
    let before = text(&descriptors(), "leasehold.v1");
    let changes: [fn(&mut FieldDescriptorProto); 3] = [
        |field| field.number = Some(99),
        |field| field.set_type(Type::Bytes),
        |field| field.name = Some("other".to_owned()),
    ];
    for change in changes {
        let mut set = descriptors();
        change(access_token_field(&mut set));
        assert_ne!(text(&set, "leasehold.v1"), before);
    }
}

#[test]
fn message_that_holds_a_token_does_not_show_it_to_whoever_logs_it() {
    let secret = "eyJhbGciOiJFUzI1NiJ9";
    let credential = v1::Credential {
        access_token: secret.to_owned(),
        jwt_svid: secret.to_owned(),
        ..Default::default()
    };
    let answer = v1::IssueCredentialResponse { credential: Some(credential), ..Default::default() };
    let token = v1::introspect_credential_request::Credential::Token(secret.to_owned());
    let question = v1::IntrospectCredentialRequest { credential: Some(token.clone()) };
    for text in [format!("{answer:?}"), format!("{question:?}"), format!("{token:#?}")] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn every_redacted_field_of_the_contract_is_in_a_message_whose_debug_is_ours() {
    let mut redacted = 0;
    for file in fs::read_dir("proto/leasehold/v1").unwrap() {
        redacted +=
            fs::read_to_string(file.unwrap().path()).unwrap().matches("debug_redact").count();
    }
    assert_eq!(redacted, 3, "give the new message a `Debug` in src/proto.rs, and a case above");
}

fn holds(package: &str) {
    let now = text(&descriptors(), package);
    let path = Path::new("tests/golden").join(format!("{package}.txt"));
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let (gone, new) = (missing(&golden, &now), missing(&now, &golden));
    if env::var_os(UPDATE).is_some() && gone.is_empty() {
        fs::write(&path, &now).unwrap();
        panic!("wrote {}: read its diff, then run again without `{UPDATE}`", path.display());
    }
    assert!(
        golden == now,
        "`{package}` changed.\nno more:\n{}\nnew:\n{}\n\
         numbers, types and names are final; if nothing is gone, set `{UPDATE}=1` once and \
         commit {}",
        gone.join("\n"),
        new.join("\n"),
        path.display(),
    );
}

/// The lines of a text that another does not have.
fn missing<'t>(of: &'t str, from: &str) -> Vec<&'t str> {
    of.lines().filter(|line| !from.lines().any(|other| other == *line)).collect()
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(leasehold::proto::DESCRIPTORS).unwrap()
}

fn access_token_field(set: &mut FileDescriptorSet) -> &mut FieldDescriptorProto {
    let messages = set.file.iter_mut().flat_map(|file| &mut file.message_type);
    let credential = messages.into_iter().find(|message| message.name() == "Credential").unwrap();
    credential.field.iter_mut().find(|field| field.name() == "access_token").unwrap()
}

/// The package as text: one fact a line, each line complete by itself, sorted by name.
fn text(set: &FileDescriptorSet, package: &str) -> String {
    let mut lines = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == package) {
        file.enum_type.iter().for_each(|e| enumeration(&mut lines, "", e));
        file.message_type.iter().for_each(|m| message(&mut lines, "", m));
        file.service.iter().for_each(|s| service(&mut lines, s));
    }
    assert!(!lines.is_empty(), "no descriptors of `{package}`");
    lines.sort();
    lines.iter().fold(String::new(), |mut all, line| {
        writeln!(all, "{line}").unwrap();
        all
    })
}

fn message(lines: &mut Vec<String>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}{}", message.name());
    lines.push(format!("message {name}"));
    for field in &message.field {
        lines.push(format!("message {name} {}", self::field(message, field)));
    }
    for range in &message.reserved_range {
        lines.push(format!("message {name} reserved {}..{}", range.start(), range.end()));
    }
    for reserved in &message.reserved_name {
        lines.push(format!("message {name} reserved `{reserved}`"));
    }
    let scope = format!("{name}.");
    message.enum_type.iter().for_each(|e| enumeration(lines, &scope, e));
    message.nested_type.iter().for_each(|m| self::message(lines, &scope, m));
}

fn field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let mut text = format!("{:>3} {}:", field.number(), field.name());
    if field.label() == Label::Repeated {
        text += " repeated";
    }
    text += &match field.r#type() {
        Type::Message | Type::Enum => format!(" {}", field.type_name().trim_start_matches('.')),
        scalar => format!(" {}", scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase()),
    };
    if field.proto3_optional() {
        text += " optional";
    } else if let Some(index) = field.oneof_index {
        let oneof = &message.oneof_decl[usize::try_from(index).unwrap()];
        write!(text, " oneof={}", oneof.name()).unwrap();
    }
    if field.options.as_ref().is_some_and(FieldOptions::deprecated) {
        text += " deprecated";
    }
    text
}

fn enumeration(lines: &mut Vec<String>, scope: &str, enumeration: &EnumDescriptorProto) {
    let name = format!("{scope}{}", enumeration.name());
    for value in &enumeration.value {
        lines.push(format!("enum {name} {:>3} {}", value.number(), value.name()));
    }
}

fn service(lines: &mut Vec<String>, service: &ServiceDescriptorProto) {
    for method in &service.method {
        let streams = |on: bool| if on { "stream " } else { "" };
        lines.push(format!(
            "service {} {}({}{}) -> {}{}",
            service.name(),
            method.name(),
            streams(method.client_streaming()),
            method.input_type().trim_start_matches('.'),
            streams(method.server_streaming()),
            method.output_type().trim_start_matches('.'),
        ));
    }
}
