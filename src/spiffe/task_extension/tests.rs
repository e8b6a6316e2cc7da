//! The extension byte for byte, and bytes that are not one.

use super::super::der;
use super::*;

const GOLDEN: &str = include_str!("../../../tests/golden/task-extension.hex");

fn spelled() -> Spelled {
    Spelled {
        path: vec![
            ("tsk_0a00000000000000000000000001".to_owned(), 3),
            ("tsk_0a7zzzzzzzzzzzzzzzzzzzzzzzzz".to_owned(), 200),
        ],
        lease: "lse_0a00000000000000000000000002".to_owned(),
        incarnation: 1_790_000_000_000_000,
        stamp: (1 << 53) - 2,
        tier: "standard".to_owned(),
        delta_ms: 5_000,
        reach: vec![vec![0; 16], vec![255; 16]],
        step: Some("s-3".to_owned()),
    }
}

fn execution() -> Execution {
    Execution::read(spelled()).unwrap()
}

fn golden() -> Vec<u8> {
    let digits: Vec<u32> = GOLDEN.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

#[test]
fn the_value_is_the_golden_one_byte_for_byte() {
    let der = encode(&execution()).unwrap();
    if std::env::var_os("LEASEHOLD_UPDATE_GOLDEN").is_some() {
        let lines = der.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect());
        let text = lines.collect::<Vec<String>>().join("\n") + "\n";
        std::fs::write("tests/golden/task-extension.hex", text).unwrap();
    }
    assert_eq!(der, golden());
    assert_eq!(decode(&der), Ok(execution()));
}

#[test]
fn a_credential_without_step_has_no_member_for_it() {
    let without = Execution::read(Spelled { step: None, ..spelled() }).unwrap();
    let der = encode(&without).unwrap();
    assert_eq!(der.len(), golden().len() - 5);
    assert_eq!(decode(&der), Ok(without));
}

#[test]
fn class_15_bytes_cut_short_or_followed_by_others_are_refused() {
    let der = golden();
    for cut in 0..der.len() {
        assert!(decode(&der[..cut]).is_err(), "cut at {cut}");
    }
    let followed = [der.as_slice(), &[5, 0]].concat();
    assert_eq!(decode(&followed), Err(TaskExtensionError::Malformed));
    assert_eq!(decode(&vec![0x30; MAX_BYTES + 1]), Err(TaskExtensionError::TooLarge));
}

#[test]
fn class_15_no_changed_byte_is_read_as_something_that_is_written_differently() {
    let der = golden();
    for at in 0..der.len() {
        for bit in 0..8 {
            let mut changed = der.clone();
            changed[at] ^= 1 << bit;
            if let Ok(read) = decode(&changed) {
                assert_eq!(encode(&read).unwrap(), changed, "byte {at}, bit {bit}");
            }
        }
    }
}

/// The members of the golden value, one of them replaced.
fn with(member: usize, replacement: &[u8]) -> Vec<u8> {
    let outer = golden();
    let mut rest = der::Elements(&outer).sequence().unwrap().0;
    let mut members = Vec::new();
    while !rest.is_empty() {
        let length = 2 + usize::from(rest[1]);
        let (one, after) = rest.split_at(length);
        members.push(one.to_vec());
        rest = after;
    }
    assert_eq!(members.len(), 9);
    members[member] = replacement.to_vec();
    element(SEQUENCE, &members.concat())
}

#[test]
fn class_10_members_of_another_type_or_out_of_bounds_are_refused() {
    use TaskExtensionError::*;
    let error = |member| Execution(ExecutionError(member));
    let ia5 = |text: &str| element(IA5_STRING, text.as_bytes());
    let hop = |members: &[Vec<u8>]| element(SEQUENCE, &element(SEQUENCE, &members.concat()));
    let task = ia5("tsk_0a00000000000000000000000001");
    for (member, replacement, refusal) in [
        (0, integer(0), Version),
        (0, integer(2), Version),
        (0, element(OCTET_STRING, &[1]), Malformed),
        (0, vec![2, 2, 0, 1], Malformed),
        (1, element(SEQUENCE, &[]), error("path")),
        (1, hop(std::slice::from_ref(&task)), Malformed),
        (1, hop(&[task.clone(), integer(0)]), error("path")),
        (1, hop(&[task.clone(), integer(1 << 53)]), error("path")),
        (1, hop(&[task.clone(), integer(1), integer(1)]), Malformed),
        (
            1,
            hop(&[element(UTF8_STRING, b"tsk_0a00000000000000000000000001"), integer(1)]),
            Malformed,
        ),
        (2, ia5("lse_0a"), error("lease")),
        (2, element(IA5_STRING, &[0xff]), Malformed),
        (3, integer(0), error("origin")),
        (4, integer((1 << 53) - 1), error("origin")),
        (4, vec![2, 1, 0xff], Malformed),
        (5, ia5("standard"), Malformed),
        (5, element(UTF8_STRING, b"Standard"), error("tier")),
        (6, integer(0), error("delta_ms")),
        (7, element(SEQUENCE, &[]), error("reach")),
        (7, element(SEQUENCE, &element(OCTET_STRING, &[0; 15])), error("reach")),
        (7, element(SEQUENCE, &integer(1)), Malformed),
        (8, element(UTF8_STRING, b""), error("step")),
        (8, element(UTF8_STRING, &[0xff]), Malformed),
        (8, ia5("s-3"), Malformed),
        (8, [element(UTF8_STRING, b"s"), element(UTF8_STRING, b"s")].concat(), Malformed),
    ] {
        assert_eq!(decode(&with(member, &replacement)), Err(refusal), "{member}: {replacement:?}");
    }
}

#[test]
fn an_extension_of_more_than_4_kib_is_not_written() {
    let many = Spelled { reach: vec![vec![1; 16]; 300], ..spelled() };
    let large = Execution::read(many).unwrap();
    assert_eq!(encode(&large), Err(TaskExtensionError::TooLarge));
}

#[test]
fn object_identifiers_are_numbers_with_dots() {
    let default = ExtensionOid::parse("1.3.6.1.4.1.32473.1").unwrap();
    assert_eq!(default, ExtensionOid::default());
    assert_eq!(default.arcs(), [1, 3, 6, 1, 4, 1, 32473, 1]);
    for wrong in [
        "",
        "1",
        "1.3",
        "1.3.",
        "1.3.06",
        "1.3.x",
        "1.40.1",
        "3.1.1",
        "2.5.29.17",
        "1.3.4294967296",
    ] {
        assert_eq!(ExtensionOid::parse(wrong), Err(ExtensionOidError), "{wrong}");
    }
    assert!(ExtensionOid::parse(&["1.3"; 1].repeat(17).join(".")).is_err());
}
