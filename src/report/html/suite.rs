//! The page of a suite: every scenario with its result, the failed ones first.

use serde::Serialize;

use crate::report::html::columns::{Column, Columns};
use crate::report::html::frame::Frame;
use crate::study::suite::Checked;

/// A scenario that was checked.
#[derive(Clone, Copy, Debug)]
pub struct ScenarioRow<'a> {
    /// The folder that it is in.
    pub folder: &'a str,
    /// Its result.
    pub checked: &'a Checked,
    /// The command that runs it again.
    pub repeat: &'a str,
}

/// Returns the page of a suite. The same results give the same bytes.
pub fn suite_page(title: &str, rows: &[ScenarioRow<'_>]) -> String {
    let texts: Vec<String> = rows.iter().map(text).collect();
    PAGE.filled(title, &texts.join("\n"), &Document::of(rows))
}

/// Returns the result of a scenario in a line, with a line for each failure.
fn text(row: &ScenarioRow<'_>) -> String {
    let ScenarioRow { folder, checked, .. } = row;
    let result = if checked.failures.is_empty() { "passed" } else { "FAILED" };
    let failures = checked.failures.iter().map(|failure| format!("\n        {failure}"));
    format!("{result}  {folder}/{}{}", checked.name, failures.collect::<String>())
}

/// The input of a page's script.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: &'static str,
    columns: Vec<Column>,
    /// Folders in the order of their first scenario.
    folders: Vec<Folder<'a>>,
}

#[derive(Debug, Serialize)]
struct Folder<'a> {
    name: &'a str,
    scenarios: Vec<Scenario<'a>>,
}

#[derive(Debug, Serialize)]
struct Scenario<'a> {
    name: &'a str,
    description: &'a str,
    failures: &'a [String],
    blessed: bool,
    /// In the order of the columns; empty if it could not be run.
    figures: Vec<Option<f64>>,
    repeat: &'a str,
}

impl<'a> Document<'a> {
    fn of(rows: &[ScenarioRow<'a>]) -> Self {
        let columns = Columns::of(rows.iter().filter_map(|row| row.checked.figures.as_ref()));
        let mut folders: Vec<Folder<'a>> = Vec::new();
        for row in rows {
            let scenario = Scenario::of(row, &columns);
            match folders.iter_mut().find(|folder| folder.name == row.folder) {
                Some(folder) => folder.scenarios.push(scenario),
                None => folders.push(Folder { name: row.folder, scenarios: vec![scenario] }),
            }
        }
        Self { version: env!("CARGO_PKG_VERSION"), columns: columns.heads(), folders }
    }
}

impl<'a> Scenario<'a> {
    fn of(&ScenarioRow { checked, repeat, .. }: &ScenarioRow<'a>, columns: &Columns) -> Self {
        Self {
            name: &checked.name,
            description: &checked.description,
            failures: &checked.failures,
            blessed: checked.blessed,
            figures: checked.figures.as_ref().map(|it| columns.row(it)).unwrap_or_default(),
            repeat,
        }
    }
}

const PAGE: Frame = Frame {
    markup: concat!(
        include_str!("../../../assets/report/head.html"),
        include_str!("../../../assets/report/suite.html"),
        include_str!("../../../assets/report/foot.html"),
    ),
    styles: concat!(
        include_str!("../../../assets/page/base.css"),
        include_str!("../../../assets/report/frame.css"),
        include_str!("../../../assets/report/table.css"),
        include_str!("../../../assets/report/suite.css"),
    ),
    scripts: concat!(
        include_str!("../../../assets/page/charts.js"),
        include_str!("../../../assets/report/frame.js"),
        include_str!("../../../assets/report/table.js"),
        include_str!("../../../assets/report/suite.js"),
    ),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::frame::unpacked;
    use crate::study::compare::Figures;
    use crate::summary::Summary;

    #[test]
    fn scenarios_stand_in_their_folders_and_none_of_their_text_is_read_as_markup() {
        let hostile = "</script><b>switches: got 3</b> <!-- want 1";
        let checked = |name: &str, failures: &[&str]| Checked {
            name: name.to_owned(),
            description: "what must happen".to_owned(),
            failures: failures.iter().map(|&failure| failure.to_owned()).collect(),
            blessed: false,
            figures: failures.is_empty().then(|| Figures::of(&Summary::default())),
        };
        let all = [checked("a", &[]), checked("b", &[hostile]), checked("c", &[])];
        let folders = ["scenarios", "scenarios/museum", "scenarios"];
        let row = |(checked, folder)| ScenarioRow { folder, checked, repeat: "tiershift run" };
        let rows: Vec<ScenarioRow<'_>> = all.iter().zip(folders).map(row).collect();
        let page = suite_page("check of <i>", &rows);
        assert_eq!(page, suite_page("check of <i>", &rows), "the same results, the same bytes");
        assert_eq!(page.matches("</script>").count(), 2, "of the data and of the scripts");
        assert!(page.contains("<title>check of &lt;i&gt;") && !page.contains("<!-- "));
        assert!(page.contains("FAILED  scenarios/museum/b\n        &lt;/script&gt;&lt;b&gt;"));
        let document = unpacked(&page);
        let folders = document["folders"].as_array().unwrap();
        let names: Vec<&str> = folders.iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["scenarios", "scenarios/museum"]);
        assert_eq!(folders[0]["scenarios"].as_array().unwrap().len(), 2);
        assert_eq!(folders[1]["scenarios"][0]["failures"][0], hostile);
        let columns = document["columns"].as_array().unwrap();
        let figures = folders[0]["scenarios"][0]["figures"].as_array().unwrap();
        assert_eq!(columns.len(), figures.len());
        assert_eq!(folders[1]["scenarios"][0]["figures"], serde_json::json!([]));
    }
}
