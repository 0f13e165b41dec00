//! Rules about the code, held by reading it. Each rule is a function from text to findings, tested on small texts.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::{files, root, short};

/// A layer: who lives there, and what they may import besides each other.
struct Layer {
    name: &'static str,
    modules: &'static [&'static str],
    /// Layers whose modules may be imported.
    may_import: &'static [&'static str],
    /// Modules that may not, although their layer may.
    never: &'static [&'static str],
}

/// Who may import whom. See ARCHITECTURE.
const LAYERS: [Layer; 9] = [
    Layer { name: "words", modules: &["units", "time", "rng"], may_import: &[], never: &[] },
    Layer {
        name: "facts",
        modules: &[
            "sample",
            "catalog",
            "calibration",
            "hardware",
            "request",
            "event",
            "settings",
            "words",
        ],
        may_import: &["words"],
        never: &["rng"],
    },
    Layer {
        name: "deciders",
        modules: &["scaler", "manager", "controller"],
        may_import: &["words", "facts"],
        never: &["rng"],
    },
    Layer {
        name: "files",
        modules: &["trace", "scenario", "log", "summary", "document", "whole_file"],
        may_import: &["words", "facts"],
        never: &[],
    },
    Layer {
        name: "edges",
        modules: &["probe", "backend"],
        may_import: &["words", "facts", "files"],
        never: &[],
    },
    // Reads the machine into a trace: a loop like the driver's, without a controller.
    Layer {
        name: "loops",
        modules: &["driver", "sim", "live", "record"],
        may_import: &["words", "facts", "deciders", "files", "edges"],
        never: &[],
    },
    // What is done with whole runs: set one up from a recording, check it against its story, play it again.
    Layer {
        name: "studies",
        modules: &["replay", "suite", "verify", "study"],
        may_import: &["words", "facts", "deciders", "files", "edges", "loops"],
        never: &[],
    },
    Layer {
        name: "readers",
        modules: &["report"],
        may_import: &["words", "facts", "files", "studies"],
        never: &["rng", "scenario"],
    },
    Layer {
        name: "entry",
        modules: &["cli", "main", "lib"],
        may_import: &[
            "words", "facts", "deciders", "files", "edges", "loops", "studies", "readers",
        ],
        never: &[],
    },
];

/// Pairs of one layer that must not know each other.
const STRANGERS: [(&str, &str); 2] = [("scaler", "manager"), ("manager", "scaler")];

/// Returns the imports of a module that its layer forbids.
fn forbidden_imports(module: &str, code: &str) -> Vec<String> {
    let Some(layer) = LAYERS.iter().find(|layer| layer.modules.contains(&module)) else {
        return vec![format!("module `{module}` is in no layer: give it one in tests/it/tidy.rs")];
    };
    let mut findings = Vec::new();
    for target in imports(code) {
        if target == module {
            continue;
        }
        let Some(home) = LAYERS.iter().find(|layer| layer.modules.contains(&target.as_str()))
        else {
            findings.push(format!("imports `{target}`, which is in no layer"));
            continue;
        };
        let is_near = home.name == layer.name || layer.may_import.contains(&home.name);
        let is_stranger = STRANGERS.contains(&(module, &target));
        if !is_near || is_stranger || layer.never.contains(&target.as_str()) {
            findings.push(format!("{} `{module}` imports {} `{target}`", layer.name, home.name));
        }
    }
    findings
}

/// Returns the modules of ours that code names: `crate::x` wherever it stands, and each of `crate::{x, y}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (place, prefix) in code.match_indices("crate::") {
        let is_word_end =
            code[..place].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let rest = &code[place + prefix.len()..];
        if is_word_end {
            continue;
        }
        if let Some(group) = rest.strip_prefix('{') {
            let group = &group[..group.find("};").unwrap_or(group.len())];
            found.extend(group.split(',').map(first_word).filter(|word| !word.is_empty()));
        } else {
            found.insert(first_word(rest));
        }
    }
    found
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Returns code without comments, and without the module of tests that ends a file.
fn without_comments_and_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'))
        {
            break;
        }
        let end = line.find("//").filter(|&at| !line[..at].ends_with(':')).unwrap_or(line.len());
        code.push_str(&line[..end]);
        code.push('\n');
    }
    code
}

