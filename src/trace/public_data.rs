//! Every public trace at hand is read, and the result is pinned. The files are not ours to distribute: without them the
//! test reports that it was skipped.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::trace::{
    Defects, Kind, ReadOptions, RequestReader, ResourceReader, TraceError, recognise,
};

/// Returns the folder of public traces.
pub(crate) fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("TIERSHIFT_DATA").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no public traces in {}", folder.display());
    None
}

#[test]
fn every_public_trace_that_fits_is_read_and_its_defects_are_counted() {
    let Some(folder) = folder() else { return };
    let mut table = String::new();
    for sub in [
        "pcp_archives",
        "bitbrains_rnd",
        "msi_afterburner",
        "nvidia_smi_csv",
        "gpuz_logs",
        "exathlon_spark",
        "nezha_k8s",
        "hakavlad_memory_pressure",
        "burstgpt_vllm_rtx/gpu_log",
        "burstgpt_vllm_rtx/detail_log",
        "nab/realAWSCloudwatch",
        "sysstat_sar",
        "azure_llm_2023",
        "mooncake_fast25",
        "inferencex_multiturn",
        "llmservingsim_vllm_bench",
    ] {
        let mut files = Vec::new();
        list(&folder.join(sub), &mut files);
        files.sort();
        for file in files {
            let name = file.strip_prefix(&folder).unwrap().display().to_string();
            let line = match describe(&file) {
                Ok(line) => line,
                Err(TraceError::UnknownFormat { .. }) => "no known format".to_owned(),
                Err(
                    error @ (TraceError::Malformed { .. }
                    | TraceError::Ask { .. }
                    | TraceError::MostlyRejected { .. }
                    | TraceError::NoRows { .. }),
                ) => error.to_string().replace(&format!("{}/", folder.display()), "refused: "),
                Err(error) => panic!("{error}"),
            };
            writeln!(table, "{name}: {line}").unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

fn describe(file: &Path) -> Result<String, TraceError> {
    let head = std::fs::read(file).unwrap();
    let format = recognise(&head[..head.len().min(32 << 10)])?;
    let options = ReadOptions::default();
    let mut out = String::new();
    if format.kind() == Kind::Resource {
        let mut reader = ResourceReader::open(file, &options)?;
        let (mut last, mut memory, mut cpu, mut gpus) = (Default::default(), 0_u64, 0_u64, 0);
        while let Some((at, sample)) = reader.next()? {
            last = at;
            memory += u64::from(sample.memory.is_some());
            cpu += u64::from(sample.cpu.is_some());
            gpus = gpus.max(sample.gpus.len());
        }
        assert!(reader.digest().is_some());
        let samples = reader.samples();
        write!(out, "{} {samples} samples, {}s, ", format.name(), last.as_secs_f64()).unwrap();
        write!(out, "memory {memory}, cpu {cpu}, gpus {gpus}").unwrap();
        write!(out, ", machine {}", reader.machine().memory.as_gib()).unwrap();
        defects(reader.defects(), &mut out);
    } else {
        let mut reader = RequestReader::open(file, &options)?;
        let (mut last, mut prompt, mut output) = (Default::default(), 0, 0);
        while let Some((at, request)) = reader.next()? {
            last = at;
            prompt += u64::from(request.prompt_tokens);
            output += u64::from(request.output_tokens);
        }
        let (count, unsorted) = (reader.requests(), reader.out_of_order());
        write!(out, "{} {count} requests, {}s, ", format.name(), last.as_secs_f64()).unwrap();
        write!(out, "{prompt} + {output} tokens, {unsorted} out of order").unwrap();
        defects(reader.defects(), &mut out);
    }
    Ok(out)
}

fn defects(defects: &Defects, out: &mut String) {
    write!(out, ", rejected {}", defects.rejected_rows()).unwrap();
    for (kind, count) in defects.iter() {
        write!(out, ", {kind} {count}").unwrap();
    }
}

fn list(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, into);
        } else {
            into.push(path);
        }
    }
}
