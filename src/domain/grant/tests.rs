//! `⊆` as a partial order, and what is refused as a grant.

use proptest::prelude::*;

use super::*;

#[test]
fn class_01_unknown_types_and_members_are_refused_not_ignored() {
    for json in [
        r#"[{"type":"payment","audience":"a","actions":["r"]}]"#,
        r#"[{"audience":"a","actions":["r"]}]"#,
        r#"[{"type":"resource_access","audience":"a","actions":["r"],"locations":["x"]}]"#,
        r#"[{"type":"resource_access","audience":"a","audience":"b","actions":["r"]}]"#,
        r#"[{"type":"resource_access","audience":"a"}]"#,
        r#"[{"type":"resource_access","audience":"a","actions":[]}]"#,
        r#"[{"type":"resource_access","audience":"a","actions":"r"}]"#,
        r#"[{"type":"resource_access","audience":["a"],"actions":["r"]}]"#,
        r#"[{"type":"resource_access","audience":"*","actions":["r"]}]"#,
        r#"[{"type":"resource_access","audience":"a","actions":["r*"]}]"#,
        r#"[{"type":"resource_access","audience":"a","actions":["r"],"max_ttl_seconds":0}]"#,
        r#"[{"type":"resource_access","audience":"a","actions":["r"],"max_ttl_seconds":-1}]"#,
        r#"[{"type":"resource_access","audience":"a","actions":["r"],"max_ttl_seconds":"9"}]"#,
        r#"[{"type":"resource_access","audience":"a b","actions":["r"]}]"#,
        r#"[{"type":"resource_access","audience":"","actions":["r"]}]"#,
        "[]",
        "{}",
        "",
        "null",
    ] {
        assert!(Grant::parse(json).is_err(), "{json}");
    }
}

#[test]
fn class_10_a_member_of_another_type_is_not_as_if_it_were_absent_or_right() {
    let good = r#"[{"type":"resource_access","audience":"a","actions":["r"],"max_ttl_seconds":9}]"#;
    assert_eq!(Grant::parse(good).unwrap().max_ttl_seconds(), Some(9));
    for (from, to) in [
        ("9", "null"),
        ("9", "9.0"),
        ("9", "1e400"),
        ("9", "[9]"),
        (r#"["r"]"#, "null"),
        (r#"["r"]"#, r#"["r",null]"#),
        (r#"["r"]"#, r#"{"r":1}"#),
        (r#""resource_access""#, r#"{"resource_access":null}"#),
        (r#""max_ttl_seconds":9"#, r#""data_class":null"#),
        (good, r#"[["resource_access","a",["r"]]]"#),
        (good, r#"[["resource_access","a",["r"],[],9]]"#),
        (good, r#"[null]"#),
    ] {
        let json = good.replace(from, to);
        assert_ne!(json, good);
        assert!(Grant::parse(&json).is_err(), "{json}");
    }
}

#[test]
fn a_grant_survives_its_own_json() {
    let json = r#"[{"type":"resource_access","audience":"https://a","actions":["r","w"],"data_class":["pii"],"max_ttl_seconds":60}]"#;
    let grant = Grant::parse(json).unwrap();
    assert_eq!(grant.to_json(), json);
    assert_eq!(grant.max_ttl_seconds(), Some(60));
    assert_eq!(grant.for_audience("https://b"), None);
}

#[test]
fn class_21_an_entry_must_fit_into_one_entry_not_into_several_together() {
    let parse = |json| Grant::parse(json).unwrap();
    let parent = parse(
        r#"[{"type":"resource_access","audience":"a","actions":["r"]},
            {"type":"resource_access","audience":"a","actions":["w"]}]"#,
    );
    let child = parse(r#"[{"type":"resource_access","audience":"a","actions":["r","w"]}]"#);
    assert!(!child.fits(&parent));
    assert!(parent.fits(&child));
    assert_eq!(child.first_wider(&parent), Some(&child.entries()[0]));
}

fn entry() -> impl Strategy<Value = ResourceAccess> {
    let set = || proptest::sample::subsequence(vec!["p", "q", "r"], 0..=3);
    ("[ab]", set(), set(), proptest::option::of(1u64..4)).prop_map(
        |(audience, actions, classes, max_ttl_seconds)| ResourceAccess {
            r#type: Type::ResourceAccess,
            audience,
            actions: actions.into_iter().map(str::to_owned).collect(),
            data_class: classes.into_iter().map(str::to_owned).collect(),
            max_ttl_seconds,
        },
    )
}

fn grant() -> impl Strategy<Value = Grant> {
    proptest::collection::vec(entry(), 1..4).prop_map(Grant)
}

/// What a grant allows, spelled out: (audience, action, class, ttl) with every ttl from 1 to 4.
fn allows(grant: &Grant, audience: &str, action: &str, class: Option<&str>, ttl: u64) -> bool {
    grant.entries().iter().any(|e| {
        e.audience == audience
            && e.actions.contains(action)
            && class.is_none_or(|c| e.data_class.contains(c))
            && e.max_ttl_seconds.is_none_or(|most| ttl <= most)
    })
}

proptest! {
    #[test]
    fn fits_is_reflexive(a in grant()) {
        prop_assert!(a.fits(&a));
    }

    #[test]
    fn fits_is_transitive(a in grant(), b in grant(), c in grant()) {
        prop_assert!(!(a.fits(&b) && b.fits(&c)) || a.fits(&c));
    }

    #[test]
    fn class_21_what_fits_allows_nothing_that_the_parent_does_not(child in grant(), parent in grant()) {
        if child.fits(&parent) {
            for audience in ["a", "b"] {
                for action in ["p", "q", "r"] {
                    for class in [None, Some("p"), Some("q"), Some("r")] {
                        for ttl in 1..=4 {
                            prop_assert!(
                                !allows(&child, audience, action, class, ttl)
                                    || allows(&parent, audience, action, class, ttl)
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn mutual_fits_of_single_entries_is_equality(a in entry(), b in entry()) {
        let (one, other) = (Grant(vec![a]), Grant(vec![b]));
        prop_assert!(!(one.fits(&other) && other.fits(&one)) || one == other);
    }
}
