//! What must hold for every sample, every request and every byte.

use std::io::Cursor;

use proptest::prelude::*;
use tiershift_core::machine::Machine;
use tiershift_core::model::Task;
use tiershift_core::request::{Request, RequestId, Target};
use tiershift_core::sample::{GpuSample, Pressure, Rate, Sample, Space};
use tiershift_core::time::Timestamp;
use tiershift_core::units::{Bytes, Celsius, Percent};

use crate::trace::tests::{formats, read_all, render};
use crate::trace::{DefectKind, Format, NativeWriter, ReadOptions, RequestReader, RequestWriter};

fn bytes() -> impl Strategy<Value = Bytes> {
    (0..=i64::MAX as u64).prop_map(Bytes::new)
}

fn space() -> impl Strategy<Value = Option<Space>> {
    let space = (bytes(), bytes(), bytes()).prop_map(|(total, others, own)| Space {
        total: total.max(Bytes::new(1)),
        others,
        own,
    });
    prop::option::of(space)
}

fn percent() -> impl Strategy<Value = Percent> {
    (0..50_000_u32).prop_map(Percent::from_milli)
}

fn rate() -> impl Strategy<Value = Option<Rate>> {
    prop::option::of((percent(), percent()).prop_map(|(others, own)| Rate { others, own }))
}

fn celsius() -> impl Strategy<Value = Option<Celsius>> {
    prop::option::of((-60_000..=250_000).prop_map(Celsius::from_milli))
}

fn sample() -> impl Strategy<Value = Sample> {
    let pressure = (percent(), percent(), percent(), percent());
    let pressure = pressure.prop_map(|(memory_some, memory_full, cpu_some, io_some)| Pressure {
        memory_some,
        memory_full,
        cpu_some,
        io_some,
    });
    let gpu = (space(), rate(), celsius());
    let gpu = gpu.prop_map(|(vram, utilization, temperature)| GpuSample {
        vram,
        utilization,
        temperature,
        shared: false,
    });
    let gpus = prop::collection::vec(gpu, 2..=2);
    let rest = (any::<u32>(), prop::option::of(pressure), celsius(), gpus);
    (space(), space(), rate(), rest).prop_map(|(memory, swap, cpu, rest)| {
        let (load, pressure, cpu_temperature, gpus) = rest;
        // The load is always there, so that no row is blank.
        Sample { memory, swap, cpu, load_milli: Some(load), pressure, cpu_temperature, gpus }
    })
}

fn request() -> impl Strategy<Value = Request> {
    let task = prop::sample::select(vec![Task::Chat, Task::Code, Task::Vision, Task::Embedding]);
    let target = prop_oneof![
        Just(Target::Auto),
        "[a-z][a-z:. -]*[a-z]".prop_map(Target::Tier),
        "[a-z0-9:./-]+".prop_map(|id| Target::Model(id.as_str().into())),
    ];
    let patience = prop::option::of(any::<u64>().prop_map(std::time::Duration::from_nanos));
    (0..1_u32 << 24, 0..1_u32 << 24, task, target, any::<u8>(), patience).prop_map(
        |(prompt, output, task, target, priority, patience)| Request {
            prompt_estimated: false,
            client: None,
            task,
            target,
            priority,
            patience,
            ..Request::chat(0, prompt, output)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_native_writer_writes_the_reader_reads(
        rows in prop::collection::vec((1..1_u64 << 40, sample()), 1..20),
    ) {
        let machine = Machine { gpus: vec![Bytes::ZERO; 2], ..Machine::default() };
        let mut writer = NativeWriter::new(Vec::new(), &machine, &[]).unwrap();
        let mut at = 0;
        let mut want = Vec::new();
        for (step, sample) in rows {
            let moment = Timestamp::from_nanos(at);
            writer.write(moment, &sample).unwrap();
            want.push((moment, sample));
            at += step;
        }
        let (got, _) = read_all(writer.into_inner()).unwrap();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn what_the_request_writer_writes_the_reader_reads(
        rows in prop::collection::vec((0..1_u64 << 40, request()), 1..20),
    ) {
        let mut writer = RequestWriter::new(Vec::new(), &[]).unwrap();
        let mut at = 0;
        let mut want = Vec::new();
        for (id, (step, request)) in rows.into_iter().enumerate() {
            let moment = Timestamp::from_nanos(at);
            let request = Request { id: RequestId(id as u64), ..request };
            writer.write(moment, &request).unwrap();
            want.push((moment, request));
            at += step;
        }
        let input = Cursor::new(writer.into_inner());
        let mut reader =
            RequestReader::from_reader(input, "file", &ReadOptions::default()).unwrap();
        let mut got = Vec::new();
        while let Some(next) = reader.next().unwrap() {
            got.push(next);
        }
        prop_assert_eq!(reader.defects().total(), reader.defects().count(DefectKind::Gap));
        prop_assert_eq!(got, want);
    }

    #[test]
    fn no_bytes_make_a_reader_panic_or_hang(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        render(&noise, &ReadOptions::default());
        for format in Format::known() {
            render(&noise, &ReadOptions { format: Some(format), ..ReadOptions::default() });
        }
    }

    #[test]
    fn no_damage_to_a_trace_makes_a_reader_panic_or_hang(
        which in any::<prop::sample::Index>(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..6),
    ) {
        let samples = formats();
        let mut text = samples[which.index(samples.len())].1.clone();
        for (place, put) in hits {
            let at = place.index(text.len());
            let end = (at + 1).min(text.len());
            text.splice(at..end, put.bytes());
        }
        render(&text, &ReadOptions::default());
        render(&text, &ReadOptions { strict: true, ..ReadOptions::default() });
    }
}

fn damage() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9eE.,;:{}\\[\\]\"\\\\ \n-]{0,6}",
        Just("NaN".to_owned()),
        Just("1e308".to_owned()),
        Just("-9223372036854775808".to_owned()),
        Just("9".repeat(60)),
        Just("\0\u{b0}".to_owned()),
    ]
}
