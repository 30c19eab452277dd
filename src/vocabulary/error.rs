//! One flat error, whatever the order of the policies.

use std::{error::Error as StdError, fmt};

use crate::vocabulary::rejected::Rejected;

/// An error type that a [`Rejected`] can be put into.
///
/// A layer of this crate does not wrap the error of the service below it; it puts its rejection **into**
/// that type, so that errors do not nest and the layers compose in any order. Two types hold one as they
/// are: `tower::BoxError`, and [`Error<E>`](Error), which keeps a typed inner error beside it. One
/// [`AdaptLayer`](crate::AdaptLayer) at the bottom of a stack makes `Error<E>` from any error.
///
/// # An error of your own
///
/// ```
/// use buttress::{HoldsRejected, Rejected};
///
/// #[derive(Debug)]
/// enum AppError {
///     Rejected(Rejected),
///     Io(std::io::Error),
/// }
/// # impl std::fmt::Display for AppError {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") }
/// # }
/// impl std::error::Error for AppError {}
///
/// impl HoldsRejected for AppError {
///     fn from_rejected(rejected: Rejected) -> Self {
///         AppError::Rejected(rejected)
///     }
///     fn rejected(&self) -> Option<&Rejected> {
///         match self {
///             AppError::Rejected(rejected) => Some(rejected),
///             AppError::Io(_) => None,
///         }
///     }
///     fn as_error(&self) -> Option<&(dyn std::error::Error + 'static)> {
///         Some(self)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the error type `{Self}` cannot hold a rejection of a buttress policy",
    label = "this service's error is `{Self}`",
    note = "add `.layer(buttress::AdaptLayer::new())` as the last layer, right above the service: its errors become `buttress::Error<{Self}>`",
    note = "or make the service's error `tower::BoxError`, or implement `buttress::HoldsRejected` for `{Self}`",
    note = "for the routes of an axum router, which never fail, use `buttress::axum::PolicyLayer::new(stack)` instead: it answers rejections as responses"
)]
pub trait HoldsRejected: Sized {
    /// Makes an error of a rejection.
    fn from_rejected(rejected: Rejected) -> Self;

    /// The rejection that this error holds, if it is one.
    fn rejected(&self) -> Option<&Rejected>;

    /// This error for classifiers that walk `source()`; `None` when it is not a `std::error::Error`.
    fn as_error(&self) -> Option<&(dyn StdError + 'static)>;

    /// Told by a retry: how many attempts led to this error, the first counted. The default forgets it.
    fn note_attempts(&mut self, attempts: u32) {
        let _ = attempts;
    }
}

#[diagnostic::do_not_recommend]
impl HoldsRejected for Rejected {
    #[inline]
    fn from_rejected(rejected: Rejected) -> Self {
        rejected
    }

    fn rejected(&self) -> Option<&Rejected> {
        Some(self)
    }

    fn as_error(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }

    fn note_attempts(&mut self, attempts: u32) {
        Self::note_attempts(self, attempts);
    }
}

#[diagnostic::do_not_recommend]
impl HoldsRejected for tower::BoxError {
    #[inline]
    fn from_rejected(rejected: Rejected) -> Self {
        rejected.into()
    }

    fn rejected(&self) -> Option<&Rejected> {
        find_rejected(&**self)
    }

    fn as_error(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&**self)
    }

    fn note_attempts(&mut self, attempts: u32) {
        if let Some(rejected) = self.downcast_mut::<Rejected>() {
            rejected.note_attempts(attempts);
        }
    }
}

/// The [`Rejected`] inside an error, however deep in its `source()` chain.
///
/// ```
/// use buttress::{Reason, Rejected, find_rejected};
/// let error: tower::BoxError = Rejected::new("db", Reason::Full { limit: 8 }).into();
/// assert_eq!(find_rejected(&*error).map(Rejected::policy), Some("db"));
/// ```
pub fn find_rejected<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Rejected> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// An error and all that it came from, outermost first.
pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    // A chain that loops is a fault of its maker; it must not hang a call.
    std::iter::successors(Some(error), |&error: &&'a (dyn StdError + 'static)| {
        error.source()
    })
    .take(64)
}

/// The error of a guarded service: a rejection, or the service's own error, beside each other.
#[derive(Clone, Debug, PartialEq)]
pub enum Error<E> {
    /// A policy refused the call, or cut it off.
    Rejected(Rejected),
    /// The service's own error, unchanged.
    Service(E),
}

impl<E> Error<E> {
    /// The rejection, if it is one.
    pub const fn as_rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Service(_) => None,
        }
    }

    /// The service's own error, if it is one.
    pub fn into_service(self) -> Option<E> {
        match self {
            Self::Rejected(_) => None,
            Self::Service(error) => Some(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Service(error) => error.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for Error<E> {
    /// The rejection or the service's error itself, so that both can be found by their types in a chain.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Service(error) => Some(error),
        }
    }
}

#[diagnostic::do_not_recommend]
impl<E: StdError + 'static> HoldsRejected for Error<E> {
    #[inline]
    fn from_rejected(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }

    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            // A service may itself be guarded, or carry another's rejection as its source.
            Self::Service(error) => find_rejected(error),
        }
    }

    fn as_error(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Service(error) => Some(error),
        }
    }

    fn note_attempts(&mut self, attempts: u32) {
        if let Self::Rejected(rejected) = self {
            rejected.note_attempts(attempts);
        }
    }
}

impl<E> From<Rejected> for Error<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}
