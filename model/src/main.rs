//! Searches the cases of the model and prints what it found.
//!
//! `cargo run --release -p symbolon-model [-- [--ways] [WORD…]]`: all of it, or the cases and rules with such a word in
//! their names; with `--ways` also what led to each fault.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::time::Duration;

use symbolon::clock::{Clock as _, SystemClock};
use symbolon_model::{Action, Case, FAULTS, Outcome, Promise, TABLE, all, named, search};

fn main() {
    let (options, words): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with("--"));
    let shows_ways = options.iter().any(|option| option == "--ways");
    let leaves_out_large = options.iter().any(|option| option == "--small");
    let is_asked = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));

    println!(
        "{:42} {:>9} {:>5} {:>9}  broken",
        "case", "states", "depth", "time"
    );
    for case in all() {
        if is_asked(case.name) && !(leaves_out_large && case.is_large) {
            let name = case.name;
            show(name, &timed(case, &[]), shows_ways);
        }
    }
    println!("\nwhat each number of replicas does not keep");
    for cell in TABLE {
        let case = cell.strict();
        if is_asked(case.name) && !(leaves_out_large && case.is_large) {
            let name = case.name;
            show(name, &timed(case, &[Promise::P2]), shows_ways);
        }
    }
    println!("\nwithout a rule");
    for fault in FAULTS {
        let name = format!("{:?} ({})", fault.rule, fault.case);
        if is_asked(&name)
            && let Some(case) = named(fault.case)
        {
            show(
                &name,
                &timed(case.without(fault.rule, fault.breaks), &[fault.breaks]),
                shows_ways,
            );
        }
    }
}

fn timed(case: Case, until: &[Promise]) -> (Outcome, Duration) {
    let clock = SystemClock::start();
    let start = clock.elapsed();
    let outcome = search(case, until);
    (outcome, clock.elapsed().saturating_sub(start))
}

fn show(name: &str, (outcome, time): &(Outcome, Duration), shows_ways: bool) {
    let broken = outcome.broken.iter().map(|(promise, _)| promise.name());
    let broken = broken.collect::<Vec<_>>().join(", ");
    println!(
        "{name:42} {:>9} {:>5} {:>7.1} s  {}",
        outcome.states,
        outcome.depth,
        time.as_secs_f64(),
        if broken.is_empty() { "nothing" } else { &broken }
    );
    if shows_ways {
        for (promise, way) in &outcome.broken {
            println!("    {promise}: {}", steps(way));
        }
    }
}

fn steps(way: &[Action]) -> String {
    let steps: Vec<_> = way.iter().map(|action| format!("{action:?}")).collect();
    steps.join(", ")
}
