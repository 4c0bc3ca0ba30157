//! Where the reader is, for error messages, and what it found wrong there.
//!
//! The parser's own errors carry a line and a column but no path, and no typed reason. So the reader notes
//! its path as it descends and never unwinds it on failure: after an error it still says where.

use std::cell::RefCell;
use std::fmt::Write as _;

use serde::de::Error;

use super::error::Problem;

/// One step down from the top of the file.
#[derive(Debug, Clone, Copy)]
enum Step {
    Member(&'static str),
    Element(u64),
}

/// The way to the value being read, and the first problem.
#[derive(Debug, Default)]
pub(super) struct Trail {
    steps: RefCell<Vec<Step>>,
    problem: RefCell<Option<Problem>>,
}

impl Trail {
    /// Reads a member of an object.
    pub(super) fn member<T, E>(&self, name: &'static str, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.descend(Step::Member(name), read)
    }

    /// Reads an element of a list.
    pub(super) fn element<T, E>(&self, index: u64, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.descend(Step::Element(index), read)
    }

    fn descend<T, E>(&self, step: Step, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.steps.borrow_mut().push(step);
        let value = read()?;
        self.steps.borrow_mut().pop();
        Ok(value)
    }

    /// Notes what is wrong; the error returned only stops the parser.
    pub(super) fn fail<E: Error>(&self, problem: Problem) -> E {
        let error = E::custom(&problem);
        self.problem.replace(Some(problem));
        error
    }

    /// The noted problem, if the parser was stopped by one.
    pub(super) fn take_problem(&self) -> Option<Problem> {
        self.problem.take()
    }

    /// The path as text.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for step in self.steps.borrow().iter() {
            // Writing to a `String` cannot fail.
            let _ = match step {
                Step::Member(name) if path.is_empty() => write!(path, "{name}"),
                Step::Member(name) => write!(path, ".{name}"),
                Step::Element(index) => write!(path, "[{index}]"),
            };
        }
        path
    }
}
