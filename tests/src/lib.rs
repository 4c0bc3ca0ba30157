//! What every test on the real binary needs: starting and stopping it, talking HTTP to it, and
//! finding test vectors. Nothing here ships, and nothing here reimplements the product.
pub mod auditor;
pub mod beacon_nodes;
pub mod client_log;
pub mod devnet;
pub mod documented;
pub mod elsewhere;
pub mod execution_node;
pub mod failover;
pub mod finished;
pub mod harness;
pub mod http;
pub mod journal;
pub mod keys;
pub mod postgres;
pub mod prometheus;
pub mod proxy;
pub mod shim;
pub mod vectors;
pub mod verify;
pub mod workload;
pub mod world;
