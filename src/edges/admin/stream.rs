//! Events and state as streams, and the events that are kept.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ::axum::{
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::Response,
};
use bytes::Bytes;
use http_body::Frame;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast, broadcast::error::RecvError, mpsc, watch},
    time::sleep,
};

use super::{
    Admin,
    live::{Entry, Live, written_frame},
    reply,
};

/// Events that a page gets which was not there before.
const RECENT: usize = 100;

/// Events that are answered at once where no other number is asked for.
const LIMIT: usize = 100;

/// From where to tell events.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    after: Option<u64>,
    limit: Option<usize>,
}

/// `GET /api/events`
pub(super) async fn events(
    State(admin): State<Admin>,
    from: Result<Query<From>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Query(from) = match from {
        Ok(from) => from,
        Err(error) => return reply::error(StatusCode::UNPROCESSABLE_ENTITY, &error.body_text()),
    };
    let accepts = |kind: &str| {
        let accept = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok());
        accept.into_iter().any(|value| value.contains(kind))
    };
    let streams = accepts("text/event-stream") || from.after.is_none() && !accepts("application/json");
    if !streams {
        return history(admin.live(), &from);
    }
    let live = admin.live();
    // In this order: what happens in between is in both, and told once.
    let fresh = live.events();
    let (past, known) = match resumed(live, &headers).or(from.after) {
        Some(after) => past(live, after),
        None => (Vec::new(), 0),
    };
    admin.stream(Feed {
        first: Vec::new(),
        past,
        known,
        fresh,
        states: None,
    })
}

/// `GET /api/live`
pub(super) async fn live(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let live = admin.live();
    let fresh = live.events();
    let (past, known) = match resumed(live, &headers) {
        Some(after) => past(live, after),
        None => (live.last(RECENT), 0),
    };
    let states = live.states();
    admin.stream(Feed {
        // The minute comes first: the state says which second of it is the newest.
        first: vec![live.series_frame(), live.state_frame(&admin.0.registry)],
        past,
        known,
        fresh,
        states: Some(states),
    })
}

/// The events that are kept, as JSON.
fn history(live: &Live, from: &From) -> Response {
    let limit = from.limit.unwrap_or(LIMIT);
    let (entries, oldest, newest) = live.after(from.after.unwrap_or(0));
    let chosen = match from.after {
        Some(_) => &entries[..entries.len().min(limit)],
        None => &entries[entries.len().saturating_sub(limit)..],
    };
    let events: Vec<&str> = chosen.iter().map(|entry| entry.json.as_str()).collect();
    let body = format!(
        r#"{{"instance":"{}","oldest":{oldest},"newest":{newest},"events":[{}]}}"#,
        live.instance(),
        events.join(",")
    );
    reply::written(StatusCode::OK, body)
}

/// What was told after that number, and up to which.
fn past(live: &Live, after: u64) -> (Vec<Arc<Entry>>, u64) {
    let (entries, _, newest) = live.after(after);
    if after <= newest {
        return (entries, after);
    }
    // It is a number of another process.
    let (entries, ..) = live.after(0);
    (entries, 0)
}

/// The number of the last event that a reader had before it lost the connection; 0 where it was of another process.
fn resumed(live: &Live, headers: &HeaderMap) -> Option<u64> {
    let id = headers.get("last-event-id")?.to_str().ok()?;
    let (instance, seq) = id.split_once('.')?;
    if instance == live.instance() {
        seq.parse().ok()
    } else {
        Some(0)
    }
}

/// What a reader is told.
struct Feed {
    /// Frames to begin with.
    first: Vec<Bytes>,
    /// Events of before.
    past: Vec<Arc<Entry>>,
    /// The newest event that the reader has.
    known: u64,
    fresh: broadcast::Receiver<Arc<Entry>>,
    states: Option<watch::Receiver<Bytes>>,
}

impl Admin {
    fn stream(&self, feed: Feed) -> Response {
        let live = self.live();
        let Ok(place) = Arc::clone(live.readers()).try_acquire_owned() else {
            return reply::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "as many streams are being read as there may be",
            );
        };
        let mut closed = live.closed();
        if *closed.borrow() {
            return reply::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "this server is coming to its end",
            );
        }
        // One frame at a time: who does not read holds one of them, and what it misses is dropped elsewhere.
        let (sender, frames) = mpsc::channel(1);
        let heartbeat = self.0.options.heartbeat;
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                _ = closed.wait_for(|closed| *closed) => {}
                () = tell(feed, heartbeat, &sender) => {}
            }
        });
        let mut response = Response::new(Body::new(Frames {
            frames,
            _place: place,
        }));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        // nginx would collect frames otherwise.
        headers.insert(
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        );
        response
    }
}

