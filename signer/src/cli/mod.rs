//! The commands. Each is one module; this one reads the configuration, runs the command and turns
//! what came out into an exit code.

pub(crate) mod args;
pub(crate) mod output;

pub(crate) use output::{Exit, Failure, Output};
