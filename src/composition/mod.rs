//! Floor 3: what is made of policies and layers: one of them for each key, and stacks by name.

pub(crate) mod counting;
pub(crate) mod keyed;
pub(crate) mod lint;
pub(crate) mod registry;
pub(crate) mod settings;
