//! What the gateway changes in a message that it passes on.

use std::net::SocketAddr;

use axum::{
    extract::Request,
    http::{
        self, HeaderMap, HeaderName, HeaderValue, Uri, Version,
        header::{self, EXPECT, HOST},
        uri::{Authority, PathAndQuery, Scheme},
    },
    response::Response,
};

/// Turns the request of `client` into one for the upstream. Its body is passed on as it comes.
pub(crate) fn redirect(
    request: &mut Request,
    client: SocketAddr,
    upstream: &Authority,
) -> Result<(), http::Error> {
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(upstream.clone())
        .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build()?;
    // Whatever the client speaks with the gateway.
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    if let Some(host) = headers.remove(HOST) {
        headers.insert("x-forwarded-host", host);
    }
    headers.append("x-forwarded-for", text(&client.ip().to_string()));
    // The gateway's server has asked the client to go on by now.
    headers.remove(EXPECT);
    drop_connection_headers(headers);
    Ok(())
}

/// The upstream's answer as the client gets it.
pub(crate) fn clean(mut answer: Response) -> Response {
    drop_connection_headers(answer.headers_mut());
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

/// Reads the address of an upstream: `http://host[:port]`.
pub(crate) fn origin(url: &str) -> Result<Authority, String> {
    let uri: Uri = url.parse().map_err(|_| format!("`{url}` is not a URL"))?;
    match (
        uri.scheme_str(),
        uri.authority(),
        uri.path_and_query().map(PathAndQuery::as_str),
    ) {
        (Some("http"), Some(authority), _) if authority.as_str().contains('@') => {
            Err("a URL with a user name is not taken; give scheme, host and port only".to_owned())
        }
        (Some("http"), Some(authority), None | Some("/" | "")) => Ok(authority.clone()),
        (Some("http"), Some(_), Some(_)) => {
            Err(format!("`{url}` has a path; give scheme, host and port only"))
        }
        (Some(scheme), ..) if scheme != "http" => {
            Err(format!("`{url}`: this example speaks plain http, not {scheme}"))
        }
        _ => Err(format!("`{url}` is not of the form http://HOST:PORT")),
    }
}
