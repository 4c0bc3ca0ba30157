//! Repository rules as ordinary tests, so that they run wherever tests run: which crate may know
//! which, where unsafe code may live, that every module says why it exists, and that nothing of
//! one developer's machine is committed.

mod arrows;
mod files;
