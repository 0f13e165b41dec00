//! The live side, with a real model server and real sockets on loopback.

use std::path::Path;

use snapbox::cmd::cargo_bin;
use tiershift_testkit::daemon::{Builder, Daemon};
use tiershift_testkit::engine::Engine;
use tiershift_testkit::gguf::Shape;
use tiershift_testkit::site::Site;

mod adoption;
mod backends;
mod browser;
mod calibrate;
mod companion;
mod dry_run;
mod fidelity;
mod folders;
mod front;
mod hang;
mod load;
mod operated;
mod orders;
mod own_use;
mod page;
mod pressure;
mod recording;
mod reload;
mod router;
mod security;
mod serve;
mod serving;
mod shadow;
mod standin;
mod story;
mod waiting;
mod watching;

/// Returns a working llama-server, or reports that this test is skipped.
fn engine(test: &str) -> Option<Engine> {
    Engine::find(test, KEPT.as_ref())
}

/// Returns a folder to serve from, with models of these names.
fn site(models: &[(&str, Shape)]) -> Site {
    Site::new(KEPT.as_ref(), models)
}

/// Returns the command for a daemon with its own models.
fn daemon(engine: &Path, folder: &Path) -> Builder {
    Daemon::builder(cargo_bin!("tiershift"), folder).engine(engine)
}

/// Starts a daemon that serves a site with the site's policy, and records.
#[track_caller]
fn serve(engine: &Path, folder: &Path) -> Daemon {
    daemon(engine, folder).arguments(SERVE).start()
}

/// Arguments of a daemon in a site.
const SERVE: &str = "--models models --policy policy.toml --record log.jsonl";

/// The folder that keeps the model server and the model files between runs of the tests.
const KEPT: &str = env!("CARGO_TARGET_TMPDIR");