/// Returns the words of `banned` that code uses, whole words only.
fn uses<'a>(code: &str, banned: &[&'a str]) -> Vec<&'a str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let occurs = |word: &&&str| {
        code.match_indices(**word).any(|(at, _)| {
            !code[..at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part)
        })
    };
    banned.iter().filter(occurs).copied().collect()
}

/// Returns whether a `match` of the code has an arm for whatever is left.
fn has_catch_all_arm(code: &str) -> bool {
    code.lines().any(|line| {
        let line = line.trim();
        line.starts_with("_ =>") || line.starts_with("_ if ") || line.contains("| _ =>")
    })
}

/// Returns the lines of a text that tell of somebody's machine, or of where packages come from.
fn traces_of_a_machine(text: &str) -> Vec<String> {
    // Put together here, so that this file does not break its own rule.
    let folders = ["home", "root", "Users", "work", "tmp/brief"].map(|name| format!("/{name}/"));
    let hosts = [["crates", "io"], ["pypi", "org"], ["npmjs", "com"]].map(|parts| parts.join("."));
    let begins_path = |line: &str, at: usize| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}>*".contains(c))
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| {
            let tells = |folder: &String| {
                line.match_indices(folder.as_str()).any(|(at, _)| begins_path(line, at))
            };
            folders.iter().any(tells) || hosts.iter().any(|host| line.contains(host.as_str()))
        })
        .map(|(number, line)| format!("line {}: {line}", number + 1))
        .collect()
}

/// Returns the modules that a file declares for tests only: `#[cfg(test)]` before `mod x;`.
fn test_modules(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0] == "#[cfg(test)]")
        .filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned))
        .collect()
}

/// A file of the library, with what is needed to judge it.
struct Source {
    name: String,
    /// The module of the crate that it belongs to.
    module: String,
    text: String,
    is_test: bool,
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let paths: Vec<_> = files(&src)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect();
    let mut tests = BTreeSet::new();
    for path in &paths {
        for module in test_modules(&fs::read_to_string(path).unwrap()) {
            tests.insert(path.with_extension("").join(module).with_extension("rs"));
        }
    }
    assert!(paths.len() > 50, "the sources were not found: {}", paths.len());
    paths
        .iter()
        .map(|path| {
            let below = path.strip_prefix(&src).unwrap();
            let first = below.components().next().unwrap();
            Source {
                name: short(path),
                module: Path::new(first.as_os_str()).with_extension("").display().to_string(),
                text: fs::read_to_string(path).unwrap(),
                is_test: tests.contains(path),
            }
        })
        .collect()
}

