//! A registration cannot be written down.
use holdfast_slashing_db::Registration;

fn forge() -> Registration {
    Registration(todo!())
}

fn main() {}
