//! `/v1/models`: all names that can be requested, with what tools want to know about each.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use tiershift_core::catalog::Catalog;
use tiershift_core::model::{Model, ModelId};
use tiershift_core::request::Target;

use crate::serve::http::app::App;
use crate::serve::http::names::{AUTO, name_of};
use crate::serve::http::refusal::Refusal;

/// `GET /v1/models`. A tool that does not ask its user takes the first one.
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"object": "list", "data": entries(&app)}))
}

/// `GET /v1/models/{id}`. A server's name for a model may contain slashes.
pub(super) async fn one(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let unknown = || Refusal::unknown_model();
    let Path(id) = id.map_err(|_| unknown())?;
    let entries = entries(&app);
    let by_name = entries.iter().position(|entry| entry["id"] == id);
    let place = by_name.or_else(|| {
        let named = app.names.resolve(Some(&id)).filter(|named| !named.is_unknown)?;
        let name = match named.target {
            Target::Auto => AUTO.to_owned(),
            Target::Tier(tier) => tier,
            Target::Model(id) => name_of(&app.catalog, &id),
        };
        entries.iter().position(|entry| entry["id"] == name)
    });
    place.map(|place| Json(entries[place].clone())).ok_or_else(unknown)
}

/// The entry of a name that can be requested.
struct Entry<'a> {
    id: String,
    tier: Option<&'a str>,
    /// The model behind it now.
    model: Option<&'a Model>,
    serves: bool,
    is_companion: bool,
}

fn entries(app: &App) -> Vec<Value> {
    let catalog = &app.catalog;
    let (serving, companions) = {
        let board = app.board();
        (board.serving_model(), board.companions())
    };
    let serves = |id: &ModelId| {
        serving.as_ref() == Some(id) || companions.iter().any(|it| it.serves && it.model == *id)
    };
    let now = serving.as_ref().and_then(|id| catalog.model(id));
    // Before anything is loaded, the entry describes the best model.
    let auto_is = now.or_else(|| catalog.primary(catalog.top()));
    let mut all = vec![Entry {
        id: AUTO.to_owned(),
        tier: None,
        model: auto_is,
        serves: now.is_some(),
        is_companion: false,
    }];
    for rung in catalog.rungs_up() {
        let (tier, model) = (catalog.tier_name(rung), catalog.primary(rung));
        let serves = model.is_some_and(|model| serves(&model.id));
        all.push(Entry {
            id: tier.to_owned(),
            tier: Some(tier),
            model,
            serves,
            is_companion: false,
        });
    }
    for model in catalog.models() {
        let id = name_of(catalog, &model.id);
        if all.iter().any(|entry| entry.id == id) {
            continue;
        }
        let tier = (!model.companion).then_some(model.tier.as_str());
        let (serves, is_companion) = (serves(&model.id), model.companion);
        all.push(Entry { id, tier, model: Some(model), serves, is_companion });
    }
    for (alias, target) in app.names.aliases() {
        let model = model_of(catalog, target).or(auto_is);
        let serves = model.is_some_and(|model| serves(&model.id));
        all.push(Entry { id: alias.to_owned(), tier: None, model, serves, is_companion: false });
    }
    all.into_iter().map(|entry| entry.written(app)).collect()
}

fn model_of<'a>(catalog: &'a Catalog, target: &Target) -> Option<&'a Model> {
    match target {
        Target::Auto => None,
        Target::Tier(tier) => catalog.primary(catalog.rung_of_tier(tier)?),
        Target::Model(id) => catalog.model(id),
    }
}

impl Entry<'_> {
    fn written(&self, app: &App) -> Value {
        let facts = self.model.map(|model| (model, app.created(&model.id)));
        let mut entry = json!({
            "id": self.id, "object": "model", "owned_by": "tiershift",
            "created": facts.map_or(app.started_at, |(_, created)| created),
            "tiershift": {
                "tier": self.tier, "serves": self.serves, "companion": self.is_companion,
                "model": self.model.map(|model| model.id.as_str()),
            },
        });
        if let Some((model, _)) = facts {
            let size = model.ram + model.vram;
            entry["meta"] = json!({"n_ctx": model.context_tokens, "size": size.get()});
            // As vLLM and others name it.
            entry["context_length"] = model.context_tokens.into();
            entry["max_model_len"] = model.context_tokens.into();
        }
        entry
    }
}
