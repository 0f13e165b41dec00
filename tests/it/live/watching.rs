//! What shows the daemon's state: `/metrics`, `tiershift status`, and the page in a real browser.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use tiershift_testkit::gguf;
use tiershift_testkit::process::signal;
use tiershift_testkit::server::{chat, json};
use tiershift_testkit::skip::skip;

use crate::live::browser::Browser;
use crate::live::{engine, serve, site};
use crate::support::{root, run_in};

#[test]
fn figures_and_status_tell_what_happened() {
    let Some(engine) = engine("figures_and_status_tell_what_happened") else { return };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    let daemon = serve(&engine, &folder);
    daemon.wait_for("the upgrade", |status| status["tier"] == "medium");
    for _ in 0..3 {
        assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    }
    daemon.wait_for("the ends", |status| status["requests"]["done"] == 3);
    let answer = daemon.get("/metrics");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    let (_, text) = answer.split_once("\r\n\r\n").unwrap();
    let values = samples(text);
    assert_eq!(values["tiershift_requests_total{end=\"done\"}"], 3.0);
    assert_eq!(values["tiershift_output_tokens_total"], 12.0);
    assert_eq!(values["tiershift_serving_rung"], 2.0);
    assert_eq!(values["tiershift_switches_total{direction=\"up\"}"], 2.0, "none, small, medium");
    assert_eq!(values["tiershift_model_serving{tier=\"medium\",model=\"b\"}"], 1.0);
    assert_eq!(values["tiershift_request_duration_seconds_count"], 3.0);
    assert_eq!(values["tiershift_request_duration_seconds_bucket{le=\"+Inf\"}"], 3.0);
    assert_eq!(values["tiershift_best_fitting_rung"], 2.0);
    let below = values["tiershift_below_best_fitting_seconds_total"];
    // From the first reading to the end of the upgrade.
    assert!(below > 0.0 && below < values["tiershift_uptime_seconds"], "{below}");
    assert_eq!(values["tiershift_rejections_total{reason=\"queue-full\"}"], 0.0);
    assert_eq!(values["tiershift_orders_total{became=\"taken\"}"], 0.0);
    assert_eq!(values["tiershift_order_active"], 0.0);
    check_what_reads_them(text);
    daemon.post("/switch", "{\"tier\":\"medium\"}");
    let ordered = daemon.get("/metrics");
    let (_, ordered) = ordered.split_once("\r\n\r\n").unwrap();
    let ordered = samples(ordered);
    assert_eq!(ordered["tiershift_orders_total{became=\"taken\"}"], 1.0);
    assert_eq!(ordered["tiershift_order_active"], 1.0);
    let own = values["tiershift_memory_used_bytes{owner=\"own\"}"];
    assert!(own > 100e6, "the model's memory is its own: {own}");
    let used = values["tiershift_resource_used_ratio{resource=\"memory\"}"];
    assert!((0.0..=1.0).contains(&used), "{used}");

    let url = format!("http://127.0.0.1:{}", daemon.port);
    let told = run_in(&folder, &format!("status --url {url}")).exits(0).out;
    for text in ["medium (b)", "the highest tier serves", "3 done", "recording", "memory"] {
        assert!(told.contains(text), "{text} in {told}");
    }
    let json = run_in(&folder, &format!("--json status --url {url}")).exits(0).out;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["tier"], "medium");
    drop(daemon);
    let nobody = run_in(&folder, &format!("status --url {url}")).exits(2).err;
    assert!(nobody.contains("no daemon answers") && nobody.contains("tiershift serve"), "{nobody}");
}

