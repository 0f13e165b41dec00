//! The `tiershift` command.

fn main() {
    let path = std::env::args().nth(1).expect("a trace");
    let policy = std::env::args().nth(2).unwrap_or_default();
    let mut settings = tiershift::settings::RawSettings::default();
    for part in policy.split(',') {
        match part {
            "memory" => settings.constrain = vec![tiershift::settings::Resource::Memory],
            "original" => settings.policy = tiershift::settings::PolicyName::Original,
            "projecting" => settings.policy = tiershift::settings::PolicyName::Projecting,
            _ => {}
        }
    }
    let recording = tiershift::replay::Recording::open(path.as_ref(), &Default::default()).unwrap();
    let catalog = tiershift::catalog::Catalog::relative_to(recording.machine().memory);
    let s =
        recording.situation(catalog, settings, Default::default(), vec![], tiershift::rng::Seed(1));
    let mut show = |r: &tiershift::event::Record| {
        if let tiershift::event::Event::Output(o) = &r.event {
            if std::env::args().nth(3).is_some() {
                println!("{:.0} {}", r.at.as_secs_f64(), serde_json::to_string(o).unwrap());
            }
        }
    };
    let t = std::time::Instant::now();
    let summary =
        tiershift::sim::simulate(s, tiershift::controller::Detail::Silent, Some(&mut show))
            .unwrap();
    eprintln!("{:?}", t.elapsed());
    println!("{}", summary.to_json());
}
