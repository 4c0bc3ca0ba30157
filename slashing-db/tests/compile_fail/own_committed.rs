//! Nobody outside can claim a commit.
use holdfast_slashing_db::store::Committed;

fn forge() -> Committed {
    Committed { seq: 1 }
}

fn main() {}
