//! The admin page and its interface: what is to be seen, who may command, and what a hostile caller gets.

#[path = "support/admin.rs"]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use buttress::{
    BulkheadConfig, By, Command, ConfigErrors, Issue, Registry, StackConfig, State,
    admin::{self, Admin, Health},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use support::{MARKUP, Reader, reader, registry, serve, settings, toggle};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
    time::{sleep, timeout},
};
use tower::ServiceExt;

const TOKEN: &str = "a-token-of-anna-1234";
const OTHER: &str = "a-token-of-ben-56789";
fn admin(registry: &Registry) -> Admin {
    Admin::builder(registry.clone())
        .token("anna", TOKEN)
        .token("ben", OTHER)
        .build()
        .unwrap()
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    Answer {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    }
}

async fn get(router: &Router, path: &str) -> Answer {
    let request = Request::get(path).header("accept", "application/json");
    ask(router, request.body(Body::empty()).unwrap()).await
}

async fn post(router: &Router, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::post("/api/commands");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(router, request.body(body.into()).unwrap()).await
}

const JSON: (&str, &str) = ("content-type", "application/json");
const ANNA: (&str, &str) = ("authorization", "Bearer a-token-of-anna-1234");

async fn command(router: &Router, body: &Value) -> Answer {
    post(router, &[JSON, ANNA], body.to_string()).await
}

fn force_open() -> Value {
    json!({ "name": "payments", "command": "force_open", "reason": "a drill" })
}

fn state(registry: &Registry) -> State {
    registry.circuit_breaker("payments").unwrap().state()
}

// ---- who may command ----

