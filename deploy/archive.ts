/**
 * Archives, byte for byte the same for the same files: fixed times, no owners, entries in the order given.
 *
 * Owns the two formats (ustar in gzip, zip with deflate) as far as a release needs them. Refuses names over 100 bytes and
 * files over 4 GiB, which the plain forms cannot hold.
 */
export type Entry = { path: string; bytes: Uint8Array; executable?: boolean };

/** A hundredth larger than the default 6 and two thirds of its time, for some 100 MB twelve times. */
const PACKING = { library: "libdeflate", level: 4 } as const;
/** The moment that package managers use: 1985-10-26T08:15:00Z. */
const FIXED_S = 499162500;
/** The earliest moment zip knows, 1980-01-01, as its two 16-bit fields. */
const ZIP_DATE = (1 << 5) | 1;

const check = ({ path, bytes }: Entry): void => {
  if (Buffer.byteLength(path) > 100) throw new Error(`${path}: a name over 100 bytes`);
  if (bytes.length > 0xffff_ffff) throw new Error(`${path}: over 4 GiB`);
};

const tarEntry = (entry: Entry): Uint8Array[] => {
  check(entry);
  const { path, bytes, executable } = entry;
  const header = Buffer.alloc(512);
  const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, "0")}\0`;
  header.write(path, 0);
  header.write(octal(executable ? 0o755 : 0o644, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  header.write(octal(bytes.length, 12), 124);
  header.write(octal(FIXED_S, 12), 136);
  header.write("        ", 148); // the checksum counts itself as blanks
  header.write("0", 156);
  header.write("ustar\u000000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return [header, bytes, new Uint8Array((512 - (bytes.length % 512)) % 512)];
};

/** A .tar.gz (or .tgz) of these files. */
export const tarGz = (entries: readonly Entry[]): Uint8Array =>
  Bun.gzipSync(Buffer.concat([...entries.flatMap(tarEntry), new Uint8Array(1024)]), PACKING);

/** A .zip of these files. */
export const zip = (entries: readonly Entry[]): Uint8Array => {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const entry of entries) {
    check(entry);
    const name = Buffer.from(entry.path);
    // Without a header of its own, as zip wants it.
    const packed = Bun.deflateSync(entry.bytes as Uint8Array<ArrayBuffer>, PACKING);
    // Both headers share these 26 bytes: version needed, UTF-8 names, deflate, time, date, CRC, sizes, name length, no extra.
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x0800, 2);
    common.writeUInt16LE(8, 4);
    common.writeUInt16LE(0, 6);
    common.writeUInt16LE(ZIP_DATE, 8);
    common.writeUInt32LE(Bun.hash.crc32(entry.bytes), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(entry.bytes.length, 18);
    common.writeUInt16LE(name.length, 22);
    parts.push(Buffer.from("PK\x03\x04"), common, name, packed);
    const rest = Buffer.alloc(14); // comment, disk, inner attributes: none; outer: the unix mode; then where it begins
    rest.writeUInt32LE(((entry.executable ? 0o100755 : 0o100644) << 16) >>> 0, 6);
    rest.writeUInt32LE(at, 10);
    directory.push(Buffer.from("PK\x01\x02\x14\x03", "latin1"), common, rest, name);
    at += 30 + name.length + packed.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", 0, "latin1");
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(size, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, ...directory, end]);
};
