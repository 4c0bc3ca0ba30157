//! A guard cannot be written down either.
use holdfast_slashing_db::Guard;

fn forge() -> Guard {
    Guard { core: todo!() }
}

fn main() {}
