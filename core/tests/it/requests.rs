//! The rules by which requests are accepted, wait, run and end: each exactly once.

use tiershift_core::event::Input;
use tiershift_core::model::Task;
use tiershift_core::request::{ClientId, Request, RequestId, Target};

use crate::rig::{Rig, minutes, rig, rig_with_models, seconds};

/// Returns a bench on which "medium" serves, with both slots taken by requests 1 and 2.
fn full(settings: &str) -> Rig {
    let mut rig = rig(settings).serving("medium");
    rig.sample(1.0);
    rig.request(1);
    rig.request(2);
    rig.check(&["accept #1", "start #1 on medium", "accept #2", "start #2 on medium"]);
    rig
}

fn with_priority(id: u64, priority: u8) -> Request {
    Request { priority, ..Request::chat(id, 10, 10) }
}

#[test]
fn what_waits_starts_in_order_of_priority_then_of_arrival() {
    let mut rig = full("");
    for (id, priority) in [(3, 0), (4, 5), (5, 0), (6, 5)] {
        rig.ask(with_priority(id, priority));
    }
    rig.check(&["queue #3", "queue #4", "queue #5", "queue #6"]);
    let mut started = Vec::new();
    for id in [1, 2, 4, 6] {
        rig.done(id);
        started.extend(rig.outputs().pop());
    }
    assert_eq!(
        started,
        ["start #4 on medium", "start #6 on medium", "start #3 on medium", "start #5 on medium"]
    );
}

#[test]
fn one_more_than_the_queue_holds_is_refused() {
    let mut rig = full("manager.queue-limit = 2");
    for id in 3..=5 {
        rig.request(id);
    }
    rig.check(&["queue #3", "queue #4", "#5 QueueFull, again in about 1s"]);
}

#[test]
fn what_can_start_at_once_needs_no_place_in_the_queue() {
    let mut rig = rig("manager.queue-limit = 0").serving("medium");
    rig.sample(1.0);
    for id in 1..=3 {
        rig.request(id);
    }
    let lines = rig.outputs();
    assert_eq!(lines[..2], ["accept #1", "start #1 on medium"]);
    assert_eq!(lines[4], "#3 QueueFull, again in about 1s");
}

#[test]
fn a_request_waits_as_long_as_its_patience_and_no_longer() {
    let mut rig = full("");
    rig.request(3);
    rig.ask(Request { patience: Some(seconds(5)), ..Request::chat(4, 10, 10) });
    rig.outputs();
    rig.after(seconds(4));
    rig.check(&[]);
    rig.after(seconds(1));
    rig.check(&["#4 Deadline, again in about 1s"]);
    rig.after(seconds(54));
    rig.check(&[]);
    rig.after(seconds(1));
    rig.check(&["#3 Deadline, again in about 1s"]);
}

#[test]
fn when_to_come_back_grows_with_the_queue_and_with_how_long_requests_take() {
    let mut rig = full("manager.queue-limit = 3");
    rig.after(seconds(80));
    rig.done(1);
    rig.done(2);
    // Each request moves the mean by an eighth of the difference: 80 / 8, then (7 * 10 + 80) / 8.
    rig.sample(1.0);
    for id in 3..=8 {
        rig.request(id);
    }
    // Three wait, two run in parallel: the new one would be in the next turn but one.
    assert_eq!(rig.outputs().pop().unwrap(), "#8 QueueFull, again in about 37s 500ms");
}

#[test]
fn while_nothing_serves_the_usual_patience_is_when_to_come_back() {
    let mut rig = rig("manager.queue-limit = 0\nmanager.patience = '20s'");
    rig.sample(16.0);
    rig.request(1);
    rig.check(&["#1 QueueFull, again in about 20s"]);
}

#[test]
fn a_machine_that_is_not_read_serves_with_what_is_loaded_and_loads_nothing() {
    let mut rig = rig("").serving("medium");
    rig.sample(1.0);
    rig.after(minutes(1));
    rig.request(1);
    rig.check(&["accept #1", "start #1 on medium"]);
    rig.failed(1);
    rig.crashed_unread("medium");
    rig.check(&["#1 failed", "serve none"]);
    rig.after(minutes(10));
    rig.check(&[]);
    rig.sample(1.0);
    rig.check(&["load medium"]);
}

