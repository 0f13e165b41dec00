//! JSON Schemas of the files that people write, for their editors.

/// Returns the schema of a document that is read as a `T`.
pub(crate) fn text<T: schemars::JsonSchema>() -> String {
    let schema = schemars::schema_for!(T);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}
