//! What each edge adds to the names of predicates.

use crate::composition::settings::Predicates;
#[cfg(feature = "reqwest")]
use crate::vocabulary::predicate::Predicate;

/// Those that are built in, with what the edges know that are compiled in.
impl Default for Predicates {
    fn default() -> Self {
        let predicates = Self::of_any_call();
        #[cfg(feature = "reqwest")]
        let predicates = {
            use ::reqwest::Error;

            let body = |error: &Error| error.is_body() || error.is_decode();
            predicates
                .also("connect", Predicate::error_if(Error::is_connect))
                .also("timeout", Predicate::error_if(Error::is_timeout))
                .also("body", Predicate::error_if(body))
        };
        predicates
    }
}
