//! The models that are served and their order: from the user's settings, and otherwise from their files.

use std::collections::{BTreeMap, BTreeSet};

use tiershift_core::catalog::{Catalog, CatalogError};
use tiershift_core::machine::Machine;
use tiershift_core::model::{Model, ModelError, ModelId, RawModel, Task};
use tiershift_core::text;
use tiershift_core::units::Bytes;

use crate::files::catalog::CatalogFile;
use crate::files::document::{DocumentError, suggestion};
use crate::files::model_table::ModelTable;
use crate::inventory::gguf::{CacheTypes, Dimensions};
use crate::inventory::guess::{self, Step};
use crate::inventory::scan::family_of;

/// The user's settings for the models. By default there are none: all that are found are served, larger ones above
/// smaller ones.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// The models, with what is known of them. Without it, all that are found.
    pub catalog: Option<CatalogFile>,
    /// Figures of some of them, which override the catalog.
    pub models: Vec<ModelTable>,
    /// Settings for all models, which a model's own override.
    pub all: ForAll,
    /// The models of the ladder, the smallest first. Without it, all but companions, by size.
    pub ladder: Vec<String>,
}

/// Settings for all models.
#[derive(Clone, Debug, Default)]
pub struct ForAll {
    /// Arguments of each server, before those of its model.
    pub args: Vec<String>,
    /// Variables of each server's environment.
    pub env: BTreeMap<String, String>,
    /// Context of each slot.
    pub context_tokens: Option<u32>,
    /// Requests side by side.
    pub slots: Option<u32>,
    /// Kinds of work.
    pub tasks: Option<Vec<Task>>,
}

/// A model that was found: a file, or an entry of a server's list.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) file: Option<String>,
    /// Of its weights, if known.
    pub(super) size: Option<Bytes>,
    /// Tokens of context in each slot, if its server is running and reports them.
    pub(super) context_tokens: Option<u32>,
    /// Requests side by side, if its server is running and reports it.
    pub(super) slots: Option<u32>,
    pub(super) dimensions: Dimensions,
    pub(super) can_see: bool,
}

/// The models that are served.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// The ladder, and the companions beside it.
    pub catalog: Catalog,
    /// Notes for the user on how it was made.
    pub notes: Vec<String>,
    pub(super) rungs: BTreeMap<ModelId, Served>,
}

/// The origin of a ladder's model.
#[derive(Clone, Debug)]
pub(super) struct Served {
    /// Its index among the models that were found.
    pub(super) found: usize,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    estimated: Vec<&'static str>,
}

/// A chosen model with its settings.
struct Chosen<'a> {
    place: usize,
    found: &'a Found,
    table: ModelTable,
    args: Vec<String>,
}

impl Chosen<'_> {
    fn id(&self) -> &str {
        self.table.id.as_deref().unwrap_or(&self.found.id)
    }

    fn is_companion(&self) -> bool {
        self.table.companion.unwrap_or(false)
    }
}

impl Wishes {
    /// Makes the ladder from the models that were found. `find` finds the model of a table, and `machine` is the
    /// machine for which their context is chosen, unless it is set.
    pub(super) fn ladder(
        &self,
        found: &[Found],
        find: impl Fn(&ModelTable) -> Result<usize, LadderError>,
        machine: Option<&Machine>,
    ) -> Result<Ladder, LadderError> {
        let mut notes = Vec::new();
        let chosen = self.order(self.choose(found, find)?, &mut notes)?;
        let count = chosen.iter().filter(|it| !it.is_companion()).count();
        let has_tiers = chosen.iter().any(|it| it.table.tier.is_some());
        let (mut models, mut rungs) = (Vec::new(), BTreeMap::new());
        for (place, one) in chosen.into_iter().enumerate() {
            let estimate = one.estimate(
                Step { place: place.min(count.saturating_sub(1)), count: count.max(1) },
                has_tiers,
            )?;
            let mut raw = one.table.complete(&estimate);
            raw.speeds_guessed =
                one.table.speeds_guessed.unwrap_or(one.table.decode_tokens_per_second.is_none());
            let mut model = Model::try_from(raw).map_err(|error| self.refuse(error.into()))?;
            if let (None, Some(machine)) = (one.table.context_tokens, machine) {
                model.context_tokens = guess::context(&model, &one.found.dimensions, machine);
            }
            let mut env = self.all.env.clone();
            env.extend(one.table.env.clone().unwrap_or_default());
            let estimated = one.estimated(count);
            rungs.insert(
                model.id.clone(),
                Served { found: one.place, args: one.args, env, estimated },
            );
            models.push(model);
        }
        let in_order: Vec<ModelId> =
            models.iter().filter(|model| !model.companion).map(|model| model.id.clone()).collect();
        let catalog = Catalog::new(models).map_err(|error| self.refuse(error))?;
        let is_kept = catalog.ladder_models().iter().map(|model| &model.id).eq(&in_order);
        if !self.ladder.is_empty() && !is_kept {
            return Err(LadderError::Order);
        }
        Ok(Ladder { catalog, notes, rungs })
    }

