//! A simulated day of requests: the Azure code trace if it is available, else a workload with the same rate and
//! lengths.

use std::hint::black_box;
use std::path::Path;

use tiershift::scenario::parse;
use tiershift::sim::rng::Seed;
use tiershift::sim::simulate;
use tiershift::sim::workload::{Workload, Workloads};
use tiershift::study::replay::Requests;
use tiershift::summary::RequestCounts;
use tiershift::trace::ReadOptions;
use tiershift_core::catalog::Catalog;
use tiershift_core::controller::Detail;
use tiershift_core::model::{Model, Task};
use tiershift_core::policy::Registry;
use tiershift_core::time::Timestamp;

use crate::inputs::{Day, SAMPLES_A_DAY, machine, situation};
use crate::table::{Row, Table, duel_alone};

pub(crate) fn measure(table: &mut Table) {
    let (name, workload) = match recorded() {
        Some(workload) => ("the Azure code trace of 2023, looped", workload),
        None => ("made up after the Azure code trace of 2023", made_up()),
    };
    let day = Day::new(false);
    let usual = Catalog::relative_to(machine().memory);
    for (catalog, on) in [(fast(&usual), "a server's speeds"), (usual, "a desktop's speeds")] {
        let mut counts = RequestCounts::default();
        let ours = || {
            let mut situation = situation(day.play(SAMPLES_A_DAY), vec![workload.clone()]);
            situation.setup.catalog = catalog.clone();
            let summary = simulate(situation, &Registry::built_in(), Detail::Silent, &mut [])
                .expect("the day can be played");
            assert_eq!(summary.violations, Vec::<String>::new());
            counts = summary.requests;
        };
        let (took, peer) = duel_alone(ROUNDS, ours, || draw(&workload));
        let RequestCounts { arrived, done, .. } = counts;
        table.push(Row {
            what: format!("a day of {arrived} requests ({name}), {done} done at {on}, log off"),
            figure: format!("{:.2} s", took.as_secs_f64()),
            limit: "1 s",
            peer: format!("drawing the requests only ({:.3} s)", peer.as_secs_f64()),
            ratio: took.as_secs_f64() / peer.as_secs_f64(),
        });
    }
}

/// Returns the same ladder with the speeds of a data-centre GPU, which serves nearly every request.
fn fast(usual: &Catalog) -> Catalog {
    let models = usual.models().iter().map(|model| Model {
        slots: 16,
        prefill_per_second: model.prefill_per_second * 2000.0,
        decode_per_second: model.decode_per_second * 200.0,
        ..model.clone()
    });
    Catalog::new(models.collect()).expect("speeds break no rule of a ladder")
}

fn draw(workload: &Workload) {
    let mut workloads = Workloads::new(std::slice::from_ref(workload), Seed(1));
    let end = Timestamp::from_secs(24 * 3600);
    while let Some(arrival) = workloads.pop(end) {
        black_box(&arrival);
    }
}

/// Reads the public trace, for which `TIERSHIFT_DATA` names the folder of public data.
fn recorded() -> Option<Workload> {
    let data = std::env::var_os("TIERSHIFT_DATA")?;
    let path = Path::new(&data).join("azure_llm_2023/AzureLLMInferenceTrace_code.csv");
    let requests = Requests::read(&path, &ReadOptions::default()).ok()?;
    Some(requests.workload(true))
}

/// 8,819 requests an hour, as in the trace; the median of its prompts is 1,469 tokens, that of its replies 13.
fn made_up() -> Workload {
    let text = r#"
        duration = "24h"
        [machine]
        memory = "32GiB"
        [[workload]]
        kind = "poisson"
        rate = "8819/h"
        prompt-tokens = { median = 1469, shape = 0.93, max = 7437 }
        output-tokens = { median = 13, shape = 1.02, max = 1899 }
    "#;
    let scenario = parse(text, "bench.toml", Path::new(""), &Registry::built_in())
        .expect("the text above is a scenario");
    let workload = scenario.workloads.into_iter().next().expect("it has one workload");
    Workload { task: Task::Chat, ..workload }
}

const ROUNDS: u32 = 3;
