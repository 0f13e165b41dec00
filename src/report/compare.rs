//! Policies side by side: as text, Markdown and CSV.

use std::fmt::Write as _;

use tiershift_core::text;

use crate::report::figures::{Group, NOT_COUNTED, cell, explained, figures_table, not_counted};
use crate::study::compare::{
    AgainstFirst, Compared, Difference, FIGURES, Figure, Figures, OnRecording, Outcome, Overall,
    PerFigure,
};

/// Returns the tables and sentences for a terminal. The tables are at most 100 columns wide, unless policies or
/// recordings have long names.
pub fn text(compared: &Compared) -> String {
    let mut groups: Vec<Group> = compared.recordings.iter().filter_map(group).collect();
    groups.extend(means_group(compared));
    let mut out = match groups.is_empty() {
        true => String::new(),
        false => figures_table("", &groups, |figure| figure.better.is_some()),
    };
    if compared.recordings.iter().any(|one| one.skipped.is_none() && !one.counts()) {
        out.push_str(&not_counted());
    }
    if !compared.recordings.iter().any(|one| one.skipped.is_none() && one.counts()) {
        out.push_str("no recording counts, so that the policies cannot be judged\n");
    }
    out.push_str(&sentences(compared));
    out.push_str(&remarks(compared));
    out
}

/// Returns the same as Markdown: the means, the conclusions, and each recording.
pub fn markdown(compared: &Compared) -> String {
    let has = |place: &usize| {
        let mut figures = compared.recordings.iter().flat_map(|one| &one.policies);
        FIGURES[*place].better.is_some() && figures.any(|one| one.figures.0[*place].is_some())
    };
    let columns: Vec<usize> = (0..FIGURES.len()).filter(has).collect();
    let head = |out: &mut String, names: &[&str]| {
        let heads = columns.iter().map(|&place| FIGURES[place].head.replace('\n', " "));
        let heads: Vec<String> = names.iter().map(|&name| name.to_owned()).chain(heads).collect();
        let rule = names.iter().map(|_| "---").chain(columns.iter().map(|_| "---:"));
        let _ = writeln!(out, "| {} |", heads.join(" | "));
        let _ = writeln!(out, "| {} |", rule.collect::<Vec<_>>().join(" | "));
    };
    let row = |out: &mut String, names: &[&str], figures: &Figures| {
        let cells = columns.iter().map(|&place| cell(&FIGURES[place], figures.0[place]));
        let names = names.iter().map(|name| name.replace('|', "\\|"));
        let _ = writeln!(out, "| {} |", names.chain(cells).collect::<Vec<_>>().join(" | "));
    };
    let mut out = String::new();
    if let Some(first) = compared.overall.first() {
        let _ = writeln!(out, "Mean of {}:\n", recordings(first.recordings));
        head(&mut out, &["policy"]);
        for overall in &compared.overall {
            row(&mut out, &[&overall.policy], &means(overall));
        }
        out.push('\n');
    }
    for line in sentences(compared).lines() {
        let _ = match line.strip_prefix("  ") {
            Some(below) => writeln!(out, "  - {below}"),
            None => writeln!(out, "- {line}"),
        };
    }
    out.push('\n');
    head(&mut out, &["recording", "policy"]);
    for one in &compared.recordings {
        for policy in &one.policies {
            row(&mut out, &[&name(one), &policy.policy], &policy.figures);
        }
    }
    let mut remarks = remarks(compared);
    if compared.recordings.iter().any(|one| one.skipped.is_none() && !one.counts()) {
        remarks.insert_str(0, &not_counted().replacen('*', "\\*", 1));
    }
    if let Some(explained) = explained(&columns) {
        remarks.insert_str(0, &format!("{explained}\n"));
    }
    if !remarks.is_empty() {
        out.push('\n');
    }
    for line in remarks.lines() {
        let _ = writeln!(out, "- {line}");
    }
    out
}

