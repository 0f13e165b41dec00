//! The text in a picture about its run: its name, its origin, when, on what machine, and by which version.

use std::path::{Component, Path};

use tiershift_core::machine::Machine;
use tiershift_core::text;

use crate::log::Header;
use crate::wall::WallTime;

/// The text in a picture above the figures of its run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Title {
    /// The scenario's or the recording's name.
    pub name: String,
    /// The file and its folder, not the whole path: pictures are sent to others.
    pub(super) place: Option<String>,
    pub(super) machine: String,
}

impl Title {
    /// Returns the title of a run that was made from, or is stored in, the file or the folder at `path`.
    pub fn of(header: &Header, path: &Path) -> Self {
        Self { name: header.title(), place: place(path), machine: machine(&header.machine) }
    }

    /// Returns the second line, for a run that began at `start`, if known.
    pub(super) fn details(&self, start: Option<WallTime>) -> String {
        let version = concat!("tiershift ", env!("CARGO_PKG_VERSION")).to_owned();
        let machine = Some(self.machine.clone()).filter(|machine| !machine.is_empty());
        let parts = [self.place.clone(), start.map(WallTime::described), machine, Some(version)];
        parts.into_iter().flatten().collect::<Vec<_>>().join("   ·   ")
    }
}

/// Returns a file with its folder; for an event log, which has the same name in every folder, the folder.
fn place(path: &Path) -> Option<String> {
    if path == Path::new("-") {
        return Some("standard input".to_owned());
    }
    let mut names: Vec<_> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy()),
            _ => None,
        })
        .collect();
    if names.len() > 1 && names.last().is_some_and(|name| name.starts_with("events.jsonl")) {
        names.pop();
    }
    let shown = &names[names.len().saturating_sub(2)..];
    (!shown.is_empty()).then(|| shown.join("/"))
}

fn machine(machine: &Machine) -> String {
    let mut parts = Vec::new();
    if machine.memory.get() > 0 {
        parts.push(format!("{} of memory", text::bytes(machine.memory)));
    }
    if machine.cpus > 0 {
        parts.push(text::count(u64::from(machine.cpus), "processor"));
    }
    let gpus: Vec<String> = machine.gpus.iter().map(|&vram| text::bytes(vram)).collect();
    match gpus.as_slice() {
        [] => {}
        [one] => parts.push(format!("a GPU with {one}")),
        [first, ..] if gpus.iter().all(|gpu| gpu == first) => {
            parts.push(format!("{} GPUs with {first} each", gpus.len()));
        }
        _ => parts.push(format!("GPUs with {}", gpus.join(", "))),
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use tiershift_core::units::Bytes;

    use super::*;

    #[test]
    fn a_title_says_the_file_and_its_folder_and_no_more_of_the_path() {
        for (path, want) in [
            ("/data/someone/traces/day.csv", Some("traces/day.csv")),
            ("day.csv", Some("day.csv")),
            ("../day.csv", Some("day.csv")),
            ("out/first/events.jsonl.zst", Some("out/first")),
            ("events.jsonl", Some("events.jsonl")),
            ("-", Some("standard input")),
            (".", None),
        ] {
            assert_eq!(place(Path::new(path)).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn a_machine_is_named_by_what_it_has() {
        let gib = Bytes::from_gib;
        let of = |memory, cpus, gpus: &[u64]| {
            let gpus = gpus.iter().map(|&vram| gib(vram)).collect();
            machine(&Machine { memory: gib(memory), cpus, gpus, ..Machine::default() })
        };
        assert_eq!(of(0, 0, &[]), "");
        assert_eq!(of(16, 1, &[8]), "16.0 GiB of memory, 1 processor, a GPU with 8.00 GiB");
        assert_eq!(of(32, 0, &[24, 24]), "32.0 GiB of memory, 2 GPUs with 24.0 GiB each");
        assert_eq!(
            of(32, 8, &[12, 24]),
            "32.0 GiB of memory, 8 processors, GPUs with 12.0 GiB, 24.0 GiB"
        );
    }
}
