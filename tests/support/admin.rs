//! What tests of the admin interface share: a registry, a server, and readers of its streams.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use buttress::{
    BulkheadConfig, CircuitBreakerConfig, KeyedConfig, Registry, RetryConfig, Settings, StackConfig,
    TimeoutConfig,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

pub(crate) const MARKUP: &str = "<script>alert(1)</script>";

fn breaker() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().count_window(10).minimum_calls(4)
}

pub(crate) fn settings() -> Settings {
    let payments = StackConfig::new()
        .stage("retry", RetryConfig::new())
        .stage("circuit_breaker", breaker())
        .stage("timeout", TimeoutConfig::new(Duration::from_secs(1)))
        .stage("bulkhead", BulkheadConfig::new(8));
    let markup = StackConfig::new().stage("circuit_breaker", breaker());
    let tenants = StackConfig::new()
        .stage("circuit_breaker", breaker())
        .keyed("tenant", KeyedConfig::new());
    Settings::new()
        .stack("payments", payments)
        .stack(MARKUP, markup)
        .stack("tenants", tenants)
}

pub(crate) fn registry() -> Registry {
    Registry::builder().key("tenant").build(settings()).unwrap()
}

/// Forces the breaker of `payments` open, and closes it, so many times in all.
pub(crate) fn toggle(registry: &Registry, times: u32) {
    let breaker = registry.circuit_breaker("payments").unwrap();
    for at in 0..times {
        if at % 2 == 0 {
            breaker.force_open();
        } else {
            breaker.close();
        }
    }
}

/// Serves it at `/ops/buttress`.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    // Small, so that a reader that does not read is noticed soon.
    socket.set_send_buffer_size(16 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1024).unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().nest_service("/ops/buttress", router);
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A stream of events, over a socket.
pub(crate) struct Reader {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: String,
}

pub(crate) struct Frame {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) data: String,
}

impl Frame {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// Asks for a stream.
pub(crate) async fn reader(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Reader {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let headers: String = headers
        .iter()
        .flat_map(|(name, value)| [*name, ": ", *value, "\r\n"])
        .collect();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    Reader {
        stream,
        buffer: String::new(),
    }
}

impl Reader {
    /// Reads on; false at the end.
    pub(crate) async fn more(&mut self) -> bool {
        let mut bytes = vec![0; 64 * 1024];
        let read = self.stream.read(&mut bytes).await.unwrap_or(0);
        self.buffer.push_str(&String::from_utf8_lossy(&bytes[..read]));
        read > 0
    }

    pub(crate) async fn status(&mut self) -> u16 {
        while !self.buffer.contains("\r\n\r\n") {
            assert!(self.more().await, "a head");
        }
        self.buffer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The next frame of that kind.
    pub(crate) async fn frame(&mut self, kind: &str) -> Frame {
        loop {
            let frame = self.any_frame().await;
            if frame.kind == kind {
                return frame;
            }
        }
    }

    pub(crate) async fn any_frame(&mut self) -> Frame {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let text: String = self.buffer.drain(..end + 2).collect();
                let field = |name: &str| {
                    let line = text.lines().find_map(|line| line.strip_prefix(name));
                    line.unwrap_or_default().to_owned()
                };
                return Frame {
                    kind: field("event: "),
                    id: field("id: "),
                    data: field("data: "),
                };
            }
            let more = timeout(Duration::from_secs(10), self.more()).await;
            assert!(more.expect("in time"), "a frame");
        }
    }
}