/// Returns a row for each run: recording, policy, seed, whether the recording counts, and every figure.
pub fn csv(compared: &Compared) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let sunk = "memory takes all that is written";
    let heads = FIGURES.iter().map(|figure| figure.key);
    writer
        .write_record(["recording", "policy", "seed", "counts"].into_iter().chain(heads))
        .expect(sunk);
    for one in &compared.recordings {
        for policy in &one.policies {
            for run in &policy.runs {
                let value = |value: &Option<f64>| value.map_or_else(String::new, |v| v.to_string());
                let seed = run.seed.to_string();
                let names = [one.recording.as_str(), &policy.policy, &seed].map(str::to_owned);
                let counts = std::iter::once(one.counts().to_string());
                let figures = run.figures.0.iter().map(value);
                writer.write_record(names.into_iter().chain(counts).chain(figures)).expect(sunk);
            }
        }
    }
    writer.into_inner().expect(sunk)
}

/// Returns the table of the means alone: those of many recordings are as short.
pub(super) fn means_table(compared: &Compared) -> String {
    let groups: Vec<Group> = means_group(compared).into_iter().collect();
    figures_table("", &groups, |figure| figure.better.is_some())
}

fn means_group(compared: &Compared) -> Option<Group> {
    let first = compared.overall.first()?;
    let line = |overall: &Overall| (indented(&overall.policy), means(overall));
    Some(Group {
        heading: Some(format!("mean of {}", recordings(first.recordings))),
        lines: compared.overall.iter().map(line).collect(),
    })
}

/// Returns the lines of a recording; `None` if it was not played.
fn group(one: &OnRecording) -> Option<Group> {
    let line = |policy: &crate::study::compare::OnPolicy| {
        (indented(&policy.policy), policy.figures.clone())
    };
    Some(Group {
        heading: Some(format!("{}: {}", name(one), extent(one)?)),
        lines: one.policies.iter().map(line).collect(),
    })
}

/// Returns how long a recording is, with the result of its optimum; `None` if it was not played.
pub(super) fn extent(one: &OnRecording) -> Option<String> {
    let optimum = one.about.optimum.map(|optimum| {
        let switches = text::count(optimum.switches, "switch");
        format!(", optimum {:.3} with {switches}", optimum.quality)
    });
    let hours = one.policies.first()?.figures.by_key("hours").unwrap_or_default();
    Some(format!("{hours:.1} hours{}", optimum.unwrap_or_default()))
}

fn name(one: &OnRecording) -> String {
    let mark = if one.counts() { "" } else { NOT_COUNTED };
    format!("{}{mark}", one.recording)
}

fn indented(policy: &str) -> String {
    let cut: String = policy.chars().take(LONGEST_NAME).collect();
    let rest = if cut.len() < policy.len() { "…" } else { "" };
    format!("  {cut}{rest}")
}

pub(super) fn means(overall: &Overall) -> Figures {
    PerFigure::from_fn(|place| overall.figures.0[place].map(|estimate| estimate.mean))
}

pub(super) fn recordings(count: usize) -> String {
    text::count(count as u64, "recording")
}

/// Returns how each policy compares with the first, how much is due to chance, and where each is worst.
fn sentences(compared: &Compared) -> String {
    let mut out = String::new();
    let Some(first) = compared.overall.first() else { return out };
    for overall in &compared.overall {
        if let Some(against) = &overall.against_first {
            let _ = writeln!(out, "{} against {}:", overall.policy, first.policy);
            out.push_str(&against_first(against));
        }
    }
    for overall in &compared.overall {
        if let Some(worst) = &overall.worst {
            let _ = writeln!(
                out,
                "{}: lowest share of the optimum {:.4}, {}",
                overall.policy, worst.share_of_optimum, worst.recording
            );
        }
    }
    let _ = writeln!(out, "{}", luck(compared));
    out
}

