//! Reads AMD GPUs from the `amdgpu` driver's files under `/sys/class/drm`.
//!
//! The files do not separate processes; own video memory comes from each own process's `/proc/<pid>/fdinfo`, and own
//! GPU time counts as others'.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tiershift_core::sample::{GpuSample, Rate, Space};
use tiershift_core::units::{Bytes, Percent};

use crate::probe::linux::procfs::{Root, kib};
use crate::probe::linux::thermal;

/// One AMD GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    device: PathBuf,
    /// The bus address, as `fdinfo` names the GPU.
    address: Option<String>,
    sensor: Option<PathBuf>,
}

impl Card {
    /// Finds the AMD GPUs that report their video memory, in the kernel's order.
    pub(crate) fn discover(root: &Root) -> Vec<Self> {
        let is_card = |name: &String| {
            // `card0`, not its connectors `card0-DP-1`.
            name.strip_prefix("card").is_some_and(|n| n.bytes().all(|c| c.is_ascii_digit()))
        };
        let cards = root.names(CARDS).into_iter().filter(is_card);
        cards.filter_map(|name| Self::open(root, &format!("{CARDS}/{name}/device"))).collect()
    }

    fn open(root: &Root, device: &str) -> Option<Self> {
        let vendor = root.read(format!("{device}/vendor")).ok()?;
        root.number(format!("{device}/mem_info_vram_total"))?;
        let monitors = format!("{device}/hwmon");
        let inputs = root.names(&monitors).into_iter();
        let mut inputs = inputs.map(|name| PathBuf::from(format!("{monitors}/{name}/temp1_input")));
        let events = root.read(format!("{device}/uevent")).unwrap_or_default();
        let address = events.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME="));
        (vendor.trim() == AMD).then(|| Self {
            device: PathBuf::from(device),
            address: address.map(str::to_owned),
            sensor: inputs.find(|input| root.read(input).is_ok()),
        })
    }

    /// Returns the source of the readings, as text.
    pub(crate) fn source(&self) -> String {
        format!("{}/mem_info_vram_*, gpu_busy_percent", self.device.display())
    }

    /// Reads the GPU.
    pub(crate) fn read(&self, root: &Root, family: &BTreeSet<u32>) -> GpuSample {
        let number = |file: &str| root.number(self.device.join(file));
        let vram = number("mem_info_vram_total").zip(number("mem_info_vram_used"));
        GpuSample {
            vram: vram.filter(|(total, _)| *total > 0).map(|(total, used)| {
                let used = Bytes::new(used);
                let own = self.own_vram(root, family).min(used);
                Space { total: Bytes::new(total), others: used - own, own }
            }),
            utilization: number("gpu_busy_percent").filter(|percent| *percent <= 100).map(
                |percent| {
                    let percent = u32::try_from(percent).unwrap_or(100);
                    Rate { others: Percent::new(percent), own: Percent::ZERO }
                },
            ),
            temperature: self.sensor.as_ref().and_then(|file| thermal::celsius(root, file)),
            ..GpuSample::default()
        }
    }

    fn own_vram(&self, root: &Root, family: &BTreeSet<u32>) -> Bytes {
        let Some(address) = &self.address else { return Bytes::ZERO };
        // One client may hold several file descriptors, each of which reports the client's whole memory.
        let mut clients: BTreeMap<String, Bytes> = BTreeMap::new();
        for pid in family {
            let folder = format!("/proc/{pid}/fdinfo");
            for name in root.names(&folder) {
                let text = root.read(format!("{folder}/{name}")).unwrap_or_default();
                if field(&text, "drm-pdev") == Some(address)
                    && let Some(client) = field(&text, "drm-client-id")
                {
                    clients.insert(client.to_owned(), client_vram(&text));
                }
            }
        }
        clients.into_values().sum()
    }
}

/// Newer kernels write `drm-resident-vram`, older ones `drm-memory-vram`.
fn client_vram(text: &str) -> Bytes {
    // The kernel's documentation writes `KiB`; the shared reader knows meminfo's `kB`.
    let text = text.replace("KiB", "kB");
    ["drm-resident-vram", "drm-memory-vram"]
        .iter()
        .find_map(|key| kib(&text, key))
        .unwrap_or_default()
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim()))
}

const CARDS: &str = "/sys/class/drm";

/// AMD's number as a maker of PCI devices.
const AMD: &str = "0x1002";

#[cfg(test)]
mod tests {
    use tiershift_core::units::Celsius;

    use super::*;
    use crate::probe::linux::procfs::tree;

    const CARD: [(&str, &str); 6] = [
        ("sys/class/drm/card1/device/vendor", "0x1002\n"),
        ("sys/class/drm/card1/device/uevent", "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n"),
        ("sys/class/drm/card1/device/mem_info_vram_total", "17163091968\n"),
        ("sys/class/drm/card1/device/mem_info_vram_used", "4294967296\n"),
        ("sys/class/drm/card1/device/gpu_busy_percent", "37\n"),
        ("sys/class/drm/card1/device/hwmon/hwmon4/temp1_input", "55000\n"),
    ];

    #[test]
    fn an_amd_card_is_read_and_its_connectors_and_other_makers_are_not() {
        let mut files = CARD.to_vec();
        files.push(("sys/class/drm/card1-DP-1/status", "connected\n"));
        files.push(("sys/class/drm/card0/device/vendor", "0x8086\n"));
        files.push(("sys/class/drm/card0/device/mem_info_vram_total", "1\n"));
        let (_folder, root) = tree(&files);
        let cards = Card::discover(&root);
        assert_eq!(cards.len(), 1);
        let sample = cards[0].read(&root, &BTreeSet::new());
        let vram = sample.vram.unwrap();
        assert_eq!((vram.total, vram.used()), (Bytes::new(17_163_091_968), Bytes::from_gib(4)));
        assert_eq!(sample.utilization.unwrap().others, Percent::new(37));
        assert_eq!(sample.temperature, Some(Celsius::from_milli(55_000)));
    }

    #[test]
    fn own_video_memory_is_counted_once_for_each_client_of_this_card() {
        let client = |id, pdev, kib| {
            format!(
                "pos: 0\ndrm-pdev:\t{pdev}\ndrm-client-id:\t{id}\ndrm-memory-vram:\t{kib} KiB\n"
            )
        };
        let here = client(5, "0000:03:00.0", 1_048_576);
        let other = client(9, "0000:0a:00.0", 4_096);
        let mut files = CARD.to_vec();
        files.push(("proc/7/fdinfo/4", here.as_str()));
        files.push(("proc/7/fdinfo/5", here.as_str()));
        files.push(("proc/7/fdinfo/6", other.as_str()));
        files.push(("proc/7/fdinfo/0", "pos: 0\n"));
        let (_folder, root) = tree(&files);
        let vram = Card::discover(&root)[0].read(&root, &BTreeSet::from([7])).vram.unwrap();
        assert_eq!((vram.own, vram.others), (Bytes::from_gib(1), Bytes::from_gib(3)));
    }

    #[test]
    fn missing_and_senseless_files_are_absent() {
        let mut files = CARD[..3].to_vec();
        files.push(("sys/class/drm/card1/device/gpu_busy_percent", "4000000000\n"));
        let (_folder, root) = tree(&files);
        let cards = Card::discover(&root);
        assert_eq!(cards[0].read(&root, &BTreeSet::new()), GpuSample::default());
        let (_folder, root) = tree(&[]);
        assert!(Card::discover(&root).is_empty());
    }
}
