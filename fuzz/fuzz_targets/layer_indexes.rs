#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imgsync_oci::fuzz::layer_indexes(data));
