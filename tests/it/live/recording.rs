//! The flight recorder of a real daemon: rotated under load, read while it is written, killed, on a full disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use snapbox::cmd::cargo_bin;
use tiershift::log::{LogReader, runs, segments};
use tiershift_core::event::{Event, Input};
use tiershift_core::time::Timestamp;
use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::gguf;
use tiershift_testkit::policy::{config, policy};
use tiershift_testkit::process::{children, signal};
use tiershift_testkit::server::{chat, json};
use tiershift_testkit::site::Site;
use tiershift_testkit::skip::skip;
use tiershift_testkit::wait::wait_until;

use crate::live::{engine, site};
use crate::support::{contents, run_in};

/// A folder with one model, and a config with which a segment fills up in a second.
fn workshop(segment_size: &str) -> Site {
    let folder = site(&[("a", gguf::TINY)]);
    let log = format!("[recording]\nfolder = \"recordings\"\nsegment-size = \"{segment_size}\"\n");
    let others = format!("[models]\nfolder = \"models\"\n{log}");
    folder.put("serve.toml", &config(&others, &policy("sampling-interval = \"20ms\"")));
    folder
}

/// Starts a daemon from a shell, after the given shell commands.
fn start(engine: &Path, folder: &Path, before: &str) -> Daemon {
    let daemon = Daemon::builder_after(before, cargo_bin!("tiershift"), folder).engine(engine);
    daemon.arguments("--config serve.toml").errors_in("stderr.txt").start()
}

fn newest_run(folder: &Path) -> PathBuf {
    runs(&folder.join("recordings")).unwrap().pop().unwrap()
}

#[test]
fn a_recording_is_rotated_under_load_and_read_while_it_is_written() {
    let Some(engine) = engine("a_recording_is_rotated_under_load_and_read_while_it_is_written")
    else {
        return;
    };
    let folder = &*workshop("16KiB");
    let mut daemon = start(&engine, folder, "");
    let is_at = |segment: u64| {
        move |status: &serde_json::Value| {
            status["recording"]["on"]["segment"].as_u64().is_some_and(|at| at >= segment)
        }
    };
    // On a busy machine, the first sample comes after the first reader.
    wait_until("a decision", || run_in(folder, "explain recordings").code == 0);
    for segment in [2, 4, 6] {
        let streams: Vec<_> = (0..8).map(|_| daemon.ask(&chat("the cat", 20))).collect();
        // Every reader goes as far as it can, and reports that it did not see the end.
        let verified = run_in(folder, "verify recordings --unclosed").exits(0);
        assert!(verified.out.contains("verified as far as it goes"), "{}", verified.out);
        run_in(folder, "verify recordings").exits(1);
        for line in ["explain recordings", "plot recordings --out now.svg"] {
            let read = run_in(folder, line).exits(0);
            assert!(read.err.contains("note: recordings was not closed"), "{line}: {}", read.err);
        }
        let replayed = run_in(folder, "replay recordings --policy projecting --json").json();
        assert!(replayed["warnings"].to_string().contains("was not closed"), "{replayed}");
        for stream in streams {
            let stream = stream.rest();
            assert!(stream.contains("data: [DONE]"), "{stream}");
        }
        daemon.wait_for("the next segment", is_at(segment));
    }
    daemon.stop();
    let run = newest_run(folder);
    let found = segments(&run).unwrap();
    assert!(found.len() >= 6, "{found:?}");
    assert!(found.iter().all(|it| it.path.extension().is_some_and(|end| end == "zst")));
    // One log, whether given by the folder of all runs, of the run, or by its first file.
    let first = found[0].path.strip_prefix(folder).unwrap().display().to_string();
    let run = run.strip_prefix(folder).unwrap().display().to_string();
    let verified = run_in(folder, &format!("verify recordings {run} {first}")).exits(0);
    assert_eq!(verified.out.matches(": verified, ").count(), 3, "{}", verified.out);
    let same = run_in(folder, &format!("diff recordings {first}")).exits(0);
    assert!(same.err.is_empty(), "{}", same.err);
    // The stop is reported as a stop: by explain, and in the plot, which has no crash.
    let explained = run_in(folder, "explain recordings").exits(0);
    assert!(explained.out.contains("small → none: the run was stopped"), "{}", explained.out);
    assert!(!explained.out.contains("a crash"), "{}", explained.out);
    run_in(folder, "plot recordings --out stopped.svg").exits(0);
    assert!(!fs::read_to_string(folder.join("stopped.svg")).unwrap().contains("a crash"));
    let plotted = run_in(folder, "--json plot recordings --out again.svg").exits(0).json();
    assert_eq!(plotted["switches"], 1, "{plotted}");
    // A recording that begins late states so.
    let third = found[2].path.strip_prefix(folder).unwrap().display().to_string();
    let late = run_in(folder, &format!("verify {third}")).exits(1);
    assert!(late.out.contains("the log begins at record"), "{}", late.out);
    run_in(folder, &format!("explain {third}")).exits(0);
}

