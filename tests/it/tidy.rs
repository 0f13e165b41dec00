//! Rules about the code, checked by reading it. Each rule is a function from text to findings, tested on small texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{files, root, short};

/// The floors of a crate, from the lowest up: a module may import only from floors below its own.
type Floors = Vec<Vec<String>>;

/// Returns the floors of a crate from the table in ARCHITECTURE.md, rows of `| crate | floor | modules |`, highest first.
fn floors(architecture: &str, krate: &str) -> Floors {
    let modules = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let mut floors: Floors = architecture
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells.len() >= 5 && cells[1] == krate).then(|| modules(cells[3]))
        })
        .collect();
    floors.reverse();
    floors
}

/// Returns the imports of a module that its floor forbids.
fn forbidden_imports(floors: &Floors, module: &str, code: &str) -> Vec<String> {
    let floor = |module: &str| {
        floors.iter().position(|floor| floor.iter().any(|neighbour| neighbour == module))
    };
    let Some(own) = floor(module) else {
        return vec![format!("module `{module}` is on no floor: give it one in ARCHITECTURE.md")];
    };
    let targets = imports(code).into_iter().filter(|target| target != module);
    targets
        .filter_map(|target| match floor(&target) {
            None => Some(format!("imports `{target}`, which is on no floor")),
            Some(other) if other >= own => {
                Some(format!("`{module}` imports `{target}`, which is not below it"))
            }
            Some(_) => None,
        })
        .collect()
}

/// Returns the files that a file imports, directly or indirectly.
fn reached_from<'a>(
    imports: &'a BTreeMap<String, BTreeSet<String>>,
    start: &'a str,
) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![start];
    while let Some(file) = next.pop() {
        let targets = imports.get(file).into_iter().flatten().map(String::as_str);
        next.extend(targets.filter(|target| reached.insert(*target)));
    }
    reached
}

/// Returns a crate's circles of files that import each other. A file and the root file of its module count as one:
/// each of them knows the other.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reached_from(imports, file))).collect();
    let circle = |file: &str| -> BTreeSet<&str> {
        let back = |other: &&&str| reached.get(**other).is_some_and(|from| from.contains(file));
        reached[file].iter().filter(back).copied().collect()
    };
    let circles: BTreeSet<BTreeSet<&str>> = imports.keys().map(|file| circle(file)).collect();
    circles.into_iter().filter(|circle| !circle.is_empty()).collect()
}

/// Returns which files of a crate each file imports, by their paths below `src`, without the root files of its own modules.
fn imports_of_files(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let name = |source: &Source| source.below.with_extension("").display().to_string();
    let names: BTreeSet<String> = sources.iter().map(name).collect();
    let file_of = |path: &str| {
        let parts: Vec<&str> = path.split("::").collect();
        (1..=parts.len()).rev().map(|n| parts[..n].join("/")).find(|name| names.contains(name))
    };
    let is_one =
        |a: &str, b: &str| a.starts_with(&format!("{b}/")) || b.starts_with(&format!("{a}/"));
    sources
        .iter()
        .filter(|source| !source.is_test)
        .map(|source| {
            let own = name(source);
            let code = without_comments_and_tests(&source.text);
            let targets = paths(&code).iter().filter_map(|path| file_of(path)).collect::<Vec<_>>();
            let targets = targets.into_iter().filter(|other| *other != own && !is_one(&own, other));
            (own.clone(), targets.collect())
        })
        .collect()
}

/// Returns our own paths in code, without `crate::`; for `crate::x::{y, z}`, each of them.
fn paths(code: &str) -> BTreeSet<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = BTreeSet::new();
    for (place, prefix) in code.match_indices("crate::") {
        if code[..place].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[place + prefix.len()..];
        let path: String = rest.chars().take_while(|c| is_path(*c)).collect();
        match rest[path.len()..].strip_prefix('{') {
            Some(group) => {
                let group = &group[..group.find('}').unwrap_or(group.len())];
                let names = group.split(',').map(first_word).filter(|name| !name.is_empty());
                found.extend(names.map(|name| format!("{path}{name}")));
            }
            None => _ = found.insert(path),
        }
    }
    found
}

/// Returns our own modules in code: `crate::x` anywhere, and each of `crate::{x, y}`.
fn imports(code: &str) -> BTreeSet<String> {
    paths(code).iter().map(|path| first_word(path)).collect()
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Returns code without comments, and without the test module at the end of a file.
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

/// Returns whether a `match` in the code has a catch-all arm.
fn has_catch_all_arm(code: &str) -> bool {
    code.lines().any(|line| {
        let line = line.trim();
        line.starts_with("_ =>") || line.starts_with("_ if ") || line.contains("| _ =>")
    })
}

/// Returns the lines of a text that name a person's machine or a package host.
fn traces_of_a_machine(text: &str) -> Vec<String> {
    // Assembled here, so that this file does not break its own rule.
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

/// Returns the modules that a file declares only for tests: `#[cfg(test)]` before `mod x;`.
fn test_modules(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0] == "#[cfg(test)]")
        .filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned))
        .collect()
}

/// A file of one of the crates, with the data needed to judge it.
struct Source {
    name: String,
    krate: &'static str,
    /// Its path below the crate's `src`.
    below: PathBuf,
    text: String,
    is_test: bool,
}

