//! `tiershift serve`: the daemon.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tiershift_core::machine::{Machine, MachineClass};
use tiershift_core::policy::Registry;

use crate::cli::journal::{Journal, LogFormat};
use crate::cli::offered::Offered;
use crate::cli::policy::{PolicyChoice, PolicyOptions};
use crate::cli::token::{self, TokenArguments};
use crate::cli::{Verdict, common};
use crate::exec;
use crate::inventory::ladder::Wishes;
use crate::inventory::listing::RemoteServer;
use crate::probe::system::SystemProbe;
use crate::serve::{
    self, Access, DaemonEvent, KnownClient, Notify, Plan, RawClient, RawConfig, RawListen, Reload,
    Source, Supervisor, Token,
};

/// Serve the best model that fits on this machine, through llama-server or another model server
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Stops on Ctrl-C or SIGTERM: takes nothing new, finishes what runs, unloads. A second one ends it at \
once; the exit code is 1 if replies were cut. SIGHUP reads the config again.\n\nExamples:\n  \
tiershift serve --models ~/models\n  \
tiershift serve --models ~/models --ladder qwen2.5-1.5b-q4_k_m,qwen2.5-7b-q4_k_m\n  \
tiershift serve --server http://127.0.0.1:11434\n  \
tiershift serve --example-config > serve.toml\n  \
tiershift serve --config serve.toml\n  \
tiershift serve --llama-server ./llama/llama-server --models ~/models --record recordings\n  \
curl localhost:8484/v1/chat/completions -d '{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'\n  \
curl localhost:8484/status"
)]
pub(super) struct Arguments {
    /// Config file; command-line options override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print a commented config file that lists every key with its default
    #[arg(long, exclusive = true)]
    example_config: bool,
    /// Path of the llama-server program [default: llama-server]
    #[arg(long, value_name = "PROGRAM")]
    llama_server: Option<PathBuf>,
    /// Use a model server that is already running, such as http://127.0.0.1:11434, instead of starting llama-server:
    /// llama-server in router mode, Ollama, LM Studio, llama-swap, or anything with OpenAI's API
    #[arg(long, value_name = "URL", conflicts_with_all = ["models", "llama_server"])]
    server: Option<String>,
    /// Folder with the .gguf files
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
    /// Catalog that chooses among these files and gives their figures; figures that it leaves out are estimated
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Names of the models to serve, the smallest first; other models are not served
    #[arg(long, value_name = "MODEL,..", value_delimiter = ',')]
    ladder: Vec<String>,
    #[command(flatten)]
    policy: PolicyOptions,
    /// Port to listen on; 0 picks a free port [default: 8484]
    #[arg(long)]
    port: Option<u16>,
    /// Address to listen on; an address that other machines can reach requires a token [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    #[command(flatten)]
    token: TokenArguments,
    /// Host name that clients use for this machine, besides its addresses and localhost; may be repeated
    #[arg(long = "allow-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// Origin whose web pages may send requests, such as http://localhost:3000, or `*`; may be repeated
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    allowed_origins: Vec<String>,
    /// File that contains the token for orders (`POST /switch`); a client's token does not allow them
    #[arg(long, value_name = "FILE")]
    order_token_file: Option<PathBuf>,
    /// Record every input and output of the controller to this folder; each run gets a folder in it
    #[arg(long, value_name = "FOLDER")]
    record: Option<PathBuf>,
    /// Measure the machine, decide and record, but load nothing: each load is assumed to take the time and the memory that the
    /// catalog gives. Requests are refused
    #[arg(long)]
    dry_run: bool,
    /// A policy to run beside the first one without effect, for comparison: a name, a file, or a program that answers each
    /// reading (`exec:COMMAND`, see `tiershift schema policy-protocol`)
    #[arg(long, value_name = "POLICY", value_parser = Offered::POLICIES, hide_possible_values = true)]
    shadow: Option<String>,
    /// Also report each decision, what blocks the next tier, and each load, on standard error
    #[arg(long, short)]
    verbose: bool,
    /// Format of the lines on standard error [default: text, and json with --json]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

pub(super) fn run(arguments: &Arguments, policies: &Registry, json: bool) -> Result<Verdict> {
    if arguments.example_config {
        common::print(&RawConfig::example())?;
        return Ok(Verdict::Done);
    }
    let journal = Journal::new(arguments.log_format, arguments.verbose, json);
    let notify: Notify = Arc::new(move |event| journal.report(event));
    let mut probe = SystemProbe::new();
    let class = probe.machine().class();
    let running = config(arguments, class, policies)?;
    let say = |kind, text: &str| notify(DaemonEvent::Happened { kind, text });
    let Some(mut plan) = plan(running.clone(), &probe.machine(), policies, &notify)? else {
        return Ok(Verdict::Done);
    };
    plan.dry_run = arguments.dry_run;
    if plan.dry_run {
        say("dry run", "nothing is loaded, and requests are refused");
    }
    let (again, policies, shadow) = (arguments.clone(), policies.clone(), running.shadow.clone());
    let read = Arc::new(move || {
        let mut config = config(&again, class, &policies).map_err(|error| format!("{error:#}"))?;
        if again.shadow.is_some() {
            // A file that an option names keeps its content from the start, whatever its source.
            config.shadow.clone_from(&shadow);
        }
        Ok(config)
    });
    let cut = serve::serve(plan, probe, Reload { running, read }, &notify)?;
    Ok(if cut == 0 { Verdict::Done } else { Verdict::Failed })
}

/// Returns the service manager that started us, if one did.
fn supervisor() -> Result<Supervisor> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(Supervisor::default()) };
    // It is meant for one process, which it names.
    let is_ours =
        std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let watchdog = std::env::var("WATCHDOG_USEC").ok().filter(|_| is_ours);
    let watchdog = watchdog.map(|micros| micros.parse().map(Duration::from_micros)).transpose();
    let watchdog = watchdog.context("$WATCHDOG_USEC is not a number of microseconds")?;
    Supervisor::new(&socket, watchdog).with_context(|| {
        format!("$NOTIFY_SOCKET names `{}`, which cannot be reached", socket.display())
    })
}