#[test]
fn a_daemon_that_is_killed_leaves_its_recording_and_the_next_one_lets_it_be() {
    let Some(engine) =
        engine("a_daemon_that_is_killed_leaves_its_recording_and_the_next_one_lets_it_be")
    else {
        return;
    };
    let folder = &*workshop("16KiB");
    let mut before = Vec::new();
    // Killed at any moment while it writes, rotates and packs.
    for segment in [1, 2, 3] {
        let daemon = start(&engine, folder, "");
        assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
        daemon.wait_for("the segment", |status| {
            status["recording"]["on"]["segment"].as_u64() >= Some(segment)
        });
        let streams: Vec<_> = (0..8).map(|_| daemon.ask(&chat("the dog", 500))).collect();
        let uptime = json(&daemon.get("/status"))["uptime_ns"].as_u64().unwrap();
        let models = children(daemon.child.id());
        signal("KILL", daemon.child.id());
        models.into_iter().for_each(|pid| signal("KILL", pid));
        drop((daemon, streams));

        let run = newest_run(folder);
        let name = run.strip_prefix(folder).unwrap().display().to_string();
        let verified = run_in(folder, &format!("verify --unclosed {name}")).exits(0);
        assert!(verified.out.contains("was not closed"), "{}", verified.out);
        let last = LogReader::open(&run).unwrap().map(Result::unwrap).last().unwrap();
        let lost = Timestamp::from_nanos(uptime).since(last.at);
        assert!(lost < Duration::from_secs(1), "{lost:?} are lost");
        before.push((run.clone(), contents(&run)));
    }
    for (run, files) in before {
        assert!(contents(&run) == files, "{} was changed", run.display());
    }
}

#[test]
fn a_disk_without_room_stops_the_recording_and_not_the_serving() {
    let Some(engine) = engine("a_disk_without_room_stops_the_recording_and_not_the_serving") else {
        return;
    };
    let folder = &*workshop("16MiB");
    // The limit of a file's length; a write beyond it fails as on a full disk.
    let mut daemon = start(&engine, folder, "trap '' XFSZ; ulimit -f 64;");
    daemon.wait_for("the end of the recording", |status| {
        status["recording"]["stopped"]["error"].is_string()
    });
    for _ in 0..3 {
        assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    }
    daemon.stop();
    let said = fs::read_to_string(folder.join("stderr.txt")).unwrap();
    assert!(said.contains("error: recording stopped, serving continues"), "{said}");
    run_in(folder, "verify recordings --unclosed").exits(0);
    let log = LogReader::open(&folder.join("recordings")).unwrap();
    let samples =
        log.map(Result::unwrap).filter(|it| matches!(it.event, Event::Input(Input::Sample(_))));
    assert!(samples.count() > 1, "what was written before is there");
}

