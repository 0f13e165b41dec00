//! The policy of daemons under test, and changes to it.

use toml::{Table, Value};

/// Windows of a second, and a machine that may be used entirely: what others do on it must not matter here.
pub const POLICY: &str = r#"
sampling-interval = "100ms"
stabilization = "1s"
trend-half-life = "1s"
upgrade-line = "97%"
preventive-line = "98%"
degrade-line = "99%"
free-floor-share = "0%"
constrain = ["memory"]
[manager]
start = "small"
switch-cooldown = "0s"
load-retry = "200ms"
patience = "2m"
"#;

/// Changes tiers only by order, once the first upgrade is over.
pub const BY_COMMAND: &str = "stabilization = \"1h\"";

/// Returns [`POLICY`] with changed or additional values, written as in a file: `manager.queue-limit = 0`.
#[track_caller]
pub fn policy(changes: &str) -> String {
    let mut policy: Table = toml::from_str(POLICY).unwrap();
    merge(&mut policy, toml::from_str(changes).unwrap());
    toml::to_string(&policy).unwrap()
}

/// Returns a daemon's config: other tables unchanged, and a policy as its `[policy]`.
#[track_caller]
pub fn config(others: &str, policy: &str) -> String {
    let mut config: Table = toml::from_str(others).unwrap();
    config.insert("policy".to_owned(), Value::Table(toml::from_str(policy).unwrap()));
    toml::to_string(&config).unwrap()
}

fn merge(into: &mut Table, changes: Table) {
    for (key, value) in changes {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => _ = into.insert(key, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_replace_what_is_there_and_keep_the_rest() {
        let changed = policy("stabilization = \"1h\"\nmanager.queue-limit = 0");
        let read: Table = toml::from_str(&changed).unwrap();
        assert_eq!(read["stabilization"].as_str(), Some("1h"));
        assert_eq!(read["trend-half-life"].as_str(), Some("1s"));
        assert_eq!(read["manager"]["queue-limit"].as_integer(), Some(0));
        assert_eq!(read["manager"]["start"].as_str(), Some("small"));
        let config: Table =
            toml::from_str(&config("[recording]\nfolder = \"x\"", &changed)).unwrap();
        assert_eq!(config["policy"]["manager"]["start"].as_str(), Some("small"));
        assert_eq!(config["recording"]["folder"].as_str(), Some("x"));
    }
}
