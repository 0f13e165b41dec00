//! Policy files: the settings of the policy and the manager.

use tiershift_core::policy::Registry;
use tiershift_core::settings::RawSettings;

use crate::files::document::{Document, DocumentError};
use crate::files::schema;

/// Reads a policy file's text. Whether its lines suit a machine is checked by
/// [`Settings::new`](tiershift_core::settings::Settings::new).
///
/// # Errors
/// What is not TOML or not a policy that there is, with its position and a remedy.
pub fn parse(text: &str, name: &str, policies: &Registry) -> Result<RawSettings, DocumentError> {
    let document = Document::new(name, text);
    let settings: RawSettings = document.read(&[])?;
    document.check_policy(None, &settings.policy, policies)?;
    Ok(settings)
}

/// Returns the JSON Schema of a policy file.
pub fn schema() -> String {
    schema::text::<RawSettings>()
}
