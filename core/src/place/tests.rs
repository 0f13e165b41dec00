use super::*;
use crate::machine::MachineClass;
use crate::settings::RawSettings;

fn gib(count: u64) -> Bytes {
    Bytes::from_gib(count)
}

fn space(total: u64, others: u64, own: u64) -> Option<Space> {
    let [total, others, own] = [total, others, own].map(gib);
    Some(Space { total, others, own })
}

/// A machine of 16 GiB with GPUs of 24 GiB, with this much used by others.
fn sample(others: u64, own: u64, gpus: &[u64]) -> Sample {
    let gpu = |&others: &u64| GpuSample { vram: space(24, others, 0), ..GpuSample::default() };
    let gpus = gpus.iter().map(gpu).collect();
    Sample { memory: space(16, others, own), gpus, ..Sample::default() }
}

fn settings(file: &str) -> Settings {
    let raw: RawSettings = toml::from_str(file).unwrap();
    Settings::new(raw, MachineClass::MidRange).unwrap()
}

fn try_in(need: (u64, u64), beside: Beside<'_>, sample: &Sample, file: &str) -> Fit {
    let need = Footprint { ram: gib(need.0), vram: gib(need.1) };
    place(need, beside, sample, &settings(file), |total| total)
}

#[test]
fn memory_of_a_model_that_has_gone_is_in_the_way_until_it_shows_no_more() {
    let nothing = Resident::default();
    let beside = Beside::Resident(&nothing);
    assert!(try_in((9, 0), beside, &sample(2, 0, &[]), "").is_there());
    assert!(!try_in((9, 0), beside, &sample(2, 9, &[]), "").is_there());
    assert!(try_in((9, 0), Beside::Nothing, &sample(2, 9, &[]), "").is_there());
}

#[test]
fn what_is_loaded_counts_as_much_as_it_may_grow_to() {
    let mut resident = Resident::default();
    resident.add(Footprint { ram: gib(8), vram: Bytes::ZERO }, None);
    let beside = Beside::Resident(&resident);
    assert!(try_in((5, 0), beside, &sample(3, 2, &[]), "").is_there());
    assert!(!try_in((5, 0), beside, &sample(4, 2, &[]), "").is_there());
}

#[test]
fn what_was_loaded_since_the_reading_is_not_what_is_read_as_ours() {
    let mut resident = Resident::default();
    resident.add_unread(Footprint { ram: gib(4), vram: gib(6) }, Some(0));
    let beside = Beside::Resident(&resident);
    let mut machine = sample(3, 4, &[5]);
    machine.gpus[0].vram = space(24, 5, 6);
    assert!(try_in((5, 0), beside, &machine, "").is_there());
    assert!(!try_in((6, 0), beside, &machine, "").is_there());
    assert!(try_in((1, 7), beside, &machine, "").is_there());
    assert!(!try_in((1, 8), beside, &machine, "").is_there());
    machine.gpus[0].shared = true;
    assert!(!try_in((5, 0), beside, &machine, "").is_there());
}

#[test]
fn a_model_goes_to_the_gpu_with_the_most_room_and_the_first_among_equals() {
    let on = |gpus: &[u64]| match try_in((1, 10), Beside::Nothing, &sample(1, 0, gpus), "") {
        Fit::Fits(place) => Ok(place.gpu),
        Fit::Short(short) => Err(Some((short.gpu, short.projected))),
        Fit::Unknown(_) => Err(None),
    };
    assert_eq!(on(&[12, 3]), Ok(Some(1)));
    assert_eq!(on(&[3, 3]), Ok(Some(0)));
    // Of two that are short, the one that lacks less is reported.
    assert_eq!(on(&[22, 20]), Err(Some((Some(1), gib(30)))));
    assert_eq!(on(&[]), Err(None));
}

#[test]
fn what_is_not_read_is_neither_full_nor_unlimited() {
    let unread = Sample { memory: None, ..sample(1, 0, &[3]) };
    let on_a_gpu = try_in((1, 10), Beside::Nothing, &unread, "");
    assert_eq!(on_a_gpu, Fit::Unknown(ResourceKey::MEMORY));
    assert!(try_in((0, 10), Beside::Nothing, &unread, "").is_there());
    // If main memory is not constrained, it need not be read.
    assert!(try_in((1, 10), Beside::Nothing, &unread, "constrain = ['vram']").is_there());
    let mut blind = sample(1, 0, &[3]);
    blind.gpus[0].vram = None;
    let unread = ResourceKey { resource: Resource::Vram, gpu: None };
    assert_eq!(try_in((1, 10), Beside::Nothing, &blind, ""), Fit::Unknown(unread));
}

