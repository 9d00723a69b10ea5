/**
 * Reads the code signature of a Mach-O program: Apple silicon starts none whose pages differ from what was signed.
 * Owns only that question; whether anybody trusts the signer is another one (an ad-hoc signature names nobody).
 */

const LC_CODE_SIGNATURE = 0x1d;
const SUPER_BLOB = 0xfade0cc0;
const CODE_DIRECTORY = 0xfade0c02;
const SHA256 = 2;

/** Pages whose hash is not the signed one, and how many there are; throws where there is no signature to compare with. */
export const checkSignature = (bytes: Uint8Array): { pages: number; wrong: number } => {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 32;
  let signature = 0;
  for (let left = file.readUInt32LE(16); left > 0; left--) {
    if (file.readUInt32LE(at) === LC_CODE_SIGNATURE) signature = file.readUInt32LE(at + 8);
    at += file.readUInt32LE(at + 4);
  }
  if (!signature || file.readUInt32BE(signature) !== SUPER_BLOB) throw new Error("no signature");
  for (let i = 0; i < file.readUInt32BE(signature + 8); i++) {
    const directory = signature + file.readUInt32BE(signature + 12 + i * 8 + 4);
    if (file.readUInt32BE(directory) !== CODE_DIRECTORY) continue;
    const hashes = directory + file.readUInt32BE(directory + 16);
    const pages = file.readUInt32BE(directory + 28);
    const limit = file.readUInt32BE(directory + 32);
    if (file[directory + 37] !== SHA256) throw new Error("not signed with SHA-256");
    const size = 2 ** file[directory + 39]!;
    let wrong = 0;
    for (let page = 0; page < pages; page++) {
      const part = file.subarray(page * size, Math.min((page + 1) * size, limit));
      const real = new Bun.CryptoHasher("sha256").update(part).digest();
      if (!real.equals(file.subarray(hashes + page * 32, hashes + page * 32 + 32))) wrong++;
    }
    return { pages, wrong };
  }
  throw new Error("no code directory");
};
