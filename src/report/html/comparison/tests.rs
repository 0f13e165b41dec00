use super::*;
use crate::report::html::frame::unpacked;
use crate::summary::{Comparison, Summary};

/// A run with a share of the optimum and some reversals.
fn run(share: f64, reversals: u64) -> Summary {
    Summary {
        seconds: 86_400.0,
        reversals,
        quality_served_fraction: share / 2.0,
        comparison: Some(Comparison::of_share(share)),
        ..Summary::default()
    }
}

/// Two recordings that count, one that is too short, and one file that is no recording, under two seeds.
fn compared(policies: &[&str], recordings: [&str; 4]) -> Compared {
    let policies: Vec<String> = policies.iter().map(|&name| name.to_owned()).collect();
    let runs = |scale: f64, seconds: f64| -> Vec<Summary> {
        let of = |place: usize| {
            let place = place as f64;
            [0.0, 0.002].map(|luck| Summary {
                seconds,
                ..run(scale * (0.98 - 0.01 * place + luck), 9 - (place as u64).min(9))
            })
        };
        (0..policies.len()).flat_map(of).collect()
    };
    let [first, second, short, none] = recordings;
    let on = |name: &str, runs: &[Summary]| {
        OnRecording::played(name.to_owned(), &policies, &[1, 2], runs)
    };
    let mut warned = on(second, &runs(0.8, 7200.0));
    warned.about.warnings.push("a row".to_owned());
    let all = vec![
        on(first, &runs(1.0, 86_400.0)),
        warned,
        on(short, &runs(0.5, 600.0)),
        OnRecording::skipped(none.to_owned(), "in no known format".to_owned()),
    ];
    Compared::new(policies.clone(), vec![1, 2], all)
}

#[test]
fn a_page_holds_what_the_tables_say() {
    let compared = compared(&["ours", "theirs"], ["a.csv", "b.csv", "short.csv", "notes.txt"]);
    let page = comparison_page("ours, theirs on all", &compared);
    assert_eq!(page, comparison_page("ours, theirs on all", &compared));
    let document = unpacked(&page);
    assert_eq!(document["about"], "4 recordings, 1 of them skipped; 2 policies, 2 seeds");
    assert_eq!(document["mean_of"], "2 recordings");
    assert_eq!(document["front"], serde_json::json!([0, 1]));
    let column = |key: &str| {
        let columns = document["columns"].as_array().unwrap();
        columns.iter().position(|column| column["key"] == key).unwrap()
    };
    let theirs = &document["policies"][1];
    let share = column("share_of_optimum");
    assert_eq!(theirs["figures"][share], 0.8739, "as it is shown: of 0.971 and 0.7768");
    assert_eq!(theirs["differences"][share], serde_json::json!(["worse", "-0.0090"]));
    let switches = &theirs["differences"][column("switches")];
    assert_eq!(switches, &serde_json::json!(["no-difference", "+0"]));
    assert!(theirs["said"][0].as_str().unwrap().starts_with("better: reversals -1 "));
    assert_eq!(theirs["worst"]["recording"], "b.csv");
    assert_eq!(document["policies"][0]["differences"], serde_json::json!([]));
    let recordings = document["recordings"].as_array().unwrap();
    let counts: Vec<bool> = recordings.iter().map(|it| it["counts"] == true).collect();
    assert_eq!(counts, [true, true, false]);
    assert_eq!(recordings[1]["warnings"], serde_json::json!(["a row"]));
    assert!(document["not_counted"].as_str().unwrap().starts_with("* not in the means"));
    assert_eq!(document["skipped"][0][0], "notes.txt");
}

#[test]
fn where_no_recording_counts_there_are_no_means() {
    let policies = ["ours".to_owned(), "theirs".to_owned()];
    let skipped = OnRecording::skipped("a.csv".to_owned(), "empty".to_owned());
    let compared = Compared::new(policies.to_vec(), vec![1], vec![skipped]);
    let document = unpacked(&comparison_page("none", &compared));
    assert!(document["mean_of"].is_null());
    assert_eq!(document["policies"][1]["name"], "theirs");
    assert_eq!(document["front"], serde_json::json!([]));
}

#[test]
fn no_name_of_a_policy_or_a_recording_is_read_as_markup() {
    let hostile = "</script><b onmouseover=alert(1)>\"'&<!-- {{data}}";
    let compared = compared(&[hostile, "theirs"], [hostile, "b.csv", "c.csv", hostile]);
    let page = comparison_page(hostile, &compared);
    assert!(!page.contains("<b onm") && !page.contains("<!-- "), "nothing of it is markup");
    assert_eq!(page.matches("</script>").count(), 2, "of the data and of the scripts");
    let document = unpacked(&page);
    assert_eq!(document["policies"][0]["name"], hostile, "and it is there to the letter");
    assert_eq!(document["recordings"][0]["name"], hostile);
    assert_eq!(document["skipped"][0][0], hostile);
}

#[test]
fn a_sweep_of_200_points_over_100_recordings_is_below_two_megabytes() {
    let names: Vec<String> =
        (0..200).map(|n| format!("proactive price={}s calm={}m", n / 10, n % 10)).collect();
    let few = |count: usize| -> Compared {
        let names: Vec<&str> = names[..count].iter().map(String::as_str).collect();
        compared(&names, ["a.csv", "b.csv", "c.csv", "notes.txt"])
    };
    let mut many = few(200);
    for number in 0..100 {
        let recording = OnRecording {
            recording: format!("{number}.csv"),
            ..many.recordings[number % 2].clone()
        };
        many.recordings.push(recording);
    }
    let page = comparison_page("a sweep", &many);
    assert!(page.len() < 2_000_000, "{}", page.len());
    let page = comparison_page("two", &few(2));
    assert!(page.len() < 250_000, "{}", page.len());
}
