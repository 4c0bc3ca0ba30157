//! A registration stands for one row and one active key.
use holdfast_slashing_db::Registration;

fn twice(registration: &Registration) -> Registration {
    registration.clone()
}

fn take(registration: Registration) -> (Registration, Registration) {
    (registration, registration)
}

fn main() {}
