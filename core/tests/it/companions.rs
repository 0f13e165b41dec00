//! Companions: which model is unloaded for which, and which serves what.

use tiershift_core::catalog::{Catalog, RawCatalog};
use tiershift_core::model::Task;
use tiershift_core::request::{Request, Target};
use tiershift_core::sample::{GpuSample, Space};
use tiershift_core::units::Bytes;

use crate::rig::{Rig, minutes, seconds};

/// Returns a bench whose catalog has companions of 1 GiB each beside the usual three.
fn beside(settings: &str, companions: &[(&str, &str)]) -> Rig {
    let speeds = "load-warm = '1s'\nload-cold = '1s'\nprefill-tokens-per-second = 100.0\n\
                  decode-tokens-per-second = 10.0\n";
    let model = |(id, gib, quality): (&str, u32, u32)| {
        format!(
            "[[model]]\nid = '{id}'\ntier = '{id}'\nquality = '{quality}%'\nram = '{gib}GiB'\n{speeds}"
        )
    };
    let companion = |(id, task): &(&str, &str)| {
        format!(
            "[[model]]\nid = '{id}'\ncompanion = true\ntasks = ['{task}']\nram = '1GiB'\n{speeds}"
        )
    };
    let ladder = [("small", 2, 50), ("medium", 5, 75), ("large", 9, 100)].map(model).concat();
    let beside: String = companions.iter().map(companion).collect();
    let catalog: RawCatalog = toml::from_str(&(ladder + &beside)).unwrap();
    Rig::new(settings, Catalog::try_from(catalog).unwrap())
}

const EMBEDDER: &[(&str, &str)] = &[("e", "embedding")];
const TWO: &[(&str, &str)] = &[("e", "embedding"), ("r", "rerank")];

/// Begins with this much of others' use [GiB], the model that then serves, and all companions loaded.
fn settled(settings: &str, companions: &[(&str, &str)], others: f64) -> Rig {
    let mut rig = beside(settings, companions);
    rig.sample(others);
    rig.complete(others);
    for _ in companions {
        rig.sample(others);
        rig.obey();
    }
    rig.outputs();
    rig
}

fn embedding(id: u64) -> Request {
    Request { task: Task::Embedding, output_tokens: 0, ..Request::chat(id, 10, 0) }
}

#[test]
fn the_first_load_leaves_companions_their_room() {
    // "large" alone would fit: 5 + 9.
    let mut rig = beside("", EMBEDDER);
    rig.sample(5.0);
    rig.check(&["up to medium: room", "load medium"]);
    rig.loaded("medium");
    rig.check(&["serve medium", "none to medium in 0s"]);
    rig.sample(5.0);
    rig.check(&["want e", "load e"]);
    rig.loaded("e");
    rig.check(&["e serves"]);
}

#[test]
fn one_that_would_not_even_fit_beside_the_smallest_is_not_waited_for() {
    let mut rig = beside("", EMBEDDER);
    // 12 + 2 fits, but not with 1 more.
    rig.sample(12.0);
    rig.check(&["up to small: room", "load small"]);
    rig.loaded("small");
    rig.outputs();
    rig.samples(12.0, minutes(2));
    rig.check(&[]);
}

#[test]
fn a_companion_goes_only_when_the_ladder_has_no_smaller_model_beside_it() {
    let mut rig = settled("", EMBEDDER, 3.0);
    // A smaller model with the companion is better than a larger one without: 6 + 9 would not fit at all.
    rig.sample(6.0);
    rig.check(&["down to medium, Critical: above-degrade-line", "serve none", "unload large"]);
    rig.complete(6.0);
    rig.outputs();
    // 12 + 2 fits, but not with 1 more.
    rig.samples(6.0, minutes(1));
    rig.sample(12.0);
    rig.check(&[
        "give up e",
        "e serves no more",
        "unload e",
        "down to small, Critical: above-degrade-line",
        "serve none",
        "unload medium",
    ]);
    rig.complete(12.0);
    rig.outputs();
    // It is loaded first, and the ladder steps up after it.
    for _ in 0..120 {
        rig.samples(3.0, seconds(10));
        rig.obey();
    }
    let lines = rig.outputs();
    let place = |line: &str| lines.iter().position(|it| it.starts_with(line));
    assert!(place("e serves").unwrap() < place("up to large").unwrap(), "{lines:#?}");
    // It is loaded on the reading that shows the room.
    assert_eq!(place("load e"), place("want e").map(|wanted| wanted + 1), "{lines:#?}");
}

#[test]
fn it_goes_before_a_step_down_where_the_settings_say_so() {
    let mut rig = settled("manager.companions-go = 'before-a-step-down'", EMBEDDER, 3.0);
    // 5 + 9 fits, but not with 1 more.
    rig.sample(5.0);
    rig.check(&["give up e", "e serves no more", "unload e"]);
    rig.unloaded("e");
    rig.samples(5.0, minutes(1));
    rig.check(&[]);
}

