//! The daemon as a process.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::process::{children, send, servers_of, signal};
use crate::server::{Server, json};
use crate::wait::wait_for;

/// A running daemon, as its clients see it. It is killed on drop, so that a failed test leaves nothing behind except what the
/// test is about.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub child: Child,
    server: Server,
    folder: PathBuf,
    out: BufReader<ChildStdout>,
}

/// The command line and environment of a daemon.
#[derive(Debug)]
pub struct Builder {
    command: Command,
    folder: PathBuf,
}

impl Daemon {
    /// Returns the command for a daemon in a folder, on any free port. `program` is tiershift.
    pub fn builder(program: impl AsRef<OsStr>, folder: &Path) -> Builder {
        Builder::of(Command::new(program), folder)
    }

    /// Returns the command for a daemon that is started from a shell, after the given shell commands.
    pub fn builder_after(shell: &str, program: impl AsRef<OsStr>, folder: &Path) -> Builder {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{shell} exec \"$0\" \"$@\"")]).arg(program);
        Builder::of(command, folder)
    }

    /// Waits until the status is as wanted.
    #[track_caller]
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        wait_for(|| {
            let status = json(&self.get("/status"));
            if is_so(&status) { Ok(()) } else { Err(format!("{what} does not come: {status:#}")) }
        });
    }

    /// Waits for the end, and returns the exit code.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let ended = || {
            let status = self.child.try_wait().unwrap();
            status.ok_or_else(|| "the daemon does not end".to_owned())
        };
        wait_for(ended).code()
    }

    /// Stops it as a user does, and waits until it has ended normally.
    #[track_caller]
    pub fn stop(&mut self) {
        signal("TERM", self.child.id());
        assert_eq!(self.wait(), Some(0));
    }

    /// Kills it, and leaves its models where they are.
    pub fn kill_alone(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // The guard would end them.
        std::mem::forget(self);
    }

    /// Returns its output from now until it ends.
    pub fn printed(&mut self) -> String {
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        text
    }
}

impl Builder {
    fn of(mut command: Command, folder: &Path) -> Self {
        command.args(["serve", "--port", "0"]).current_dir(folder);
        Self { command, folder: folder.to_owned() }
    }

    /// With a llama-server for its own models.
    pub fn engine(mut self, program: &Path) -> Self {
        self.command.arg("--llama-server").arg(program);
        self
    }

    /// With arguments that hold no spaces.
    pub fn arguments(mut self, words: &str) -> Self {
        self.command.args(words.split_whitespace());
        self
    }

    /// With a variable of its environment.
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// In its own process group, as a shell or a service manager does.
    pub fn in_a_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    /// With standard error in a file of its folder.
    pub fn errors_in(mut self, name: &str) -> Self {
        self.command.stderr(File::create(self.folder.join(name)).unwrap());
        self
    }

    /// Starts it, and waits until it listens.
    #[track_caller]
    pub fn start(mut self) -> Daemon {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        // A line of text, or with `--json` an object of several lines.
        let url = loop {
            let is_over = out.read_line(&mut said).unwrap() == 0;
            assert!(!is_over, "the daemon ends before it listens: {said}");
            if let Ok(object) = serde_json::from_str::<Value>(&said) {
                break object["url"].as_str().unwrap().to_owned();
            }
            if let Some((_, url)) = said.split_once("serving on ") {
                break url.to_owned();
            }
        };
        let port = url.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("it says where it listens: {said}"));
        Daemon { child, server: Server::at(port), folder: self.folder, out }
    }
}

impl Deref for Daemon {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            for child in children(self.child.id()) {
                send("KILL", child);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for left in servers_of(&self.folder) {
            send("KILL", left);
        }
    }
}
