//! What several tests share.

#[cfg(test)]
pub(crate) mod generate;
pub(crate) mod reference;
pub(crate) mod replay;
pub(crate) mod scenario;
