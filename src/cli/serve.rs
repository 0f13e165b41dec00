//! `tiershift serve`: the daemon.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anstream::eprintln;
use anyhow::{Context, Result};
use clap::Args;

use crate::cli::{Verdict, common};
use crate::live::{
    self, Folder, Hear, Plan, RawConfig, RawListen, ShadowReport, ShadowState, Told,
};
use crate::probe::system::SystemProbe;
use crate::words;

/// Serve the best model that this machine can carry, through llama-server
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Stops on Ctrl-C or SIGTERM: takes nothing new, finishes what runs, unloads. A second one ends it at \
once. SIGHUP reads the config again.\n\nExamples:\n  \
tiershift serve --models ~/models\n  \
tiershift serve --example-config > serve.toml\n  \
tiershift serve --config serve.toml\n  \
tiershift serve --llama-server ./llama/llama-server --models ~/models --log recordings\n  \
curl localhost:8484/v1/chat/completions -d '{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'\n  \
curl localhost:8484/status"
)]
pub(super) struct Arguments {
    /// A config file; the options below go before what it says
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print a commented config file that says what holds without one
    #[arg(long, exclusive = true)]
    example_config: bool,
    /// The llama-server program [default: llama-server]
    #[arg(long, value_name = "PROGRAM")]
    llama_server: Option<PathBuf>,
    /// The folder of the .gguf files
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
    /// A catalog that says more of these files; without it they are ranked by size
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// A policy's name or file
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// The port to listen on; 0 takes any that is free [default: 8484]
    #[arg(long)]
    port: Option<u16>,
    /// The address to listen on; loopback only [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// Record what the controller is told and answers into this folder; each run gets a folder in it
    #[arg(long, value_name = "FOLDER")]
    log: Option<PathBuf>,
    /// A policy's name or file, to be played beside the first without effect, and compared
    #[arg(long, value_name = "POLICY")]
    shadow: Option<String>,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<Verdict> {
    if arguments.example_config {
        common::print(RawConfig::EXAMPLE)?;
        return Ok(Verdict::Done);
    }
    let hear: Hear = Arc::new(move |told| tell(&told, json));
    let again = arguments.clone();
    let reload = move || plan(&again).map_err(|error| format!("{error:#}"));
    live::serve(plan(arguments)?, Arc::new(reload), &hear)?;
    Ok(Verdict::Done)
}

/// Returns what the config file and the options come to.
fn plan(arguments: &Arguments) -> Result<Plan> {
    let config = config(arguments)?;
    let RawListen { host, port } = config.listen;
    let folder = config.models.folder.context(
        "no models are named: say --models FOLDER, or give `folder` in [models] of the config",
    )?;
    let folder = Folder::open(&folder)?;
    let catalog = match &config.models.catalog {
        Some(path) => common::catalog(path)?,
        None => folder.catalog()?,
    };
    Ok(Plan {
        address: SocketAddr::new(host, port),
        program: config.server.llama_server,
        folder,
        catalog,
        settings: config.policy,
        log: config.log.plan(),
        shadow: config.shadow,
    })
}

/// Returns the config, in which the options stand where there are any.
fn config(arguments: &Arguments) -> Result<RawConfig> {
    let mut config = match &arguments.config {
        Some(path) => RawConfig::read(path, SystemProbe::new().machine().tier())?,
        None => RawConfig::default(),
    };
    if let Some(policy) = &arguments.policy {
        config.policy = common::settings(Some(policy))?;
    }
    set(&mut config.listen.host, arguments.host);
    set(&mut config.listen.port, arguments.port);
    set(&mut config.server.llama_server, arguments.llama_server.clone());
    config.models.folder = arguments.models.clone().or(config.models.folder);
    config.models.catalog = arguments.catalog.clone().or(config.models.catalog);
    if let Some(shadow) = &arguments.shadow {
        config.shadow = Some(common::settings(Some(shadow))?);
    }
    config.log.folder = arguments.log.clone().or(config.log.folder);
    Ok(config)
}

fn set<T>(key: &mut T, option: Option<T>) {
    if let Some(value) = option {
        *key = value;
    }
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
            eprintln!("error: the recording has stopped, serving goes on: {error}");
        }
        Told::Shadow(report) => {
            // As above.
            let _ =
                if json { common::print_json(report) } else { common::print(&compared(report)) };
        }
        Told::Reloaded => eprintln!("the config was read again: its policy holds from now on"),
        Told::NotReloaded { error } => {
            eprintln!("error: the config was read again, and everything stays as it is: {error}");
        }
        Told::Stopping => eprintln!("stopping: finishing what runs"),
    }
}

/// Returns how the shadow compared, in a few lines.
fn compared(report: &ShadowReport) -> String {
    let ShadowReport { shadow, real_cost, shadow_cost, .. } = report;
    let state = match &report.state {
        ShadowState::Running | ShadowState::Ended => String::new(),
        ShadowState::FellBehind => " (it fell behind, and was left there)".to_owned(),
        ShadowState::Failed { error } => format!(" (it broke off: {error})"),
    };
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["", "switches", "reversals", "reloads", "above the line", "quality"]);
    for (name, cost) in [(&report.policy, real_cost), (shadow, shadow_cost)] {
        table.add_row([
            name.clone(),
            cost.switches.to_string(),
            cost.reversals.to_string(),
            words::seconds(cost.reload_seconds),
            words::seconds(cost.seconds_above_degrade_line),
            format!("{:.3}", cost.quality_served_fraction),
        ]);
    }
    format!(
        "shadow {shadow}: the same tier for {:.1} % of {}, {} differences{state}; what it would have cost is simulated\n{table}",
        report.agreement * 100.0,
        words::seconds(report.compared_seconds),
        report.differences
    )
}
