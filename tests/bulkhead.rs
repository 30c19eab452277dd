//! The bulkhead: how many are inside, who waits, in which order and for how long, and what a refusal says.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/lab.rs"]
mod lab;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use buttress::{
    Abandoned, BoxError, Bulkhead, BulkheadConfig, BulkheadLayer, BulkheadService, Reason, RejectedKind,
    Slot, Stack, What,
};
use lab::{Call, Events, Lab, Order, Polled, advance, ms};
use tokio::task::yield_now;
use tower::{Layer, Service};

fn config(limit: u32) -> BulkheadConfig {
    BulkheadConfig::new(limit)
}

fn waiting(limit: u32, max_wait: u64) -> BulkheadConfig {
    config(limit).max_wait(ms(max_wait))
}

fn build(config: BulkheadConfig) -> (Bulkhead, Lab, BulkheadService<Lab>) {
    let (bulkhead, lab) = (config.build("db").unwrap(), Lab::new());
    let service = BulkheadLayer::new(bulkhead.clone()).layer(lab.clone());
    (bulkhead, lab, service)
}

fn counts(bulkhead: &Bulkhead) -> (u32, usize) {
    let shown = bulkhead.snapshot();
    (shown.in_flight, shown.queued)
}

fn finish(lab: &Lab, number: u32, call: &mut Call) {
    lab.order(number, Order::Succeed);
    call.poll().succeeded();
}

// ---- The limit.

