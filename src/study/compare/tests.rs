use crate::study::compare::*;
use crate::summary::Comparison;

/// A run with a share of the optimum and some switches, with load times that its seed has drawn.
fn run(share: f64, switches: u64) -> Summary {
    Summary {
        seconds: 86_400.0,
        switches,
        quality_served_fraction: share / 2.0,
        comparison: Some(Comparison::of_share(share)),
        ..Summary::default()
    }
}

/// Compares policies by their runs on recordings: for each recording and each policy, a share of the optimum and
/// switches for each seed.
fn compared(recordings: &[&[&[(f64, u64)]]]) -> Compared {
    let policies: Vec<String> =
        ["ours", "theirs", "another"].iter().map(|&name| name.to_owned()).collect();
    let policies = policies[..recordings[0].len()].to_vec();
    let seeds: Vec<u64> = (1..=recordings[0][0].len() as u64).collect();
    let on = |(number, runs): (usize, &&[&[(f64, u64)]])| {
        let summaries: Vec<Summary> =
            runs.iter().flat_map(|of| of.iter().map(|&(share, count)| run(share, count))).collect();
        OnRecording::played(format!("{number}.csv"), &policies, &seeds, &summaries)
    };
    let recordings = recordings.iter().enumerate().map(on).collect();
    Compared::new(policies, seeds, recordings)
}

fn difference(compared: &Compared, policy: usize, key: &str) -> Difference {
    let against = compared.overall[policy].against_first.as_ref().unwrap();
    *against.differences.iter().find(|(figure, _)| figure.key == key).unwrap().1
}

#[test]
fn a_policy_is_compared_with_the_first_recording_by_recording() {
    let compared = compared(&[
        &[&[(0.9, 5)], &[(0.8, 3)]],
        &[&[(0.9, 5)], &[(0.92, 5)]],
        &[&[(0.7, 9)], &[(0.6, 9)]],
    ]);
    let share = difference(&compared, 1, "share_of_optimum");
    assert_eq!((share.apart.mean, share.outcome), (-0.06, Outcome::Worse));
    assert_eq!((share.better_on, share.worse_on, share.same_on), (1, 2, 0));
    let switches = difference(&compared, 1, "switches");
    assert_eq!((switches.apart.mean, switches.outcome), (-0.666_667, Outcome::Better));
    assert_eq!((switches.better_on, switches.worse_on, switches.same_on), (1, 0, 2));
    assert_eq!(difference(&compared, 1, "reversals").outcome, Outcome::NoDifference);
    let [ours, theirs] = [0, 1].map(|policy| &compared.overall[policy]);
    let worst = |overall: &Overall| overall.worst.as_ref().unwrap().recording.clone();
    assert_eq!([worst(ours), worst(theirs)], ["2.csv"; 2]);
    let loses = theirs.against_first.as_ref().unwrap().worst.as_ref().unwrap();
    assert_eq!(loses.recording, "0.csv");
    assert!((loses.share_of_optimum + 0.1).abs() < 1e-9);
    assert!(ours.against_first.is_none());
    assert_eq!(ours.figures.0[3].unwrap(), Estimate { mean: 0.833_333, plus_minus: None });
}

#[test]
fn over_seeds_a_difference_within_its_interval_is_none() {
    // Both spread as widely, but theirs rises and falls with ours: pairs show what means do not.
    let ours: &[(f64, u64)] = &[(0.90, 5), (0.92, 6), (0.94, 5)];
    let theirs: &[(f64, u64)] = &[(0.89, 6), (0.91, 5), (0.931, 5)];
    let compared = compared(&[&[ours, theirs]]);
    let share = difference(&compared, 1, "share_of_optimum");
    assert_eq!(share.outcome, Outcome::Worse);
    assert!(share.apart.plus_minus.unwrap() < 0.002, "{share:?}");
    let switches = difference(&compared, 1, "switches");
    assert_eq!((switches.outcome, switches.apart.mean), (Outcome::NoDifference, 0.0));
    assert!(switches.apart.plus_minus.unwrap() > 1.0, "{switches:?}");
    let mean = compared.overall[0].figures.0[3].unwrap();
    assert!(mean.plus_minus.unwrap() > 0.04, "{mean:?}");
    assert_eq!(compared.overall[0].same_under_every_seed, Some(false));
}

#[test]
fn where_every_seed_gives_the_same_there_is_no_interval_and_it_is_said() {
    let compared = compared(&[&[&[(0.9, 5); 3], &[(0.8, 5); 3]]]);
    let share = difference(&compared, 1, "share_of_optimum");
    assert_eq!((share.apart.plus_minus, share.outcome), (None, Outcome::Worse));
    assert!(compared.overall.iter().all(|one| one.same_under_every_seed == Some(true)));
}

#[test]
fn what_does_not_count_is_in_no_mean() {
    let seeds = [1];
    let policies = ["ours".to_owned()];
    let on = |name: &str, summary: Summary| {
        OnRecording::played(name.to_owned(), &policies, &seeds, &[summary])
    };
    let short = Summary { seconds: 2399.0, ..run(0.1, 50) };
    let skipped = OnRecording::skipped("notes.txt".to_owned(), "in no known format".to_owned());
    let all = vec![on("short.csv", short), on("long.csv", run(0.9, 2)), skipped];
    let compared = Compared::new(policies.to_vec(), seeds.to_vec(), all);
    let counts: Vec<bool> = compared.recordings.iter().map(OnRecording::counts).collect();
    assert_eq!(counts, [false, true, false]);
    assert_eq!(compared.overall[0].recordings, 1);
    assert_eq!(compared.overall[0].figures.0[3].unwrap().mean, 0.9);
    let none = Compared::new(policies.to_vec(), seeds.to_vec(), Vec::new());
    assert_eq!(none.overall, []);
}
