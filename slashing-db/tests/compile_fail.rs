//! Every way round the permit that was thought of fails to compile. See `tests/compile_fail/`.
#![allow(missing_docs, reason = "a test program")]

#[test]
fn there_is_no_way_round_the_permit() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
