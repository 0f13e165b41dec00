//! Finds the processes in which a server on this machine runs models, by their command lines, which are public.

use std::collections::BTreeSet;
#[cfg(target_os = "linux")]
use std::fs;

use crate::backend::remote::entry::Entry;

/// Returns the process of a model whose server reports its port, which is also in the command line.
pub(super) fn of_entry(entry: &Entry) -> BTreeSet<u32> {
    entry.port.map(of_port).unwrap_or_default()
}

fn of_port(port: u16) -> BTreeSet<u32> {
    let port = port.to_string();
    of(|arguments| arguments.windows(2).any(|pair| pair[0] == "--port" && pair[1] == port))
}

/// Returns Ollama's runners. It reports no port or process of a model, so all of them count: models that it runs for
/// others besides ours count as ours.
pub(super) fn of_ollama() -> BTreeSet<u32> {
    let is_ollama = |program: &str| program.rsplit('/').next() == Some("ollama");
    of(
        |arguments| matches!(arguments, [program, verb, ..] if is_ollama(program) && verb == "runner"),
    )
}

#[cfg(target_os = "linux")]
fn of(is_it: impl Fn(&[String]) -> bool) -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into());
        is_it(&words.collect::<Vec<String>>())
    })
    .collect()
}

#[cfg(not(target_os = "linux"))]
fn of(_: impl Fn(&[String]) -> bool) -> BTreeSet<u32> {
    BTreeSet::new()
}
