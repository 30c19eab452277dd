//! What the gateway changes in a message that it passes on.

use std::net::SocketAddr;

use axum::{
    body::{Bytes, to_bytes},
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Response, Uri,
        header::{self, EXPECT, HOST},
        uri::PathAndQuery,
    },
};
use reqwest::{Client, RequestBuilder};

use crate::stats::ANSWERED_BY_GATEWAY;

/// A request may be sent more than once, so its body is held; a longer one gets a 413.
const LONGEST_BODY: usize = 1024 * 1024;

/// An answer of the upstream. Its body is passed on as it comes.
pub(crate) type Answer = Response<reqwest::Body>;

/// A request on its way to the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Outgoing {
    /// The request for the upstream at `http://host:port` that `client` asks for.
    pub(crate) async fn from_incoming(
        incoming: Request,
        client: SocketAddr,
        upstream: &str,
    ) -> Result<Self, axum::Error> {
        let (parts, body) = incoming.into_parts();
        let mut headers = parts.headers;
        if let Some(host) = headers.remove(HOST) {
            headers.insert("x-forwarded-host", host);
        }
        headers.append("x-forwarded-for", text(&client.ip().to_string()));
        // The body is whole when it is sent on: nobody waits for a `100 Continue`.
        headers.remove(EXPECT);
        drop_connection_headers(&mut headers);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let body = to_bytes(body, LONGEST_BODY).await?;
        Ok(Self {
            method: parts.method,
            url: format!("{upstream}{path}"),
            headers,
            body,
        })
    }

    pub(crate) fn into_request(self, client: &Client) -> RequestBuilder {
        let request = client.request(self.method, self.url).headers(self.headers);
        // An empty body would give a GET a `content-length: 0`.
        if self.body.is_empty() {
            request
        } else {
            request.body(self.body)
        }
    }
}

/// The upstream's answer as the client gets it.
pub(crate) fn clean(mut answer: Answer) -> Answer {
    drop_connection_headers(answer.headers_mut());
    // Only the gateway may say that an answer is the gateway's.
    answer.headers_mut().remove(ANSWERED_BY_GATEWAY);
    answer
}

/// Removes what is meant for one connection only and must not be passed on (RFC 9110, section 7.6.1).
fn drop_connection_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// A header value of text that has only visible characters.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Checks the address of an upstream: `http://host[:port]`. What is kept has no slash at its end.
pub(crate) fn origin(url: &str) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|_| format!("`{url}` is not a URL"))?;
    match (
        uri.scheme_str(),
        uri.authority(),
        uri.path_and_query().map(PathAndQuery::as_str),
    ) {
        (Some("http"), Some(authority), _) if authority.as_str().contains('@') => {
            Err("a URL with a user name is not taken; give scheme, host and port only".to_owned())
        }
        (Some("http"), Some(authority), None | Some("/" | "")) => Ok(format!("http://{authority}")),
        (Some("http"), Some(_), Some(_)) => {
            Err(format!("`{url}` has a path; give scheme, host and port only"))
        }
        (Some(scheme), ..) if scheme != "http" => {
            Err(format!("`{url}`: this example speaks plain http, not {scheme}"))
        }
        _ => Err(format!("`{url}` is not of the form http://HOST:PORT")),
    }
}