impl Source {
    /// The module of the crate that the file belongs to.
    fn module(&self) -> String {
        let first = self.below.components().next().unwrap();
        Path::new(first.as_os_str()).with_extension("").display().to_string()
    }
}

fn sources() -> Vec<Source> {
    CRATES.iter().flat_map(|&(krate, src)| sources_of(krate, src)).collect()
}

fn sources_of(krate: &'static str, src: &str) -> Vec<Source> {
    let src = root().join(src);
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
    assert!(paths.len() > 20, "the sources of {krate} were not found: {}", paths.len());
    let source = |path: &PathBuf| Source {
        name: short(path),
        krate,
        below: path.strip_prefix(&src).unwrap().to_owned(),
        text: fs::read_to_string(path).unwrap(),
        is_test: tests.contains(path),
    };
    paths.iter().map(source).collect()
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
fn modules_import_from_lower_floors_only() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    check_sources(|source| {
        let module = source.module();
        if source.is_test || ["lib", "main"].contains(&module.as_str()) {
            return Vec::new();
        }
        let floors = floors(&architecture, source.krate);
        forbidden_imports(&floors, &module, &without_comments_and_tests(&source.text))
    });
}

#[test]
fn every_module_on_a_floor_exists() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (krate, src) in CRATES {
        let there: BTreeSet<String> = sources_of(krate, src)
            .iter()
            .map(Source::module)
            .filter(|m| m != "lib" && m != "main")
            .collect();
        let floors = floors(&architecture, krate);
        let named: BTreeSet<String> = floors.into_iter().flatten().collect();
        assert_eq!(named, there, "modules of {krate} in ARCHITECTURE.md, and in {src}");
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for (krate, src) in CRATES {
        let imports = imports_of_files(&sources_of(krate, src));
        assert_eq!(circles(&imports), Vec::<BTreeSet<&str>>::new(), "{krate}");
    }
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
    let path = root().join("core/src/manager/lifecycle.rs");
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
        // The module describes its tests.
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
        // Cargo writes this file, including the origin of each package.
        if name.ends_with("Cargo.lock") {
            continue;
        }
        // Pictures, fonts and packed traces are not text.
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
    let museum = folder.join("museum");
    for path in files(&folder) {
        let name = short(&path);
        if path.extension().is_some_and(|e| e == "toml") {
            if !fs::read_to_string(&path).unwrap().starts_with("# ") {
                findings.push(format!("{name}: begins with no comment"));
            }
            if path.parent() == Some(folder.as_path()) || path.parent() == Some(museum.as_path()) {
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
    let page = fs::read_to_string(root().join("docs/formats.md")).unwrap();
    let unlisted: Vec<_> =
        known.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(unlisted.is_empty(), "docs/formats.md does not list {unlisted:?}");
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
fn the_rule_of_floors_finds_what_it_forbids() {
    let table =
        "| c | top | `policy` `manager` |\n| c | bottom | `time` `units` |\n| d | x | `rng` |";
    let floors = floors(table, "c");
    assert_eq!(floors, [["time", "units"], ["policy", "manager"]]);
    let check = |module: &str, code: &str, want: &[&str]| {
        let got = forbidden_imports(&floors, module, &without_comments_and_tests(code));
        assert_eq!(got, want, "{module}: {code}");
    };
    check("policy", "use crate::time::Timestamp;\nuse crate::policy::Gate;\n", &[]);
    let beside = "`policy` imports `manager`, which is not below it";
    check("policy", "use crate::manager::Manager;\n", &[beside]);
    check("policy", "let x = crate::rng::Seed(1);\n", &["imports `rng`, which is on no floor"]);
    check("policy", "// use crate::manager::World;\n/// [`crate::manager`]\n", &[]);
    check("policy", "#[cfg(test)]\nmod tests {\n    use crate::manager::Manager;\n}\n", &[]);
    let above = "`units` imports `policy`, which is not below it";
    check("units", "use crate::{\n    units,\n    policy::Policy,\n};\n", &[above]);
    check("units", "pub(crate) use crate::policy::X;", &[above]);
    check("novelty", "", &["module `novelty` is on no floor: give it one in ARCHITECTURE.md"]);
}

#[test]
fn the_rule_of_circles_finds_them_whatever_their_length() {
    let check = |arrows: &[(&str, &[&str])], want: &[&[&str]]| {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let imports = arrows.iter().map(|&(from, to)| (from.to_owned(), owned(to))).collect();
        let want: Vec<BTreeSet<&str>> = want.iter().map(|c| c.iter().copied().collect()).collect();
        assert_eq!(circles(&imports), want, "{arrows:?}");
    };
    check(&[("a", &["b"]), ("b", &["c"]), ("c", &[])], &[]);
    check(&[("a", &["b"]), ("b", &["a"])], &[&["a", "b"]]);
    check(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &["a"])], &[&["a", "b", "c"]]);
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

/// The places that read a clock: the clock of all runs, and the date at the head of a recording.
const CLOCKS: [(&str, &str); 2] =
    [("src/probe/clock.rs", "Instant::now"), ("src/probe/clock.rs", "Timestamp::now")];

/// The published crates, and the folders of their code.
const CRATES: [(&str, &str); 2] = [("core", "core/src"), ("tiershift", "src")];

const UNFINISHED: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

/// Half of the best files of comparable projects have 150 to 300 lines.
const LONGEST_FILE: usize = 600;
