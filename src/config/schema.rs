//! The JSON Schema of the file, from the same structs that decode it.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json};

use crate::config::file::FileConfig;

/// The schema with the marks washlet itself reads (`x-washlet-*`), every type in place.
pub(crate) fn of_file() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<FileConfig>().to_value()
}

/// The schema for people and editors: `required` said the standard way, defaults only at keys.
#[must_use]
pub fn for_editors() -> Json {
    let mut schema = of_file();
    polish(&mut schema);
    schema
}

fn polish(schema: &mut Json) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.contains_key("properties") || object.get("default").is_some_and(Json::is_null) {
        object.remove("default");
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            polish(inner);
        }
    }
    let Some(properties) = object.get_mut("properties").and_then(Json::as_object_mut) else { return };
    let required = take_required(properties);
    properties.values_mut().for_each(polish);
    if !required.is_empty() {
        object.insert("required".to_owned(), Json::Array(required));
    }
}

fn take_required(properties: &mut Map<String, Json>) -> Vec<Json> {
    let mut required = Vec::new();
    for (key, schema) in properties {
        if let Some(schema) = schema.as_object_mut()
            && schema.remove("x-washlet-required").is_some()
        {
            schema.remove("default");
            required.push(Json::String(key.clone()));
        }
    }
    required
}
