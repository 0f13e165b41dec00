//! Every scenario of the project, as `tiershift check` judges it.

use crate::support::{root, run_in};

#[test]
fn every_scenario_passes_the_check() {
    let ran = run_in(root(), "check");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.lines().filter(|line| line.starts_with("ok ")).count() >= 20, "{}", ran.out);
}
