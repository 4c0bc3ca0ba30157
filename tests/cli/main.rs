//! The command line and the server as a user meets them: wrong input of every kind gets a message
//! that says what is wrong and what to do, an exit code of the contract, and loses nothing.

#[allow(dead_code, reason = "the end-to-end test uses all of it")]
#[path = "../e2e/balancer.rs"]
mod balancer;
mod clients;
mod config;
mod deploy;
mod disk;
mod docs;
mod drain;
mod enclave;
mod failover;
mod journeys;
mod keys;
mod notify;
mod policy;
mod printed;
mod quickstart;
mod reload;
mod requests;
mod serve;
mod status;
mod upgrade;
