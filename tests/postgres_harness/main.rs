//! Proves the PostgreSQL clusters and the TCP proxy that fault tests stand on: every control is
//! shown to do what it says, with `psql` as the client. A fault that does not happen would make the
//! tests built on it worthless.

mod cluster;
mod disk;
mod network;
mod replication;

use holdfast_tests::postgres::{Cluster, Rows};

/// A table of one column, with one row in it.
fn table(cluster: &Cluster) {
    cluster
        .psql("CREATE TABLE kept (number int PRIMARY KEY); GRANT ALL ON kept TO holdfast; INSERT INTO kept VALUES (1)");
}

fn numbers(cluster: &Cluster) -> Vec<i32> {
    parsed(&cluster.psql("SELECT number FROM kept ORDER BY number"))
}

fn parsed(rows: &Rows) -> Vec<i32> {
    rows.iter().map(|row| row[0].parse().expect("a number")).collect()
}
