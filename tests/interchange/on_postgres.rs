//! The same vectors with PostgreSQL as the store: every case in a database of its own on one real server.

use std::sync::atomic::{AtomicU32, Ordering};

use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::World;

use crate::vectors::play_all;

#[test]
fn every_file_is_judged_the_same_on_postgresql() {
    let cluster = Cluster::start();
    let number = AtomicU32::new(0);
    play_all(&|keys| {
        let name = format!("vectors_{}", number.fetch_add(1, Ordering::Relaxed));
        cluster.create_database(&name);
        World::with_database(&cluster.url_for(cluster.addr(), &name), keys)
    });
}
