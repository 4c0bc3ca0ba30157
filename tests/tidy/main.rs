//! Repository rules as ordinary tests, so that they run wherever tests run: which crate may know
//! which, where unsafe code may live, that every module says why it exists, that nothing of
//! one developer's machine is committed, and that secrets have one type.

mod arrows;
mod files;
mod secrets;