/// A small disk in memory. It is removed on drop.
struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts one, or reports that this test is skipped.
    fn mount(at: PathBuf, test: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let line = ["-t", "tmpfs", "-o", "size=300k", "none"];
        let out = Command::new("mount").args(line).arg(&at).output().unwrap();
        if out.status.success() {
            return Some(Self { at });
        }
        skip("tmpfs", test, &String::from_utf8_lossy(&out.stderr));
        None
    }

    #[track_caller]
    fn enlarge(&self) {
        let line = ["-o", "remount,size=8m"];
        assert!(Command::new("mount").args(line).arg(&self.at).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

#[test]
fn a_disk_that_has_room_again_is_used_again() {
    let test = "a_disk_that_has_room_again_is_used_again";
    let Some(engine) = engine(test) else { return };
    let folder = &*workshop("64KiB");
    let Some(disk) = Disk::mount(folder.join("recordings"), test) else { return };
    fs::write(disk.at.join("somebody's"), vec![0; 200 << 10]).unwrap();
    let mut daemon = start(&engine, folder, "");
    let is_on = |status: &serde_json::Value| status["recording"]["on"].is_object();
    let is_stopped = |status: &serde_json::Value| status["recording"]["stopped"].is_object();
    daemon.wait_for("the end of the recording", is_stopped);
    assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    disk.enlarge();
    daemon.wait_for("a second recording", is_on);
    assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    daemon.wait_for("a second segment", |status| {
        status["recording"]["on"]["kept_bytes"].as_u64() > Some(0)
    });
    daemon.stop();
    let said = fs::read_to_string(folder.join("stderr.txt")).unwrap();
    assert_eq!(said.matches("error: recording stopped").count(), 1, "{said}");
    assert_eq!(said.matches("recording continues in a new folder").count(), 1, "{said}");

    // Everything that exists of both runs is intact; the state of the controller before the second is unknown.
    let verified = run_in(folder, "verify recordings --unclosed").exits(0).out;
    assert_eq!(verified.lines().count(), 2, "{verified}");
    assert!(verified.contains(": verified as far as it goes, "), "{verified}");
    assert!(verified.contains(": cannot be verified, but its "), "{verified}");
    run_in(folder, "verify recordings").exits(1);
    for line in ["explain recordings", "plot recordings --out now.svg", "replay recordings"] {
        let read = run_in(folder, line).exits(0);
        assert!(read.err.contains("note: this is the newest run of recordings"), "{}", read.err);
    }
    let second = newest_run(folder);
    let records: Vec<_> = LogReader::open(&second).unwrap().map(Result::unwrap).collect();
    assert!(records[0].seq > 0 && records[0].at > Timestamp::ZERO, "{:?}", records[0]);
    assert!(matches!(records[0].event, Event::Input(_)));
}

#[test]
fn what_a_full_disk_does_not_take_for_a_while_is_not_missing() {
    let test = "what_a_full_disk_does_not_take_for_a_while_is_not_missing";
    let Some(engine) = engine(test) else { return };
    let folder = &*workshop("16MiB");
    let Some(disk) = Disk::mount(folder.join("recordings"), test) else { return };
    fs::write(disk.at.join("somebody's"), vec![0; 200 << 10]).unwrap();
    let mut daemon = start(&engine, folder, "");
    daemon.wait_for("a full disk", |status| status["recording"]["held"].is_object());
    assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    disk.enlarge();
    daemon.wait_for("room", |status| status["recording"]["on"].is_object());
    assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    daemon.stop();
    let said = fs::read_to_string(folder.join("stderr.txt")).unwrap();
    for line in ["is held in memory for now", "is written again, and nothing is missing"] {
        assert_eq!(said.matches(line).count(), 1, "{said}");
    }
    let verified = run_in(folder, "verify recordings").exits(0).out;
    assert_eq!(verified.lines().count(), 1, "{verified}");
}

#[test]
fn a_folder_of_recordings_that_was_removed_is_made_again() {
    let test = "a_folder_of_recordings_that_was_removed_is_made_again";
    let Some(engine) = engine(test) else { return };
    let folder = &*workshop("16MiB");
    let mut daemon = start(&engine, folder, "");
    daemon.wait_for("a recording", |status| status["recording"]["on"].is_object());
    let said = || fs::read_to_string(folder.join("stderr.txt")).unwrap();
    for (times, removed) in [newest_run(folder), folder.join("recordings")].iter().enumerate() {
        wait_until("it is removed", || fs::remove_dir_all(removed).is_ok());
        wait_until("the folder", || {
            said().matches("recording continues in a new folder").count() == times + 1
        });
        assert_eq!(said().matches("its folder was removed").count(), times + 1, "{}", said());
    }
    daemon.stop();
    let last = LogReader::open(&newest_run(folder)).unwrap().map(Result::unwrap);
    assert!(
        last.into_iter().any(|record| matches!(record.event, Event::Input(Input::Shutdown))),
        "what is said to be recorded is"
    );
}