/// Checks that the figures in our alerts and dashboard exist, and checks them by Prometheus' own rules.
#[track_caller]
fn check_what_reads_them(text: &str) {
    let packaging = root().join("packaging");
    for file in ["prometheus/alerts.yml", "prometheus/alerts-test.yml", "grafana/tiershift.json"] {
        let content = std::fs::read_to_string(packaging.join(file)).unwrap();
        let words = content.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: BTreeSet<&str> =
            words.filter(|word| word.starts_with("tiershift_") && word.len() > 12).collect();
        assert!(names.len() > 3, "{file}: {names:?}");
        for name in names {
            let of = name.strip_suffix("_bucket").unwrap_or(name);
            // A machine without a GPU reports none.
            let is_there =
                text.contains(&format!("# TYPE {of} ")) || of.starts_with("tiershift_vram_");
            assert!(is_there, "{file} reads {name}, which nobody writes");
        }
    }
    let mut promtool = match Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(promtool) => promtool,
        Err(error) => {
            return skip("promtool", "figures_and_status_tell_what_happened", &error.to_string());
        }
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    let said = [checked.stdout, checked.stderr].map(|it| String::from_utf8(it).unwrap()).concat();
    assert!(checked.status.success() && said.trim().is_empty(), "{said}");
    let folder = packaging.join("prometheus");
    for words in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts-test.yml"],
        ["check", "config", "scrape.yml"],
    ] {
        let ran = Command::new("promtool").args(words).current_dir(&folder).output().unwrap();
        assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

/// Parses Prometheus' text format, and checks its rules.
#[track_caller]
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    let mut helped = None;
    let mut values = BTreeMap::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split_once(' ').map(|(name, _)| name);
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(helped, Some(name), "HELP before TYPE: {line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "told once: {line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_histogram = base.is_some_and(|base| kinds.get(base) == Some(&"histogram"));
        assert!(is_histogram || kinds.contains_key(name), "it has a TYPE: {line}");
        let is_new = values.insert(series.to_owned(), value.parse().unwrap()).is_none();
        assert!(is_new, "one value a series: {line}");
    }
    values
}

#[test]
fn the_page_shows_what_the_daemon_does() {
    let test = "the_page_shows_what_the_daemon_does";
    let (Some(engine), Some(browser)) = (engine(test), Browser::start(test)) else { return };
    let folder = site(&[("a", gguf::TINY), ("b", gguf::SMALL)]);
    let mut daemon = serve(&engine, &folder);
    daemon.wait_for("the upgrade", |status| status["tier"] == "medium");
    let origin = format!("http://127.0.0.1:{}", daemon.port);
    browser.open(&format!("{origin}/"));
    let text_is = |id: &str, text: &str| {
        format!("return document.getElementById('{id}').textContent.includes('{text}')")
    };
    browser.wait_for("the tier", &text_is("tier", "medium"));
    browser.wait_for("the connection", &text_is("link", "live"));
    browser.wait_for("its reason", &text_is("why", "the highest tier serves"));
    browser.wait_for("what was before the page", &text_is("decisions", "small with a"));

    // The page shows what the daemon does without a reload.
    assert!(daemon.ask(&chat("the cat", 4)).rest().contains("data: [DONE]"));
    browser.wait_for("the request", &text_is("requests", "done1"));

    // An order is sent from the page only after confirmation.
    let order = "document.getElementById('order-tier').value = 'small'; \
                 document.querySelector('#orders button').click()";
    browser.run(order);
    browser.wait_for("the question", &text_is("confirm-text", "Stay on small until"));
    browser.run("document.getElementById('confirm-no').click()");
    assert_eq!(browser.run("return document.getElementById('confirm').open"), false);
    assert!(json(&daemon.get("/status"))["order"].is_null());
    browser.run(order);
    browser.run("document.getElementById('confirm-yes').click()");
    browser.wait_for("the answer", &text_is("order-answer", "Ordered: it follows"));
    browser.wait_for("the tier", &text_is("tier", "small"));
    browser.wait_for("the decision", &text_is("decisions", "to small: someone asked for it"));
    browser.wait_for(
        "the order",
        &text_is("order", "Somebody ordered small: it stays in effect until"),
    );
    browser.wait_for("the gates", "return document.querySelectorAll('#why li').length > 0");

    // Every control is reachable with the keyboard, and has a name.
    browser.run("document.body.focus()");
    let mut reached = Vec::new();
    for _ in 0..12 {
        browser.press(TAB);
        let id =
            browser.run("return document.activeElement.id || document.activeElement.name || ''");
        let id = id.as_str().unwrap().to_owned();
        if !id.is_empty() {
            let name = browser.focused_name();
            assert!(!name.is_empty(), "{id} has no name");
        }
        if id == "plot" {
            browser.press(LEFT);
            browser.wait_for("the moment before", &text_is("moment", " ago: "));
        }
        reached.push(id);
    }
    for id in ["order-tier", "order-for", "range", "plot", "decisions"] {
        assert!(reached.iter().any(|it| it == id), "{id} is not reached: {reached:?}");
    }

    // With a pointer, too.
    browser.run("document.activeElement.blur(); document.getElementById('plot').scrollIntoView()");
    let place = "const box = document.getElementById('plot').getBoundingClientRect(); \
                 return [box.left + box.width / 2, box.top + 70].map(Math.round)";
    let place = browser.run(place);
    browser.point_at(place[0].as_u64().unwrap(), place[1].as_u64().unwrap());
    browser.wait_for("the moment before", &text_is("moment", " ago: "));
    browser.point_at(1, 1);
    browser.wait_for("the present", &text_is("moment", "now: "));

    // On a narrow screen nothing overflows at the side.
    browser.set_width(360);
    let wide = "return [...document.querySelectorAll('body *')].filter((e) => !e.closest('.skip') && \
                e.getBoundingClientRect().right > 360.5).map((e) => e.outerHTML.slice(0, 80))";
    browser.wait_for(
        "a narrow plot",
        "return document.querySelector('#plot .uplot').clientWidth < 360",
    );
    assert_eq!(browser.run(wide), serde_json::json!([]));
    let overflows = "return document.documentElement.scrollWidth > innerWidth";
    assert_eq!(browser.run(overflows), false);

    // Nothing was fetched from other hosts, and the browser logged no error.
    let fetched = browser.requests();
    assert!(fetched.iter().any(|url| url.ends_with("/events")), "{fetched:?}");
    assert!(fetched.iter().all(|url| url.starts_with(&origin)), "{fetched:?}");
    let complaints = browser.log("browser");
    assert!(complaints.is_empty(), "{complaints:?}");

    // A stopped daemon is recognised by the age of its last reading, although the connection still exists.
    signal("STOP", daemon.child.id());
    browser.wait_for("the age", &text_is("link", "no reading since "));
    browser.wait_for("the title", "return document.title.startsWith('no reading')");
    signal("CONT", daemon.child.id());
    browser.wait_for("the next reading", &text_is("link", "live"));
    browser.wait_for("the title", "return document.title === 'small – tiershift'");

    // The daemon's end is shown, too, and an open page does not prevent it.
    daemon.stop();
    browser.wait_for("the end", &text_is("link", "connection lost"));
    assert_eq!(
        browser.run("return getComputedStyle(document.querySelector('main')).opacity"),
        "0.6"
    );
}

/// Keys, by WebDriver's numbers.
const TAB: char = '\u{e004}';
const LEFT: char = '\u{e012}';