#[test]
fn a_request_waits_where_what_serves_is_about_to_go_for_a_critical_shortage() {
    let mut rig = rig("").serving("medium");
    rig.sample(1.0);
    rig.request(1);
    rig.outputs();
    rig.sample(11.0);
    rig.request(2);
    rig.check(&["down to small, Critical: above-degrade-line", "serve none", "queue #2"]);
}

#[test]
fn requests_wait_while_a_switch_has_nothing_to_serve_with() {
    let mut rig = rig("").serving("medium");
    rig.samples(2.0, minutes(1));
    rig.switch("large");
    rig.outputs();
    rig.request(1);
    rig.check(&["queue #1"]);
    rig.complete(2.0);
    rig.check(&["load large", "serve large", "medium to large in 2s", "start #1 on large"]);
}

#[test]
fn requests_go_on_while_another_model_loads_beside() {
    let mut rig = rig("manager.pin = 'small'").serving("small");
    rig.samples(1.0, minutes(1));
    rig.switch("medium");
    rig.request(1);
    rig.loaded("medium");
    rig.request(2);
    rig.check(&[
        "up to medium: asked",
        "load medium",
        "accept #1",
        "start #1 on small",
        "serve medium",
        "accept #2",
        "start #2 on medium",
    ]);
}

#[test]
fn a_wish_for_more_is_served_by_what_there_is_and_says_so() {
    let mut rig = rig("").serving("medium");
    rig.sample(1.0);
    let wish = |id, target| Request { target, ..Request::chat(id, 10, 10) };
    rig.ask(wish(1, Target::Tier("large".to_owned())));
    rig.ask(wish(2, Target::Tier("small".to_owned())));
    rig.ask(wish(3, Target::Tier("huge".to_owned())));
    rig.check(&[
        "accept #1 on medium",
        "start #1 on medium",
        "accept #2",
        "start #2 on medium",
        "#3 UnknownTarget",
    ]);
}

#[test]
fn what_no_model_can_do_or_hold_is_refused_and_what_a_larger_one_can_waits() {
    let tasks = |id: &str| match id {
        "large" => "tasks = [\"chat\", \"vision\"]".to_owned(),
        _ => "tasks = [\"chat\"]\ncontext-tokens = 100".to_owned(),
    };
    let mut rig = rig_with_models("", tasks).serving("medium");
    rig.sample(1.0);
    rig.ask(Request { task: Task::Embedding, ..Request::chat(1, 10, 10) });
    rig.ask(Request::chat(2, 8192, 1));
    rig.ask(Request { task: Task::Vision, ..Request::chat(3, 10, 10) });
    rig.ask(Request::chat(4, 100, 10));
    rig.ask(Request::chat(5, 99, 10_000));
    rig.check(&[
        "#1 Unservable",
        "#2 Unservable",
        "queue #3",
        "queue #4",
        "accept #5",
        "start #5 on medium",
    ]);
}

#[test]
fn nothing_is_refused_or_made_to_wait_for_an_estimate() {
    let context = |_: &str| "context-tokens = 100".to_owned();
    let mut rig = rig_with_models("", context).serving("medium");
    rig.sample(1.0);
    rig.ask(Request { prompt_estimated: true, ..Request::chat(1, 9000, 10) });
    rig.check(&["accept #1", "start #1 on medium"]);
    rig.ask(Request { prompt_estimated: true, task: Task::Vision, ..Request::chat(2, 10, 10) });
    rig.check(&["#2 Unservable"]);
}

#[test]
fn a_client_that_hangs_up_ends_its_request_wherever_it_is() {
    let mut rig = full("");
    rig.request(3);
    rig.outputs();
    rig.hang_up(3);
    rig.check(&["#3 cancelled by Client"]);
    rig.hang_up(1);
    rig.hang_up(1);
    rig.check(&["cancel #1"]);
    rig.cancelled(1);
    rig.check(&["#1 cancelled by Client"]);
    // After its end, and for one that never existed.
    rig.hang_up(1);
    rig.hang_up(99);
    rig.check(&[]);
}

