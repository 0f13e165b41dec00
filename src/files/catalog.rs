//! Catalog files: the models, each on its tier.

use tiershift_core::catalog::{Catalog, CatalogError, RawCatalog};
use tiershift_core::model::{Model, ModelError, RawModel};

use crate::files::document::{Document, DocumentError};
use crate::files::schema;

/// Checks a catalog file's text.
///
/// # Errors
/// What is not TOML or not a catalog, with its position and a remedy.
pub fn parse(text: &str, name: &str) -> Result<Catalog, DocumentError> {
    let document = Document::new(name, text);
    let raw: RawCatalog = document.read(&[])?;
    check_models(&document, raw.models)
}

/// Checks the models of a catalog; the mark stands under the model that is wrong.
pub(crate) fn check_models(
    document: &Document<'_>,
    models: Vec<RawModel>,
) -> Result<Catalog, DocumentError> {
    let refuse = |error: CatalogError| {
        let (entry, key) = match &error {
            CatalogError::Twice { model } => (("id", model.as_str()), "id"),
            CatalogError::UnknownFallback { model, .. } | CatalogError::Cycle { model, .. } => {
                (("id", model.as_str()), "fallbacks")
            }
            CatalogError::Model(ModelError { model, field, .. }) => {
                (("id", model.as_str()), *field)
            }
            CatalogError::Scattered { tier } => (("tier", tier.as_str()), "tier"),
            CatalogError::Empty | CatalogError::TooManyTiers { .. } => (("id", ""), "id"),
        };
        document.refuse_entry("model", entry, key, &error.to_string())
    };
    let models: Vec<Model> = models
        .into_iter()
        .map(Model::try_from)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(error.into()))?;
    Catalog::new(models).map_err(refuse)
}

/// Returns the JSON Schema of a catalog file.
pub fn schema() -> String {
    schema::text::<RawCatalog>()
}
