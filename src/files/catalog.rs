//! Catalog files: the models, each on its tier.

use serde::{Deserialize, Serialize};
use tiershift_core::catalog::{Catalog, CatalogError};
use tiershift_core::model::{Model, ModelError, RawModel};

use crate::files::document::{Document, DocumentError};
use crate::files::model_table::ModelTable;
use crate::files::schema;

/// A catalog file as it is written: missing keys are not filled in yet.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogFile {
    name: String,
    text: String,
    tables: Vec<ModelTable>,
}

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawFile {
    /// The models, in any order.
    #[serde(rename = "model")]
    models: Vec<ModelTable>,
}

impl CatalogFile {
    /// Reads a catalog file's text.
    ///
    /// # Errors
    /// When it is not TOML, or has unknown keys; with its position and a remedy.
    pub fn parse(text: &str, name: &str) -> Result<Self, DocumentError> {
        let tables = Document::new(name, text).read::<RawFile>(&[])?.models;
        Ok(Self { name: name.to_owned(), text: text.to_owned(), tables })
    }

    /// Returns its tables, in the order of the file.
    pub fn tables(&self) -> &[ModelTable] {
        &self.tables
    }

    /// Returns the catalog, if every table is complete.
    ///
    /// # Errors
    /// What is missing in a table or not valid in a catalog, with its position.
    pub fn catalog(self) -> Result<Catalog, DocumentError> {
        let document = Document::new(&self.name, &self.text);
        let whole = |table: &ModelTable| {
            table.whole().map_err(|key| {
                let id = table.id.as_deref().unwrap_or_default();
                let title = format!(
                    "key `{key}` is missing: `serve` and `calibrate` estimate it from the model's file, a simulation needs it"
                );
                document.refuse_entry("model", ("id", id), key, &title)
            })
        };
        let models = self.tables.iter().map(whole).collect::<Result<_, _>>()?;
        check_models(&document, models)
    }

    /// Refuses the models, with the position of the wrong one.
    #[cfg(feature = "serve")]
    pub(crate) fn refuse(&self, error: &CatalogError) -> DocumentError {
        refusal(&Document::new(&self.name, &self.text), error)
    }
}

/// Checks the text of a catalog file in which every table is complete.
///
/// # Errors
/// When it is not TOML or not a catalog; with its position and a remedy.
pub fn parse(text: &str, name: &str) -> Result<Catalog, DocumentError> {
    CatalogFile::parse(text, name)?.catalog()
}

/// Checks the models of a catalog; the mark is under the wrong model.
pub(crate) fn check_models(
    document: &Document<'_>,
    models: Vec<RawModel>,
) -> Result<Catalog, DocumentError> {
    let refuse = |error: CatalogError| refusal(document, &error);
    let models: Vec<Model> = models
        .into_iter()
        .map(Model::try_from)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(error.into()))?;
    Catalog::new(models).map_err(refuse)
}

fn refusal(document: &Document<'_>, error: &CatalogError) -> DocumentError {
    let (entry, key) = match error {
        CatalogError::Twice { model } => (("id", model.as_str()), "id"),
        CatalogError::UnknownFallback { model, .. } | CatalogError::Cycle { model, .. } => {
            (("id", model.as_str()), "fallbacks")
        }
        CatalogError::Model(ModelError { model, field, .. }) => (("id", model.as_str()), *field),
        CatalogError::Scattered { tier } => (("tier", tier.as_str()), "tier"),
        CatalogError::Empty | CatalogError::TooManyTiers { .. } => (("id", ""), "id"),
    };
    document.refuse_entry("model", entry, key, &error.to_string())
}

/// Returns the JSON Schema of a catalog file.
pub fn schema() -> String {
    schema::text::<RawFile>()
}
