//! `libFuzzer`'s program around the target that `INFERA_FUZZ_TARGET` names.
#![no_main]

use std::panic;
use std::sync::OnceLock;

use infera_fuzz::Target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn prepare() -> &'static Target {
    tolerate_the_evaluator();
    let name = std::env::var("INFERA_FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| {
        let names: Vec<_> = infera_fuzz::TARGETS.iter().map(|t| t.name).collect();
        panic!("set INFERA_FUZZ_TARGET to one of {}", names.join(", "))
    })
}

/// Any panic ends the process here, and with it the search. One of the evaluator of templates is
/// caught by those who call it: it does so only when it is not.
fn tolerate_the_evaluator() {
    let end = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let of_evaluator = |place: &panic::Location<'_>| place.file().contains("/minijinja");
        if !panic.location().is_some_and(of_evaluator) {
            end(panic);
        }
    }));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.get_or_init(prepare).run)(data));
