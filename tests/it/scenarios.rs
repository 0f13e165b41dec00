//! Every scenario of the project, as `tiershift check` judges it.

use crate::support::{files, root, run_in};

#[test]
fn every_scenario_passes_the_check() {
    let ran = run_in(root(), "check");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let folder = root().join("scenarios");
    let folders = [folder.clone(), folder.join("museum"), folder.join("seeds")];
    let is_scenario = |path: &&std::path::PathBuf| {
        path.parent().is_some_and(|parent| folders.iter().any(|known| known == parent))
            && path.extension().is_some_and(|end| end == "toml")
    };
    let scenarios = files(&folder).iter().filter(is_scenario).count();
    let passed = ran.out.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(passed, scenarios, "{}", ran.out);
}
