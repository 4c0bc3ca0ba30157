#!/usr/bin/env python3
"""Computes keystores.json, derivations.json and wallets.json beside this file, independently of the crate.

Uses Python's standard library for hashes and key derivation, the openssl command for AES, and plain
integers for the curve and EIP-2333. Deterministic: run it again and nothing changes. All keys are for tests.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import subprocess
import unicodedata
import uuid

P = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
R = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
G1 = (
    0x17F1D3A73197D7942695638C4FA9AC0FC3688C4F9774B905A14E3A3F171BAC586C55E83FF97A1AEFFB3AF00ADB22C6BB,
    0x08B3F481E3AAA0F1A09E30ED741D8AE4FCF5E095D5D00AF600DB18CB2C04B3EDD03CC744A2888AE40CAA232946C5E7E1,
)


# --- public keys -------------------------------------------------------------------------------


def add(a, b):
    """Affine addition on y^2 = x^3 + 4; None is the point at infinity."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def public_key(secret):
    """secret * G1, compressed: x with flags for compression and the larger y."""
    point, power = None, G1
    while secret:
        if secret & 1:
            point = add(point, power)
        power = add(power, power)
        secret >>= 1
    x, y = point
    return (x | 1 << 383 | (y > P - y) << 381).to_bytes(48, "big")


# --- EIP-2333, EIP-2334, BIP-39 -----------------------------------------------------------------


def expand(key, info, length):
    """HKDF-Expand, RFC 5869."""
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        out, counter = out + block, counter + 1
    return out[:length]


def hkdf_mod_r(material):
    salt, secret = b"BLS-SIG-KEYGEN-SALT-", 0
    while secret == 0:
        salt = hashlib.sha256(salt).digest()
        key = hmac.digest(salt, material + b"\0", "sha256")
        secret = int.from_bytes(expand(key, (48).to_bytes(2, "big"), 48), "big") % R
    return secret


def child(parent, index):
    material = parent.to_bytes(32, "big")
    lamport = b""
    for side in (material, bytes(255 - byte for byte in material)):
        chunks = expand(hmac.digest(index.to_bytes(4, "big"), side, "sha256"), b"", 255 * 32)
        lamport += b"".join(hashlib.sha256(chunks[i : i + 32]).digest() for i in range(0, 255 * 32, 32))
    return hkdf_mod_r(hashlib.sha256(lamport).digest())


def derive(seed, path):
    secret = hkdf_mod_r(seed)
    for index in path.split("/")[1:]:
        secret = child(secret, int(index))
    return secret


def mnemonic_seed(words, passphrase):
    nfkd = lambda text: unicodedata.normalize("NFKD", text).encode()
    return hashlib.pbkdf2_hmac("sha512", nfkd(words), b"mnemonic" + nfkd(passphrase), 2048)


def derivations():
    mnemonics = [
        ("legal winner thank year wave sausage worth useful legal winner thank yellow", ""),
        ("zoo " * 23 + "vote", "Größe №7"),
    ]
    seeds = [(hashlib.sha512(b"seed").digest(), {})]
    for words, passphrase in mnemonics:
        seeds.append((mnemonic_seed(words, passphrase), {"mnemonic": words, "passphrase": passphrase}))
    paths = ["m", "m/0", "m/4294967295", "m/12381/3600/0/0", "m/12381/3600/0/0/0", "m/12381/3600/4242/0/0"]
    for seed, origin in seeds:
        for path in paths:
            secret = derive(seed, path)
            yield {
                **origin,
                "seed": seed.hex(),
                "path": path,
                "secret": secret.to_bytes(32, "big").hex(),
                "public_key": public_key(secret).hex(),
            }


# --- EIP-2335 ---------------------------------------------------------------------------------


def normalise(password):
    text = unicodedata.normalize("NFKD", password)
    return "".join(c for c in text if not (ord(c) < 32 or 127 <= ord(c) < 160)).encode()


def aes_128_ctr(key, iv, data):
    command = ["openssl", "enc", "-aes-128-ctr", "-K", key.hex(), "-iv", iv.hex(), "-nosalt"]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def label(name, what, length):
    return hashlib.shake_128(f"{name} {what}".encode()).digest(length)


SCRYPT = {"n": 1024, "r": 8, "p": 1}
PBKDF2 = {"c": 1000, "prf": "hmac-sha256"}


