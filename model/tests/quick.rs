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

/// The table of docs/protocol.md has every rule that is left out, with the case that finds its fault.
#[test]
fn the_document_names_each_rule_and_its_case() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let document = std::fs::read_to_string(format!("{folder}/../docs/protocol.md")).unwrap();
    let rows: Vec<_> = document.lines().filter(|line| line.starts_with('|')).collect();
    for fault in FAULTS {
        let rule = format!("{:?}", fault.rule);
        // Some rows are for several rules, `MarksNotClock…`.
        let names = |row: &str| {
            row.split('`').skip(1).step_by(2).any(|name| {
                name == rule
                    || name
                        .strip_suffix('…')
                        .is_some_and(|start| rule.starts_with(start))
            })
        };
        let row = rows.iter().find(|row| names(row));
        let row = row.unwrap_or_else(|| panic!("no row for {rule}"));
        assert!(row.contains(fault.case), "{rule}: {row}");
    }
}
