//! Identifies a world: a number, or a number with some parts of other numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::sim::rng::{Seed, Stream};

/// The name of a world, from which it is made: `300`, or `300+faults=12+policy=7`, which is world 300 with the faults
/// of world 12 and the policy of world 7.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorldId {
    number: u64,
    /// The parts of other numbers.
    parts: BTreeMap<Part, u64>,
}

/// A part of a world, which is drawn from its own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The machine, how long the world lasts, and how many models it has.
    Machine,
    /// The settings.
    Policy,
    /// The ladder.
    Models,
    /// The models beside it.
    Companions,
    /// Others' use.
    Others,
    /// The requests.
    Workloads,
    /// Faults.
    Faults,
    /// Faults that are less frequent.
    RarerFaults,
    /// Orders.
    Orders,
    /// The run's own randomness.
    Luck,
}

impl Part {
    /// Every part, with its name.
    pub const ALL: [(Self, &str); 10] = [
        (Self::Machine, "machine"),
        (Self::Policy, "policy"),
        (Self::Models, "models"),
        (Self::Companions, "companions"),
        (Self::Others, "others"),
        (Self::Workloads, "workloads"),
        (Self::Faults, "faults"),
        (Self::RarerFaults, "rarer-faults"),
        (Self::Orders, "orders"),
        (Self::Luck, "luck"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(part, _)| *part == self).expect("all are there").1
    }
}

impl WorldId {
    /// Returns the number, ignoring parts of other numbers.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns whether it has parts of other numbers.
    pub fn is_made(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Returns the number that a part is drawn from.
    pub fn number_of(&self, part: Part) -> u64 {
        self.parts.get(&part).copied().unwrap_or(self.number)
    }

    /// Returns the same world with a part of another number.
    #[must_use]
    pub fn with(mut self, part: Part, number: u64) -> Self {
        match number == self.number {
            true => self.parts.remove(&part),
            false => self.parts.insert(part, number),
        };
        self
    }

    /// Returns a stream from which a part is drawn.
    pub(super) fn stream(&self, part: Part, label: &str) -> Stream {
        Seed(self.number_of(part)).stream(label)
    }
}

impl From<u64> for WorldId {
    fn from(number: u64) -> Self {
        Self { number, parts: BTreeMap::new() }
    }
}

impl fmt::Display for WorldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)?;
        self.parts.iter().try_for_each(|(part, number)| write!(f, "+{}={number}", part.name()))
    }
}

impl FromStr for WorldId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number_of =
            |text: &str| text.parse().map_err(|_| format!("`{text}` is not the number of a world"));
        let mut words = text.split('+');
        let mut world = Self::from(number_of(words.next().unwrap_or_default())?);
        for word in words {
            let (name, number) = word.split_once('=').ok_or_else(|| {
                format!("`{word}` is not a part and its number, such as `faults=12`")
            })?;
            let part = Part::ALL.iter().find(|(_, known)| *known == name);
            let (part, _) = part.ok_or_else(|| {
                let known: Vec<_> = Part::ALL.iter().map(|(_, name)| *name).collect();
                format!("unknown part `{name}`; a world has {}", known.join(", "))
            })?;
            world = world.with(*part, number_of(number)?);
        }
        Ok(world)
    }
}

impl Serialize for WorldId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_is_named_by_what_it_is_made_from() {
        let world = WorldId::from(300).with(Part::Policy, 7).with(Part::Faults, 12);
        assert_eq!(world.to_string(), "300+policy=7+faults=12");
        assert_eq!("300+faults=12+policy=7".parse(), Ok(world.clone()));
        assert_eq!((world.number_of(Part::Faults), world.number_of(Part::Others)), (12, 300));
        assert_eq!(world.with(Part::Policy, 300).with(Part::Faults, 300), WorldId::from(300));
    }

    #[test]
    fn what_names_no_world_says_why() {
        let why = |text: &str| text.parse::<WorldId>().unwrap_err();
        assert_eq!(why("x"), "`x` is not the number of a world");
        assert!(why("1+faults").contains("such as `faults=12`"));
        assert!(
            why("1+weather=2").starts_with("unknown part `weather`; a world has machine, policy")
        );
    }
}
