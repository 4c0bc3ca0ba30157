//! A key without a row has no registration.
use holdfast_slashing_db::Registration;

fn forge() -> Registration {
    Registration::new(todo!())
}

fn main() {}
