//! Nobody outside can claim that the rules approved.
use holdfast_slashing_db::Approval;
use holdfast_slashing_db::rules::Approved;

fn forge() -> Approved {
    Approved { approval: Approval::NewData }
}

fn main() {}
