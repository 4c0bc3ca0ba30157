//! There is no guard without a database that is open and bound to a chain.
use holdfast_slashing_db::Guard;

fn forge() -> Guard {
    Guard::default()
}

fn main() {}