#[test]
fn a_request_ends_once_whatever_the_server_says_later() {
    let mut rig = full("");
    rig.done(1);
    rig.check(&["#1 done by medium in 0s"]);
    rig.done(1);
    rig.failed(1);
    rig.cancelled(1);
    rig.done(99);
    rig.check(&[]);
}

#[test]
fn what_waits_goes_before_what_arrives_whatever_its_priority() {
    let mut rig = full("");
    rig.ask(with_priority(3, 0));
    rig.failed(1);
    rig.check(&["queue #3", "#1 failed"]);
    // A slot is free, but nothing is started before the next message of the server.
    rig.request(4);
    rig.check(&["queue #4"]);
    rig.sample(1.0);
    rig.check(&["start #3 on medium"]);
    rig.done(2);
    rig.check(&["#2 done by medium in 2s", "start #4 on medium"]);
}

#[test]
fn each_client_has_its_turn() {
    let mut rig = full("");
    let of = |id, client| Request { client: Some(ClientId(client)), ..Request::chat(id, 10, 10) };
    for (id, client) in [(3, 1), (4, 1), (5, 1), (6, 2)] {
        rig.ask(of(id, client));
    }
    rig.outputs();
    let mut started = Vec::new();
    for id in [1, 2, 3, 6] {
        rig.done(id);
        started.extend(rig.outputs().pop());
    }
    let want = [3, 6, 4, 5].map(|id| format!("start #{id} on medium"));
    assert_eq!(started, want);
}

#[test]
fn what_only_a_lower_model_can_do_is_refused_at_once() {
    let tasks = |id: &str| match id {
        "small" => "tasks = [\"embedding\"]".to_owned(),
        _ => "tasks = [\"chat\"]".to_owned(),
    };
    let embedding = |id| Request { task: Task::Embedding, ..Request::chat(id, 10, 0) };
    let mut rig = rig_with_models("manager.patience = '40s'", tasks).serving("medium");
    rig.sample(1.0);
    rig.ask(embedding(1));
    rig.check(&["#1 NotLoaded, again in about 40s"]);
    // Waiting requests are refused when this becomes true.
    let mut rig = rig_with_models("manager.patience = '40s'", tasks).serving("small");
    rig.sample(1.0);
    rig.switch("large");
    rig.outputs();
    for id in 1..=3 {
        rig.ask(embedding(id));
    }
    rig.request(4);
    rig.loaded("large");
    rig.check(&[
        "accept #1",
        "start #1 on small",
        "accept #2",
        "start #2 on small",
        "queue #3",
        "queue #4",
        "serve large",
        "#3 NotLoaded, again in about 40s",
        "start #4 on large",
    ]);
}

#[test]
fn when_to_come_back_is_what_is_left_of_a_switch() {
    let loads = |_: &str| "load-cold = '30s'\nunload = '2s'".to_owned();
    let mut rig = rig_with_models("manager.queue-limit = 0", loads).serving("medium");
    rig.samples(2.0, minutes(1));
    rig.switch("large");
    rig.outputs();
    rig.request(1);
    rig.check(&["#1 QueueFull, again in 32s"]);
    rig.unloaded("medium");
    rig.after(seconds(1) / 4);
    rig.check(&["load large"]);
    rig.after(seconds(10));
    rig.sample_now(2.0);
    rig.request(2);
    rig.check(&["#2 QueueFull, again in 20s"]);
    rig.after(seconds(20));
    rig.request(3);
    // The load is late: it fails at its time limit.
    rig.check(&["#3 QueueFull, again in 1m 30s"]);
}

#[test]
fn when_to_come_back_is_the_rest_of_a_model_that_died_and_its_load() {
    let loads = |_: &str| "load-cold = '30s'".to_owned();
    let mut rig = rig_with_models("manager.queue-limit = 0", loads).serving("medium");
    rig.sample(1.0);
    rig.crashed("medium");
    rig.outputs();
    let rest = rig.wakes_in().unwrap();
    rig.request(1);
    let expected = tiershift_core::time::span_text(rest + seconds(30));
    rig.check(&[&format!("#1 QueueFull, again in {expected}")]);
}

