//! Reads the variables of our settings into a [`Layer`].
//!
//! Variables that begin with `WEFT_` but name no setting are left alone: Kubernetes makes such
//! ones up for a service that is called `weft`, and the clients have theirs.

use super::error::ConfigError;
use super::layer::{Layer, Origin, Raw};
use super::setting::{Setting, Shape};
use super::value;

/// Picks our variables out of all of them. An empty one counts as not set: templates leave such.
pub(super) fn read(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Layer, ConfigError> {
    let mut layer = Layer::default();
    for (variable, text) in variables {
        let setting = Setting::ALL.into_iter().find(|setting| setting.variable() == variable);
        let Some(setting) = setting.filter(|_| !text.trim().is_empty()) else { continue };
        let text = text.trim();
        let origin = Origin::Environment(variable);
        let raw = match setting.shape() {
            Shape::Text => Raw::Text(text.to_owned()),
            Shape::List => Raw::List(listed(text)),
            Shape::Switch => match value::switch(text) {
                Ok(on) => Raw::Switch(on),
                Err(problem) => return Err(ConfigError::BadValue { origin, problem }),
            },
        };
        layer.set(setting, raw, origin);
    }
    Ok(layer)
}

fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
