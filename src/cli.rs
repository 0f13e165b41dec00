//! The command line: raw arguments become a checked plan, the plan a call. One file per verb.

mod artifacts;
#[cfg(feature = "serve")]
mod calibrate;
mod check;
mod common;
mod compare;
mod diff;
mod explain;
mod files;
#[cfg(feature = "live")]
mod hardware;
mod html;
mod hunt;
mod import;
mod input;
#[cfg(feature = "serve")]
mod journal;
mod minimise;
mod none_loaded;
mod offered;
mod output;
mod played;
mod plot;
mod policies;
mod policy;
#[cfg(feature = "live")]
mod record;
mod recorded;
mod replay;
mod requests;
mod run;
mod say;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod status;
mod sweep;
#[cfg(feature = "serve")]
mod token;
mod tune;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use tiershift_core::policy::Registry;

use crate::cli::say::Manner;
#[cfg(all(unix, feature = "live"))]
use crate::files::whole_file::unfinished;
use crate::study::museum;

/// The result of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Done; if something was checked, it passed.
    Done,
    /// A check failed.
    Failed,
    /// Something could not be read or played; everything else was checked.
    CouldNot,
}

/// Decides which size of a local language model a machine should run right now, and proves the decision.
#[derive(Debug, Parser)]
#[command(name = "tiershift", version, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 done, 1 a check failed, 2 could not run.\n\n\
Examples:\n  \
tiershift replay traces/models-come-and-go.csv --out out/first\n  \
tiershift run scenarios/no-projection.toml\n  \
tiershift check\n  \
tiershift explain out/first --at 5m")]
struct Cli {
    /// Print JSON instead of text; notes and errors are JSON too, one object per line
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
    /// Print results and errors only: no notes, warnings or progress
    #[arg(long, short, global = true, help_heading = EVERYWHERE)]
    quiet: bool,
    /// When to use colours; `auto`: on a terminal, unless the environment variable NO_COLOR is set
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
    #[command(subcommand)]
    verb: Verb,
}

/// The part of a help text with the options of every verb.
const EVERYWHERE: &str = "Options of every command";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Replay recorded traces through the controller
    Replay(replay::Arguments),
    /// Compare policies on recordings, or compare two runs
    Compare(compare::Arguments),
    /// Try many settings on many recordings, in shards that can run on several machines
    Sweep(sweep::Arguments),
    /// Search for the best settings for your recordings, judged on parts that the search has not seen
    Tune(tune::Arguments),
    /// Run random scenarios and look for broken invariants
    Hunt(hunt::Arguments),
    /// Reduce a scenario that shows a failure to its smallest form
    Minimise(minimise::Arguments),
    /// Run scenarios
    Run(run::Arguments),
    /// Check scenarios: expectations, golden stories, and every run twice
    Check(check::Arguments),
    /// Record the use of this machine to a trace
    #[cfg(feature = "live")]
    Record(record::Arguments),
    /// Serve the best model that fits on this machine, through llama-server or another model server
    #[cfg(feature = "serve")]
    Serve(serve::Arguments),
    /// Show what a running daemon serves, why no larger model, and what happened last
    #[cfg(feature = "serve")]
    Status(status::Arguments),
    /// Measure the models in a folder on this machine and write a catalog
    #[cfg(feature = "serve")]
    Calibrate(calibrate::Arguments),
    /// Convert a recording in another format to a native trace
    Import(import::Arguments),
    /// Draw the decision plot of an event log
    Plot(plot::Arguments),
    /// Explain why the decisions in a log were made, with every gate
    Explain(explain::Arguments),
    /// Find where two logs begin to differ, and why
    Diff(diff::Arguments),
    /// Feed the inputs of a log to the controller again and compare its answers
    Verify(verify::Arguments),
    /// Show what can be measured on this machine, and its machine class
    #[cfg(feature = "live")]
    Hardware(hardware::Arguments),
    /// List the policies, or explain one: what it promises, and which settings it uses
    Policies(policies::Arguments),
    /// Print the JSON Schema of a file format, for editors
    Schema(files::SchemaArguments),
    /// Print a shell's completion script
    Completions(files::CompletionArguments),
    /// Write a manual page for each verb
    Man(files::ManArguments),
}

/// Runs the command line and returns the exit code of the process.
pub fn run() -> ExitCode {
    run_with(&Registry::built_in())
}

