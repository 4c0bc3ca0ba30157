//! Asking is not being allowed.
use holdfast_domain::SigningIntent;
use holdfast_slashing_db::SigningPermit;

fn sign(_: SigningPermit) {}

fn shortcut(intent: SigningIntent) {
    sign(intent);
}

fn main() {}
