//! The suite of every backend, run over all of them by one program: in this process, over a vault process, and over a vault in
//! a machine that was really booted and that the product's own backend reaches through a vsock.
//!
//! Everywhere: what every backend must do (`enclave/tests/support/suite.rs`), all slashing vectors through a real database,
//! all signing vectors, and a vault that is lost. In a machine a key begins behind a fence at the present, so the blocks and
//! votes of the signing vectors, which lie in the past, must be refused there, after their roots were found to agree.

mod places;
mod signing;
mod slashing;

#[path = "../../../enclave/tests/support/suite.rs"]
mod suite;
#[path = "../../../enclave/tests/support/mod.rs"]
mod support;

pub(crate) use places::{backend_at, vault};

use holdfast_enclave_sys::verify;

use places::{Beside, Boots, Enclosed, Here};
use signing::Past;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

pub(crate) fn in_this_process() {
    block_on(async {
        suite::backend(&Here::new()).await;
        slashing::vectors(&Here::new()).await;
        signing::vectors(Past::Signed, |_, _| Box::new(Here::new())).await;
    });
}

pub(crate) fn in_a_process() {
    block_on(async {
        let place = Beside::new(&places::network());
        suite::backend(&place).await;
        slashing::vectors(&place).await;
        suite::loss(&place).await;
        signing::vectors(Past::Signed, |chain, keys| Box::new(Beside::from_genesis(chain, keys))).await;
    });
}

/// In a machine: the suite, all slashing vectors, a broken connection, and a machine that is killed.
fn in_a_machine_of(boots: Boots) {
    block_on(async {
        let place = Enclosed::start(&places::network(), boots);
        suite::backend(&place).await;
        slashing::vectors(&place).await;
        cut(&place).await;
        suite::loss(&place).await;
    });
}

pub(crate) fn in_a_machine() {
    in_a_machine_of(Boots::Stock);
}

pub(crate) fn in_an_enclave() {
    in_a_machine_of(Boots::Nitro);
}

/// One boot for each chain of the vectors, as a vault serves one.
pub(crate) fn signing_vectors_in_an_enclave() {
    block_on(signing::vectors(Past::Refused, |chain, _| Box::new(Enclosed::start(chain, Boots::Nitro))));
}

/// The connection breaks, the vault does not: keys and marks are what they were, and no fence comes.
async fn cut(place: &Enclosed) {
    use suite::{Mortal as _, Place as _};
    let bench = support::Bench::new();
    let secret = holdfast_enclave::generate::secret_key().unwrap();
    let keys = suite::open(place, &bench, std::slice::from_ref(&secret)).await;
    let key = &keys[0];
    let number = place.next();
    let sign = async |message: &holdfast_domain::Message| {
        let permit = bench.permit(key.key(), message).await;
        let root = permit.root();
        key.sign(permit).await.map(|signed| {
            assert!(verify(key.key().as_bytes(), root.as_bytes(), signed.signature.as_bytes()));
        })
    };
    sign(&support::block(number)).await.unwrap();
    let generation = *place.vault().generations().borrow();
    place.cut();
    place.vault().generations().wait_for(|now| *now > generation).await.unwrap();
    sign(&support::block(number)).await.expect("the same again, with the key that stayed");
    let next = place.next();
    sign(&support::block(next)).await.unwrap();
    // What the vault signed it remembers: another message for the same slot, which only a signer that lost its database
    // would ask for.
    let other = support::Bench::new();
    let again = suite::open(place, &other, std::slice::from_ref(&secret)).await;
    let permit = other.permit(key.key(), &support::block_of(next, 9)).await;
    let error = again[0].sign(permit).await.unwrap_err();
    assert_eq!(error.reason(), "double_block", "{error}");
}