#[test]
fn a_gpu_that_shares_main_memory_takes_its_part_of_it() {
    let mut machine = sample(4, 0, &[0]);
    assert!(try_in((1, 12), Beside::Nothing, &machine, "").is_there());
    machine.gpus[0].shared = true;
    assert!(!try_in((1, 12), Beside::Nothing, &machine, "").is_there());
    assert!(try_in((1, 11), Beside::Nothing, &machine, "").is_there());
    // What is loaded there is in main memory too.
    let mut resident = Resident::default();
    resident.add(Footprint { ram: gib(1), vram: gib(5) }, Some(0));
    let beside = Beside::Resident(&resident);
    assert!(try_in((1, 5), beside, &machine, "").is_there());
    assert!(!try_in((1, 6), beside, &machine, "").is_there());
}

#[test]
fn of_our_spaces_the_first_that_is_over_is_told() {
    let settings = settings("");
    let over =
        |sample: &Sample| overruns(sample, &settings, |total| settings.degrade_limit(total)).next();
    assert_eq!(over(&sample(15, 0, &[])), None);
    let memory = over(&sample(14, 1, &[])).unwrap();
    assert_eq!((memory.resource, memory.projected), (Resource::Memory, gib(15)));
    let mut machine = sample(1, 1, &[23, 20]);
    machine.gpus[1].vram = space(24, 20, 2);
    assert_eq!(over(&machine).unwrap().gpu, Some(1));
}

/// Fits models that take (main memory, video memory) side by side while others use this much of 20 GiB each.
#[track_caller]
fn check_together(memory: Option<u64>, gpus: &[u64], needs: &[(u64, u64)], want: bool) {
    let settings = settings("");
    let gpu = |&others: &u64| GpuSample { vram: space(20, others, 20), ..GpuSample::default() };
    let gpus = gpus.iter().map(gpu).collect();
    let memory = memory.and_then(|others| space(20, others, 20));
    let sample = Sample { memory, gpus, ..Sample::default() };
    let need = |&(ram, vram)| Footprint { ram: gib(ram), vram: gib(vram) };
    let needs: Vec<Footprint> = needs.iter().map(need).collect();
    let got = fit_together(&needs, &sample, &settings, |total| settings.degrade_limit(total));
    assert_eq!(got, want, "{memory:?} {needs:?}");
}

#[test]
fn models_fit_together_up_to_the_limit_whatever_we_use_ourselves() {
    check_together(Some(8), &[], &[(10, 0)], true);
    check_together(Some(8), &[], &[(11, 0)], false);
    check_together(Some(8), &[], &[(4, 0), (7, 0)], false);
    check_together(Some(19), &[], &[], true);
}

#[test]
fn models_in_video_memory_find_their_gpus_and_what_was_not_read_has_no_room() {
    check_together(Some(0), &[17, 3], &[(1, 15)], true);
    check_together(Some(0), &[17, 3], &[(1, 16)], false);
    // The first must make way for the second, which fits on one GPU only.
    check_together(Some(0), &[8, 3], &[(1, 10), (1, 15)], true);
    check_together(Some(0), &[8, 3], &[(1, 10), (1, 15), (0, 1)], false);
    check_together(None, &[3], &[(1, 1)], false);
    check_together(None, &[3], &[(0, 1)], true);
    check_together(Some(0), &[], &[(0, 1)], false);
}

/// Splits a sample of 16 GiB between the owner of what may grow to `mine` GiB and a rest that may grow to `rest`.
#[track_caller]
fn check_share((others, own): (u64, u64), (mine, rest, begun): (u64, u64, u64), want: (u64, u64)) {
    let resident = |read, unread| {
        let mut resident = Resident::default();
        resident.add(Footprint { ram: gib(read), vram: Bytes::ZERO }, None);
        resident.add_unread(Footprint { ram: gib(unread), vram: Bytes::ZERO }, None);
        resident
    };
    let settings = settings("degrade-line = '100%'\nfree-floor = '0B'");
    let limit = |total| settings.degrade_limit(total);
    let (mine, rest) = (resident(mine, 0), resident(rest, begun));
    let share = share_of(&sample(others, own, &[]), &mine, &rest, limit);
    let space = share.memory.unwrap();
    assert_eq!((space.others.get() >> 30, space.own.get() >> 30), want);
}

#[test]
fn what_the_rest_of_ours_may_grow_to_is_others_use_and_no_shortage() {
    // All have grown.
    check_share((3, 6), (5, 1, 0), (4, 5));
    // What has begun since is not in the sample.
    check_share((3, 6), (5, 1, 2), (6, 5));
    // The rest has yet to grow: mine still counts, even if it is a single byte.
    check_share((3, 2), (5, 3, 0), (6, 0));
    // What the rest has yet to take fills the space no further than its limit.
    check_share((10, 4), (3, 8, 0), (15, 0));
    // An overrun is not made larger.
    check_share((14, 4), (3, 2, 0), (16, 2));
    // With nothing of mine loaded, what lingers is in my way.
    check_share((3, 6), (0, 2, 0), (5, 4));
}