/// Tells it, until nobody listens any more.
async fn tell(mut feed: Feed, heartbeat: Duration, to: &mpsc::Sender<Bytes>) {
    // How soon to come back when the connection is lost.
    let begin = [Bytes::from_static(b"retry: 1000\n\n")];
    let past: Vec<Bytes> = feed.past.iter().map(|entry| entry.frame.clone()).collect();
    feed.known = feed.past.last().map_or(feed.known, |entry| entry.seq);
    for frame in begin.into_iter().chain(feed.first).chain(past) {
        if to.send(frame).await.is_err() {
            return;
        }
    }
    loop {
        let frame = tokio::select! {
            // What happened is told before what is so now.
            biased;
            told = feed.fresh.recv() => match told {
                Ok(entry) if entry.seq <= feed.known => continue,
                Ok(entry) => entry.frame.clone(),
                Err(RecvError::Lagged(lost)) => written_frame("lost", None, &lost.to_string()),
                Err(RecvError::Closed) => return,
            },
            frame = next_state(feed.states.as_mut()) => match frame {
                Some(frame) => frame,
                None => return,
            },
            () = sleep(heartbeat) => Bytes::from_static(b": so far so good\n\n"),
        };
        if to.send(frame).await.is_err() {
            return;
        }
    }
}

async fn next_state(states: Option<&mut watch::Receiver<Bytes>>) -> Option<Bytes> {
    match states {
        Some(states) => {
            states.changed().await.ok()?;
            Some(states.borrow_and_update().clone())
        }
        None => std::future::pending().await,
    }
}

/// The body of a stream. Its place is free again once it is dropped.
struct Frames {
    frames: mpsc::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.frames
            .poll_recv(cx)
            .map(|frame| frame.map(|frame| Ok(Frame::data(frame))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        composition::{registry::Registry, settings::Settings},
        edges::admin::builder::Options,
        vocabulary::{
            event::{Event, PolicyKind, What},
            events::Told,
        },
    };

    fn told(seq: u64) -> Told {
        Told {
            seq,
            lost: 0,
            at: SystemTime::UNIX_EPOCH,
            event: Event {
                policy: PolicyKind::Bulkhead,
                name: Arc::from("payments"),
                what: What::Queued,
            },
        }
    }

    #[tokio::test]
    async fn what_happens_while_a_reader_begins_is_told_once() {
        let registry = Registry::builder().build(Settings::new()).unwrap();
        let live = Live::new(&registry, &Options::default());
        live.note(&told(1));
        let fresh = live.events();
        // It is both fresh and past.
        live.note(&told(2));
        let (past, known) = past(&live, 0);
        live.note(&told(3));
        let feed = Feed {
            first: Vec::new(),
            past,
            known,
            fresh,
            states: None,
        };
        let (sender, mut frames) = mpsc::channel(8);
        tokio::spawn(async move { tell(feed, Duration::from_secs(60), &sender).await });
        assert_eq!(frames.recv().await.unwrap(), "retry: 1000\n\n");
        for seq in 1..=3 {
            let frame = frames.recv().await.unwrap();
            let frame = String::from_utf8_lossy(&frame).into_owned();
            assert!(frame.contains(&format!("\"seq\":{seq},")), "{seq}: {frame}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_silent_says_that_it_lives() {
        let registry = Registry::builder().build(Settings::new()).unwrap();
        let live = Live::new(&registry, &Options::default());
        let feed = Feed {
            first: Vec::new(),
            past: Vec::new(),
            known: 0,
            fresh: live.events(),
            states: None,
        };
        let (sender, mut frames) = mpsc::channel(8);
        tokio::spawn(async move { tell(feed, Duration::from_secs(60), &sender).await });
        frames.recv().await.unwrap();
        let clock = crate::vocabulary::clock::Clock::tokio();
        let begun = clock.now();
        for _ in 0..3 {
            assert!(frames.recv().await.unwrap().starts_with(b":"));
        }
        assert_eq!(clock.now().since(begun), Duration::from_secs(180));
    }
}
