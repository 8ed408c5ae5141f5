//! `libFuzzer`'s program around the target that `INFERA_FUZZ_TARGET` names.
#![no_main]

use std::sync::OnceLock;

use infera_fuzz::Target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = std::env::var("INFERA_FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| {
        let names: Vec<_> = infera_fuzz::TARGETS.iter().map(|t| t.name).collect();
        panic!("set INFERA_FUZZ_TARGET to one of {}", names.join(", "))
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.get_or_init(chosen).run)(data));