#[test]
fn when_to_come_back_is_the_wait_of_a_rescue_where_one_fits() {
    let loads = |_: &str| "load-cold = '10s'".to_owned();
    let mut rig = rig_with_models("manager.queue-limit = 0\nmanager.patience = '40s'", loads);
    rig.samples(1.0, seconds(10));
    rig.complete(1.0);
    rig.samples(16.0, minutes(1));
    rig.complete(16.0);
    rig.outputs();
    rig.request(1);
    rig.check(&["#1 QueueFull, again in about 40s"]);
    rig.sample(1.0);
    rig.outputs();
    rig.request(2);
    // A wait of the load time, a sample, and the load.
    rig.check(&["#2 QueueFull, again in 22s"]);
}

#[test]
fn after_a_failure_nothing_is_started_before_the_servers_next_word() {
    let mut rig = full("");
    rig.request(3);
    rig.outputs();
    rig.failed(1);
    rig.check(&["#1 failed"]);
    rig.sample(1.0);
    rig.check(&["start #3 on medium"]);
}

#[test]
fn what_waits_outlives_the_model_and_runs_on_the_next() {
    let mut rig = full("");
    rig.request(3);
    rig.outputs();
    rig.failed(1);
    rig.failed(2);
    rig.crashed("medium");
    rig.after(seconds(10));
    rig.loaded("medium");
    rig.check(&[
        "#1 failed",
        "#2 failed",
        "serve none",
        "load medium",
        "serve medium",
        "medium to medium in 10s",
        "start #3 on medium",
    ]);
}

#[test]
fn the_time_that_a_request_waited_is_a_part_of_its_latency() {
    let mut rig = full("");
    rig.request(3);
    rig.outputs();
    rig.after(seconds(5));
    rig.done(1);
    rig.after(seconds(7));
    rig.done(3);
    rig.check(&["#1 done by medium in 5s", "start #3 on medium", "#3 done by medium in 12s"]);
}

impl Rig {
    fn hang_up(&mut self, request: u64) {
        self.feed(&Input::Cancel { request: RequestId(request) });
    }
}

/// Returns a request of a client that stays connected.
fn connected(id: u64) -> Request {
    Request { connected: true, ..Request::chat(id, 10, 10) }
}

#[test]
fn a_client_that_stays_connected_waits_as_long_as_something_serves() {
    let mut rig = full("");
    rig.ask(connected(3));
    rig.request(4);
    rig.outputs();
    rig.after(minutes(1));
    rig.check(&["#4 Deadline, again in about 1s"]);
    rig.after(minutes(20));
    rig.check(&[]);
    rig.done(1);
    assert_eq!(rig.outputs()[1..], ["start #3 on medium"]);
}

#[test]
fn with_nothing_loaded_it_waits_as_long_as_its_patience() {
    let mut rig = rig("").serving("medium");
    rig.sample(1.0);
    for id in 1..=2 {
        rig.request(id);
    }
    rig.ask(connected(3));
    rig.after(minutes(5));
    // Others take the whole machine: the serving model is unloaded, and no model has room.
    rig.samples(15.9, seconds(30));
    rig.done(1);
    rig.done(2);
    rig.complete(15.9);
    rig.outputs();
    rig.samples(15.9, seconds(24));
    rig.check(&[]);
    rig.samples(15.9, minutes(1));
    let lines = rig.outputs();
    assert!(lines.iter().any(|line| line.starts_with("#3 Deadline, again in ")), "{lines:?}");
}

#[test]
fn of_clients_that_stay_connected_more_may_wait() {
    let mut rig = full("manager.queue-limit = 1");
    for id in 3..=19 {
        rig.ask(connected(id));
    }
    let lines = rig.outputs();
    assert_eq!(lines[15], "queue #18");
    assert_eq!(lines[16], "#19 QueueFull, again in about 1s");
}