/// Returns the plan that follows from a config; `None` if the process is asked to stop before that is known.
fn plan(
    config: RawConfig,
    machine: &Machine,
    policies: &Registry,
    notify: &Notify,
) -> Result<Option<Plan>> {
    let RawListen { host, port, allowed_hosts, allowed_origins, body_limit, .. } = config.listen;
    let RawListen { token_file, token_env, order_token_file, order_token_env, .. } = config.listen;
    let read = |file: Option<PathBuf>, variable: Option<String>| -> Result<Option<Token>> {
        let text = token::read(file.as_deref(), variable.as_deref())?;
        Ok(text.map(|text| Token::new(&text)).transpose()?)
    };
    let (token, order_token) =
        (read(token_file, token_env)?, read(order_token_file, order_token_env)?);
    let clients =
        config.client.into_iter().map(|RawClient { token_file, token_env, priority, deadline }| {
            let token = read(token_file, token_env)?.context(
                "a [[client]] of the config has no token: give it `token-file` or `token-env`",
            )?;
            Ok(KnownClient { token, priority, deadline: deadline.map(Duration::from) })
        });
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let wishes = Wishes {
        catalog: config.models.catalog.as_deref().map(common::catalog_file).transpose()?,
        all: config.models.for_all(),
        models: config.model,
        ladder: config.models.ladder,
    };
    let address = SocketAddr::new(host, port);
    let (hosts, origins) = (allowed_hosts, allowed_origins);
    let access = Access { token, clients, order_token, hosts, origins };
    let say = |kind, text: &str| notify(DaemonEvent::Happened { kind, text });
    let mut listener = None;
    let (source, ladder) = match &config.server.url {
        Some(url) => {
            let server = match RemoteServer::find(url) {
                Err(error) if error.is_not_up_yet() => {
                    let arrived = serve::wait_for_server(url, address, &access, notify)?;
                    let Some(arrived) = arrived else { return Ok(None) };
                    listener = Some(arrived.listener);
                    arrived.server
                }
                found => found?,
            };
            say("server", &format!("{} answers at {url}", server.name()));
            let ladder = server.ladder(&wishes)?;
            (Source::Server(server), ladder)
        }
        None => {
            let folder = config.models.folder.context(
                "no models are configured: give --models FOLDER or --server URL, or set `folder` under [models] in the config",
            )?;
            let folder = common::folder(&folder)?;
            let ladder = folder.ladder(&wishes, machine)?;
            let launches = folder.launches(&ladder)?;
            (Source::Processes { program: config.server.llama_server, folder, launches }, ladder)
        }
    };
    ladder.lines().iter().for_each(|line| say("model", line));
    ladder.notes.iter().for_each(|note| say("note", note));
    Ok(Some(Plan {
        address,
        listener,
        access,
        source,
        catalog: ladder.catalog,
        aliases: config.models.aliases,
        unknown_model: config.models.unknown_model,
        longest_body: body_limit.0,
        dry_run: false,
        settings: config.policy,
        policies: policies.clone(),
        recording: config.recording.plan(),
        shadow: config.shadow,
        hooks: config.hooks.plan(),
        supervisor: supervisor()?,
    }))
}

/// Returns the config, with the options in place of what they override.
fn config(arguments: &Arguments, class: MachineClass, policies: &Registry) -> Result<RawConfig> {
    let mut config = match &arguments.config {
        Some(path) => RawConfig::read(path, class, policies)?,
        None => RawConfig::default(),
    };
    arguments.policy.read(policies)?.apply(&mut config.policy, policies)?;
    set(&mut config.listen.host, arguments.host);
    set(&mut config.listen.port, arguments.port);
    if arguments.token.token_file.is_some() || arguments.token.token_env.is_some() {
        config.listen.token_file = arguments.token.token_file.clone();
        config.listen.token_env = arguments.token.token_env.clone();
    }
    config.listen.allowed_hosts.extend(arguments.allowed_hosts.iter().cloned());
    config.listen.allowed_origins.extend(arguments.allowed_origins.iter().cloned());
    if arguments.order_token_file.is_some() {
        config.listen.order_token_file = arguments.order_token_file.clone();
        config.listen.order_token_env = None;
    }
    set(&mut config.server.llama_server, arguments.llama_server.clone());
    if arguments.models.is_some() || arguments.llama_server.is_some() {
        config.server.url = None;
    }
    config.server.url = arguments.server.clone().or(config.server.url);
    config.models.folder = arguments.models.clone().or(config.models.folder);
    config.models.catalog = arguments.catalog.clone().or(config.models.catalog);
    if !arguments.ladder.is_empty() {
        config.models.ladder.clone_from(&arguments.ladder);
    }
    if let Some(shadow) = &arguments.shadow {
        // As `replay LOG --policy` of this run's log states it.
        let mut settings = config.policy.clone();
        PolicyChoice::read(shadow, policies)?.apply(&mut settings);
        config.shadow = Some(settings);
    }
    config.recording.folder = arguments.record.clone().or(config.recording.folder);
    anyhow::ensure!(
        config.policy.policy.name() != exec::POLICY,
        "a policy program may be late or exit, so it cannot control the daemon: run it beside another policy with --shadow exec:COMMAND"
    );
    Ok(config)
}

fn set<T>(key: &mut T, option: Option<T>) {
    if let Some(value) = option {
        *key = value;
    }
}
