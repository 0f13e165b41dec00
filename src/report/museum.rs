//! The museum as a table, which is also valid Markdown.

use comfy_table::{ContentArrangement, Table, presets};

use crate::study::museum::Exhibit;

/// Returns one row per incident, in the order given.
pub fn museum_table(exhibits: &[Exhibit]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "scenario",
        "incident",
        "idea",
        "figure",
        "under the idea",
        "under ours",
        "verdicts",
    ]);
    for one in exhibits {
        let verdict = |is_red: bool| if is_red { "red" } else { "green" };
        let verdicts = format!("{}, {}", verdict(one.idea_is_red), verdict(!one.ours_is_green));
        table.add_row([
            &one.scenario,
            &one.incident,
            &one.idea,
            &one.figure,
            &one.under_idea,
            &one.under_ours,
            &verdicts,
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_came_of_an_incident_both_ways() {
        let one = Exhibit {
            scenario: "swap-for-every-request".to_owned(),
            incident: "mostlygeek/llama-swap#612".to_owned(),
            idea: "load-on-request".to_owned(),
            figure: "loads".to_owned(),
            under_idea: "97".to_owned(),
            under_ours: "1".to_owned(),
            idea_is_red: true,
            ours_is_green: true,
        };
        let other = Exhibit { idea_is_red: false, ours_is_green: false, ..one.clone() };
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect();
        let table = museum_table(&[one, other]);
        let rows: Vec<Vec<String>> = table.lines().map(cells).collect();
        let want = ["swap-for-every-request", "mostlygeek/llama-swap#612", "load-on-request"];
        assert_eq!(rows[2][1..4], want, "{table}");
        assert_eq!(rows[2][4..8], ["loads", "97", "1", "red, green"], "{table}");
        assert_eq!(rows[3][7], "green, red", "{table}");
    }
}
