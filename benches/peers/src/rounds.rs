//! Rows that are timed in turn, round after round, so that what disturbs the machine disturbs them alike.

use std::{
    future::{Future, poll_fn},
    hint::black_box,
    pin::Pin,
    task::{Context, Poll, Waker},
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

/// Calls to a service, one after the other.
pub(crate) fn row<S: Service<u64> + 'static>(name: impl Into<String>, mut service: S) -> Row {
    Row::new(name, move |calls, meter| {
        let mut task = task(&mut service, calls, |request| request);
        meter.of(|| {
            task.run();
        });
    })
}

/// Calls that are awaited, as a program awaits them.
///
/// It matters where a call lives. Where a loop polls it by hand, in a variable on the stack, the compiler sees the call from
/// its making to its end: it keeps what it can in registers, leaves out the rest, and how far it gets differs from one
/// library to the next and with what stands around the loop. In a program the caller's `.await` moves the call into the
/// caller's own future, which lies in a task on the heap and is reached through a vtable, so that all of it is written,
/// moved and read. Here it is so for every library. The executor is left out: it would be the same for all.
///
/// What lies at the border of two cache lines costs more, and where the allocator puts a task is luck: each begins where
/// tasks of Tokio do.
pub(crate) struct Task<'a>(Pin<Box<dyn Future<Output = u64> + 'a>>);

/// That many calls with requests by their number.
pub(crate) fn task<'a, S: Service<Req>, Req: 'a>(
    service: &'a mut S,
    calls: u64,
    request: impl FnMut(u64) -> Req + 'a,
) -> Task<'a> {
    Task(Box::pin(make(service, calls, request)))
}

async fn make<S: Service<Req>, Req>(service: &mut S, calls: u64, mut request: impl FnMut(u64) -> Req) -> u64 {
    let border = Border;
    let mut succeeded = 0;
    for number in 0..calls {
        let result = match poll_fn(|cx| service.poll_ready(cx)).await {
            Ok(()) => service.call(request(number)).await,
            Err(error) => Err(error),
        };
        succeeded += u64::from(black_box(result.is_ok()));
    }
    black_box(&border);
    succeeded
}

#[repr(align(128))]
struct Border;

impl Task<'_> {
    /// Polls until all calls are done. Tells how many succeeded.
    pub(crate) fn run(&mut self) -> u64 {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(succeeded) = self.0.as_mut().poll(&mut cx) {
                return succeeded;
            }
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