    /// Orders them: the ladder from its foot, then the companions in the given order.
    fn order<'a>(
        &self,
        chosen: Vec<Chosen<'a>>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Chosen<'a>>, LadderError> {
        let (companions, mut rungs): (Vec<_>, Vec<_>) =
            chosen.into_iter().partition(Chosen::is_companion);
        if self.ladder.is_empty() {
            rungs.sort_by(|a, b| (a.found.size, a.id()).cmp(&(b.found.size, b.id())));
            notes.extend(unrelated(&rungs));
        } else {
            let mut named = Vec::new();
            for name in &self.ladder {
                let at = rungs.iter().position(|it| is_called(it, name)).ok_or_else(|| {
                    let known = rungs.iter().map(Chosen::id).collect::<Vec<_>>();
                    LadderError::NotOnLadder { name: name.clone(), near: suggestion(name, known) }
                })?;
                named.push(rungs.remove(at));
            }
            let left = rungs
                .iter()
                .map(|it| format!("`{}` is left out: --ladder does not name it", it.id()));
            notes.extend(left);
            rungs = named;
        }
        rungs.extend(companions);
        Ok(rungs)
    }

    fn choose<'a>(
        &self,
        found: &'a [Found],
        find: impl Fn(&ModelTable) -> Result<usize, LadderError>,
    ) -> Result<Vec<Chosen<'a>>, LadderError> {
        let of = |place: usize, table: ModelTable| Chosen {
            place,
            found: &found[place],
            table,
            args: Vec::new(),
        };
        let mut chosen: Vec<Chosen<'a>> = match &self.catalog {
            Some(file) => {
                let each = file.tables().iter();
                each.map(|table| Ok(of(find(table)?, table.clone())))
                    .collect::<Result<_, LadderError>>()?
            }
            None => (0..found.len()).map(|place| of(place, ModelTable::default())).collect(),
        };
        for table in &self.models {
            let by_id = chosen.iter().position(|it| table.id.as_deref() == Some(it.id()));
            let at = match by_id {
                Some(at) => at,
                None => {
                    let place = find(table)?;
                    let at = chosen.iter().position(|it| it.place == place);
                    at.ok_or_else(|| LadderError::NotChosen { model: found[place].id.clone() })?
                }
            };
            chosen[at].table.update(table);
        }
        // If there is nothing else, embedding models are what is served.
        let is_of_use_beside = chosen.iter().any(|it| !it.found.dimensions.has_pooling());
        for one in &mut chosen {
            let dimensions = &one.found.dimensions;
            let ForAll { args, context_tokens, slots, tasks, .. } = &self.all;
            let table = &mut one.table;
            if dimensions.has_pooling() && table.tasks.is_none() && table.tier.is_none() {
                let task = if dimensions.ranks() { Task::Rerank } else { Task::Embedding };
                table.tasks = Some(vec![task]);
                table.companion.get_or_insert(is_of_use_beside);
            }
            if table.tasks.is_none() {
                table.tasks.clone_from(tasks);
            }
            let of_server = one.found;
            table.context_tokens =
                table.context_tokens.or(of_server.context_tokens).or(*context_tokens);
            table.slots = table.slots.or(of_server.slots).or(*slots);
            one.args = args.iter().chain(table.args.iter().flatten()).cloned().collect();
        }
        Ok(chosen)
    }

    /// Returns the position of an error, if it is in the catalog.
    fn refuse(&self, error: CatalogError) -> LadderError {
        match &self.catalog {
            Some(file) => LadderError::Document(file.refuse(&error)),
            None => LadderError::Catalog(error),
        }
    }
}

impl Chosen<'_> {
    /// Returns what its file states, and defaults for the rest.
    fn estimate(&self, step: Step, has_tiers: bool) -> Result<RawModel, LadderError> {
        let Self { found, table, args, .. } = self;
        let is_sized = table.ram.is_some() || table.vram.is_some();
        let no_size = || LadderError::NoSize { model: found.id.clone() };
        let size = found.size.or(is_sized.then_some(Bytes::ZERO)).ok_or_else(no_size)?;
        let model = step.model(self.id(), size, &found.dimensions, CacheTypes::of(args));
        let mut raw = RawModel::from(&model);
        if has_tiers {
            raw.tier = Some(self.id().to_owned());
        }
        if self.is_companion() {
            (raw.tier, raw.quality, raw.companion) = (None, None, true);
        }
        if table.vram.is_some() {
            raw.ram.0 = Bytes::ZERO;
        }
        // It follows from the load times, whatever their source.
        raw.load_timeout = None;
        raw.file.clone_from(&found.file);
        if found.can_see {
            raw.tasks.get_or_insert_default().push(Task::Vision);
        }
        Ok(raw)
    }

    /// Returns the names of the estimated figures.
    fn estimated(&self, count: usize) -> Vec<&'static str> {
        let table = &self.table;
        let of = [
            (QUALITY, !self.is_companion() && count > 1 && table.quality.is_none()),
            ("memory", table.ram.is_none() && table.vram.is_none()),
            ("cache", table.kv_per_token.is_none()),
            ("load times", table.load_warm.is_none() || table.load_cold.is_none()),
            (
                "speeds",
                table.prefill_tokens_per_second.is_none()
                    || table.decode_tokens_per_second.is_none(),
            ),
        ];
        of.into_iter().filter_map(|(what, is_estimated)| is_estimated.then_some(what)).collect()
    }
}