#[track_caller]
fn check_sources(rule: impl Fn(&Source) -> Vec<String>) {
    let findings: Vec<String> = sources()
        .iter()
        .flat_map(|source| {
            rule(source).into_iter().map(|finding| format!("{}: {finding}", source.name))
        })
        .collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn layers_import_downwards_only() {
    check_sources(|source| {
        if source.is_test {
            return Vec::new();
        }
        forbidden_imports(&source.module, &without_comments_and_tests(&source.text))
    });
}

#[test]
fn nothing_that_differs_between_runs_is_used() {
    check_sources(|source| {
        let code = without_comments_and_tests(&source.text);
        let mut findings = uses(&code, &NOT_REPEATABLE);
        findings.retain(|word| !CLOCKS.contains(&(source.name.as_str(), word)));
        findings.iter().map(|word| format!("uses {word}")).collect()
    });
}

#[test]
fn nothing_is_left_unfinished_or_silenced() {
    check_sources(|source| {
        let code = without_comments_and_tests(&source.text);
        let words = uses(&code, &UNFINISHED).into_iter().map(|word| format!("uses {word}"));
        let silenced = ["#[allow", "#![allow", "#[ignore", "#![feature"];
        let silenced = silenced.iter().filter(|text| source.text.contains(**text));
        words.chain(silenced.map(|text| format!("has {text}"))).collect()
    });
}

#[test]
fn every_case_of_the_lifecycle_is_written() {
    let path = root().join("src/manager/lifecycle.rs");
    let code = without_comments_and_tests(&fs::read_to_string(path).unwrap());
    assert!(code.contains("match "), "the lifecycle has moved: tell this test where");
    assert!(!has_catch_all_arm(&code));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    check_sources(|source| {
        let mut findings = Vec::new();
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE {
            findings.push(format!("{lines} lines: split it by noun"));
        }
        // Tests are told by the module that they are a part of.
        if !source.is_test && !source.text.starts_with("//! ") {
            findings.push("does not begin with `//! `".to_owned());
        }
        if source.name.ends_with("/mod.rs") {
            findings.push("is a mod.rs: name it after its module".to_owned());
        }
        findings
    });
}

#[test]
fn no_file_tells_of_the_machine_that_made_it() {
    let mut findings = Vec::new();
    for path in files(root()) {
        let name = short(&path);
        // Cargo writes this file itself, with where each package is from.
        if name.ends_with("Cargo.lock") {
            continue;
        }
        // Pictures, fonts and packed traces are no text.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        findings.extend(traces_of_a_machine(&text).iter().map(|line| format!("{name}: {line}")));
    }
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn every_scenario_says_what_must_happen_and_has_its_golden_story() {
    let folder = root().join("scenarios");
    let mut findings = Vec::new();
    let mut names = BTreeSet::new();
    for path in files(&folder) {
        let name = short(&path);
        if path.extension().is_some_and(|e| e == "toml") {
            if !fs::read_to_string(&path).unwrap().starts_with("# ") {
                findings.push(format!("{name}: begins with no comment"));
            }
            if path.parent() == Some(folder.as_path()) {
                names.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    assert!(names.len() >= 20, "the scenarios were not found: {names:?}");
    let golden: BTreeSet<String> = files(&folder)
        .iter()
        .filter(|path| path.parent().is_some_and(|parent| parent.ends_with("golden")))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    findings.extend(names.difference(&golden).map(|name| {
        format!("scenarios/{name}.toml: no golden story; once it is right: tiershift check --bless")
    }));
    findings.extend(
        golden.difference(&names).map(|name| {
            format!("scenarios/golden/{name}.txt: the story of no scenario; remove it")
        }),
    );
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn every_format_is_listed_for_readers_and_on_the_command_line() {
    let presets: BTreeSet<String> = files(&root().join("src/trace/import/presets"))
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let known: BTreeSet<String> = tiershift::trace::Format::known()
        .iter()
        .map(|format| format.name().to_owned())
        .filter(|name| !name.starts_with("tiershift-"))
        .collect();
    assert_eq!(presets, known, "files in presets/, and formats that are built in");
    let list = fs::read_to_string(root().join("src/trace/import/mapping.md")).unwrap();
    let listed: BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(listed, known, "formats that mapping.md lists, and formats that are built in");
}

#[test]
fn every_trace_says_how_it_was_made() {
    let folder = root().join("traces");
    let told = fs::read_to_string(folder.join("README.md")).expect("there is a traces/README.md");
    let untold: Vec<String> = files(&folder)
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .filter(|name| name != "README.md" && !told.contains(name.as_str()))
        .collect();
    assert!(untold.is_empty(), "traces/README.md does not name {untold:?}");
}

#[test]
fn the_rule_of_layers_finds_what_it_forbids() {
    let check = |module: &str, code: &str, want: &[&str]| {
        let got = forbidden_imports(module, &without_comments_and_tests(code));
        assert_eq!(got, want, "{module}: {code}");
    };
    check("scaler", "use crate::time::Timestamp;\nuse crate::event::Decision;\n", &[]);
    check(
        "scaler",
        "use crate::manager::Manager;\n",
        &["deciders `scaler` imports deciders `manager`"],
    );
    check("scaler", "let x = crate::rng::Seed(1);\n", &["deciders `scaler` imports words `rng`"]);
    check("scaler", "// use crate::sim::World;\n/// [`crate::sim`]\n", &[]);
    check("scaler", "#[cfg(test)]\nmod tests {\n    use crate::rng::Seed;\n}\n", &[]);
    check(
        "units",
        "use crate::{\n    time,\n    sample::Sample,\n};\n",
        &["words `units` imports facts `sample`"],
    );
    check(
        "report",
        "use crate::controller::Controller;",
        &["readers `report` imports deciders `controller`"],
    );
    check(
        "probe",
        "pub(crate) use crate::scaler::X;",
        &["edges `probe` imports deciders `scaler`"],
    );
    check("sim", "use crate::nowhere::X;", &["imports `nowhere`, which is in no layer"]);
    check("novelty", "", &["module `novelty` is in no layer: give it one in tests/it/tidy.rs"]);
}

#[test]
fn the_rule_of_words_finds_whole_words_in_code_only() {
    let check = |text: &str, want: &[&str]| {
        assert_eq!(uses(&without_comments_and_tests(text), &NOT_REPEATABLE), want, "{text}");
    };
    check("let map: HashMap<u8, u8>;", &["HashMap"]);
    check("let map: MyHashMap<u8, u8>;", &[]);
    check("// no HashMap here", &[]);
    check("let x = 1; // no HashMap here", &[]);
    check("let now = std::time::Instant::now();", &["Instant::now"]);
    assert_eq!(uses("todo!()", &UNFINISHED), ["todo!"]);
}

#[test]
fn the_rule_of_arms_finds_catch_alls() {
    let check = |code: &str, want: bool| assert_eq!(has_catch_all_arm(code), want, "{code}");
    check("    _ => {}", true);
    check("    (State::Ready, _) => {}", false);
    check("    A | _ => {}", true);
    check("    _ if late => {}", true);
    check("    Some(_) => {}", false);
}

#[test]
fn the_rule_of_machines_finds_folders_and_hosts() {
    let check = |text: &str, is_found: bool| {
        assert_eq!(!traces_of_a_machine(text).is_empty(), is_found, "{text}");
    };
    check(&format!("see /{}/me/file", "home"), true);
    check(&format!("(\"/{}/x\")", "root"), true);
    check(&format!("catalogs/{}station.toml", "work"), false);
    check(&format!("a/{}/b", "work"), false);
    check(&format!("https://{}.{}/x", "crates", "io"), true);
    check("a plain line", false);
}

#[test]
fn modules_of_tests_are_told_from_the_others() {
    let text = "mod a;\n#[cfg(test)]\nmod tests;\n#[cfg(feature = \"x\")]\nmod b;\n";
    assert_eq!(test_modules(text), ["tests"]);
}

/// What may differ between two runs of the same thing.
const NOT_REPEATABLE: [&str; 13] = [
    "HashMap",
    "HashSet",
    "Instant::now",
    "SystemTime",
    "Zoned::now",
    "Timestamp::now",
    "thread_rng",
    "StdRng",
    "SmallRng",
    "from_os_rng",
    "from_entropy",
    "RandomState",
    "OsRng",
];

/// The places that read a clock: the one that all are told the time by, and the date at the head of a recording.
const CLOCKS: [(&str, &str); 2] =
    [("src/time.rs", "Instant::now"), ("src/record.rs", "Timestamp::now")];

const UNFINISHED: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

/// Half of the best files of this field have 150 to 300 lines.
const LONGEST_FILE: usize = 600;
