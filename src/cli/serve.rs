//! `tiershift serve`: the daemon.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anstream::eprintln;
use anyhow::Result;
use clap::Args;

use crate::cli::{Verdict, common};
use crate::live::{self, Folder, Hear, Plan, Told};

/// Serve the best model that this machine can carry, through llama-server
#[derive(Debug, Args)]
#[command(
    after_help = "Stops on Ctrl-C or SIGTERM: takes nothing new, finishes what runs, unloads. A second one ends it at \
once.\n\nExamples:\n  \
tiershift serve --models ~/models\n  \
tiershift serve --llama-server ./llama/llama-server --models ~/models --log today.jsonl\n  \
curl localhost:8484/v1/chat/completions -d '{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'\n  \
curl localhost:8484/status"
)]
pub(super) struct Arguments {
    /// The llama-server program
    #[arg(long, value_name = "PROGRAM", default_value = "llama-server")]
    llama_server: PathBuf,
    /// The folder of the .gguf files
    #[arg(long, value_name = "FOLDER")]
    models: PathBuf,
    /// A catalog that says more of these files; without it they are ranked by size
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// A policy's name or file
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// The port to listen on; 0 takes any that is free
    #[arg(long, default_value_t = 8484)]
    port: u16,
    /// The address to listen on; loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Write the event log of the run; the file must not exist
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<Verdict> {
    let folder = Folder::open(&arguments.models)?;
    let catalog = match &arguments.catalog {
        Some(path) => common::catalog(path)?,
        None => folder.catalog()?,
    };
    let plan = Plan {
        address: SocketAddr::new(arguments.host, arguments.port),
        program: arguments.llama_server.clone(),
        folder,
        catalog,
        settings: common::settings(arguments.policy.as_deref())?,
        log: arguments.log.clone(),
    };
    let hear: Hear = Arc::new(move |told| tell(&told, json));
    live::serve(plan, &hear)?;
    Ok(Verdict::Done)
}

fn tell(told: &Told<'_>, json: bool) {
    match told {
        Told::Listening(address) => {
            // Whoever started us without a terminal may have stopped listening; that is no reason to stop serving.
            let _ = if json {
                common::print_json(&serde_json::json!({"url": format!("http://{address}")}))
            } else {
                common::print(&format!("serving on http://{address}"))
            };
        }
        Told::Adopted { model } => {
            eprintln!("`{model}` was left loaded by an earlier run and serves on");
        }
        Told::LastWords { model, words } => {
            eprintln!("llama-server of `{model}` ended unasked; its last words:");
            for line in words.lines() {
                eprintln!("  {line}");
            }
        }
        Told::RecordingStopped { error } => {
            eprintln!("error: the log cannot be written any further, serving goes on: {error}");
        }
        Told::Stopping => eprintln!("stopping: finishing what runs"),
    }
}
