//! Floor 3: what is made of policies and layers: one of them for each key.

pub(crate) mod keyed;
