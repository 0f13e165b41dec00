//! The files in `packaging/` are accepted by the programs that read them.

use std::fs;
use std::path::Path;
use std::process::Command;

use snapbox::cmd::cargo_bin;
use tiershift_testkit::skip::is_installed;

use crate::support::root;

/// Returns a unit with the path of our program replaced by that of the program under test.
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

/// Runs systemd-analyze on a file and returns its output.
#[track_caller]
fn analyze(words: &[&str], file: &Path) -> String {
    let mut command = Command::new("systemd-analyze");
    // Without a login session, there is no folder for a user's session.
    command.env("XDG_RUNTIME_DIR", file.parent().unwrap());
    let ran = command.args(words).arg(file).output().unwrap();
    let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(ran.status.success(), "{words:?} {}: {said}", file.display());
    said
}

#[test]
fn systemd_takes_the_units_without_a_word_and_a_stop_leaves_the_models_their_time() {
    let test = "systemd_takes_the_units_without_a_word_and_a_stop_leaves_the_models_their_time";
    if !is_installed("systemd-analyze", test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiershift.service");
    for (name, whose) in [("tiershift.service", "--system"), ("user/tiershift.service", "--user")] {
        let unit = unit(name);
        for line in ["Type=notify", "KillMode=mixed", "TimeoutStopSec=150", "Restart=on-failure"] {
            assert!(unit.lines().any(|has| has == line), "{name} lacks {line}");
        }
        fs::write(&file, &unit).unwrap();
        let said = analyze(&["verify", "--man=no", whose], &file);
        assert_eq!(said.trim(), "", "{name}");
    }
    // On a scale to ten; network and devices remain open.
    fs::write(&file, unit("tiershift.service")).unwrap();
    analyze(&["security", "--offline=true", "--threshold=25", "--no-pager"], &file);
}

#[test]
fn the_archive_and_the_debian_package_have_what_a_machine_needs_and_nothing_of_ours() {
    let test = "the_archive_and_the_debian_package_have_what_a_machine_needs_and_nothing_of_ours";
    if !["dpkg-deb", "strip", "objdump"].iter().all(|tool| is_installed(tool, test)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let run = |program: &Path, words: &[&std::ffi::OsStr]| {
        let ran = Command::new(program).args(words).current_dir(root()).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{} {words:?}: {said}", program.display());
        String::from_utf8(ran.stdout).unwrap()
    };
    let program = cargo_bin!("tiershift");
    let out = place("dist");
    run(
        &root().join("scripts/release.sh"),
        &["--program".as_ref(), program.as_os_str(), "--out".as_ref(), out.as_os_str()],
    );
    let made = |end: &str| {
        let files = crate::support::files(&out).into_iter();
        let mut files = files.filter(|file| file.to_str().unwrap().ends_with(end));
        files.next().unwrap_or_else(|| panic!("no {end} in {}", out.display()))
    };
    let package = made(".deb");
    let listed = run(Path::new("dpkg-deb"), &["--contents".as_ref(), package.as_os_str()]);
    for wanted in [
        "root/root",
        "./usr/bin/tiershift",
        "./usr/lib/systemd/system/tiershift.service",
        "./usr/lib/systemd/user/tiershift.service",
        "./usr/lib/sysusers.d/tiershift.conf",
        "./usr/share/bash-completion/completions/tiershift",
        "./usr/share/man/man1/tiershift.1.gz",
        "./usr/share/man/man1/tiershift-replay.1.gz",
        "./usr/share/doc/tiershift/copyright",
    ] {
        assert!(listed.contains(wanted), "{wanted} is not in the package:\n{listed}");
    }
    let unpacked = place("unpacked");
    run(Path::new("dpkg-deb"), &["--extract".as_ref(), package.as_os_str(), unpacked.as_os_str()]);
    let version = run(&unpacked.join("usr/bin/tiershift"), &["--version".as_ref()]);
    assert_eq!(version.trim(), concat!("tiershift ", env!("CARGO_PKG_VERSION")));
    let unit = unpacked.join("usr/lib/systemd/system/tiershift.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/tiershift serve --config"), "{unit}");
    let control = run(Path::new("dpkg-deb"), &["--field".as_ref(), package.as_os_str()]);
    assert!(control.contains("Depends: libc6 (>= 2."), "{control}");
    let completions = unpacked.join("usr/share/bash-completion/completions/tiershift");
    let completions = fs::read_to_string(completions).unwrap();
    for wanted in ["proactive", "memory-only", "nvidia-smi"] {
        assert!(completions.contains(wanted), "bash completes no {wanted}");
    }
    let sums = made("-linux-gnu");
    let sums = Command::new("sha256sum").arg("--check").arg(sums).current_dir(&out).output();
    assert!(sums.unwrap().status.success());
    let archive = made(".tar.gz");
    let listed =
        run(Path::new("tar"), &["--list".as_ref(), "--file".as_ref(), archive.as_os_str()]);
    for wanted in ["/tiershift\n", "/man/tiershift-serve.1\n", "/completions/_tiershift\n"] {
        assert!(listed.contains(wanted), "{wanted} is not in the archive:\n{listed}");
    }
}