#[tokio::test]
async fn without_a_token_that_is_set_nothing_is_obeyed() {
    let registry = registry();
    let router = admin::router(registry.clone());
    for headers in [
        &[JSON][..],
        &[JSON, ANNA][..],
        &[JSON, ("authorization", "Bearer ")][..],
    ] {
        let answer = post(&router, headers, force_open().to_string()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(
            answer.json()["error"]
                .as_str()
                .unwrap()
                .contains("no token is set")
        );
    }
    assert_eq!(state(&registry), State::Closed);
}

#[tokio::test]
async fn no_token_and_a_wrong_one_are_refused() {
    let registry = registry();
    let router = admin(&registry).router();
    for headers in [
        &[JSON][..],
        &[JSON, ("authorization", "Bearer a-token-of-anna-1235")][..],
        &[JSON, ("authorization", "Bearer a-token-of-anna-123")][..],
        &[JSON, ("authorization", "Basic a-token-of-anna-1234")][..],
        &[JSON, ("authorization", TOKEN)][..],
        &[JSON, ("cookie", "token=a-token-of-anna-1234")][..],
        &[JSON, ("x-token", TOKEN)][..],
        &[JSON, ANNA, ANNA][..],
    ] {
        let answer = post(&router, headers, force_open().to_string()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{headers:?}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(answer.json()["error"].is_string());
    }
    let by_query = Request::post(format!("/api/commands?token={TOKEN}"))
        .header(JSON.0, JSON.1)
        .body(Body::from(force_open().to_string()));
    assert_eq!(
        ask(&router, by_query.unwrap()).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(state(&registry), State::Closed);
    let events = get(&router, "/api/events?after=0").await.json();
    assert_eq!(events["events"], json!([]), "nothing happened");
}

#[tokio::test]
async fn what_another_site_can_make_a_browser_send_is_refused() {
    let registry = registry();
    let router = admin(&registry).router();
    // A form can send these, and no others; and never a header of its own.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let kind = ("content-type", kind);
        let origin = ("origin", "https://elsewhere.example");
        let answer = post(&router, &[kind, origin], force_open().to_string()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let answer = post(&router, &[kind, ANNA], force_open().to_string()).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let answer = post(&router, &[ANNA], force_open().to_string()).await;
    assert_eq!(
        answer.status,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "no content type"
    );

    // A script that asks to send the header is not allowed to.
    let preflight = Request::options("/api/commands")
        .header("origin", "https://elsewhere.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type");
    let answer = ask(&router, preflight.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    let allowed = |answer: &Answer| {
        let mut names = answer.headers.keys();
        names.any(|name| name.as_str().starts_with("access-control-"))
    };
    assert!(!allowed(&answer) && !allowed(&get(&router, "/api/stacks").await));

    // Even with the token, where the browser says so.
    for site in ["cross-site", "same-site"] {
        let headers = [JSON, ANNA, ("sec-fetch-site", site)];
        let answer = post(&router, &headers, force_open().to_string()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(state(&registry), State::Closed);
    for site in ["same-origin", "none"] {
        let headers = [JSON, ANNA, ("sec-fetch-site", site)];
        let answer = post(&router, &headers, force_open().to_string()).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn short_tokens_and_labels_that_are_taken_are_refused_when_it_is_built() {
    let field = |label: &str, token: &str| {
        let built = Admin::builder(registry())
            .token("anna", TOKEN)
            .token(label, token);
        built.build().unwrap_err().field().to_owned()
    };
    assert_eq!(field("ben", "fifteen-bytes-x"), "token");
    assert_eq!(field("ben", &"x".repeat(257)), "token");
    assert_eq!(field("ben", "with a space in it"), "token");
    assert_eq!(field("anna", OTHER), "token.label");
    assert_eq!(field(" ", OTHER), "token.label");
    let shown = format!("{:?}", admin(&registry()));
    assert!(shown.contains("anna") && !shown.contains(TOKEN), "{shown}");
}

// ---- commands ----

#[tokio::test(start_paused = true)]
async fn a_command_is_carried_out_and_told_with_the_tokens_label() {
    let registry = registry();
    let router = admin(&registry).router();
    let mut body = force_open();
    body["ttl"] = "5m".into();
    let answer = command(&router, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(
        answer.json(),
        json!({
            "name": "payments/circuit_breaker", "command": "force_open", "label": "anna", "reload": null,
        })
    );
    assert_eq!(state(&registry), State::ForcedOpen);

    // The task has not seen it yet; it does as soon as it is its turn.
    sleep(Duration::from_millis(10)).await;
    let events = get(&router, "/api/events?after=0").await.json();
    let event = &events["events"][0];
    assert_eq!(
        (&event["what"], &event["name"], &event["command"]),
        (
            &json!("commanded"),
            &json!("payments/circuit_breaker"),
            &json!("force_open")
        )
    );
    assert_eq!(event["by"], json!({ "label": "anna", "reason": "a drill" }));
    assert_eq!(event["ttl_seconds"], 300.0);

    sleep(Duration::from_secs(302)).await;
    assert_eq!(state(&registry), State::Closed, "the page's own task ends it");
    let events = get(&router, "/api/events?after=0").await.json();
    let all = events["events"].as_array().unwrap();
    let ended = all
        .iter()
        .find(|event| event["what"] == "override_ended")
        .unwrap();
    assert_eq!(
        (&ended["end"], &ended["by"]["label"]),
        (&json!("expired"), &json!("anna"))
    );
}

#[tokio::test]
async fn each_command_of_the_interface_does_what_it_says() {
    let registry = registry();
    let router = admin(&registry).router();
    for (word, expected) in [
        ("force_open", State::ForcedOpen),
        ("disable", State::Disabled),
        ("metrics_only", State::MetricsOnly),
        ("half_open", State::HalfOpen),
        ("open", State::Open),
        ("close", State::Closed),
        ("reset", State::Closed),
    ] {
        let body = json!({ "name": "payments/circuit_breaker", "command": word, "reason": "why not" });
        assert_eq!(command(&router, &body).await.status, StatusCode::OK, "{word}");
        assert_eq!(state(&registry), expected);
    }
    let body = json!({
        "name": "payments/bulkhead", "command": "resize", "max_concurrent": 3, "reason": "load", "ttl": null,
    });
    assert_eq!(command(&router, &body).await.status, StatusCode::OK);
    assert_eq!(registry.bulkhead("payments").unwrap().snapshot().limit, 3);
    registry.keyed_stack("tenants").unwrap().get("a/b c");
    let name = "tenants/circuit_breaker[a/b c]";
    let body = json!({ "name": name, "command": "disable", "reason": "one alone" });
    assert_eq!(command(&router, &body).await.status, StatusCode::OK);
    assert_eq!(registry.circuit_breaker(name).unwrap().state(), State::Disabled);
}

#[tokio::test]
async fn unknown_names_are_not_found() {
    let registry = registry();
    let router = admin(&registry).router();
    for name in [
        "payment",
        "payments/retry",
        "tenants",
        "tenants/circuit_breaker[x]",
        "",
        "\u{0}",
    ] {
        let mut body = force_open();
        body["name"] = name.into();
        let answer = command(&router, &body).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name:?}");
        assert!(
            answer.json()["error"]
                .as_str()
                .unwrap()
                .contains("payments/circuit_breaker")
        );
    }
    for path in [
        "/api/stacks/payment",
        "/api/policies/payments",
        "/api/policies/payments%2Fcircuit_breaker2",
        "/api/policies/..%2F..%2Fetc%2Fpasswd",
        "/api",
        "/nothing",
    ] {
        assert_eq!(get(&router, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_bad_body_is_refused_with_the_field_that_is_wrong() {
    let registry = registry();
    let router = admin(&registry).router();
    let cases = [
        (json!({}), "name"),
        (json!({ "name": 7, "command": "close", "reason": "x" }), "name"),
        (json!({ "name": "payments", "reason": "x" }), "command"),
        (
            json!({ "name": "payments", "command": "explode", "reason": "x" }),
            "command",
        ),
        (
            json!({ "name": "payments", "command": ["close"], "reason": "x" }),
            "command",
        ),
        (json!({ "name": "payments", "command": "close" }), "reason"),
        (
            json!({ "name": "payments", "command": "close", "reason": " \n" }),
            "reason",
        ),
        (
            json!({ "name": "payments", "command": "close", "reason": "x".repeat(501) }),
            "reason",
        ),
        (
            json!({ "name": "payments", "command": "force_open", "reason": "x", "ttl": "soon" }),
            "ttl",
        ),
        (
            json!({ "name": "payments", "command": "force_open", "reason": "x", "ttl": 300 }),
            "ttl",
        ),
        (
            json!({ "name": "payments", "command": "force_open", "reason": "x", "ttl": "0s" }),
            "ttl",
        ),
        (
            json!({ "name": "payments", "command": "close", "reason": "x", "ttl": "5m" }),
            "ttl",
        ),
        (
            json!({ "name": "payments", "command": "resize", "reason": "x" }),
            "max_concurrent",
        ),
        (
            json!({ "name": "payments", "command": "resize", "reason": "x", "max_concurrent": "8" }),
            "max_concurrent",
        ),
        (
            json!({ "name": "payments", "command": "resize", "reason": "x", "max_concurrent": -1 }),
            "max_concurrent",
        ),
        (
            json!({ "name": "payments", "command": "resize", "reason": "x", "max_concurrent": 0 }),
            "max_concurrent",
        ),
        (
            json!({ "name": "payments", "command": "close", "reason": "x", "max_concurrent": 8 }),
            "max_concurrent",
        ),
        (
            json!({ "name": "payments", "command": "close", "reason": "x", "label": "root" }),
            "label",
        ),
    ];
    for (body, field) in cases {
        let answer = command(&router, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        let told = answer.json();
        assert_eq!(told["field"], field, "{body}: {told}");
        assert!(told["error"].as_str().unwrap().starts_with(field), "{told}");
    }
    let deep = "[".repeat(10_000);
    for body in [
        "",
        "null",
        "[]",
        "\"close\"",
        "{\"name\":",
        "{}{}",
        "\u{fffd}",
        deep.as_str(),
    ] {
        let answer = post(&router, &[JSON, ANNA], body.to_owned()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body:.20}");
        assert_eq!(answer.json()["field"], Value::Null, "{body:.20}");
    }
    let not_text = post(&router, &[JSON, ANNA], vec![0xff, 0xfe, b'{']).await;
    assert_eq!(not_text.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(state(&registry), State::Closed);
    assert_eq!(registry.bulkhead("payments").unwrap().snapshot().limit, 8);
}

#[tokio::test]
async fn a_reload_says_what_it_changed_or_all_that_is_wrong() {
    let loads = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&loads);
    let registry = Registry::builder()
        .key("tenant")
        .build_from(move |_| match counted.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(settings()),
            1 => Ok(settings().stack("more", StackConfig::new().stage("slots", BulkheadConfig::new(1)))),
            _ => Err(ConfigErrors::new(vec![Issue::error(
                "stacks.more.slots",
                "it is gone",
            )])),
        })
        .unwrap();
    let router = admin(&registry).router();
    let body = json!({ "name": "registry", "command": "reload", "reason": "new limits" });
    let answer = command(&router, &body).await;
    assert_eq!(answer.status, StatusCode::OK);
    let told = answer.json();
    assert_eq!(
        (&told["reload"]["generation"], &told["reload"]["added"]),
        (&json!(2), &json!(["more"]))
    );
    let answer = command(&router, &body).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let issue = &answer.json()["issues"][0];
    assert_eq!(
        (&issue["path"], &issue["message"]),
        (&json!("stacks.more.slots"), &json!("it is gone"))
    );
    assert_eq!(registry.generation(), 2);
}

// ---- large bodies ----

#[tokio::test]
async fn a_body_of_ten_megabytes_is_refused() {
    let router = admin(&registry()).router();
    let address = serve(router).await;
    let large = vec![b' '; 10_000_000];
    for (token, expected) in [(TOKEN, 413), ("wrong-token-wrong-token", 401)] {
        for chunked in [false, true] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let framing = if chunked {
                "transfer-encoding: chunked".to_owned()
            } else {
                format!("content-length: {}", large.len())
            };
            let head = format!(
                "POST /ops/buttress/api/commands HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\n{framing}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let (mut reader, mut writer) = stream.split();
            let send = async {
                for part in large.chunks(100_000) {
                    // The server may have had enough.
                    let mut wire = Vec::new();
                    if chunked {
                        wire.extend(format!("{:x}\r\n", part.len()).as_bytes());
                    }
                    wire.extend(part);
                    if chunked {
                        wire.extend(b"\r\n");
                    }
                    if writer.write_all(&wire).await.is_err() {
                        break;
                    }
                }
            };
            let receive = async {
                let mut head = [0; 12];
                reader.read_exact(&mut head).await.unwrap();
                String::from_utf8(head.to_vec()).unwrap()
            };
            let head = timeout(Duration::from_secs(10), async {
                tokio::select! {
                    head = receive => head,
                    () = async { send.await; std::future::pending().await } => unreachable!(),
                }
            });
            assert_eq!(
                head.await.unwrap(),
                format!("HTTP/1.1 {expected}"),
                "chunked: {chunked}"
            );
        }
    }
}

// ---- headers, and names with markup ----

#[tokio::test]
async fn every_answer_says_what_may_be_done_with_it() {
    let registry = registry();
    let admin = admin(&registry);
    let router = admin.router();
    let stream = Request::get("/api/live").body(Body::empty()).unwrap();
    let stream = router.clone().oneshot(stream).await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut all = vec![stream.headers().clone()];
    for path in [
        "/",
        "/api/stacks",
        "/api/config",
        "/api/events?after=0",
        "/health",
        "/nothing",
    ] {
        all.push(get(&router, path).await.headers);
    }
    all.push(post(&router, &[JSON], "{}").await.headers);
    all.push(post(&router, &[ANNA], "{}").await.headers);
    all.push(command(&router, &force_open()).await.headers);
    for headers in all {
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cache-control"], "no-store");
        let policy = headers["content-security-policy"].to_str().unwrap();
        for directive in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ] {
            assert!(policy.contains(directive), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    }
}

#[tokio::test]
async fn the_page_runs_nothing_but_what_stands_in_it() {
    let router = admin(&registry()).router();
    let nonce = |answer: &Answer| {
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        let nonce = policy.split("script-src 'nonce-").nth(1).unwrap();
        nonce.split('\'').next().unwrap().to_owned()
    };
    let (one, other) = (get(&router, "/").await, get(&router, "/").await);
    assert_ne!(nonce(&one), nonce(&other), "each answer has its own");
    assert_eq!(nonce(&one).len(), 32);
    let page = one.text();
    assert_eq!(page.matches("<script").count(), 1);
    assert_eq!(
        page.matches(&format!("<script nonce=\"{}\">", nonce(&one)))
            .count(),
        1
    );
    assert_eq!(page.matches("<style").count(), 1);
    for inline in [
        "onclick=",
        "onload=",
        "onerror=",
        " style=",
        "javascript:",
        "{nonce}",
        "{script}",
        "{style}",
    ] {
        assert!(!page.contains(inline), "{inline}");
    }
    // No other host, and no URL that depends on where it is nested.
    let without_names = page.replace("http://www.w3.org/2000/svg", "");
    for url in [
        "http:", "https:", "//www", "src=", "href=\"/", "'/api", "`/", "@import", "url(",
    ] {
        assert!(!without_names.contains(url), "{url}");
    }
    for sink in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "localStorage",
        "cookie",
    ] {
        assert!(!page.contains(sink), "{sink}");
    }
}

#[tokio::test]
async fn a_name_with_markup_is_never_more_than_text() {
    let registry = registry();
    let router = admin(&registry).router();
    let page = get(&router, "/").await.text();
    assert!(!page.contains("alert(1)"), "no name is written into the page");
    let stacks = get(&router, "/api/stacks").await.json();
    let names: Vec<&Value> = stacks["stacks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stack| &stack["name"])
        .collect();
    assert!(names.contains(&&json!(MARKUP)));
    // The slash is a part of the name.
    let path = "/api/stacks/%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    let one = get(&router, path).await;
    assert_eq!(
        (one.status, one.json()["name"].clone()),
        (StatusCode::OK, json!(MARKUP))
    );
    let missing = get(&router, "/api/stacks/%3Cscript%3Ealert(2)%3C%2Fscript%3E").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(missing.json()["error"], "no stack `<script>alert(2)</script>`");

    let reason = "</script><img src=x onerror=alert(3)>\n\ndata: forged";
    let body = json!({ "name": MARKUP, "command": "force_open", "reason": reason });
    assert_eq!(command(&router, &body).await.status, StatusCode::OK);
    sleep(Duration::from_millis(50)).await;
    let address = serve(router).await;
    let mut stream = reader(address, "/ops/buttress/api/events?after=0", &[]).await;
    let frame = stream.frame("event").await;
    assert_eq!(frame.json()["by"]["reason"], reason, "it stays within its frame");
}

// ---- what is to be seen ----

#[tokio::test]
async fn stacks_policies_and_settings_are_to_be_seen() {
    let registry = registry();
    let router = admin(&registry).router();
    let stack = get(&router, "/api/stacks/payments").await.json();
    let order: Vec<&str> = stack["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| stage["name"].as_str().unwrap())
        .collect();
    assert_eq!(order, ["retry", "circuit_breaker", "timeout", "bulkhead"]);
    let policy = get(&router, "/api/policies/payments%2Fcircuit_breaker")
        .await
        .json();
    assert_eq!(policy["snapshot"]["state"], "closed");
    let plain = get(&router, "/api/policies/payments/bulkhead").await.json();
    assert_eq!(plain["snapshot"]["limit"], 8);
    registry.keyed_stack("tenants").unwrap().get("a/b");
    let key = get(&router, "/api/policies/tenants%2Fcircuit_breaker%5Ba%2Fb%5D").await;
    assert_eq!(key.json()["policy"], "tenants/circuit_breaker[a/b]");
    let config = get(&router, "/api/config").await.json();
    let shown = &config["stacks"]["payments"];
    assert_eq!(
        shown["order"],
        json!(["retry", "circuit_breaker", "timeout", "bulkhead"])
    );
    assert_eq!(shown["bulkhead"]["max_concurrent"], 8);
    assert_eq!(shown["circuit_breaker"]["minimum_calls"], 4);
    assert_eq!(shown["circuit_breaker"]["failure_rate"], "50%");
    assert_eq!(shown["timeout"]["limit"], "1s");
    assert_eq!(config["stacks"]["tenants"]["per"], "tenant");
    assert_eq!(config["orphaned"], json!([]));
}

#[cfg(feature = "config")]
#[tokio::test]
async fn the_settings_in_effect_read_back_as_the_same_settings() {
    let more = StackConfig::new()
        .stage(
            "total",
            buttress::TimeoutConfig::new(Duration::from_millis(1_500)),
        )
        .stage(
            "retry",
            buttress::RetryConfig::new()
                .backoff(buttress::Backoff::fixed(Duration::from_millis(20)))
                .max_elapsed(Duration::from_secs(3)),
        )
        .stage(
            "circuit_breaker",
            buttress::CircuitBreakerConfig::new()
                .time_window(Duration::from_secs(30))
                .slow_calls(Duration::from_millis(300), 0.8),
        );
    let mut settings = settings().stack("more", more);
    // Only a program can call a stack that.
    settings.stacks.remove(MARKUP);
    let registry = Registry::builder().key("tenant").build(settings).unwrap();
    let config = get(&admin(&registry).router(), "/api/config").await.json();
    let text = json!({ "stacks": config["stacks"] }).to_string();
    let read = buttress::config::Source::json(&text).env([("", ""); 0]);
    let read = read.load(&buttress::Predicates::default()).unwrap();
    assert_eq!(read.stacks, registry.settings().stacks);
}

#[tokio::test]
async fn what_only_a_program_can_set_is_shown_in_words() {
    let budget = buttress::RetryBudget::with_defaults().unwrap();
    let retry = buttress::RetryConfig::new()
        .max_attempts(7)
        .shared_budget(&budget)
        .backoff(buttress::Backoff::function(|_, _| Duration::ZERO));
    let stack = StackConfig::new().stage("retry", retry);
    let registry = Registry::builder()
        .build(buttress::Settings::new().stack("one", stack))
        .unwrap();
    let config = get(&admin(&registry).router(), "/api/config").await.json();
    let retry = &config["stacks"]["one"]["retry"];
    assert_eq!(retry["max_attempts"], 7);
    assert_eq!(retry["budget"], "shared with others");
    assert_eq!(retry["backoff"], "a closure of the program");
}

#[tokio::test]
async fn what_a_caller_sees_is_what_the_policies_would_say() {
    let registry = registry();
    let router = admin(&registry).router();
    let sees = async || get(&router, "/api/stacks/payments").await.json()["caller"].clone();
    assert_eq!(
        sees().await,
        json!({
            "admitted": "all", "status": null, "retry_after_seconds": null, "policy": null,
            "text": "calls go through",
        })
    );
    let breaker = registry.circuit_breaker("payments").unwrap();
    for at in 0..5 {
        let permit = breaker.try_acquire().unwrap();
        if at < 2 {
            permit.success();
        } else {
            permit.failure();
        }
        if breaker.state() == State::Open {
            break;
        }
    }
    // What it says is what a call gets.
    let rejected = breaker.try_acquire().unwrap_err();
    let after = rejected.retry_after().unwrap().as_secs() + 1;
    let open = sees().await;
    assert_eq!(open["admitted"], "none");
    assert_eq!(open["policy"], "payments/circuit_breaker");
    assert_eq!(open["retry_after_seconds"], after);
    assert_eq!(
        open["text"],
        format!("503, retry after {after} s: circuit open, failure rate 50 % of 4 calls")
    );

    breaker.half_open();
    assert_eq!(
        sees().await["text"],
        "circuit half-open: 3 of 3 probes go through, all else gets 503"
    );
    let _probes: Vec<_> = (0..3).map(|_| breaker.try_acquire().unwrap()).collect();
    assert_eq!(
        sees().await["text"],
        "503: circuit half-open with all 3 probes taken"
    );
    assert_eq!(sees().await["admitted"], "none");

    registry
        .command("payments", Command::ForceOpen, By::new("anna", "moved"), None)
        .unwrap();
    assert_eq!(sees().await["text"], "503: circuit forced open by anna: moved");
    breaker.disable();
    assert_eq!(
        sees().await["text"],
        "calls go through; `circuit_breaker` is disabled and guards nothing"
    );
    breaker.close();
    let bulkhead = registry.bulkhead("payments").unwrap();
    bulkhead.resize(1).unwrap();
    let _slot = bulkhead.try_acquire().unwrap();
    assert_eq!(sees().await["text"], "503: all 1 slots in use");

    let keyed = registry.keyed_stack("tenants").unwrap();
    keyed.get("acme");
    keyed.get("umbrella");
    let sees_keys = async || get(&router, "/api/stacks/tenants").await.json();
    assert_eq!(
        sees_keys().await["caller"]["text"],
        "calls of all 2 keys go through"
    );
    registry
        .circuit_breaker("tenants/circuit_breaker[acme]")
        .unwrap()
        .force_open();
    let shown = sees_keys().await;
    assert_eq!(shown["caller"]["admitted"], "some");
    assert_eq!(
        shown["caller"]["text"],
        "1 of 2 keys refuse calls; `acme`: 503: circuit forced open by command"
    );
    assert_eq!(shown["key_callers"][0]["admitted"], "none");
    assert_eq!(shown["key_callers"][1]["admitted"], "all");
}

#[tokio::test]
async fn health_follows_the_breakers_that_count() {
    let registry = registry();
    let with = |health: Health| Admin::builder(registry.clone()).health(health).build();
    let none = with(Health::None).unwrap().router();
    let all = with(Health::All).unwrap().router();
    let of = with(Health::of([MARKUP])).unwrap().router();
    let status = async |router: &Router| get(router, "/health").await.status;
    for router in [&none, &all, &of] {
        assert_eq!(status(router).await, StatusCode::OK);
    }
    let breaker = registry.circuit_breaker("payments").unwrap();
    for down in [State::ForcedOpen, State::Open] {
        breaker.transition_to(down);
        assert_eq!(status(&none).await, StatusCode::OK);
        assert_eq!(status(&all).await, StatusCode::SERVICE_UNAVAILABLE, "{down}");
        assert_eq!(status(&of).await, StatusCode::OK, "another one counts");
    }
    assert_eq!(
        get(&all, "/health").await.json()["circuit_breakers"][1],
        json!({ "name": "payments/circuit_breaker", "state": "open", "counts": true })
    );
    for up in [
        State::HalfOpen,
        State::Disabled,
        State::MetricsOnly,
        State::Closed,
    ] {
        breaker.transition_to(up);
        assert_eq!(status(&all).await, StatusCode::OK, "{up}");
    }
    registry.circuit_breaker(MARKUP).unwrap().force_open();
    assert_eq!(status(&of).await, StatusCode::SERVICE_UNAVAILABLE);
    for unknown in ["payment", "tenants", "payments/bulkhead"] {
        assert_eq!(with(Health::of([unknown])).unwrap_err().field(), "health");
    }
}

// ---- events ----

#[tokio::test(start_paused = true)]
async fn events_that_happened_are_kept_up_to_a_number_and_are_read_in_parts() {
    let registry = registry();
    let router = Admin::builder(registry.clone())
        .history(10)
        .build()
        .unwrap()
        .router();
    toggle(&registry, 25);
    sleep(Duration::from_millis(10)).await;
    let numbers = async |path: &str| {
        let page = get(&router, path).await.json();
        assert_eq!((&page["oldest"], &page["newest"]), (&json!(16), &json!(25)));
        let events = page["events"].as_array().unwrap();
        events
            .iter()
            .map(|event| event["seq"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        numbers("/api/events?after=0").await,
        (16..=25).collect::<Vec<_>>()
    );
    assert_eq!(numbers("/api/events?after=20&limit=3").await, [21, 22, 23]);
    assert_eq!(numbers("/api/events?after=25").await, [0; 0]);
    assert_eq!(numbers("/api/events?limit=2").await, [24, 25], "the newest");
    for bad in ["after=x", "after=-1", "limit=many", "before=3"] {
        let answer = get(&router, &format!("/api/events?{bad}")).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
}

#[tokio::test]
async fn a_reader_that_comes_back_misses_no_event_and_gets_none_twice() {
    let registry = registry();
    let address = serve(admin(&registry).router()).await;
    let path = "/ops/buttress/api/events";
    let mut first = reader(address, &format!("{path}?after=0"), &[]).await;
    toggle(&registry, 3);
    let mut last = None;
    for number in 1..=3 {
        let frame = first.frame("event").await;
        assert_eq!(frame.json()["seq"], number);
        last = Some(frame.id);
    }
    drop(first);
    toggle(&registry, 4);
    let last = last.unwrap();
    let mut again = reader(address, path, &[("last-event-id", &last)]).await;
    for number in 4..=7 {
        assert_eq!(again.frame("event").await.json()["seq"], number);
    }
    toggle(&registry, 1);
    assert_eq!(again.frame("event").await.json()["seq"], 8);

    // The number of another process says nothing here.
    for number in [2, 4_000] {
        let other = format!("0123456789abcdef.{number}");
        let mut stranger = reader(address, path, &[("last-event-id", &other)]).await;
        assert_eq!(stranger.frame("event").await.json()["seq"], 1);
    }
    let mut ahead = reader(address, &format!("{path}?after=4000"), &[]).await;
    assert_eq!(ahead.frame("event").await.json()["seq"], 1);
}

#[tokio::test]
async fn the_state_is_told_every_second_and_at_once_when_something_happens() {
    let registry = registry();
    let address = serve(admin(&registry).router()).await;
    let mut live = reader(address, "/ops/buttress/api/live", &[]).await;
    let series = live.frame("series").await.json();
    assert!(series["policies"]["payments/circuit_breaker"].is_array());
    let first = live.frame("state").await.json();
    assert_eq!(first["commands"], true);
    // Just after a second has begun, so that the next one is far.
    let ticks = live.frame("state").await.json()["ticks"].clone();
    registry.circuit_breaker("payments").unwrap().force_open();
    loop {
        let state = live.frame("state").await.json();
        assert_eq!(state["ticks"], ticks, "it is told before the next second");
        let stacks = state["stacks"].as_array().unwrap().clone();
        let payments = stacks.iter().find(|stack| stack["name"] == "payments").unwrap();
        if payments["stages"][1]["snapshot"]["state"] == "forced_open" {
            break;
        }
    }
    let ticks = async |live: &mut Reader| live.frame("state").await.json()["ticks"].as_u64().unwrap();
    let now = ticks(&mut live).await;
    while ticks(&mut live).await < now + 2 {}
}

#[tokio::test]
async fn the_calls_of_each_second_and_the_last_minute_of_each_key_are_told_live() {
    let registry = registry();
    let address = serve(admin(&registry).router()).await;
    let mut live = reader(address, "/ops/buttress/api/live", &[]).await;
    live.frame("state").await;
    let payments = registry.stack("payments").unwrap();
    for _ in 0..7 {
        payments.run(async || Ok::<_, std::io::Error>(())).await.unwrap();
    }
    registry.keyed_stack("tenants").unwrap().get("acme");
    let (mut calls, mut key, mut ticks) = (0, None, Value::Null);
    for _ in 0..20 {
        let state = live.frame("state").await.json();
        if state["ticks"] == ticks {
            continue;
        }
        ticks = state["ticks"].clone();
        let samples = &state["samples"];
        calls += samples["payments/retry"]["calls"].as_u64().unwrap_or(0);
        key = samples["tenants/circuit_breaker[acme]"]["state"]
            .as_str()
            .map(str::to_owned);
        if calls >= 7 && key.is_some() {
            break;
        }
    }
    assert_eq!((calls, key.as_deref()), (7, Some("closed")));
    // Who comes later gets the minute.
    let mut later = reader(address, "/ops/buttress/api/live", &[]).await;
    let series = later.frame("series").await.json();
    let kept = series["policies"]["payments/retry"].as_array().unwrap();
    let kept: u64 = kept
        .iter()
        .map(|sample| sample["calls"].as_u64().unwrap_or(0))
        .sum();
    assert_eq!(kept, 7);
    assert!(series["policies"]["tenants/circuit_breaker[acme]"].is_array());
}

#[tokio::test]
async fn a_reader_that_is_too_slow_learns_how_much_it_lost() {
    let registry = registry();
    let address = serve(admin(&registry).router()).await;
    let mut slow = reader(address, "/ops/buttress/api/events", &[]).await;
    assert_eq!(slow.status().await, 200);
    // Until its socket is full and more is waiting than is kept for it.
    for _ in 0..500 {
        toggle(&registry, 100);
        tokio::task::yield_now().await;
    }
    let lost: u64 = slow.frame("lost").await.data.parse().unwrap();
    assert!(lost > 0);
}

#[tokio::test]
async fn streams_end_when_the_page_is_closed() {
    let admin = admin(&registry());
    let address = serve(admin.router()).await;
    let mut live = reader(address, "/ops/buttress/api/live", &[]).await;
    live.frame("state").await;
    admin.close();
    // The last chunk of a body has no length; the connection itself may be used again.
    let ended = async { while !live.buffer.ends_with("\r\n0\r\n\r\n") && live.more().await {} };
    timeout(Duration::from_secs(5), ended)
        .await
        .expect("the stream ends");
    let mut late = reader(address, "/ops/buttress/api/live", &[]).await;
    assert_eq!(late.status().await, 503);
}

#[tokio::test(start_paused = true)]
async fn its_task_ends_with_its_last_handle() {
    let registry = registry();
    let (admin, router) = {
        let admin = admin(&registry);
        (admin.clone(), admin.router())
    };
    sleep(Duration::from_secs(2)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
    drop(admin);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        Handle::current().metrics().num_alive_tasks(),
        1,
        "the router is one, too"
    );
    drop(router);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[test]
fn it_may_be_built_outside_of_a_runtime() {
    let registry = registry();
    let router = admin(&registry).router();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        assert_eq!(get(&router, "/health").await.status, StatusCode::OK);
        toggle(&registry, 1);
        sleep(Duration::from_millis(50)).await;
        let events = get(&router, "/api/events?after=0").await.json();
        assert_eq!(events["newest"], 1);
    });
}

#[tokio::test]
async fn it_can_be_nested_anywhere() {
    let router = || admin(&registry()).router();
    let nested = Router::new().nest("/ops/buttress", router());
    let with_slash = Router::new().nest("/ops/buttress/", router());
    let as_service = Router::new().nest_service("/ops/buttress", router());
    let status = async |app: &Router, path: &str| get(app, path).await.status;
    for app in [&nested, &with_slash, &as_service] {
        assert_eq!(status(app, "/ops/buttress/api/stacks").await, StatusCode::OK);
        assert_eq!(status(app, "/ops/buttress/health").await, StatusCode::OK);
        assert_eq!(status(app, "/ops/buttress/nothing").await, StatusCode::NOT_FOUND);
    }
    assert_eq!(status(&nested, "/ops/buttress").await, StatusCode::OK);
    assert_eq!(status(&with_slash, "/ops/buttress/").await, StatusCode::OK);
    assert_eq!(status(&as_service, "/ops/buttress").await, StatusCode::OK);
    assert_eq!(status(&as_service, "/ops/buttress/").await, StatusCode::OK);
    assert_eq!(status(&router(), "/").await, StatusCode::OK);
}
