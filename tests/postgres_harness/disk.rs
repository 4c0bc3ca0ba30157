//! A disk that is full.

use holdfast_tests::postgres::{Cluster, Disk, Stop};

use super::{numbers, table};

#[test]
fn a_full_disk_fails_writes_and_loses_nothing_committed() {
    let cluster = Cluster::builder().disk(Disk::Small(96)).start();
    table(&cluster);
    cluster.psql("CREATE TABLE bulk (text text); INSERT INTO kept VALUES (2)");
    cluster.fill_disk();
    // Far more than the free part of files that exist already.
    let bulk = "INSERT INTO bulk SELECT repeat(md5(n::text), 100) FROM generate_series(1, 20000) AS n";
    let error = cluster.try_psql(bulk).expect_err("the disk is full");
    let reported = error.contains("No space left on device") || cluster.log().contains("No space left on device");
    assert!(reported, "{error}\n{}", cluster.log());
    cluster.free_disk();
    if cluster.is_running() {
        cluster.stop(Stop::Immediate);
    }
    cluster.start_again();
    assert_eq!(numbers(&cluster), [1, 2]);
    cluster.psql(&bulk.replace("20000", "1000"));
}
