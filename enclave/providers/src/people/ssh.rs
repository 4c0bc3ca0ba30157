//! OpenSSH's files of Ed25519 keys (RFC 4251 and 8709; PROTOCOL.key of OpenSSH).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::age::Secret;

const KIND: &[u8] = b"ssh-ed25519";

/// The key in a line `ssh-ed25519 BASE64 comment`, as it goes over the wire.
pub(super) fn public_key(line: &str) -> Option<Vec<u8>> {
    let mut words = line.split_whitespace();
    if words.next()?.as_bytes() != KIND {
        return None;
    }
    let wire = BASE64.decode(words.next()?).ok()?;
    point(&wire).is_some().then_some(wire)
}

/// The 32 bytes of a public key.
pub(super) fn point(wire: &[u8]) -> Option<[u8; 32]> {
    let mut read = Read(wire);
    (read.string()? == KIND).then_some(())?;
    let point = read.string()?.try_into().ok()?;
    read.0.is_empty().then_some(point)
}

/// The private key in a file without a passphrase.
pub(super) fn private_key(text: &str) -> Result<Secret, &'static str> {
    const CANNOT: &str = "of OpenSSH's private keys, ssh-ed25519 ones without a passphrase can be read; decrypt with `age`, and give what it prints to `holdfast kek unseal`";
    let body =
        Zeroizing::new(text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect::<String>());
    let bytes = Zeroizing::new(BASE64.decode(body.as_bytes()).map_err(|_| CANNOT)?);
    parse(&bytes).ok_or(CANNOT)
}

fn parse(bytes: &[u8]) -> Option<Secret> {
    let mut read = Read(bytes.strip_prefix(b"openssh-key-v1\0")?);
    let (cipher, kdf, _options) = (read.string()?, read.string()?, read.string()?);
    let count = read.number()?;
    if cipher != b"none" || kdf != b"none" || count != 1 {
        return None;
    }
    let wire = read.string()?.to_vec();
    let mut private = Read(read.string()?);
    let (check, again) = (private.number()?, private.number()?);
    if check != again || private.string()? != KIND || private.string()? != point(&wire)? {
        return None;
    }
    let (seed, _public) = private.string()?.split_first_chunk::<32>()?;
    // RFC 8032, 5.1.5: the scalar is the first half of this hash.
    let hash = digest::digest(&digest::SHA512, seed);
    let scalar = hash.as_ref().first_chunk::<32>().copied()?;
    Some(Secret::Ssh { wire, scalar: Zeroizing::new(scalar) })
}

/// Fields behind a length of four bytes.
struct Read<'a>(&'a [u8]);

impl<'a> Read<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }
}
