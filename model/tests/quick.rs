//! The cases that take seconds. `cargo run --release -p symbolon-model` searches them all.

use symbolon_model::{FAULTS, TABLE, all, named, search};

#[test]
fn with_all_rules_every_promise_is_kept() {
    for case in all().into_iter().filter(|case| !case.is_large) {
        let name = case.name;
        let outcome = search(case, &[]);
        assert!(outcome.broken.is_empty(), "{name}: {:?}", outcome.broken);
    }
}

#[test]
fn without_a_rule_its_fault_is_found() {
    for fault in FAULTS {
        let case = named(fault.case).unwrap();
        let outcome = search(case.without(fault.rule, fault.breaks), &[fault.breaks]);
        let found = outcome.broken.iter().any(|(promise, _)| *promise == fault.breaks);
        assert!(found, "{:?} in {}", fault.rule, fault.case);
    }
}

#[test]
fn each_number_of_replicas_keeps_what_it_is_said_to_keep_and_no_more() {
    for cell in TABLE {
        let case = cell.strict();
        if case.is_large {
            continue;
        }
        let name = case.name;
        let outcome = search(case, &[]);
        assert_eq!(
            outcome.broken.is_empty(),
            cell.holds,
            "{name}: {:?}",
            outcome.broken
        );
    }
}
