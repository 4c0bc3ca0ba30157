//! Envelopes of KMS: real ones are read, our own have their shape and open, and no change of them goes unnoticed by the
//! reader or makes it panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it wants should panic"
)]

mod support;

use holdfast_nitro::cms::seal::{Form, seal};
use holdfast_nitro::cms::{CiphertextForRecipient, CmsError, MAX_ENVELOPE, OpenError, RecipientKey};
use proptest::prelude::*;

#[test]
fn real_envelopes_are_read() {
    // The other tests cover both shapes with envelopes of our own making; these show that the shapes are the real ones.
    let Some(read) = support::vectors() else { return };
    let pieces = read("cms_input_ber.bin");
    let parsed = CiphertextForRecipient::parse(&pieces).unwrap();
    assert_eq!(parsed.content(), read("cms_ciphertext_out.bin"));
    let primitive = read("cms_input_ber_w_ctx.bin");
    let parsed = CiphertextForRecipient::parse(&primitive).unwrap();
    assert_eq!(parsed.content(), read("cms_ciphertext_out_w_ctx.bin"));
    assert_eq!(parsed.iv().as_slice(), read("cms_iv_out_w_ctx.bin"));
    let (key, _) = keys();
    assert_eq!(key.open(&pieces), Err(OpenError::DoesNotOpen), "they are for keys that nobody has");

    // Ours have their length, and differ from them only in keys and ciphertexts.
    let ours = seal(key.public_key_der(), &[7; 32], Form::Pieces(4096)).unwrap();
    assert_eq!(ours.len(), pieces.len());
    let same = ours
        .iter()
        .zip(&pieces)
        .enumerate()
        .filter(|(_, (ours, real))| ours != real)
        .all(|(place, _)| [33..65, 131..387, 415..431, 435..483].iter().any(|content| content.contains(&place)));
    assert!(same, "another structure than that of a real envelope");
    let ours = seal(key.public_key_der(), &[7; 8], Form::Primitive).unwrap();
    assert_eq!(ours.len(), primitive.len());
}

fn keys() -> &'static (RecipientKey, RecipientKey) {
    static KEYS: std::sync::OnceLock<(RecipientKey, RecipientKey)> = std::sync::OnceLock::new();
    KEYS.get_or_init(|| (RecipientKey::generate().unwrap(), RecipientKey::generate().unwrap()))
}

#[test]
fn an_envelope_opens_for_its_recipient_only() {
    let (key, other) = keys();
    assert_eq!(key.public_key_der().len(), 294);
    for form in [Form::Primitive, Form::Pieces(4096), Form::Pieces(16), Form::Pieces(5)] {
        for length in [0, 1, 15, 16, 32, 500] {
            let plaintext: Vec<u8> = (0..=255).cycle().take(length).collect();
            let envelope = seal(key.public_key_der(), &plaintext, form).unwrap();
            assert_eq!(key.open(&envelope).unwrap().as_slice(), plaintext, "{form:?} {length}");
            assert_eq!(other.open(&envelope), Err(OpenError::DoesNotOpen));
        }
    }
    assert_eq!(format!("{key:?}"), "RecipientKey(private)");
    assert!(seal(b"no key", &[1], Form::Primitive).is_err());
}

#[test]
fn envelopes_of_other_shapes_are_refused() {
    let (key, _) = keys();
    let envelope = seal(key.public_key_der(), &[7; 32], Form::Pieces(4096)).unwrap();
    let with = |place: usize, byte: u8| {
        let mut changed = envelope.clone();
        assert_ne!(changed[place], byte);
        changed[place] = byte;
        CiphertextForRecipient::parse(&changed).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(0, 0x31), CmsError::OtherShape);
    assert_eq!(with(1, 0x84), CmsError::BadLength);
    assert_eq!(with(12, 0x01), CmsError::OtherAlgorithm, "signed data");
    assert_eq!(with(19, 0), CmsError::OtherShape, "version 0, as one emulator writes");
    assert_eq!(with(77, 1), CmsError::OtherAlgorithm, "RSA PKCS#1 1.5");
    assert_eq!(with(94, 3), CmsError::OtherAlgorithm, "SHA-512");
    assert_eq!(with(412, 2), CmsError::OtherAlgorithm, "AES-128");
    assert_eq!(CiphertextForRecipient::parse(&vec![0x30; MAX_ENVELOPE + 1]), Err(CmsError::TooLong));
    let more = [envelope.as_slice(), &[0]].concat();
    assert_eq!(CiphertextForRecipient::parse(&more), Err(CmsError::TrailingBytes));
}

#[test]
fn no_change_of_a_bit_is_taken_for_the_same_key() {
    let (key, _) = keys();
    let envelope = seal(key.public_key_der(), &[7; 32], Form::Pieces(4096)).unwrap();
    // RSA takes a millisecond, so one bit of each byte. CBC authenticates nothing: a changed ciphertext may well open, to
    // other bytes, which is why the AEAD that a key opens decides.
    for place in 0..envelope.len() {
        let mut changed = envelope.clone();
        changed[place] ^= 1 << (place % 8);
        match key.open(&changed) {
            // The key's name is not used to find it: there is one.
            Ok(plaintext) if (33..65).contains(&place) => assert_eq!(plaintext.as_slice(), [7; 32]),
            Ok(plaintext) => {
                assert_ne!(plaintext.as_slice(), [7; 32], "byte {place}");
                assert!((415..483).contains(&place), "only vector and content are malleable, not byte {place}");
            }
            Err(_) => {}
        }
        assert!(key.open(&envelope[..place]).is_err());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(CiphertextForRecipient::parse(&bytes).is_err());
    }

    #[test]
    fn no_changes_make_the_reader_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut envelope = seal(keys().0.public_key_der(), &[7; 32], Form::Pieces(16)).unwrap();
        for (place, byte) in changes {
            let place = place.index(envelope.len());
            envelope[place] = byte;
        }
        if let Ok(parsed) = CiphertextForRecipient::parse(&envelope) {
            prop_assert!(parsed.content().len() < envelope.len());
        }
    }
}