/// Returns whether a name refers to this model.
fn is_called(one: &Chosen<'_>, name: &str) -> bool {
    let plain = |name: &str| {
        let name = name.to_lowercase();
        name.strip_suffix(".gguf").map_or(name.clone(), str::to_owned)
    };
    let name = plain(name);
    plain(one.id()) == name || one.found.file.as_deref().is_some_and(|file| plain(file) == name)
}

/// Returns a note if models of different families would be on one ladder and the user has not ordered them.
fn unrelated(rungs: &[Chosen<'_>]) -> Option<String> {
    let mut families: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    // Qualities from the user are an order.
    for one in rungs.iter().filter(|one| one.table.quality.is_none()) {
        let family = family_of(&one.found.id);
        if !family.is_empty() {
            families.entry(family).or_default().push(one.id());
        }
    }
    let each = |(family, ids): (&String, &Vec<&str>)| match ids[..] {
        [id] => format!("`{id}`"),
        _ => format!("{family} (`{}`)", ids.join("`, `")),
    };
    (families.len() > 1).then(|| {
        let ids = rungs.iter().map(Chosen::id).collect::<Vec<_>>().join(",");
        format!(
            "models of different families stand on one ladder, by the size of their files: {}. A larger file of another family \
             need not be better: say which models replace one another, the smallest first, with --ladder, as in --ladder {ids}",
            families.iter().map(each).collect::<Vec<_>>().join(", ")
        )
    })
}

impl Ladder {
    /// Returns the models without any estimated figure that could be measured.
    pub fn known(&self) -> BTreeSet<ModelId> {
        let is_known = |served: &Served| served.estimated.iter().all(|what| *what == QUALITY);
        self.rungs.iter().filter(|(_, it)| is_known(it)).map(|(id, _)| id.clone()).collect()
    }

    /// Returns a line about each model for the user, with what is estimated; the largest first.
    pub fn lines(&self) -> Vec<String> {
        let line = |model: &Model| {
            let Model { id, tier, context_tokens, slots, .. } = model;
            let held = model.footprint();
            let memory = [(held.ram, "memory"), (held.vram, "video memory")]
                .into_iter()
                .filter(|(held, _)| *held > Bytes::ZERO)
                .map(|(held, kind)| format!("{} of {kind}", text::bytes(held)))
                .collect::<Vec<_>>()
                .join(" and ");
            let place = match model.companion {
                true => "beside the ladder".to_owned(),
                false => format!("tier {tier}"),
            };
            let estimated = match self.rungs[id].estimated.as_slice() {
                [] => String::new(),
                estimated => format!("; estimated: {}", estimated.join(", ")),
            };
            let slots = text::count((*slots).into(), "slot");
            format!(
                "`{id}`: {place}, {memory} with {context_tokens} tokens of context in each of {slots}{estimated}"
            )
        };
        self.catalog.models().iter().rev().map(line).collect()
    }
}

/// The one figure that no measurement on a machine provides.
const QUALITY: &str = "quality";

/// Why there is no ladder.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum LadderError {
    #[error("model \"{model}\" needs {wanted}: {remedy}")]
    Missing { model: String, wanted: String, remedy: String },
    #[error(
        "a [[model]] table of the config is about \"{model}\", which is not in the catalog: add it there, or take the table out"
    )]
    NotChosen { model: String },
    #[error(
        "the server does not report the size of \"{model}\": give its `ram` or `vram` in a [[model]] table of the config, or in a catalog"
    )]
    NoSize { model: String },
    #[error("--ladder names \"{name}\", which is not among the models: {near}")]
    NotOnLadder { name: String, near: String },
    #[error(
        "--ladder and the `quality` of the models order them differently: --ladder has the smallest first; leave one of them out"
    )]
    Order,
    #[error("a [[model]] table names neither `id` nor `file`: give one of them")]
    Nameless,
    #[error(transparent)]
    Catalog(CatalogError),
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl LadderError {
    /// Returns the error for a table whose model is missing.
    pub(super) fn missing<'a>(
        table: &ModelTable,
        place: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let Some(model) = table.id.as_ref().or(table.file.as_ref()) else { return Self::Nameless };
        let file = table.file.clone().unwrap_or_else(|| format!("{model}.gguf"));
        let near = suggestion(&file, names);
        Self::Missing {
            model: model.clone(),
            wanted: format!("`{file}` {place}"),
            remedy: format!("put it there, or name another with `file` ({near})"),
        }
    }
}

impl From<ModelError> for LadderError {
    fn from(error: ModelError) -> Self {
        Self::Catalog(error.into())
    }
}
