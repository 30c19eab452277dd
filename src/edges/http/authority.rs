//! The authority of a request as a key.

use std::fmt::Write;

use crate::composition::keyed::KeyOf;

/// Takes the authority of each request for its key: scheme, host and port, such as `https://api.example:443`.
///
/// The port stands there also where it is the scheme's own, so that one authority is one key. What a request does not
/// say is left out; a server's requests often tell the host in their `Host` header alone, which is looked at then.
///
/// ```
/// use buttress::{BulkheadConfig, CircuitBreaker, KeyedConfig, KeyedLayer, http::PerAuthority};
///
/// let breakers = KeyedConfig::new().build(CircuitBreaker::with_defaults("upstream")?)?;
/// let layer = KeyedLayer::by(breakers, PerAuthority);
/// # let _ = layer;
/// # Ok::<(), buttress::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct PerAuthority;

impl<B: 'static> KeyOf<::http::Request<B>> for PerAuthority {
    fn with_key<T>(&self, request: &::http::Request<B>, take: impl FnOnce(&str) -> T) -> T {
        let uri = request.uri();
        let host = uri.authority().map(::http::uri::Authority::as_str).or_else(|| {
            let host = request.headers().get(::http::header::HOST)?;
            host.to_str().ok()
        });
        let host = host.map_or("", |host| host.rsplit('@').next().unwrap_or(host));
        let (host, port) = match host.rsplit_once(':') {
            // The last colon of an IPv6 address is within its brackets.
            Some((name, port)) if !port.contains(']') => (name, port.parse().ok()),
            _ => (host, None),
        };
        take(&authority(uri.scheme_str(), host, port))
    }
}

/// `scheme://host:port`. A host's letters are compared without their case.
pub(crate) fn authority(scheme: Option<&str>, host: &str, port: Option<u16>) -> String {
    let port = port.or(match scheme {
        Some("http" | "ws") => Some(80),
        Some("https" | "wss") => Some(443),
        _ => None,
    });
    let mut key = String::with_capacity(host.len() + 16);
    if let Some(scheme) = scheme {
        key.push_str(scheme);
        key.push_str("://");
    }
    key.push_str(host);
    key.make_ascii_lowercase();
    if let Some(port) = port {
        // Writing to a string does not fail.
        let _ = write!(key, ":{port}");
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uri: &str, host: Option<&str>) -> String {
        let mut request = ::http::Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let request = request.body(()).expect("it is valid");
        PerAuthority.with_key(&request, str::to_owned)
    }

    #[test]
    fn an_authority_is_one_key_however_it_is_written() {
        assert_eq!(key("https://api.example/a?b", None), "https://api.example:443");
        assert_eq!(key("https://API.example:443/c", None), "https://api.example:443");
        assert_eq!(
            key("http://user:secret@api.example/", None),
            "http://api.example:80"
        );
        assert_eq!(key("http://[::1]/", None), "http://[::1]:80");
        assert_eq!(key("http://[::1]:8080/", None), "http://[::1]:8080");
        assert_eq!(key("/a", Some("api.example:8080")), "api.example:8080");
        assert_eq!(key("/a", None), "");
    }
}
