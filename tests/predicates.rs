//! What the names of predicates match.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{collections::BTreeMap, error::Error, fmt, io, time::Duration};

use buttress::{BoxError, Outcome, Predicate, Predicates, Reason, Rejected};

/// The names that match an error.
fn names_of(error: &BoxError) -> Vec<String> {
    let predicates = Predicates::default();
    let names: Vec<String> = predicates.names().map(str::to_owned).collect();
    let outcome = Outcome::of_error(error);
    names
        .into_iter()
        .filter(|name| predicates.resolve(name).unwrap().test(&outcome))
        .collect()
}

#[derive(Debug)]
struct Around(BoxError);

impl fmt::Display for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("around")
    }
}

impl Error for Around {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[test]
fn each_error_of_the_system_has_its_names_however_deep_it_lies() {
    use io::ErrorKind;

    let cases: [(ErrorKind, &[&str]); 10] = [
        (
            ErrorKind::ConnectionRefused,
            &["connect", "error", "failure", "io"],
        ),
        (ErrorKind::HostUnreachable, &["connect", "error", "failure", "io"]),
        (
            ErrorKind::NetworkUnreachable,
            &["connect", "error", "failure", "io"],
        ),
        (ErrorKind::ConnectionReset, &["error", "failure", "io", "reset"]),
        (ErrorKind::ConnectionAborted, &["error", "failure", "io", "reset"]),
        (ErrorKind::BrokenPipe, &["error", "failure", "io", "reset"]),
        (ErrorKind::TimedOut, &["error", "failure", "io", "timeout"]),
        (ErrorKind::WouldBlock, &["error", "failure", "io"]),
        (ErrorKind::UnexpectedEof, &["error", "failure", "io"]),
        (ErrorKind::Other, &["error", "failure", "io"]),
    ];
    for (kind, names) in cases {
        assert_eq!(names_of(&io::Error::from(kind).into()), names, "{kind:?}");
        let deep = Around(Around(io::Error::from(kind).into()).into());
        assert_eq!(names_of(&deep.into()), names, "{kind:?}");
    }
    assert_eq!(names_of(&fmt::Error.into()), ["error", "failure"]);
}

#[test]
fn rejections_have_names_too() {
    let limit = Duration::from_secs(1);
    let cases: [(Reason, &[&str]); 6] = [
        (Reason::ForcedOpen, &["circuit_open", "error"]),
        (Reason::ProbesTaken { probes: 3 }, &["circuit_open", "error"]),
        (Reason::Full { limit: 5 }, &["bulkhead_full", "error"]),
        (
            Reason::QueueFull { limit: 5, queue: 5 },
            &["bulkhead_full", "error"],
        ),
        (Reason::TimedOut { limit }, &["error", "failure", "timeout"]),
        (
            Reason::BodyIdle { limit },
            &["body", "error", "failure", "timeout"],
        ),
    ];
    for (reason, names) in cases {
        assert_eq!(names_of(&Rejected::new("x", reason).into()), names, "{reason:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_tokio_is_one() {
    let never = tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>());
    assert_eq!(
        names_of(&never.await.unwrap_err().into()),
        ["error", "failure", "timeout"]
    );
}

#[tokio::test]
async fn a_name_that_is_not_resolved_is_known_by_what_the_system_says() {
    // Names under `invalid` are never resolved (RFC 6761).
    let error = tokio::net::lookup_host("buttress.invalid:80")
        .await
        .err()
        .unwrap();
    assert_eq!(
        names_of(&error.into()),
        ["connect", "dns", "error", "failure", "io"]
    );
}

#[test]
fn a_name_may_mean_more_or_something_else() {
    let error: BoxError = fmt::Error.into();
    let is = |predicates: &Predicates, name: &str| {
        predicates
            .resolve(name)
            .map(|predicate| predicate.test(&Outcome::of_error(&error)))
            .ok()
    };
    let predicates = Predicates::default()
        .with("fmt", Predicate::error::<fmt::Error>())
        .with("io", Predicate::error::<fmt::Error>())
        .also("reset", Predicate::error::<fmt::Error>())
        .also("new", Predicate::error::<fmt::Error>());
    let answers: BTreeMap<&str, Option<bool>> = ["fmt", "io", "reset", "new", "dns", "5xx", "none"]
        .into_iter()
        .map(|name| (name, is(&predicates, name)))
        .collect();
    let expected = [
        ("fmt", Some(true)),
        ("io", Some(true)),
        ("reset", Some(true)),
        ("new", Some(true)),
        ("dns", Some(false)),
        ("5xx", Some(false)),
        ("none", None),
    ];
    assert_eq!(answers, expected.into());
    // What it meant before it still means.
    let reset: BoxError = io::Error::from(io::ErrorKind::ConnectionReset).into();
    assert!(
        predicates
            .resolve("reset")
            .unwrap()
            .test(&Outcome::of_error(&reset))
    );
    let unknown = predicates.resolve("rest").unwrap_err();
    assert_eq!(unknown.name, "rest");
    assert!(
        unknown
            .accepted
            .starts_with("unknown name; did you mean `reset`?"),
        "{unknown}"
    );
}

#[cfg(feature = "reqwest")]
mod of_reqwest {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn failed(url: &str, limit: Duration) -> BoxError {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(limit)
            .build()
            .unwrap();
        match client.get(url).send().await {
            Ok(response) => response.bytes().await.unwrap_err().into(),
            Err(error) => error.into(),
        }
    }

    #[tokio::test]
    async fn connections_that_were_never_made_are() {
        let long = Duration::from_secs(30);
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let refused = failed(&format!("http://127.0.0.1:{port}/"), long).await;
        assert_eq!(names_of(&refused), ["connect", "error", "failure", "io"]);
        let unresolved = failed("http://buttress.invalid/", long).await;
        assert_eq!(
            names_of(&unresolved),
            ["connect", "dns", "error", "failure", "io"]
        );
    }

    #[tokio::test]
    async fn a_limit_and_a_body_that_breaks_off_are() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        // It takes the connection and says nothing.
        let late = failed(&url, Duration::from_millis(50)).await;
        assert_eq!(names_of(&late), ["error", "failure", "timeout"]);
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1000]).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
                    .await;
                let _ = stream.shutdown().await;
            }
        });
        let cut = failed(&url, Duration::from_secs(30)).await;
        let names = names_of(&cut);
        assert!(
            names.contains(&"body".to_owned()) && !names.contains(&"connect".to_owned()),
            "{names:?}"
        );
        server.abort();
    }
}