/// Runs the command line with other policies than the built-in ones, or with more. The museum's ideas are included in
/// any case, except those whose name is taken.
///
/// # Examples
/// ```no_run
/// # fn greedy(
/// #     _: &tiershift::core::settings::Settings,
/// #     _: &tiershift::core::catalog::Catalog,
/// #     _: &tiershift::core::settings::Options,
/// # ) -> Result<Box<dyn tiershift::core::policy::Policy>, tiershift::core::policy::PolicyError> {
/// #     unimplemented!()
/// # }
/// fn main() -> std::process::ExitCode {
///     let mut policies = tiershift::core::policy::Registry::built_in();
///     policies.register("greedy", greedy);
///     tiershift::cli::run_with(&policies)
/// }
/// ```
pub fn run_with(policies: &Registry) -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let mut command = Cli::command().color(say::color(&words));
    let parsed = command.try_get_matches_from_mut(&words).and_then(|mut matches| {
        Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return say::usage(&error, &words),
    };
    let json = cli.json;
    say::begin(Manner { json, quiet: cli.quiet }, cli.color);
    let policies = &museum::with_ideas(policies);
    leave_nothing_behind(&cli.verb);
    let result = match &cli.verb {
        Verb::Replay(arguments) => replay::run(arguments, policies, json),
        Verb::Compare(arguments) => compare::run(arguments, policies, json),
        Verb::Sweep(arguments) => sweep::run(arguments, policies, json),
        Verb::Tune(arguments) => tune::run(arguments, policies, json),
        Verb::Hunt(arguments) => hunt::run(arguments, policies, json),
        Verb::Minimise(arguments) => minimise::run(arguments, policies, json),
        Verb::Run(arguments) => run::run(arguments, policies, json),
        Verb::Check(arguments) => check::run(arguments, policies, json),
        #[cfg(feature = "live")]
        Verb::Record(arguments) => record::run(arguments, json),
        #[cfg(feature = "serve")]
        Verb::Serve(arguments) => serve::run(arguments, policies, json),
        #[cfg(feature = "serve")]
        Verb::Status(arguments) => status::run(arguments, json),
        #[cfg(feature = "serve")]
        Verb::Calibrate(arguments) => calibrate::run(arguments, json),
        Verb::Import(arguments) => import::run(arguments, json),
        Verb::Plot(arguments) => plot::run(arguments, policies, json),
        Verb::Explain(arguments) => explain::run(arguments, policies, json),
        Verb::Diff(arguments) => diff::run(arguments, policies, json),
        Verb::Verify(arguments) => verify::run(arguments, policies, json),
        #[cfg(feature = "live")]
        Verb::Hardware(arguments) => hardware::run(arguments, json),
        Verb::Policies(arguments) => policies::run(arguments, policies, json),
        Verb::Schema(arguments) => files::schema(arguments),
        Verb::Completions(arguments) => files::completions(arguments, &mut Cli::command()),
        Verb::Man(arguments) => files::man(arguments, Cli::command()),
    };
    match result {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::from(1),
        Ok(Verdict::CouldNot) => ExitCode::from(2),
        Err(error) => {
            // A reader that closed the pipe has all it wanted.
            if error.chain().any(is_broken_pipe) {
                return ExitCode::SUCCESS;
            }
            let code = match &cli.verb {
                Verb::Sweep(arguments) => arguments.exit_code(&error),
                _ => 2,
            };
            say::error(&error, code);
            ExitCode::from(code)
        }
    }
}

/// Removes half-written files when a signal ends the process. Verbs that finish in good order handle signals
/// themselves.
#[cfg(all(unix, feature = "live"))]
fn leave_nothing_behind(verb: &Verb) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::low_level::emulate_default_handler;

    match verb {
        Verb::Record(_) => return,
        #[cfg(feature = "serve")]
        Verb::Serve(_) | Verb::Calibrate(_) => return,
        _ => {}
    }
    // Without the handler a signal still ends the process; it only leaves more behind.
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]) else {
        return;
    };
    std::thread::spawn(move || {
        for signal in &mut signals {
            unfinished::remove_all();
            let _ = emulate_default_handler(signal);
        }
    });
}

#[cfg(not(all(unix, feature = "live")))]
fn leave_nothing_behind(_verb: &Verb) {}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Returns the options of a command and of all below it, each with the words that lead to it.
    fn options(command: &clap::Command, words: &str) -> Vec<(String, clap::Arg)> {
        let words = format!("{words} {}", command.get_name());
        let own = command.get_arguments().filter(|arg| !arg.is_positional());
        let mut all: Vec<_> = own.map(|arg| (words.clone(), arg.clone())).collect();
        for below in command.get_subcommands() {
            all.extend(options(below, &words));
        }
        all
    }

    #[test]
    fn a_short_option_means_the_same_on_every_verb() {
        let mut command = Cli::command();
        command.build();
        let mut meanings: BTreeMap<char, String> = BTreeMap::new();
        for (words, option) in options(&command, "") {
            let long = option.get_long().unwrap_or_default();
            if let Some(short) = option.get_short() {
                let known = meanings.entry(short).or_insert_with(|| long.to_owned());
                assert_eq!(known, long, "-{short} of{words}");
            }
            let usual = [("out", 'o'), ("jobs", 'j'), ("quiet", 'q'), ("verbose", 'v')];
            if let Some((_, short)) = usual.iter().find(|(usual, _)| *usual == long) {
                assert_eq!(option.get_short(), Some(*short), "--{long} of{words}");
            }
        }
        let letters: String = meanings.keys().collect();
        assert_eq!(letters, "Vhjoqv");
    }
}
