//! The load: real HTTP clients that call at a steady pace, whether or not earlier calls have been answered.
//!
//! That is how a crowd of users behaves. Clients that wait for one answer before they ask again would go easy on
//! a slow server, and the pile-up that an outage causes would not show.

use std::{sync::Arc, time::Duration};

use reqwest::Client;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::stats::{Call, Meter, Outcome, now};

/// A steady stream of GET requests.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The gateway, as `http://host:port`.
    pub(crate) target: String,
    pub(crate) per_second: u32,
    /// After this long a client hangs up.
    pub(crate) patience: Duration,
    /// What the call of that number asks for.
    pub(crate) path: fn(u64) -> String,
}

/// One of a thousand items.
pub(crate) fn item(number: u64) -> String {
    format!("/items/{}", number % 1000)
}

/// Two items, then an image, and so on.
pub(crate) fn item_or_image(number: u64) -> String {
    match number % 3 {
        0 => format!("/images/{}.jpg", number % 1000),
        _ => item(number),
    }
}

impl Load {
    /// Calls from `start` on, and waits after `length` for the calls that are then still under way.
    pub(crate) async fn run(
        &self,
        start: Instant,
        length: Option<Duration>,
        meter: Option<&Arc<Meter>>,
    ) -> reqwest::Result<()> {
        // The environment's proxy is not meant for calls to this machine.
        let client = Client::builder().no_proxy().timeout(self.patience).build()?;
        let mut due = interval_at(start, Duration::from_secs(1) / self.per_second);
        // A late call is made up for, and counted from when it was due: what waited was a client as well.
        due.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut calls = JoinSet::new();
        let mut number = 0_u64;
        loop {
            let began = due.tick().await;
            if length.is_some_and(|length| began >= start + length) {
                break;
            }
            number += 1;
            let (client, meter) = (client.clone(), meter.cloned());
            let url = format!("{}{}", self.target, (self.path)(number));
            calls.spawn(async move {
                let outcome = ask(&client, &url).await;
                if let Some(meter) = meter {
                    meter.record(Call {
                        began: began - start,
                        took: now() - began,
                        outcome,
                    });
                }
            });
            // The tasks that have ended would pile up in the set.
            while calls.try_join_next().is_some() {}
        }
        while calls.join_next().await.is_some() {}
        Ok(())
    }
}

async fn ask(client: &Client, url: &str) -> Outcome {
    let answer = async {
        let response = client.get(url).send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await?;
        reqwest::Result::Ok(Outcome::of_answer(status, &headers, &body))
    };
    answer.await.unwrap_or_else(|error| {
        if error.is_timeout() {
            Outcome::HungUp
        } else {
            Outcome::Lost
        }
    })
}
