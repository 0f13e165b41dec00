//! JUnit XML of a check, for continuous integration.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What was checked: a scenario's name.
    pub name: String,
    /// What was not as expected, one finding each. Empty: it passed.
    pub failures: Vec<String>,
}

/// Returns the XML, with the cases in the order given. It contains no time and no date, so that the same results give
/// the same bytes.
pub fn junit(suite: &str, cases: &[Case]) -> String {
    let mut report = Report::new("tiershift");
    let mut tests = TestSuite::new(suite);
    for case in cases {
        let status = match case.failures.first() {
            None => TestCaseStatus::success(),
            Some(first) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                let headline = first.lines().next().unwrap_or_default();
                status.set_message(headline).set_description(case.failures.join("\n"));
                status
            }
        };
        let mut test = TestCase::new(case.name.as_str(), status);
        test.set_classname(suite);
        tests.add_test_case(test);
    }
    report.add_test_suite(tests);
    report.to_string().expect("writing XML to memory cannot fail")
}

/// The mark in the first bytes of a report that we wrote.
pub const MARK: &str = "<testsuites name=\"tiershift\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_every_finding() {
        let case = |name: &str, failures: &[&str]| Case {
            name: name.to_owned(),
            failures: failures.iter().map(|&text| text.to_owned()).collect(),
        };
        insta::assert_snapshot!(junit(
            "scenarios",
            &[
                case("stable", &[]),
                case(
                    "sudden-loss",
                    &["switches: got 3, want at most 1\nsecond line", "a < b & \u{1b}[31mc"]
                ),
            ]
        ));
    }
}
