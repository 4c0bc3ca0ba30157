//! Nobody outside can be a store.
use holdfast_slashing_db::store::Store;

struct Pretender;

impl Store for Pretender {}

fn main() {}
