use super::*;
use crate::study::museum::with_ideas;

/// A scenario in which the original thrashes, among much that has nothing to do with it.
const THRASHING: &str = r#"
# What the original does to a machine on which the large model fits and then does not.
seed = 137
duration = "11h"

[machine]
memory = "16384MiB"
swap = "4GiB"
cpus = 6

[physics]
page-cache-warm = true

[[background]]
resource = "memory"
shape = "sine"
from = "3GiB"
to = "6GiB"
period = "61m"

[[background]]
resource = "cpu"
shape = "noise"
amplitude = "7%"
every = "30s"

[[background]]
resource = "cpu"
shape = "constant"
level = "11%"
at = "3h"
until = "5h"

[[workload]]
kind = "poisson"
rate = "4/min"
prompt-tokens = 137
output-tokens = 50

[[fault]]
kind = "load-slow"
factor = 2.0
at = "6h"
until = "7h"

[[action]]
at = "9h"
switch = "auto"

[expect]
switches = { max = 30 }
reversals = { max = 1000 }
final-tier = "large"

[policy]
policy = "original"
price = "17s"
"#;

fn small(text: &str, keep: &str) -> Option<Minimised> {
    let policies = with_ideas(&Registry::built_in());
    let document: Table = text.parse().unwrap();
    minimise(&document, &keep.parse().unwrap(), 5000, Path::new(""), &policies)
}

#[test]
fn what_is_left_shows_the_same_in_a_few_lines_and_nothing_of_it_can_go() {
    let small = small(THRASHING, "expect switches").unwrap();
    assert!(!small.is_cut_off);
    assert!(small.shown.text.starts_with("switches: got "), "{}", small.shown.text);
    insta::assert_snapshot!(small.text);
    assert!(small.text.lines().count() <= 15);
    // Played alone it shows the same.
    let policies = with_ideas(&Registry::built_in());
    let again = shown(&small.text, Path::new(""), &policies);
    assert_eq!(again.first(), Some(&small.shown));
    // Reduced again, it does not change.
    let twice = self::small(&small.text, "expect switches").unwrap();
    assert_eq!(twice.text, small.text);
}

#[test]
fn the_same_scenario_becomes_the_same_small_one() {
    assert_eq!(small(THRASHING, "expect switches"), small(THRASHING, "expect switches"));
}

#[test]
fn what_is_not_shown_cannot_be_kept() {
    assert_eq!(small(THRASHING, "expect final-tier"), None);
    assert_eq!(small(THRASHING, "invariant L3"), None);
    assert!("invariant".parse::<Keep>().is_err());
    assert_eq!("invariant L3".parse::<Keep>().unwrap().to_string(), "invariant L3");
}

#[test]
fn the_bound_on_runs_holds() {
    let policies = with_ideas(&Registry::built_in());
    let document: Table = THRASHING.parse().unwrap();
    let keep = Keep::Expect("switches".to_owned());
    let cut = minimise(&document, &keep, 5, Path::new(""), &policies).unwrap();
    assert_eq!((cut.runs, cut.is_cut_off), (5, true));
    assert_eq!(shown(&cut.text, Path::new(""), &policies).first(), Some(&cut.shown));
}

#[test]
fn two_moments_of_one_kind_have_one_shape() {
    let shown = |text: &str| {
        let keep = Keep::Invariant("L3".to_owned());
        Shown { keep, text: text.to_owned(), side: None }.shape()
    };
    let one = shown("L3 at 38 s: m2 had room for 36 s and was not loaded");
    assert_eq!(one, "# at # had room for # and was not loaded");
    assert_eq!(shown("L3 at 1200.5 s: m0 had room for 9 s and was not loaded"), one);
    assert_ne!(shown("L3 at 38 s: nothing serves"), one);
}

#[test]
fn an_expectation_keeps_its_bound_and_is_missed_on_the_same_side() {
    let exact = THRASHING.replace("switches = { max = 30 }", "switches = 23");
    let small = small(&exact, "expect switches").unwrap();
    assert!(small.text.contains("switches = 23"), "{}", small.text);
    assert_eq!(small.shown.side, Some(Ordering::Greater), "{}", small.shown.text);
    let side = |got: &str, want: &str| {
        side(&Unmet { expectation: "quality", got: got.to_owned(), want: want.to_owned() })
    };
    assert_eq!(side("49.9%", "at least 90%"), Some(Ordering::Less));
    assert_eq!(side("1m 5s", "at most 30s"), Some(Ordering::Greater));
    assert_eq!(side("7", "2 to 5"), Some(Ordering::Greater));
    assert_eq!(side("small", "large"), None);
}
