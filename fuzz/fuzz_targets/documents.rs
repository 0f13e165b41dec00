#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tiershift_testkit::fuzz::documents(bytes));
