// The public interop test keys and their EIP-2335 keystores. Keys with an even index use pbkdf2, the others scrypt,
// at a cost far below the standard's advice: these keys protect nothing.
import { createCipheriv, createHash, pbkdf2Sync, randomBytes, randomUUID, scryptSync } from "node:crypto";

const GROUP_ORDER = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001n;
const DERIVED_BYTES = 32;
const PBKDF2_ROUNDS = 2048;
const SCRYPT = { n: 2048, r: 8, p: 1 };
const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();

/** int_from_little_endian(sha256(index as 32 bytes, little endian)) mod group order, as 32 bytes, big endian. */
export function interopSecret(index) {
  const seed = Buffer.alloc(32);
  seed.writeUInt32LE(index);
  const number = BigInt(`0x${sha256(seed).reverse().toString("hex")}`) % GROUP_ORDER;
  return Buffer.from(number.toString(16).padStart(64, "0"), "hex");
}

function derive(index, password) {
  const salt = randomBytes(32);
  const shared = { dklen: DERIVED_BYTES, salt: salt.toString("hex") };
  if (index % 2 === 0) {
    const key = pbkdf2Sync(password, salt, PBKDF2_ROUNDS, DERIVED_BYTES, "sha256");
    return { key, kdf: { function: "pbkdf2", params: { ...shared, c: PBKDF2_ROUNDS, prf: "hmac-sha256" }, message: "" } };
  }
  const key = scryptSync(password, salt, DERIVED_BYTES, { N: SCRYPT.n, r: SCRYPT.r, p: SCRYPT.p });
  return { key, kdf: { function: "scrypt", params: { ...shared, ...SCRYPT }, message: "" } };
}

/** `pubkey` is 0x-prefixed hex. */
export function keystore(index, pubkey, password) {
  const { key, kdf } = derive(index, password);
  const iv = randomBytes(16);
  const cipher = createCipheriv("aes-128-ctr", key.subarray(0, 16), iv);
  const sealed = Buffer.concat([cipher.update(interopSecret(index)), cipher.final()]);
  const checksum = sha256(key.subarray(16), sealed).toString("hex");
  return {
    version: 4,
    uuid: randomUUID(),
    description: `interop test key ${index}`,
    path: "",
    pubkey: pubkey.slice(2),
    crypto: {
      kdf,
      checksum: { function: "sha256", params: {}, message: checksum },
      cipher: { function: "aes-128-ctr", params: { iv: iv.toString("hex") }, message: sealed.toString("hex") },
    },
  };
}
