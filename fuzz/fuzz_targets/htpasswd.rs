#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imgsync_server::fuzz::htpasswd(data));
