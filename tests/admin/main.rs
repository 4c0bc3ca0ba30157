//! The admin API on the real binary: every verb while signing goes on, who is let in, what hostile peers get, and that the
//! command line does the same with a server and without.

mod approvals;
mod client;
mod hostile;
mod keymanager;
mod labels;
mod policy;
mod same;
mod verbs;
