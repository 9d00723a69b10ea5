/**
 * The config.json of tests: one place that knows which settings make a gateway quick to start and quiet.
 * Everything may be overruled by the test that asks.
 */

/** PASSWORD (client.ts), hashed as cheaply as a config file may have it. */
const HASH =
  "$argon2id$v=19$m=19456,t=2,p=1$nfgIcoteY7ZDhDciPtv2PBOh0svMTS4Ey/cY1mkvgPA$sXB0LIMLdMIi3OdkrBzJAY0worD4L3Yb+cT7R2PvJhY";

/** PASSWORD, hashed with so little memory that a sign-in costs under a millisecond; needs CHEAP_HASHES. */
const CHEAP =
  "$argon2id$v=19$m=64,t=1,p=1$sW11GulQoAk2WGI1wJ3q96l1eD9PuG5fD3gQS0/qZyo$rfbjV3Hdf0BZSPlL7wPMATNBT+aEqSci21ETSx05v+8";

/** For parseConfig: what makes CHEAP acceptable in this process. A process of its own knows no such option. */
export const CHEAP_HASHES = { hashFloor: { memoryKiB: 8, passes: 1 } };

/** The shared bot token of the test config; "" would be open. */
export const BOT_TOKEN = "nxb_test-token-of-the-harness";

/** config.json as text would hold it. */
export type ConfigJson = Record<string, unknown>;

/** Users admin and user1 with PASSWORD, one shared bot token, any free port of 127.0.0.1. `cheap`: see CHEAP. */
export const testConfig = (over: ConfigJson = {}, cheap = false): ConfigJson => ({
  port: 0,
  host: "127.0.0.1",
  botToken: BOT_TOKEN,
  users: {
    admin: { password: cheap ? CHEAP : HASH, displayName: "管理员", role: "admin" },
    user1: { password: cheap ? CHEAP : HASH, displayName: "用户1" },
  },
  ...over,
});
