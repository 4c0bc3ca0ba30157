//! The same vectors with PostgreSQL as the store: every case in a database of its own on one real server.

use holdfast_tests::world::World;

use crate::support::empty_database;
use crate::vectors::play_all;

#[test]
fn every_file_is_judged_the_same_on_postgresql() {
    play_all(&|keys| World::with_database(&empty_database(), keys));
}
