//! Rows that are timed in turn, round after round, so that what disturbs the machine disturbs them alike.

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use tower::Service;

use crate::{
    meter::Meter,
    report::{Line, Spread},
};

/// Does so many calls, and lets the meter see them.
pub(crate) type Slice = Box<dyn FnMut(u64, &mut Meter)>;

/// One thing that is measured.
pub(crate) struct Row {
    name: String,
    /// What it is compared with.
    base: &'static str,
    /// Calls in a slice, where that is not free.
    calls: Option<u64>,
    slice: Slice,
    note: &'static str,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, slice: impl FnMut(u64, &mut Meter) + 'static) -> Self {
        Self {
            name: name.into(),
            base: "bare",
            calls: None,
            slice: Box::new(slice),
            note: "",
        }
    }

    pub(crate) fn over(mut self, base: &'static str) -> Self {
        self.base = base;
        self
    }

    pub(crate) fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    pub(crate) fn calls(mut self, calls: u64) -> Self {
        self.calls = Some(calls);
        self
    }
}

/// Calls to a service, driven by hand: the executor is not what is measured.
pub(crate) fn row<S: Service<u64> + 'static>(name: impl Into<String>, mut service: S) -> Row {
    Row::new(name, move |calls, meter| {
        meter.of(|| {
            for request in 0..calls {
                call(&mut service, request);
            }
        });
    })
}

/// One call, polled until it is done.
#[inline]
pub(crate) fn call<S: Service<Req>, Req>(service: &mut S, request: Req) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    while service.poll_ready(&mut cx).is_pending() {}
    let mut future = pin!(service.call(request));
    loop {
        if let std::task::Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return black_box(result.is_ok());
        }
    }
}

/// How long a slice should be: long beside the reading of a clock, short beside a time slice of the machine.
const SLICE: Duration = Duration::from_micros(200);

/// Times all rows in turn, and counts what they allocate.
pub(crate) fn measure(group: &'static str, rows: Vec<Row>, rounds: usize) -> Vec<Line> {
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|mut row| {
            let calls = row.calls.unwrap_or_else(|| calibrate(&mut row.slice));
            (row, calls, Vec::with_capacity(rounds))
        })
        .collect();
    for round in 0..=rounds {
        for (row, calls, times) in &mut rows {
            let mut meter = Meter::time();
            (row.slice)(*calls, &mut meter);
            // The first round warms up.
            if let (1.., Meter::Time(time)) = (round, meter) {
                times.push(time.as_nanos() as f64 / *calls as f64);
            }
        }
    }
    rows.into_iter()
        .map(|(mut row, calls, times)| {
            let mut meter = Meter::heap();
            (row.slice)(calls, &mut meter);
            let line = Line::new(group, row.name, row.base)
                .times(Spread::of(times))
                .note(row.note);
            match meter {
                Meter::Heap(info) => line.heap(
                    info.count_total as f64 / calls as f64,
                    info.bytes_total as f64 / calls as f64,
                ),
                Meter::Time(_) => line,
            }
        })
        .collect()
}

/// How many calls make a slice.
fn calibrate(slice: &mut Slice) -> u64 {
    // What is made once, such as a clock's calibration, is made now.
    slice(1, &mut Meter::time());
    let mut calls = 1;
    loop {
        let mut meter = Meter::time();
        slice(calls, &mut meter);
        if let Meter::Time(time) = meter
            && time >= SLICE
        {
            return calls;
        }
        calls *= 2;
    }
}
