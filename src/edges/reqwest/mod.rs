//! A client over reqwest, with policies around each request (feature `reqwest`).
//!
//! reqwest is taken without its default features: TLS, HTTP/2, compression and the rest are chosen by the features that
//! the application gives its own dependency on reqwest.
//!
//! | type | what it does |
//! |---|---|
//! | [`Client`] | is used as `reqwest::Client`, and guards each request |
//! | [`RequestBuilder`] | is used as `reqwest::RequestBuilder`, and says what one request wants of the policies |
//! | [`Error`] | tells rejections, statuses and the transport's errors apart |
//! | [`ReqwestExchange`] | for a plain `reqwest::Client` in a stack of Tower layers |
//! | [`PerAuthority`](crate::http::PerAuthority) | keys a [`KeyedLayer`](crate::KeyedLayer) by authority, for requests of reqwest's too |
//!
//! With the feature `tracing`, each attempt of a [`Client`] is a span called `HTTP attempt`, with
//! `http.request.resend_count` (0 for the first) and further fields by the names of OpenTelemetry's conventions.

mod attempt;
mod call;
mod client;
mod error;
mod exchange;
mod request;

pub use self::{
    client::{Client, ClientBuilder},
    error::Error,
    exchange::ReqwestExchange,
    request::RequestBuilder,
};

/// The authority of a URL as a key.
fn authority_of(url: &::reqwest::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    crate::edges::http::authority(Some(url.scheme()), host, url.port())
}
