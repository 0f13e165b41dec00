//! HTML pages in a real browser, opened from a file: each draws itself, works by keyboard and pointer, follows the
//! accessibility rules in light and dark, fits a phone, prints, and fetches nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tiershift_testkit::skip::skip;

use crate::live::KEPT;
use crate::live::browser::Browser;
use crate::support::{root, run_in, trace};

/// Opens a page from its file and waits until it is drawn.
fn open(browser: &Browser, page: &Path) {
    browser.open(&format!("file://{}", page.display()));
    browser.wait_for("the page", "return document.body.classList.contains('drawn')");
}

/// Returns a script's answer as text.
fn text(browser: &Browser, script: &str) -> String {
    browser.run(&format!("return {script}")).as_str().unwrap_or_default().to_owned()
}

/// Asserts that the browser fetched only the page itself and logged no error.
#[track_caller]
fn fetched_nothing(browser: &Browser, page: &Path) {
    let fetched: Vec<String> = browser.requests();
    let own = format!("file://{}", page.display());
    assert!(fetched.contains(&own), "{fetched:?}");
    assert!(fetched.iter().all(|url| *url == own), "{fetched:?}");
    let complaints = browser.log("browser");
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn a_page_is_read_by_keyboard_and_pointer_and_fetches_nothing() {
    let test = "a_page_is_read_by_keyboard_and_pointer_and_fetches_nothing";
    let Some(browser) = Browser::start(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    fs::write(folder.path().join("host.csv"), trace(&HOUR)).unwrap();
    run_in(folder.path(), "replay host.csv --html page.html --out run").exits(0);
    open(&browser, &page);

    // The page shows the run: the text for the current moment is that of `explain`.
    let names = "[...document.querySelectorAll('.panel h3')].map((it) => it.textContent).join()";
    assert_eq!(
        text(&browser, names),
        "memory (GiB),tier,gates: what kept a higher tier away,processor (%)"
    );
    let dark = "const c = document.querySelector('canvas'), \
        d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
        return new Set(new Uint32Array(d.buffer)).size > 20";
    assert_eq!(browser.run(dark), true, "something is drawn");
    let jumps = "const all = [...document.querySelectorAll('#decisions button')]; all[1].click(); \
        return all.length";
    assert!(browser.run(jumps).as_u64() >= Some(3));
    let at = text(&browser, "document.getElementById('moment-time').textContent");
    let since = at.split_once(' ').unwrap().0.replacen(':', "h", 1).replacen(':', "m", 1);
    let explained = run_in(folder.path(), &format!("explain run --at {since}s")).exits(0).out;
    let said = text(&browser, "document.getElementById('moment-said').textContent");
    assert!(said.starts_with("downgrade") && explained.contains(&said), "{said}\n{explained}");

    // Every control is reachable by keyboard, and has a name; the arrow keys move the moment by one reading.
    browser.run("document.getElementById('moment').focus()");
    assert!(browser.focused_name().starts_with("Moment that is read"));
    let place = || {
        let now = "document.getElementById('moment').getAttribute('aria-valuenow')";
        text(&browser, now).parse::<i64>().unwrap()
    };
    let before = place();
    browser.press(LEFT);
    assert_eq!(place(), before - 1);
    browser.press('n');
    browser.press('+');
    browser.press('0');
    assert!(place() > before - 1);
    for id in ["before", "after", "in", "out", "all"] {
        browser.press(TAB);
        assert_eq!(text(&browser, "document.activeElement.id"), id);
        assert!(!browser.focused_name().is_empty());
    }

    // A pointer over any panel moves the cursors of all.
    let over = "const box = document.querySelectorAll('.u-over')[0]; box.scrollIntoView({block: 'center'}); \
        const {left, top, width} = box.getBoundingClientRect(); return [left + width / 4, top + 20].map(Math.round)";
    let spot = browser.run(over);
    let before = place();
    browser.point_at(spot[0].as_u64().unwrap(), spot[1].as_u64().unwrap());
    browser.wait_for(
        "the moment",
        &format!(
            "return document.getElementById('moment').getAttribute('aria-valuenow') !== '{before}'"
        ),
    );
    let apart = "const at = [...document.querySelectorAll('.u-cursor-x')].map((it) => it.getBoundingClientRect().left); \
        return Math.max(...at) - Math.min(...at)";
    assert!(browser.run(apart).as_f64().unwrap() < 2.0);

    // On paper and on a phone nothing overflows at the side.
    for width in [360, 1280] {
        browser.set_width(width);
        browser.wait_for("the width", &format!("return Math.abs(document.querySelector('canvas').getBoundingClientRect().right - {width}) < 120"));
        assert_eq!(browser.run("return document.documentElement.scrollWidth > innerWidth"), false);
    }
    let printed = browser.cdp("Page.printToPDF", &json!({}));
    assert!(printed["data"].as_str().unwrap().len() > 20_000);
    fetched_nothing(&browser, &page);
}

#[test]
fn a_hostile_name_is_a_name() {
    let Some(browser) = Browser::start("a_hostile_name_is_a_name") else { return };
    let folder = tempfile::tempdir().unwrap();
    let hostile = "<img src=x onerror=document.title=1>&{{data}}.csv";
    fs::write(folder.path().join(hostile), trace(&HOUR)).unwrap();
    fs::write(folder.path().join("models.toml"), CATALOG).unwrap();
    run_in(folder.path(), &format!("replay '{hostile}' --catalog models.toml --html page.html"))
        .exits(0);
    let page = folder.path().join("page.html");
    open(&browser, &page);
    assert_eq!(text(&browser, "document.querySelector('h1').textContent"), hostile);
    assert_eq!(text(&browser, "document.title"), format!("{hostile} – tiershift"));
    let said = text(&browser, "document.getElementById('decisions').textContent");
    assert!(said.contains("</script><b>x</b>"), "{said}");
    assert_eq!(browser.run("return document.querySelectorAll('img, #decisions b').length"), 0);
    fetched_nothing(&browser, &page);
}

#[test]
fn pages_keep_to_the_rules_of_accessibility_in_light_and_dark() {
    let test = "pages_keep_to_the_rules_of_accessibility_in_light_and_dark";
    let Some(browser) = Browser::start(test) else { return };
    let folder = Path::new(KEPT).join("axe");
    let script = root().join("scripts/get-axe.sh");
    let got = Command::new("bash").arg(script).arg(&folder).output().unwrap();
    if !got.status.success() {
        return skip("axe", test, &String::from_utf8_lossy(&got.stderr));
    }
    let rules = fs::read_to_string(folder.join("axe.min.js")).unwrap();
    let place = tempfile::tempdir().unwrap();
    let page = place.path().join("page.html");
    fs::write(place.path().join("busy.csv"), trace(&HOUR)).unwrap();
    fs::write(place.path().join("calm.csv"), trace(&[4.0; 60])).unwrap();
    let scenario = |name: &str| root().join("scenarios").join(name).display().to_string();
    let bare = "duration = \"10m\"\n[machine]\nmemory = \"16GiB\"\n[expect]\nswitches = 0\n";
    fs::write(place.path().join("fails.toml"), bare).unwrap();
    for (line, code) in [
        (format!("run {} --html page.html", scenario("day-night.toml")), 0),
        ("compare . --policies proactive,original,fixed --seeds 2 --html page.html".to_owned(), 0),
        (format!("check fails.toml {} --html page.html", scenario("stable.toml")), 1),
    ] {
        run_in(place.path(), &line).exits(code);
        for (theme, width) in [("light", 1280), ("dark", 1280), ("dark", 360)] {
            browser.set_width(width);
            let media = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
            browser.cdp("Emulation.setEmulatedMedia", &media);
            open(&browser, &page);
            browser.run("for (const it of document.querySelectorAll('details')) it.open = true");
            browser.run(&rules);
            let broken = "return axe.run(document).then((found) => found.violations.map((rule) => \
                rule.id + ': ' + rule.nodes.map((node) => node.html.slice(0, 120)).join(' | ')))";
            let broken = browser.run(broken);
            assert_eq!(broken, Value::Array(vec![]), "{line}: {theme}, {width} pixels");
            assert_eq!(
                browser.run("return document.documentElement.scrollWidth > innerWidth"),
                false
            );
        }
    }
}

#[test]
fn a_comparison_is_sorted_picked_and_filtered_by_keyboard_and_fetches_nothing() {
    let test = "a_comparison_is_sorted_picked_and_filtered_by_keyboard_and_fetches_nothing";
    let Some(browser) = Browser::start(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("all")).unwrap();
    fs::write(folder.path().join("all/busy.csv"), trace(&HOUR)).unwrap();
    let hostile = "<img src=x onerror=document.title=1>&{{data}}.csv";
    fs::write(folder.path().join("all").join(hostile), trace(&HOUR)).unwrap();
    fs::write(folder.path().join("all/notes.txt"), "none\n").unwrap();
    let line = "compare all --policies proactive,original,fixed --html page.html";
    let json = run_in(folder.path(), &format!("{line} --json")).exits(0).json();
    let page = folder.path().join("page.html");
    open(&browser, &page);
    assert_eq!(
        text(&browser, "document.querySelector('h1').textContent"),
        "proactive, original, fixed on all"
    );
    let said = text(&browser, "document.getElementById('recordings').textContent");
    assert!(said.contains(hostile), "{said}");
    assert_eq!(browser.run("return document.querySelectorAll('img').length"), 0);
    let drawn = "return [...document.querySelectorAll('.u-wrap canvas')].every((c) => { \
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
        return new Set(new Uint32Array(d.buffer)).size > 20; })";
    assert_eq!(browser.run(drawn), true, "something is drawn in both charts");

    // A click on a column's head sorts by it, the best first, and the head states so.
    let head = "[...document.querySelectorAll('#overall thead th')].find((it) => it.textContent.startsWith('reversals'))";
    browser.run(&format!("({head}).querySelector('button').focus()"));
    assert!(browser.focused_name().starts_with("reversals"));
    browser.press(ENTER);
    assert_eq!(text(&browser, &format!("({head}).getAttribute('aria-sort')")), "ascending");
    let order = "[...document.querySelectorAll('#overall tbody button')].map((it) => it.textContent).join()";
    let mut want: Vec<(f64, usize, &str)> = Vec::new();
    for (place, overall) in json["overall"].as_array().unwrap().iter().enumerate() {
        let mean = overall["figures"]["reversals"]["mean"].as_f64().unwrap();
        want.push((mean, place, overall["policy"].as_str().unwrap()));
    }
    want.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let want: Vec<&str> = want.iter().map(|it| it.2).collect();
    assert_eq!(text(&browser, order), want.join(","));

    // A selected policy is selected everywhere.
    browser.run("document.querySelector('#overall button[data-policy=\"1\"]').focus()");
    browser.press(ENTER);
    assert_eq!(text(&browser, "document.getElementById('picked').value"), "1");
    assert_eq!(text(&browser, "document.querySelector('#policy h3').textContent"), "original");
    browser.run("document.getElementById('filter').focus()");
    for letter in "fix".chars() {
        browser.press(letter);
    }
    assert_eq!(text(&browser, "document.getElementById('shown').textContent"), "1 of 3 shown");
    let seen = "return [...document.querySelectorAll('#overall tbody tr')].filter((it) => !it.hidden).length";
    assert_eq!(browser.run(seen), 1);

    // Pointing at a dot shows its policy.
    let middle = "const box = document.querySelector('#front .u-over'); box.scrollIntoView({block: 'center'}); \
        const {left, top, width, height} = box.getBoundingClientRect(); return [left + width / 2, top + height / 2].map(Math.round)";
    let spot = browser.run(middle);
    browser.point_at(spot[0].as_u64().unwrap(), spot[1].as_u64().unwrap());
    browser.wait_for(
        "the dot",
        "return document.getElementById('front-spot').textContent.startsWith('fixed: quality')",
    );
    let printed = browser.cdp("Page.printToPDF", &json!({}));
    assert!(printed["data"].as_str().unwrap().len() > 20_000);
    fetched_nothing(&browser, &page);
}

/// An hour: others take most of the memory for ten minutes.
const HOUR: [f64; 60] = {
    let mut gib = [2.0; 60];
    let mut minute = 20;
    while minute < 30 {
        gib[minute] = 13.0;
        minute += 1;
    }
    gib
};

/// Two models with tier names that would end a script if they were read as markup.
const CATALOG: &str = r#"
[[model]]
id = "a"
tier = "<!-- small"
quality = "50%"
ram = "2GiB"
load-warm = "1s"
load-cold = "3s"
prefill-tokens-per-second = 300.0
decode-tokens-per-second = 30.0

[[model]]
id = "b"
tier = "</script><b>x</b>"
quality = "100%"
ram = "8GiB"
load-warm = "3s"
load-cold = "9s"
prefill-tokens-per-second = 100.0
decode-tokens-per-second = 10.0
"#;

const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';
const LEFT: char = '\u{e012}';