def keystore(name, password="test password", cost=PBKDF2, secret=None, iv=None, dklen=32):
    """A valid keystore of a key of its own, and what it takes to open it."""
    if secret is None:
        secret = (int.from_bytes(label(name, "secret", 40), "big") % R).to_bytes(32, "big")
    salt, iv = label(name, "salt", 32), iv or label(name, "iv", 16)
    if "n" in cost:
        function, n, r, p = "scrypt", cost["n"], cost["r"], cost["p"]
        key = hashlib.scrypt(normalise(password), salt=salt, n=n, r=r, p=p, dklen=dklen, maxmem=1 << 28)
    else:
        function = "pbkdf2"
        key = hashlib.pbkdf2_hmac("sha256", normalise(password), salt, cost["c"], dklen)
    message = aes_128_ctr(key[:16], iv, secret)
    number = int.from_bytes(secret, "big") if len(secret) <= 64 else 0
    file = {
        "crypto": {
            "kdf": {"function": function, "params": {"dklen": dklen, **cost, "salt": salt.hex()}, "message": ""},
            "checksum": {
                "function": "sha256",
                "params": {},
                "message": hashlib.sha256(key[16:32] + message).hexdigest(),
            },
            "cipher": {"function": "aes-128-ctr", "params": {"iv": iv.hex()}, "message": message.hex()},
        },
        "description": name,
        "pubkey": public_key(number).hex() if 0 < number < R else "00" * 48,
        "path": "m/12381/3600/0/0/0",
        "uuid": str(uuid.UUID(bytes=label(name, "uuid", 16), version=4)),
        "version": 4,
    }
    return {"name": name, "password": password, "expect": "decrypts", "secret": secret.hex(), "keystore": file}


def change(case, expect, *path_and_value):
    """The case with one member replaced (or removed, for ...), and what should come of it."""
    *path, last, value = path_and_value
    target = case["keystore"]
    for member in path:
        target = target[member]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    case["expect"] = expect
    return case


def upper(case):
    crypto, file = case["keystore"]["crypto"], case["keystore"]
    for part, member in ((crypto["kdf"]["params"], "salt"), (crypto["cipher"]["params"], "iv"), (file, "pubkey")):
        part[member] = part[member].upper()
    for part in ("cipher", "checksum"):
        crypto[part]["message"] = crypto[part]["message"].upper()
    return case


