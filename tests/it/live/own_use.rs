//! The use of our models never counts as others' use, even if none of their processes is known.

use snapbox::cmd::cargo_bin;
use tiershift::backend::remote::server::Kind;
use tiershift::probe::clock::SystemClock;
use tiershift_core::time::Clock;
use tiershift_testkit::daemon::Daemon;
use tiershift_testkit::engine::Engine;
use tiershift_testkit::gguf;
use tiershift_testkit::policy::policy;
use tiershift_testkit::server::{chat, json};
use tiershift_testkit::wait::POLL;

use crate::live::standin::StandIn;
use crate::live::{KEPT, site};

#[test]
fn work_of_a_server_whose_processes_are_not_known_is_ours() {
    let name = "work_of_a_server_whose_processes_are_not_known_is_ours";
    let Some(engine) = Engine::find_alone(name, KEPT.as_ref()) else { return };
    let folder = site(&[("a", gguf::SMALL)]);
    folder.put("policy.toml", &policy("sampling-interval = \"300ms\""));
    let server = StandIn::start(Kind::LmStudio, engine.to_path_buf(), folder.models());
    let arguments = format!("--server {} --policy policy.toml", server.url());
    let daemon = Daemon::builder(cargo_bin!("tiershift"), &folder).arguments(&arguments).start();
    daemon.wait_for("the model", |status| status["tier"] == "small");
    let own = |status: &serde_json::Value| {
        status["resources"]["cpu"]["own_milli_percent"].as_u64().unwrap_or_default()
    };
    // At rest nothing is ours, and others' use is known.
    daemon.wait_for("a reading at rest", |status| {
        status["resources"]["cpu"].is_object() && own(status) == 0
    });
    // One of the processors works for the model. Where others take them all, what is ours does not show, and the rate is
    // not judged. Between two streams the model rests.
    let mut clock = SystemClock::start();
    let mut is_others = true;
    for _ in 0..MOST_STREAMS {
        let mut stream = daemon.ask(&chat("the cat", 200));
        stream.until("data: ");
        for _ in 0..LOOKS {
            let status = json(&daemon.get("/status"));
            is_others &= status["resources"]["cpu"].is_object() && own(&status) == 0;
            clock.wait_until(clock.now() + POLL);
        }
        assert!(stream.rest().contains("data: [DONE]"));
        if !is_others {
            return;
        }
        clock.wait_until(clock.now() + POLL * LOOKS);
    }
    panic!("all of it is others': {}", daemon.get("/status"));
}

const MOST_STREAMS: u32 = 20;

/// A second and a half: some readings of the machine.
const LOOKS: u32 = 30;
