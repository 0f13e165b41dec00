//! How much of each resource is in use, with the lines that decide on it, from the last sample.

use tiershift_core::sample::{Rate, Resource, ResourceKey, Space};
use tiershift_core::units::Percent;

use crate::serve::board::Board;
use crate::serve::board::history::Point;
use crate::serve::status::ResourceUse;

impl Board {
    /// Returns the use of each resource in the last sample, in the order of [`Resource::ALL`].
    pub(in crate::serve) fn resource_use(&self) -> Vec<ResourceUse> {
        let Some(sample) = &self.sample else { return Vec::new() };
        let name = |key: ResourceKey| match key.gpu.filter(|_| sample.gpus.len() > 1) {
            Some(gpu) => format!("{}-{gpu}", key.resource.name()),
            None => key.resource.name().to_owned(),
        };
        let spaces = sample.spaces();
        let spaces = spaces.map(|(key, &space)| self.use_of_space(key.resource, name(key), space));
        let rates = sample.rates();
        let rates = rates.map(|(key, &rate)| self.use_of_rate(key.resource, name(key), rate));
        let mut all: Vec<_> = spaces.chain(rates).collect();
        all.extend(sample.pressure.map(|pressure| {
            let rate = Rate { others: pressure.memory_some, own: Percent::default() };
            self.use_of_rate(Resource::Pressure, Resource::Pressure.name().to_owned(), rate)
        }));
        all
    }

    fn use_of_space(&self, resource: Resource, name: String, space: Space) -> ResourceUse {
        ResourceUse {
            name,
            resource,
            used: Percent::of(space.used(), space.total),
            own: Percent::of(space.own, space.total),
            upgrade_line: self.settings.upgrade_line,
            degrade_line: Percent::of(self.settings.degrade_limit(space.total), space.total),
            used_bytes: Some(space.used()),
            total_bytes: Some(space.total),
            constrains: self.settings.constrains(resource),
        }
    }

    fn use_of_rate(&self, resource: Resource, name: String, rate: Rate) -> ResourceUse {
        let (upgrade_line, degrade_line) = match resource {
            Resource::Pressure => {
                (self.settings.pressure_upgrade_line, self.settings.pressure_degrade_line)
            }
            Resource::Memory | Resource::Vram | Resource::Cpu | Resource::Gpu => {
                (self.settings.upgrade_line, self.settings.degrade_line)
            }
        };
        ResourceUse {
            name,
            resource,
            used: rate.used(),
            own: rate.own,
            upgrade_line,
            degrade_line,
            used_bytes: None,
            total_bytes: None,
            constrains: self.settings.constrains(resource),
        }
    }

    /// Returns the present state, for the plot; `None` before the first sample.
    pub(super) fn point(&self) -> Option<Point> {
        self.sample.as_ref()?;
        let all = self.resource_use();
        let fullest =
            |resource| all.iter().filter(|one| one.resource == resource).map(|one| one.used).max();
        Some(Point {
            at: self.now,
            rung: self.serving,
            shares: Resource::ALL.into_iter().map(fullest).collect(),
        })
    }
}
