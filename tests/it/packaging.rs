//! What we ship to run the daemon with is what its readers take.

use std::fs;
use std::path::Path;
use std::process::Command;

use snapbox::cmd::cargo_bin;
use tiershift_testkit::skip::skip;

use crate::support::root;

/// Returns a unit with our program in the place of the one that it names.
fn unit(name: &str) -> String {
    let text = fs::read_to_string(root().join("packaging/systemd").join(name)).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix("ExecStart=") {
        Some(command) => {
            let (program, rest) = command.split_once(' ').unwrap();
            assert!(program.ends_with("/bin/tiershift"), "{line}");
            format!("ExecStart={} {rest}", cargo_bin!("tiershift").display())
        }
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs systemd-analyze on a file, and returns what it says; `None` where there is none.
#[track_caller]
fn analyze(words: &[&str], file: &Path) -> Option<String> {
    let mut command = Command::new("systemd-analyze");
    // Where nobody is logged in, there is no folder of a user's session.
    command.env("XDG_RUNTIME_DIR", file.parent().unwrap());
    let ran = command.args(words).arg(file).output().ok()?;
    let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(ran.status.success(), "{words:?} {}: {said}", file.display());
    Some(said)
}

#[test]
fn systemd_takes_the_units_without_a_word_and_a_stop_leaves_the_models_their_time() {
    let test = "systemd_takes_the_units_without_a_word_and_a_stop_leaves_the_models_their_time";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiershift.service");
    for (name, whose) in [("tiershift.service", "--system"), ("user/tiershift.service", "--user")] {
        let unit = unit(name);
        for line in ["Type=notify", "KillMode=mixed", "TimeoutStopSec=150", "Restart=on-failure"] {
            assert!(unit.lines().any(|has| has == line), "{name} lacks {line}");
        }
        fs::write(&file, &unit).unwrap();
        let Some(said) = analyze(&["verify", "--man=no", whose], &file) else {
            return skip("systemd-analyze", test, "it is not installed");
        };
        assert_eq!(said.trim(), "", "{name}");
    }
    // Of ten: what is left open is the network and the devices.
    fs::write(&file, unit("tiershift.service")).unwrap();
    analyze(&["security", "--offline=true", "--threshold=25", "--no-pager"], &file);
}