/// Returns how much of the figures is due to chance.
pub(super) fn luck(compared: &Compared) -> String {
    let is_same = compared.overall.iter().all(|one| one.same_under_every_seed == Some(true));
    match compared.seeds.len() {
        0 | 1 => "one seed: load times are drawn at random, and a small difference may be luck (--seeds 10 gives intervals)".to_owned(),
        seeds if is_same => format!(
            "the same under each of {seeds} seeds: randomness does not matter here, so there are no intervals"
        ),
        seeds => format!("{seeds} seeds; ± is half of a 95 % interval over them"),
    }
}

/// Returns what a policy does better and worse than the first, one line each.
pub(super) fn against_first(against: &AgainstFirst) -> String {
    let mut out = String::new();
    for (outcome, word) in [(Outcome::Better, "better"), (Outcome::Worse, "worse")] {
        let all: Vec<String> = against
            .differences
            .iter()
            .filter(|(_, difference)| difference.outcome == outcome)
            .map(|(figure, difference)| told(figure, difference))
            .collect();
        for difference in all {
            let _ = writeln!(out, "  {word}: {difference}");
        }
    }
    let same: Vec<&str> = against
        .differences
        .iter()
        .filter(|(_, difference)| difference.outcome == Outcome::NoDifference)
        .map(|(figure, _)| figure.name)
        .collect();
    if !same.is_empty() {
        let _ = writeln!(out, "  no difference: {}", same.join(", "));
    }
    if let Some(worst) = &against.worst {
        let _ = writeln!(
            out,
            "  loses most on {}: {:.4} of the optimum",
            worst.recording, -worst.share_of_optimum
        );
    }
    out
}

/// Returns a difference as text: `quality +0.012 ±0.003 (better on 9, worse on 1, the same on 2)`.
fn told(figure: &Figure, difference: &Difference) -> String {
    let counts = [
        ("better on", difference.better_on),
        ("worse on", difference.worse_on),
        ("the same on", difference.same_on),
    ];
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    let counts: Vec<String> = counts.map(|(word, count)| format!("{word} {count}")).collect();
    format!("{} {} ({})", figure.name, apart(figure, difference), counts.join(", "))
}

/// Returns the difference of a policy from the first: `+0.012 ±0.003`.
pub(super) fn apart(figure: &Figure, difference: &Difference) -> String {
    let apart = difference.apart;
    let sign = if apart.mean < 0.0 { "-" } else { "+" };
    let interval = apart.plus_minus.map(|half| format!(" ±{}", figure.text(half)));
    format!("{sign}{}{}", figure.text(apart.mean.abs()), interval.unwrap_or_default())
}

/// Returns what was skipped, the violations, and the warnings.
pub(super) fn remarks(compared: &Compared) -> String {
    let mut out = String::new();
    for one in &compared.recordings {
        if let Some(reason) = &one.skipped {
            let _ = writeln!(out, "skipped {}: {reason}", one.recording);
        }
    }
    for violation in violations(compared) {
        let _ = writeln!(out, "{violation}");
    }
    for one in &compared.recordings {
        if !one.about.warnings.is_empty() {
            let count = text::count(one.about.warnings.len() as u64, "warning");
            let _ = writeln!(out, "{count} on {}: replay it alone to read", one.recording);
        }
    }
    out
}

/// Returns the broken invariants, with policy and recording. Each is a defect of tiershift.
pub(super) fn violations(compared: &Compared) -> Vec<String> {
    let mut out = Vec::new();
    for one in &compared.recordings {
        for policy in &one.policies {
            for run in &policy.runs {
                let under = format!("{} under {}, seed {}", one.recording, policy.policy, run.seed);
                let said = |violation: &String| format!("violation in {under}: {violation}");
                out.extend(run.violations.iter().map(said));
            }
        }
    }
    out
}

/// The most characters of a policy's name in tables: a program's command may be long.
const LONGEST_NAME: usize = 16;

#[cfg(test)]
mod tests;