#[test]
fn of_two_the_last_goes_first_and_no_more_than_must() {
    let mut rig = settled("manager.companions-go = 'before-a-step-down'", TWO, 3.0);
    rig.sample(4.0);
    rig.check(&["give up r", "r serves no more", "unload r"]);
    rig.unloaded("r");
    rig.samples(4.0, minutes(1));
    rig.check(&[]);
}

/// A small model on the GPU, a large one in main memory, and a companion.
fn on_gpu_and_in_ram(companion: &str) -> Catalog {
    let speeds = "load-warm = '1s'\nload-cold = '1s'\nprefill-tokens-per-second = 100.0\n\
                  decode-tokens-per-second = 10.0\n";
    let catalog: RawCatalog = toml::from_str(&format!(
        "[[model]]\nid = 'small'\ntier = 'small'\nquality = '50%'\nvram = '2GiB'\n{speeds}\
         [[model]]\nid = 'large'\ntier = 'large'\nquality = '100%'\nram = '9GiB'\n{speeds}\
         [[model]]\nid = 'e'\ncompanion = true\ntasks = ['embedding']\n{companion}\n{speeds}"
    ))
    .unwrap();
    Catalog::try_from(catalog).unwrap()
}

/// A GPU on which this much is ours in addition to the models.
fn gpu_with(own: u64) -> GpuSample {
    let [total, others, own] = [8, 0, own].map(Bytes::from_gib);
    GpuSample { vram: Some(Space { total, others, own }), ..GpuSample::default() }
}

/// Begins with "large" in main memory and the companion on the GPU.
fn large_beside_a_companion_on_the_gpu() -> Rig {
    let mut rig = Rig::new("", on_gpu_and_in_ram("vram = '1GiB'"));
    rig.rest.gpus = vec![gpu_with(0)];
    rig.adopt(&["large"]);
    rig.sample(1.0);
    rig.obey();
    rig.samples(1.0, minutes(1));
    rig.outputs();
    rig
}

#[test]
fn the_ladder_steps_down_for_no_space_of_which_it_has_nothing() {
    let mut rig = large_beside_a_companion_on_the_gpu();
    // The companion leaks. The use beyond its size is ours, but belongs to no model.
    rig.rest.gpus = vec![gpu_with(7)];
    rig.sample(1.0);
    rig.check(&["give up e", "e serves no more", "unload e"]);
    rig.check_hold_kind("above-degrade-line");
}

#[test]
fn a_companion_goes_from_its_gpu_while_the_ladder_drains_for_memory() {
    let mut rig = large_beside_a_companion_on_the_gpu();
    rig.request(1);
    // The companion has leaked, so that "small" has no place on the GPU yet; "large" finishes its reply before it goes.
    rig.rest.gpus = vec![gpu_with(6)];
    rig.sample(6.0);
    let lines = rig.outputs();
    assert!(lines.iter().any(|line| line.starts_with("down to small")), "{lines:#?}");
    rig.rest.gpus = vec![gpu_with(7)];
    rig.sample(6.0);
    rig.check(&["give up e", "e serves no more", "unload e"]);
}

#[test]
fn for_a_companion_the_ladder_begins_with_no_model_whose_room_has_not_come_back() {
    let mut rig = Rig::new("", on_gpu_and_in_ram("ram = '6GiB'"));
    // "large" and the companion do not fit together; "small" has no room while the GPU holds the memory of the unloaded model.
    rig.rest.gpus = vec![gpu_with(7)];
    rig.sample(0.0);
    rig.check(&["want e", "load e"]);
    rig.check_hold_kind("would-not-fit");
    rig.loaded("e");
    rig.check(&["e serves"]);
    rig.rest.gpus = vec![gpu_with(0)];
    rig.sample(0.0);
    rig.check(&["up to small: room", "load small on gpu 0"]);
}

#[test]
fn a_request_is_served_by_the_companion_for_its_task_or_of_its_name() {
    let mut rig = settled("", EMBEDDER, 3.0);
    rig.ask(embedding(1));
    rig.check(&["accept #1", "start #1 on e"]);
    let named = Request { target: Target::Model("e".into()), ..embedding(2) };
    rig.ask(named);
    rig.check(&["accept #2", "start #2 on e"]);
    rig.request(3);
    rig.check(&["accept #3", "start #3 on large"]);
    // A task that no model has is refused at once.
    rig.ask(Request { task: Task::Rerank, ..embedding(4) });
    rig.check(&["#4 Unservable"]);
}

#[test]
fn two_that_come_back_at_one_moment_see_each_other() {
    let mut rig = settled("", TWO, 1.0);
    // Others leave room for one of them beside "large".
    rig.crashed_unread("e");
    rig.crashed_unread("r");
    rig.outputs();
    rig.sample(4.0);
    let loads = |lines: Vec<String>| lines.iter().filter(|line| line.starts_with("load")).count();
    assert_eq!(loads(rig.outputs()), 1);
    rig.after(seconds(1));
    assert_eq!(loads(rig.outputs()), 0);
}
