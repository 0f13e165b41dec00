//! Finds the processor's temperature sensors under `/sys` and reads the hottest.
//!
//! A virtual machine or a container without any is normal.

use std::path::PathBuf;

use tiershift_core::units::Celsius;

use crate::probe::linux::procfs::Root;

/// The files with the processor's temperature, found once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sensors {
    files: Vec<PathBuf>,
}

impl Sensors {
    /// Finds the sensors: the processor driver's own, or else the thermal zones that name a processor.
    pub(crate) fn discover(root: &Root) -> Self {
        let drivers = driver_files(root);
        Self { files: if drivers.is_empty() { zone_files(root) } else { drivers } }
    }

    /// Returns the hottest plausible reading.
    pub(crate) fn hottest(&self, root: &Root) -> Option<Celsius> {
        self.files.iter().filter_map(|file| celsius(root, file)).max()
    }

    /// Returns the source of the readings, as text; `None` if there is no sensor.
    pub(crate) fn source(&self) -> Option<String> {
        let first = self.files.first()?.display();
        Some(match self.files.len() {
            1 => first.to_string(),
            count => format!("the hottest of {count} sensors from {first} on"),
        })
    }
}

/// Reads a file of thousandths of a degree. A sensor that is not connected shows a value that no running processor has.
pub(crate) fn celsius(root: &Root, file: &PathBuf) -> Option<Celsius> {
    let milli: i32 = root.read(file).ok()?.trim().parse().ok()?;
    PLAUSIBLE_MILLI_CELSIUS.contains(&milli).then_some(Celsius::from_milli(milli))
}

fn driver_files(root: &Root) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for monitor in root.names(MONITORS) {
        let name = root.read(format!("{MONITORS}/{monitor}/name")).unwrap_or_default();
        if PROCESSOR_DRIVERS.contains(&name.trim()) {
            let folder = format!("{MONITORS}/{monitor}");
            let inputs = root.names(&folder).into_iter();
            let inputs = inputs.filter(|n| n.starts_with("temp") && n.ends_with("_input"));
            files.extend(inputs.map(|input| PathBuf::from(format!("{folder}/{input}"))));
        }
    }
    files
}

fn zone_files(root: &Root) -> Vec<PathBuf> {
    let is_processor = |zone: &String| {
        let kind = root.read(format!("{ZONES}/{zone}/type")).unwrap_or_default();
        PROCESSOR_ZONES.iter().any(|prefix| kind.starts_with(prefix))
    };
    let zones = root.names(ZONES).into_iter().filter(is_processor);
    zones.map(|zone| PathBuf::from(format!("{ZONES}/{zone}/temp"))).collect()
}

const MONITORS: &str = "/sys/class/hwmon";
const ZONES: &str = "/sys/class/thermal";

/// Names from Linux's Documentation/hwmon: Intel, AMD, AMD by zenpower, Arm SoCs.
const PROCESSOR_DRIVERS: [&str; 5] = ["coretemp", "k10temp", "zenpower", "cpu_thermal", "k8temp"];

/// Beginnings of zone types that name a processor. `acpitz` is left out: it may be anywhere on the board.
const PROCESSOR_ZONES: [&str; 5] = ["x86_pkg_temp", "cpu", "soc", "bigcore", "littlecore"];

/// Chosen: silicon stops at 105 to 125 °C, and 0 is what an unconnected input shows.
const PLAUSIBLE_MILLI_CELSIUS: std::ops::RangeInclusive<i32> = 1..=150_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn hottest(files: &[(&str, &str)]) -> Option<i32> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join("sys/class").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root::new(folder.path());
        Sensors::discover(&root).hottest(&root).map(Celsius::milli)
    }

    #[test]
    fn the_hottest_processor_sensor_is_read_and_no_other() {
        let files = [
            ("hwmon/hwmon0/name", "nvme\n"),
            ("hwmon/hwmon0/temp1_input", "81000\n"),
            ("hwmon/hwmon1/name", "coretemp\n"),
            ("hwmon/hwmon1/temp1_input", "45000\n"),
            ("hwmon/hwmon1/temp2_input", "52000\n"),
            ("hwmon/hwmon1/temp2_crit", "100000\n"),
            ("thermal/thermal_zone0/type", "x86_pkg_temp\n"),
            ("thermal/thermal_zone0/temp", "60000\n"),
        ];
        assert_eq!(hottest(&files), Some(52_000));
        assert_eq!(hottest(&files[6..]), Some(60_000));
    }

    #[test]
    fn no_sensor_and_nonsense_are_absent() {
        let reading = |value| {
            hottest(&[("hwmon/hwmon0/name", "k10temp\n"), ("hwmon/hwmon0/temp1_input", value)])
        };
        assert_eq!(hottest(&[]), None);
        for value in ["", "hot", "0", "-128000", "255000", "99999999999"] {
            assert_eq!(reading(value), None, "{value:?}");
        }
        assert_eq!(reading("1000\n"), Some(1000));
    }
}
