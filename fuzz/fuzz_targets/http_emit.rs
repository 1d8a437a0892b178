#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| semfio_corpus::http_emit(data));
