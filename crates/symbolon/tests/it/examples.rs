//! What stands in `examples/` runs as it stands there.

use std::path::Path;
use std::process::Command;

use crate::support::{is_there, root};

#[test]
fn two_gateways_over_one_redis() {
    if !is_there(Path::new("/usr/bin/redis-server")) {
        return;
    }
    let run = Command::new(root().join("examples/two-gateways/run"))
        .env("SYMBOLON", env!("CARGO_BIN_EXE_symbolon"))
        .output()
        .unwrap();
    let (told, failed) = (
        String::from_utf8(run.stdout).unwrap(),
        String::from_utf8(run.stderr).unwrap(),
    );
    assert!(run.status.success(), "{told}{failed}");
    let steps: Vec<_> = told
        .lines()
        .map(|line| line.split_once(" ms  ").unwrap().1)
        .collect();
    let begin = |start: &str| steps.iter().filter(|step| step.starts_with(start)).count();
    assert_eq!(begin("issued by the token service"), 1, "{told}");
    assert_eq!(begin("looked up, verified and used at the gateway"), 2);
    assert_eq!(begin("used there again, from its cache"), 2);
    assert_eq!(begin("revoked at the token service, acknowledged"), 1);
    assert_eq!(begin("refused by the gateway"), 2);
}