#[tokio::test(start_paused = true)]
async fn as_many_calls_are_inside_as_the_limit_says_and_the_next_is_refused_at_once() {
    let (bulkhead, lab, mut service) = build(config(3));
    let mut inside: Vec<Call> = (0..3).map(|call| Call::pending(&mut service, call)).collect();
    let refused = Call::begin(&mut service, 3).poll().rejected();
    assert_eq!(refused.kind(), RejectedKind::BulkheadFull);
    assert_eq!(refused.reason(), &Reason::Full { limit: 3 });
    assert_eq!((refused.waited(), refused.retry_after()), (None, None));
    assert_eq!((lab.inside(), lab.made()), (3, 3), "the service never saw it");
    finish(&lab, 1, &mut inside[1]);
    let _again = Call::pending(&mut service, 4);
    let shown = bulkhead.snapshot();
    assert_eq!(
        (shown.limit, shown.in_flight, shown.queued, shown.rejected),
        (3, 3, 0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn slots_in_hand_and_calls_share_the_limit() {
    let (bulkhead, _lab, mut service) = build(config(2));
    let slot = bulkhead.try_acquire().unwrap();
    let call = Call::pending(&mut service, 1);
    assert!(bulkhead.try_acquire().is_err());
    Call::begin(&mut service, 2).poll().rejected();
    drop(slot);
    let _call = Call::pending(&mut service, 3);
    drop(call);
    let _slot = bulkhead.try_acquire().unwrap();
    assert_eq!(counts(&bulkhead), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_would_be_refused_does_not_wait_for_a_service_that_is_not_ready() {
    let bulkhead = config(1).build("db").unwrap();
    let never =
        BulkheadLayer::new(bulkhead.clone()).layer(tower::limit::ConcurrencyLimit::new(Lab::new(), 1));
    let mut holds = never.clone();
    let inside = Call::pending(&mut holds, 1);
    let error = never.clone().oneshot(2).await.unwrap_err();
    assert_eq!(error.to_string(), "bulkhead `db` is full: all 1 slots in use");
    drop(inside);
    let _call = Call::pending(&mut never.clone(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_told_it_would_be_refused_is_refused_though_a_slot_came_free() {
    // Nobody asked whether the service is ready.
    let (bulkhead, lab, mut service) = build(config(1));
    let slot = bulkhead.try_acquire().unwrap();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    drop(slot);
    let mut call = Call::of(service.call(1));
    assert_eq!(call.poll().rejected().kind(), RejectedKind::BulkheadFull);
    assert_eq!((lab.made(), bulkhead.snapshot().in_flight), (0, 0));
}

// ---- The queue.

#[tokio::test(start_paused = true)]
async fn who_waits_is_admitted_in_the_order_in_which_they_came() {
    let (bulkhead, lab, mut service) = build(waiting(1, 1_000));
    let mut inside = Call::pending(&mut service, 0);
    let mut queue: Vec<Call> = (1..6).map(|call| Call::pending(&mut service, call)).collect();
    // Polled in another order, and one of them not for the first time.
    for at in [3, 0, 4, 2, 1] {
        assert!(queue[at].poll().is_pending());
    }
    finish(&lab, 0, &mut inside);
    for number in 1..6 {
        for call in queue.iter_mut().rev() {
            assert!(call.poll().is_pending());
        }
        assert_eq!(counts(&bulkhead), (1, queue.len() - 1));
        let mut first = queue.remove(0);
        finish(&lab, number, &mut first);
    }
    assert_eq!((counts(&bulkhead), lab.made()), ((0, 0), 6));
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_who_waits() {
    let (bulkhead, lab, mut service) = build(waiting(2, 1_000));
    let mut inside = [Call::pending(&mut service, 0), Call::pending(&mut service, 1)];
    let mut first = Call::pending(&mut service, 2);
    finish(&lab, 0, &mut inside[0]);
    // The slot is the first's though it has not been polled since.
    assert!(bulkhead.try_acquire().is_err());
    let mut second = Call::pending(&mut service, 3);
    assert!(second.poll().is_pending());
    assert_eq!(lab.inside(), 1);
    assert!(first.poll().is_pending());
    assert_eq!((lab.inside(), counts(&bulkhead)), (2, (2, 1)));
}

#[tokio::test(start_paused = true)]
async fn as_many_wait_as_the_queue_takes() {
    let (bulkhead, _lab, mut service) = build(waiting(2, 1_000).max_queue(2));
    let _inside = [Call::pending(&mut service, 0), Call::pending(&mut service, 1)];
    let waits = Call::pending(&mut service, 2);
    let _waits_too = Call::pending(&mut service, 3);
    let refused = Call::begin(&mut service, 4).poll().rejected();
    assert_eq!(refused.reason(), &Reason::QueueFull { limit: 2, queue: 2 });
    assert_eq!(
        refused.to_string(),
        "bulkhead `db` is full: all 2 slots in use and 2 calls waiting"
    );
    assert_eq!(refused.waited(), None);
    assert_eq!(counts(&bulkhead), (2, 2));
    drop(waits);
    let _waits_now = Call::pending(&mut service, 5);
    assert_eq!(counts(&bulkhead), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn being_polled_ready_reserves_neither_slot_nor_place() {
    let (bulkhead, _lab, service) = build(waiting(1, 1_000).max_queue(1));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut ready: Vec<_> = (0..3).map(|_| service.clone()).collect();
    for service in &mut ready {
        assert!(service.poll_ready(&mut cx).is_ready());
    }
    assert_eq!(counts(&bulkhead), (0, 0));
    let mut calls: Vec<_> = (0..)
        .zip(&mut ready)
        .map(|(number, service)| Call::of(service.call(number)))
        .collect();
    assert_eq!(counts(&bulkhead), (1, 1));
    let refused = calls[2].poll().rejected();
    assert_eq!(refused.reason(), &Reason::QueueFull { limit: 1, queue: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_none_lets_none_wait() {
    let (_bulkhead, _lab, mut service) = build(waiting(1, 1_000).max_queue(0));
    let _inside = Call::pending(&mut service, 0);
    let refused = Call::begin(&mut service, 1).poll().rejected();
    assert_eq!(refused.kind(), RejectedKind::BulkheadFull);
    assert_eq!(refused.waited(), None);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_as_long_as_it_is_set_and_then_is_told_that_it_waited() {
    let (bulkhead, lab, mut service) = build(waiting(1, 50));
    let _inside = Call::pending(&mut service, 0);
    let mut waits = Call::pending(&mut service, 1);
    advance(49).await;
    assert!(waits.poll().is_pending());
    advance(1).await;
    let refused = waits.poll().rejected();
    assert_eq!(refused.waited(), Some(ms(50)));
    assert_eq!(
        refused.to_string(),
        "bulkhead `db` is full: all 1 slots in use, waited 50ms"
    );
    assert_eq!(refused.kind(), RejectedKind::BulkheadFull);
    assert!(!refused.may_have_reached_service());
    assert_eq!(counts(&bulkhead), (1, 0));
    assert_eq!(lab.made(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_came_in_time_is_taken_though_the_call_is_polled_after_its_time() {
    let (bulkhead, lab, mut service) = build(waiting(1, 50));
    let mut inside = Call::pending(&mut service, 0);
    let mut waits = Call::pending(&mut service, 1);
    advance(49).await;
    finish(&lab, 0, &mut inside);
    advance(100).await;
    assert!(waits.poll().is_pending());
    finish(&lab, 1, &mut waits);
    assert_eq!(counts(&bulkhead), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_woken_when_its_slot_comes_and_when_its_time_is_over() {
    let (_bulkhead, lab, mut service) = build(waiting(1, 50));
    let mut inside = Call::pending(&mut service, 0);
    let waits = tokio::spawn(Call::begin(&mut service, 1));
    let times_out = tokio::spawn(Call::begin(&mut service, 2));
    yield_now().await;
    advance(10).await;
    finish(&lab, 0, &mut inside);
    lab.order_next(Order::Succeed);
    assert_eq!(waits.await.unwrap().unwrap(), 1);
    assert_eq!(times_out.await.unwrap().unwrap(), 2);
    lab.order_next(Order::Wait);
    let _inside = Call::pending(&mut service, 3);
    let times_out = tokio::spawn(Call::begin(&mut service, 4));
    assert!(times_out.await.unwrap().is_err(), "the clock moves on to its end");
}

#[tokio::test(start_paused = true)]
async fn the_task_that_polled_last_is_the_one_that_is_woken() {
    struct Flag(AtomicU32);
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (_bulkhead, _lab, mut service) = build(waiting(1, 50));
    let inside = Call::pending(&mut service, 0);
    let mut waits = Call::begin(&mut service, 1);
    let tasks = [0, 1].map(|_| Arc::new(Flag(AtomicU32::new(0))));
    for task in &tasks {
        let waker = Arc::clone(task).into();
        assert!(
            Pin::new(&mut waits)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    drop(inside);
    assert_eq!(tasks.map(|task| task.0.load(Ordering::SeqCst)), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_clone_is_refused_at_once_instead_of_waiting() {
    struct NotClone(Lab);
    impl Service<u32> for NotClone {
        type Response = u32;
        type Error = BoxError;
        type Future = lab::Attempt;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            self.0.poll_ready(cx)
        }
        fn call(&mut self, call: u32) -> lab::Attempt {
            self.0.call(call)
        }
    }
    let bulkhead = waiting(1, 1_000).build("db").unwrap();
    let layer = BulkheadLayer::new(bulkhead.clone()).once();
    let mut service = layer.layer(NotClone(Lab::new()));
    let _inside = Call::pending(&mut service, 0);
    let refused = Call::begin(&mut service, 1).poll().rejected();
    assert_eq!(refused.reason(), &Reason::Full { limit: 1 });
    assert_eq!(counts(&bulkhead), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stack_queues_as_the_layer_does() {
    let bulkhead = waiting(1, 50).max_queue(1).build("db").unwrap();
    let lab = Lab::new();
    let stack = Stack::builder().bulkhead(bulkhead.clone()).queued();
    let mut service = stack.build().unwrap().layer(lab.clone());
    let mut inside = Call::pending(&mut service, 0);
    let mut waits = Call::pending(&mut service, 1);
    let refused = Call::begin(&mut service, 2).poll().rejected();
    assert_eq!(refused.reason(), &Reason::QueueFull { limit: 1, queue: 1 });
    finish(&lab, 0, &mut inside);
    assert!(waits.poll().is_pending());
    let mut too_long = Call::pending(&mut service, 3);
    advance(50).await;
    assert_eq!(too_long.poll().rejected().waited(), Some(ms(50)));
    finish(&lab, 1, &mut waits);
    assert_eq!(counts(&bulkhead), (0, 0));
}

// ---- Another limit while calls are in flight.

#[tokio::test(start_paused = true)]
async fn a_higher_limit_admits_those_who_wait_at_once_and_in_order() {
    let (bulkhead, lab, mut service) = build(waiting(1, 1_000));
    let _inside = Call::pending(&mut service, 0);
    let mut queue: Vec<Call> = (1..5).map(|call| Call::pending(&mut service, call)).collect();
    bulkhead.resize(3).unwrap();
    assert_eq!(counts(&bulkhead), (3, 2));
    for call in queue.iter_mut().rev() {
        assert!(call.poll().is_pending());
    }
    assert_eq!(lab.inside(), 3);
    for (number, call) in (1..3).zip(&mut queue) {
        lab.order(number, Order::Succeed);
        call.poll().succeeded();
    }
    assert_eq!(counts(&bulkhead), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_admits_nobody_until_enough_are_gone_and_loses_no_slot() {
    let (bulkhead, lab, mut service) = build(waiting(4, 1_000));
    let mut inside: Vec<Call> = (0..4).map(|call| Call::pending(&mut service, call)).collect();
    let mut waits = Call::pending(&mut service, 4);
    bulkhead.resize(2).unwrap();
    assert_eq!((bulkhead.snapshot().limit, counts(&bulkhead)), (2, (4, 1)));
    for number in [0, 1] {
        finish(&lab, number, &mut inside[number as usize]);
        assert!(waits.poll().is_pending());
        assert!(bulkhead.try_acquire().is_err());
        assert_eq!(counts(&bulkhead), (3 - number, 1));
    }
    finish(&lab, 2, &mut inside[2]);
    assert!(waits.poll().is_pending());
    assert_eq!((lab.inside(), counts(&bulkhead)), (2, (2, 0)));
    finish(&lab, 3, &mut inside[3]);
    finish(&lab, 4, &mut waits);
    let slots: Vec<Slot> = std::iter::from_fn(|| bulkhead.try_acquire().ok())
        .take(100)
        .collect();
    assert_eq!(slots.len(), 2);
    bulkhead.resize(5).unwrap();
    let more: Vec<Slot> = std::iter::from_fn(|| bulkhead.try_acquire().ok())
        .take(100)
        .collect();
    assert_eq!(more.len(), 3);
    bulkhead.resize(1).unwrap();
    drop(slots);
    assert!(bulkhead.try_acquire().is_err());
    drop(more);
    assert_eq!(counts(&bulkhead), (0, 0));
    let _one = bulkhead.try_acquire().unwrap();
    assert!(bulkhead.try_acquire().is_err());
}

#[tokio::test(start_paused = true)]
async fn new_settings_are_for_new_calls_and_who_waits_waits_as_it_was_told() {
    let (bulkhead, _lab, mut service) = build(waiting(1, 50));
    let _inside = Call::pending(&mut service, 0);
    // It came before the new settings, and is polled after them.
    let mut waits = Call::begin(&mut service, 1);
    bulkhead.reconfigure(&waiting(1, 500).max_queue(2)).unwrap();
    assert!(waits.poll().is_pending());
    advance(10).await;
    let mut waits_longer = Call::pending(&mut service, 2);
    let refused = Call::begin(&mut service, 3).poll().rejected();
    assert_eq!(refused.reason(), &Reason::QueueFull { limit: 1, queue: 2 });
    advance(40).await;
    assert_eq!(waits.poll().rejected().waited(), Some(ms(50)));
    advance(459).await;
    assert!(waits_longer.poll().is_pending());
    advance(1).await;
    assert_eq!(waits_longer.poll().rejected().waited(), Some(ms(500)));
    bulkhead.reconfigure(&config(1)).unwrap();
    let refused = Call::begin(&mut service, 4).poll().rejected();
    assert_eq!(refused.reason(), &Reason::Full { limit: 1 });
}

#[tokio::test(start_paused = true)]
async fn settings_that_are_refused_change_nothing() {
    let (bulkhead, ..) = build(waiting(3, 50));
    let events = Events::new();
    bulkhead.observe(events.observer());
    assert!(bulkhead.resize(0).is_err());
    assert!(bulkhead.reconfigure(&waiting(0, 10)).is_err());
    assert_eq!((bulkhead.snapshot().limit, bulkhead.max_wait()), (3, ms(50)));
    assert_eq!(events.take(), []);
}

// ---- What it tells.

#[tokio::test(start_paused = true)]
async fn observers_hear_who_waits_who_is_refused_and_who_goes() {
    let (bulkhead, _lab, mut service) = build(waiting(1, 50).max_queue(1));
    let events = Events::new();
    bulkhead.observe(events.observer());
    let inside = Call::pending(&mut service, 0);
    assert_eq!(events.take(), [], "nothing happens to a call that is admitted");
    let mut waits = Call::pending(&mut service, 1);
    assert_eq!(events.take(), [What::Queued]);
    let refused = Call::begin(&mut service, 2).poll().rejected();
    assert_eq!(events.take(), [What::Rejected(refused)]);
    advance(50).await;
    let refused = waits.poll().rejected();
    assert_eq!(events.take(), [What::Rejected(refused)]);
    drop(inside);
    assert_eq!(events.take(), [What::Abandoned(Abandoned::Dropped)]);
    bulkhead.resize(2).unwrap();
    assert_eq!(events.take(), [What::Reconfigured]);
    assert_eq!(bulkhead.snapshot().rejected, 2);
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_use_the_bulkhead() {
    let (bulkhead, _lab, mut service) = build(waiting(1, 50));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let (bulkhead, seen) = (bulkhead.clone(), Arc::clone(&seen));
        move |event: &buttress::Event| {
            seen.lock().unwrap().push(counts(&bulkhead));
            if event.what == What::Queued {
                bulkhead.resize(2).unwrap();
            }
        }
    };
    bulkhead.observe(Arc::new(observer));
    let _inside = Call::pending(&mut service, 0);
    let _waits = Call::pending(&mut service, 1);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, [(1, 1), (2, 0)]);
}

// ---- Many threads.

/// Who is inside now, and the most that ever were.
#[derive(Default)]
struct Crowd {
    inside: AtomicU32,
    most: AtomicU32,
    served: AtomicUsize,
}

struct Member(Arc<Crowd>);

impl Member {
    fn enter(crowd: &Arc<Crowd>) -> Self {
        let inside = crowd.inside.fetch_add(1, Ordering::SeqCst) + 1;
        crowd.most.fetch_max(inside, Ordering::SeqCst);
        Self(Arc::clone(crowd))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Going takes a while, too.
        thread::yield_now();
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A service whose calls stay inside for a few turns of the scheduler.
#[derive(Clone)]
struct Crowded(Arc<Crowd>);

impl Service<u32> for Crowded {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = lab::Reply> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, turns: u32) -> Self::Future {
        let crowd = Arc::clone(&self.0);
        Box::pin(async move {
            let _member = Member::enter(&crowd);
            for _ in 0..turns {
                yield_now().await;
            }
            crowd.served.fetch_add(1, Ordering::Relaxed);
            Ok(turns)
        })
    }
}

const TASKS: u32 = 32;
const CALLS: u32 = 100;

/// Longer than this test may take: whoever waits is served.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_are_all_served_and_never_more_inside_than_the_limit() {
    let crowd = Arc::new(Crowd::default());
    let bulkhead = config(3).max_wait(LONG).build("db").unwrap();
    let service = BulkheadLayer::new(bulkhead.clone()).layer(Crowded(Arc::clone(&crowd)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let service = service.clone();
            tokio::spawn(async move {
                for call in 0..CALLS {
                    service.clone().oneshot((task + call) % 4).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(crowd.served.load(Ordering::SeqCst), (TASKS * CALLS) as usize);
    assert_eq!(crowd.most.load(Ordering::SeqCst), 3);
    assert_eq!(counts(&bulkhead), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_whose_calls_are_dropped_at_any_point_leave_every_slot_free() {
    let crowd = Arc::new(Crowd::default());
    let bulkhead = config(3).max_wait(LONG).build("db").unwrap();
    let service = BulkheadLayer::new(bulkhead.clone()).layer(Crowded(Arc::clone(&crowd)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let service = service.clone();
            tokio::spawn(async move {
                for call in 0..CALLS {
                    let patience = (task * 7 + call * 3) % 11;
                    let impatient = async {
                        for _ in 0..patience {
                            yield_now().await;
                        }
                    };
                    tokio::select! {
                        reply = service.clone().oneshot(2) => assert_eq!(reply.unwrap(), 2),
                        () = impatient => {}
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(counts(&bulkhead), (0, 0));
    assert_eq!(crowd.inside.load(Ordering::SeqCst), 0);
    assert!(
        crowd.most.load(Ordering::SeqCst) <= 3,
        "{} at once",
        crowd.most.load(Ordering::SeqCst)
    );
    let slots: Vec<Slot> = std::iter::from_fn(|| bulkhead.try_acquire().ok())
        .take(100)
        .collect();
    assert_eq!(slots.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn resizing_under_load_strands_nobody() {
    let crowd = Arc::new(Crowd::default());
    let bulkhead = config(3).max_wait(LONG).build("db").unwrap();
    let service = BulkheadLayer::new(bulkhead.clone()).layer(Crowded(Arc::clone(&crowd)));
    let resizing = tokio::spawn({
        let bulkhead = bulkhead.clone();
        async move {
            for limit in [1, 5, 2, 4, 1, 3].iter().cycle().take(600) {
                bulkhead.resize(*limit).unwrap();
                yield_now().await;
            }
        }
    });
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                for _ in 0..CALLS {
                    service.clone().oneshot(1).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    resizing.await.unwrap();
    assert_eq!(counts(&bulkhead), (0, 0));
    assert!(crowd.most.load(Ordering::SeqCst) <= 5);
    let slots: Vec<Slot> = std::iter::from_fn(|| bulkhead.try_acquire().ok())
        .take(100)
        .collect();
    assert_eq!(slots.len(), 3);
}

#[test]
fn threads_that_ask_for_slots_by_hand_never_hold_more_than_the_limit() {
    let bulkhead = config(2).build("db").unwrap();
    let crowd = Arc::new(Crowd::default());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    if let Ok(slot) = bulkhead.try_acquire() {
                        let member = Member::enter(&crowd);
                        thread::yield_now();
                        drop(member);
                        drop(slot);
                    }
                }
            });
        }
    });
    assert!(crowd.most.load(Ordering::SeqCst) <= 2);
    assert_eq!(counts(&bulkhead), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_guarded_function_waits_and_is_refused_as_a_call_is() {
    let bulkhead = waiting(1, 50).build("db").unwrap();
    let slot = bulkhead.try_acquire().unwrap();
    let refused = bulkhead
        .run(|| async { Ok::<u32, std::io::Error>(1) })
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "bulkhead `db` is full: all 1 slots in use, waited 50ms"
    );
    let guarded = bulkhead.clone();
    let mut waits = Call::of(async move {
        let reply = guarded.run(|| async { Ok::<u32, std::io::Error>(7) }).await;
        reply.map_err(BoxError::from)
    });
    assert!(waits.poll().is_pending());
    drop(slot);
    assert!(matches!(waits.poll(), Polled::Ready(Ok(7))));
}