def keystores():
    yield keystore("scrypt", cost=SCRYPT)
    yield keystore("pbkdf2")
    yield keystore("scrypt in several passes", cost={"n": 16384, "r": 1, "p": 5})
    yield keystore("one iteration", cost={"c": 1, "prf": "hmac-sha256"})
    yield keystore("dklen 64", dklen=64)
    yield keystore("scrypt with dklen 40", cost=SCRYPT, dklen=40)
    yield keystore("counter that wraps", iv=b"\xff" * 16)
    yield keystore("smallest key", secret=(1).to_bytes(32, "big"))
    yield keystore("largest key", secret=(R - 1).to_bytes(32, "big"))
    yield keystore("password that folds", password="\tＰａｓｓ\u00adwört ﬀ ①\u0085\n")
    yield upper(keystore("upper-case hex"))
    prefixed = keystore("prefixed public key")
    yield change(prefixed, "decrypts", "pubkey", "0x" + prefixed["keystore"]["pubkey"].upper())
    yield change(keystore("no public key"), "decrypts", "pubkey", ...)
    yield change(keystore("null public key"), "decrypts", "pubkey", None)
    yield change(keystore("unknown member"), "decrypts", "name", "a wallet's own member")

    wrong = keystore("wrong password")
    wrong["password"] = "test Password"
    yield {**wrong, "expect": "wrong password"}
    for path in (("checksum", "message"), ("cipher", "message"), ("kdf", "params", "salt")):
        case = keystore("damaged " + " ".join(path))
        value = case["keystore"]["crypto"]
        for member in path:
            value = value[member]
        flipped = f"{int(value[:2], 16) ^ 1:02x}" + value[2:]
        yield change(case, "wrong password", "crypto", *path, flipped)
    vector = ("crypto", "cipher", "params", "iv")
    yield change(keystore("damaged vector, key in range"), "public key mismatch", *vector, "44" * 16)
    yield change(keystore("damaged vector, key out of range"), "bad secret", *vector, "00" * 16)
    yield change(keystore("claims another key"), "public key mismatch", "pubkey", public_key(5).hex())
    yield {**keystore("zero", secret=bytes(32)), "expect": "bad secret"}
    yield {**keystore("group order", secret=R.to_bytes(32, "big")), "expect": "bad secret"}
    for length in (0, 31, 33):
        yield {**keystore(f"{length} bytes", secret=bytes([1]) * length), "expect": "bad secret"}

    yield change(keystore("version 3"), "unsupported version", "version", 3)
    yield change(keystore("unknown kdf"), "unsupported kdf", "crypto", "kdf", "function", "argon2id")
    yield change(keystore("unknown prf"), "unsupported prf", "crypto", "kdf", "params", "prf", "hmac-sha512")
    yield change(keystore("unknown checksum"), "unsupported checksum", "crypto", "checksum", "function", "md5")
    yield change(keystore("unknown cipher"), "unsupported cipher", "crypto", "cipher", "function", "aes-256-gcm")
    params = ("crypto", "kdf", "params")
    yield change(keystore("scrypt for terabytes", cost=SCRYPT), "too expensive", *params, "n", 1 << 40)
    yield change(keystore("scrypt for 2 GiB", cost=SCRYPT), "too expensive", *params, "n", 1 << 21)
    yield change(keystore("scrypt in many passes", cost=SCRYPT), "too expensive", *params, "p", 1 << 31)
    yield change(keystore("many iterations"), "too expensive", *params, "c", (1 << 32) - 1)

    yield change(keystore("version as text"), "malformed version", "version", "4")
    yield change(keystore("no version"), "malformed version", "version", ...)
    yield change(keystore("no uuid"), "malformed uuid", "uuid", ...)
    yield change(keystore("bad uuid"), "malformed uuid", "uuid", "1234")
    yield change(keystore("no path"), "malformed path", "path", ...)
    yield change(keystore("short public key"), "malformed pubkey", "pubkey", "abcd")
    yield change(keystore("no crypto"), "malformed crypto", "crypto", ...)
    yield change(keystore("kdf is text"), "malformed crypto.kdf", "crypto", "kdf", "scrypt")
    yield change(keystore("no salt"), "malformed crypto.kdf.params.salt", *params, "salt", ...)
    yield change(keystore("prefixed salt"), "malformed crypto.kdf.params.salt", *params, "salt", "0x00")
    yield change(keystore("dklen 31"), "malformed crypto.kdf.params.dklen", *params, "dklen", 31)
    yield change(keystore("no iterations"), "malformed crypto.kdf.params.c", *params, "c", 0)
    yield change(keystore("iterations beyond 32 bits"), "malformed crypto.kdf.params.c", *params, "c", 1 << 32)
    yield change(keystore("negative iterations"), "malformed crypto.kdf.params.c", *params, "c", -1)
    odd = keystore("n is odd", cost=SCRYPT)
    yield change(odd, "malformed crypto.kdf.params.n", *params, "n", 1023)
    short = keystore("short vector")
    yield change(short, "malformed crypto.cipher.params.iv", *vector, "00" * 15)
    half = keystore("half a digit")
    yield change(half, "malformed crypto.cipher.message", "crypto", "cipher", "message", "a")
    long = keystore("long checksum")
    yield change(long, "malformed crypto.checksum.message", "crypto", "checksum", "message", "00" * 33)


# --- Prysm's wallet -----------------------------------------------------------------------------


def wallet(name, count, indent, password="wallet password", cost=PBKDF2):
    """A wallet of this many keys, written as Go's JSON encoder writes it, with or without indentation."""
    secrets = [int.from_bytes(label(f"{name} {i}", "secret", 40), "big") % R for i in range(count)]
    text = lambda data: base64.b64encode(data).decode()
    inside = {
        "private_keys": [text(secret.to_bytes(32, "big")) for secret in secrets],
        "public_keys": [text(public_key(secret)) for secret in secrets],
    }
    separators = None if indent else (",", ":")
    inside = json.dumps(inside, indent=indent, separators=separators).encode()
    file = keystore(name, password, cost, secret=inside)["keystore"]
    for member in ("description", "pubkey", "path"):
        del file[member]
    file["name"] = "keystore"
    return {"name": name, "password": password, "secrets": [f"{secret:064x}" for secret in secrets], "wallet": file}


def wallets():
    yield wallet("of Prysm", 3, "\t")
    yield wallet("of Rocket Pool", 1, None)
    yield wallet("with scrypt and a password that folds", 2, "\t", "Ｐａｓｓ\n", SCRYPT)
    yield wallet("larger than any keystore", 300, "\t")


def main():
    folder = pathlib.Path(__file__).parent
    for name, cases in (("keystores", keystores()), ("derivations", derivations()), ("wallets", wallets())):
        text = json.dumps(list(cases), indent=1, ensure_ascii=False) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


main()
