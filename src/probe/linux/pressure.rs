//! Reads Linux's pressure-stall information (PSI): how long tasks waited for memory, processor, storage.
//!
//! A kernel without it (before 4.20, or started with `psi=0`) is normal.

use std::path::{Path, PathBuf};

use tiershift_core::sample::Pressure;
use tiershift_core::units::Percent;

use crate::probe::linux::procfs::{Root, Unread};

/// The paths of the three files: for the whole machine, or for one control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PressureFiles {
    memory: PathBuf,
    cpu: PathBuf,
    io: PathBuf,
}

impl PressureFiles {
    /// Returns the files of the whole machine.
    pub(crate) fn of_machine() -> Self {
        let file = |name| Path::new("/proc/pressure").join(name);
        Self { memory: file("memory"), cpu: file("cpu"), io: file("io") }
    }

    /// Returns the files of the control group (v2) in `folder`.
    pub(crate) fn of_cgroup(folder: &Path) -> Self {
        let file = |name| folder.join(name);
        Self { memory: file("memory.pressure"), cpu: file("cpu.pressure"), io: file("io.pressure") }
    }

    /// Returns the source of the readings, as text.
    pub(crate) fn source(&self) -> String {
        let [memory, cpu, io] = [&self.memory, &self.cpu, &self.io].map(|path| path.display());
        format!("{memory}, {cpu}, {io}")
    }

    /// Reads all three. If one is missing, all are: half a reading would have to use zero for the rest.
    pub(crate) fn read(&self, root: &Root) -> Result<Pressure, Unread> {
        let average = |path: &Path, kind: &str| {
            average_10s(&root.read(path)?, kind)
                .ok_or_else(|| Unread::not_understood(path, &format!("`{kind} avg10=`")))
        };
        Ok(Pressure {
            memory_some: average(&self.memory, "some")?,
            memory_full: average(&self.memory, "full")?,
            cpu_some: average(&self.cpu, "some")?,
            io_some: average(&self.io, "some")?,
        })
    }
}

/// Returns the ten-second average of the line that begins with `kind`.
fn average_10s(text: &str, kind: &str) -> Option<Percent> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
    let value = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    Percent::from_f64(value.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: &str = "some avg10=1.72 avg60=0.93 avg300=0.74 total=21001923\n";
    const FULL: &str = "full avg10=0.81 avg60=0.50 avg300=0.55 total=6078239\n";

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("proc/pressure")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join("proc/pressure").join(name), text).unwrap();
        }
        folder
    }

    fn read(files: &[(&str, &str)]) -> Result<Pressure, String> {
        let folder = tree(files);
        let read = PressureFiles::of_machine().read(&Root::new(folder.path()));
        read.map_err(|unread| unread.to_string())
    }

    #[test]
    fn the_ten_second_averages_are_read() {
        let both = format!("{SOME}{FULL}");
        let got = read(&[("memory", &both), ("cpu", SOME), ("io", &both)]).unwrap();
        let want = Pressure {
            memory_some: Percent::from_milli(1720),
            memory_full: Percent::from_milli(810),
            cpu_some: Percent::from_milli(1720),
            io_some: Percent::from_milli(1720),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn absent_or_garbled_pressure_is_absent_as_a_whole_and_says_where() {
        let both = format!("{SOME}{FULL}");
        let cases: [(&[(&str, &str)], &str); 4] = [
            (&[], "/proc/pressure/memory: the file does not exist"),
            (&[("memory", &both), ("cpu", SOME)], "/proc/pressure/io: the file does not exist"),
            (&[("memory", SOME)], "/proc/pressure/memory: `full avg10=` is missing"),
            (&[("memory", "some avg10=nan\n")], "`some avg10=` is missing"),
        ];
        for (files, want) in cases {
            let got = read(files).unwrap_err();
            assert!(got.contains(want), "{files:?}: got {got}, want {want}");
        }
    }
}
