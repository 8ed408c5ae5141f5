//! Whether the linker kept what the kernels' compiler finds by it.
//!
//! pliron, which cubecl compiles kernels with, knows its types, operations and casts by lists that
//! the linker puts together: nothing refers to their entries by name. A linker that drops what
//! nobody refers to makes a program that panics at its first kernel.

use cubecl::ir::pliron::{attribute, context, op, r#type, utils::trait_cast};

/// How many entries there are in the lists of burn's and cubecl's versions, by WGSL. Features that
/// compile kernels otherwise add to them.
const EXPECTED: usize = 4_840;

/// An error, in a sentence's first half, where entries are missing.
pub(crate) fn check() -> Result<(), String> {
    complete(count())
}

fn count() -> usize {
    trait_cast::TRAIT_CASTERS.len()
        + trait_cast::BOXED_TRAIT_CASTERS.len()
        + context::CONTEXT_REGISTRATIONS.len()
        + context::DICT_KEY_IDS.len()
        + attribute::ATTR_INTERFACE_VERIFIERS.len()
        + op::OP_INTERFACE_VERIFIERS.len()
        + r#type::TYPE_INTERFACE_VERIFIERS.len()
}

fn complete(count: usize) -> Result<(), String> {
    if count < EXPECTED {
        return Err(format!(
            "this program was linked with {count} of the {EXPECTED} parts of its kernels' compiler"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linker_keeps_every_part_of_the_kernels_compiler() {
        let more = cfg!(any(feature = "vulkan", feature = "metal"));
        assert!(
            count() == EXPECTED || more && count() > EXPECTED,
            "{}",
            count()
        );
        check().unwrap();
    }

    #[test]
    fn a_program_without_some_of_them_says_so() {
        let fault = complete(EXPECTED / 8).unwrap_err();
        assert!(fault.contains("of its kernels' compiler"), "{fault}");
    }
}
