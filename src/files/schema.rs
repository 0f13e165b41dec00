//! JSON Schemas: of the files that users write, for their editors, and of output, for its readers.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

/// Returns the schema of a document that is read as a `T`.
pub(crate) fn text<T: JsonSchema>() -> String {
    in_text(&schemars::schema_for!(T))
}

/// Returns the schema of output that is written as a `T`.
pub(crate) fn of_output<T: JsonSchema>() -> String {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    in_text(&generator.into_root_schema_for::<T>())
}

fn in_text(schema: &schemars::Schema) -> String {
    let mut text = serde_json::to_string_pretty(schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}
