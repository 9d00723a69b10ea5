/** A small PNG, drawn here: the demo bot needs a picture and a binary has no files beside it. */
import { deflateSync } from "node:zlib";

const chunk = (type: string, data: Uint8Array): Buffer => {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(Bun.hash.crc32(body));
  return Buffer.concat([length, body, sum]);
};

/** Hills in celadon under a moon, `width` × `height` pixels, a little different for each `seed` (0 to 1). */
export const drawPicture = (width: number, height: number, seed: number): Uint8Array => {
  const rows = Buffer.alloc((width * 3 + 1) * height);
  const moon = { x: width * (0.2 + 0.6 * seed), y: height * 0.28, r: height * 0.13 };
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      let colour = [232 - (y / height) * 30, 240 - (y / height) * 14, 236 - (y / height) * 18];
      if (Math.hypot(x - moon.x, y - moon.y) < moon.r) colour = [252, 248, 232];
      // Three ridges, each nearer, darker and rougher than the one behind it.
      for (let ridge = 0; ridge < 3; ridge++) {
        const wave =
          Math.sin((x / width) * (5 + ridge * 3) + seed * 9 + ridge * 2) +
          0.4 * Math.sin((x / width) * (17 + ridge * 8) + ridge);
        if (y > height * (0.5 + ridge * 0.15) - wave * height * 0.07)
          colour = [168 - ridge * 52, 203 - ridge * 46, 188 - ridge * 50];
      }
      rows.set(colour.map(Math.round), y * (width * 3 + 1) + 1 + x * 3);
    }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2], 8); // 8 bits, true colour
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(rows)),
    chunk("IEND", new Uint8Array()),
  ]);
};
