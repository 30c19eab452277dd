//! What a guarded request fails with.

use std::{error::Error as StdError, fmt};

use crate::vocabulary::{
    error::{HoldsRejected, find_rejected},
    rejected::Rejected,
};

/// The error of a guarded request: a rejection, or [`reqwest::Error`] by what it is about.
///
/// `?` makes one of a `reqwest::Error`, so that a function may await, check and read a response with one error type:
///
/// ```
/// # async fn orders(client: &buttress::reqwest::Client) -> Result<String, buttress::reqwest::Error> {
/// let response = client.get("https://api.example/orders").send().await?.error_for_status()?;
/// Ok(response.text().await?)
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A policy refused the request, or cut it off.
    Rejected(Rejected),
    /// The server answered with an error status, and the caller asked for that to be an error
    /// (`error_for_status`).
    Status(::reqwest::Error),
    /// The request could not be sent, or its response not be received or read.
    Transport(::reqwest::Error),
    /// The request was wrong before any of it was sent: its URL, a header, what was to be its body.
    Invalid(::reqwest::Error),
}

impl Error {
    /// The rejection, if it is one, also where it cut off a body that was being read.
    pub fn as_rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Status(error) | Self::Transport(error) | Self::Invalid(error) => find_rejected(error),
        }
    }

    /// reqwest's own error, unless it is a rejection.
    pub const fn as_reqwest(&self) -> Option<&::reqwest::Error> {
        match self {
            Self::Rejected(_) => None,
            Self::Status(error) | Self::Transport(error) | Self::Invalid(error) => Some(error),
        }
    }

    /// reqwest's own error, unless it is a rejection.
    pub fn into_reqwest(self) -> Option<::reqwest::Error> {
        match self {
            Self::Rejected(_) => None,
            Self::Status(error) | Self::Transport(error) | Self::Invalid(error) => Some(error),
        }
    }

    /// The error status that the server answered with, if it is one.
    pub fn status(&self) -> Option<::http::StatusCode> {
        self.as_reqwest()?.status()
    }
}

impl From<::reqwest::Error> for Error {
    fn from(error: ::reqwest::Error) -> Self {
        if error.is_status() {
            Self::Status(error)
        } else if error.is_builder() {
            Self::Invalid(error)
        } else {
            Self::Transport(error)
        }
    }
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Status(error) | Self::Transport(error) | Self::Invalid(error) => error.fmt(f),
        }
    }
}

impl StdError for Error {
    /// The rejection or reqwest's error itself, so that both can be found by their types in a chain.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.as_error()
    }
}

impl HoldsRejected for Error {
    fn from_rejected(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }

    fn rejected(&self) -> Option<&Rejected> {
        self.as_rejected()
    }

    fn as_error(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Status(error) | Self::Transport(error) | Self::Invalid(error) => Some(error),
        }
    }

    fn note_attempts(&mut self, attempts: u32) {
        if let Self::Rejected(rejected) = self {
            rejected.note_attempts(attempts);
        }
    }
}
