/**
 * nginx in front of the gateway: with deploy/nginx.conf (TLS with a throw-away certificate) and with the block that the
 * first README of this project printed, which many have in use. Only addresses and file names are put in.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { v1Bot } from "../harness/bots.ts";
import { api, PASSWORD } from "../harness/client.ts";
import { BOT_TOKEN, type ConfigJson } from "../harness/config.ts";
import { ROOT, type RunningProcess, startProcess } from "../harness/process.ts";
import { readSse } from "../harness/sse.ts";
import { freePort, tempDir, until, within } from "../harness/wait.ts";
import { find, notRun, own, sh, unpack } from "./kit.ts";

const FILE = "nginx.test.ts";
const NAME = "nexus.example.com";

/** Of the first README, as printed. */
const SEED = `
server {
    listen 80;
    server_name nexus.example.com;

    location /bot-ws {
        proxy_pass http://127.0.0.1:17392;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
        proxy_set_header Host $host;
        proxy_read_timeout 86400;
    }

    location / {
        proxy_pass http://127.0.0.1:17392;
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
    }
}
`;

const nginx = find("nginx");
const openssl = find("openssl");

type Front = { port: number; tlsPort: number; stop: () => Promise<void> };

/** nginx with this file in its http block, ports and paths put in, in a folder of its own. */
const startNginx = async (folder: string, conf: string, upstream: number): Promise<Front> => {
  await mkdir(folder);
  const [port, tlsPort] = [freePort(), freePort()];
  const put = (from: RegExp, to: string) => {
    if (!from.test(conf)) throw new Error(`the config has no ${from}`);
    conf = conf.replaceAll(from, to);
  };
  put(/proxy_pass http:\/\/127\.0\.0\.1:17392;/g, `proxy_pass http://127.0.0.1:${upstream};`);
  put(/listen 80;/g, `listen 127.0.0.1:${port};`);
  if (conf.includes("ssl_certificate")) {
    put(/listen 443 /g, `listen 127.0.0.1:${tlsPort} `);
    put(/^ *listen \[::\].*$/gm, "");
    put(/\/etc\/ssl\//g, `${folder}/`);
    const subject = ["-subj", `/CN=${NAME}`, "-addext", `subjectAltName=DNS:${NAME},IP:127.0.0.1`];
    const files = ["-keyout", `${folder}/${NAME}.key`, "-out", `${folder}/${NAME}.pem`];
    await sh([openssl!, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", ...subject, ...files]);
  }
  // Nothing of the system's nginx: its own log, pid and temporary folders.
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (kind) => `${kind}_temp_path ${folder}/${kind};`,
  );
  await Bun.write(
    join(folder, "nginx.conf"),
    `user root;\nworker_processes 1;\ndaemon off;\npid ${folder}/nginx.pid;\nerror_log ${folder}/error.log;\n` +
      `events {}\nhttp {\n${temporary.join("\n")}\naccess_log off;\n${conf}\n}\n`,
  );
  const line = [nginx!, "-p", folder, "-e", `${folder}/error.log`, "-c", `${folder}/nginx.conf`];
  const child = Bun.spawn(line, { stdout: "pipe", stderr: "pipe" });
  const lastResort = () => child.kill("SIGTERM");
  process.once("exit", lastResort);
  const answers = async () => {
    if (child.exitCode !== null) throw new Error(`nginx ended: ${await new Response(child.stderr).text()}`);
    return fetch(`http://127.0.0.1:${port}/health`, { redirect: "manual" }).catch(() => undefined);
  };
  await until(answers, 10_000, "nginx");
  return {
    port,
    tlsPort,
    stop: async () => {
      process.removeListener("exit", lastResort);
      child.kill("SIGTERM");
      await within(child.exited, 10_000, "nginx to end");
    },
  };
};

/** Signs in as a browser would, from `origin`; the answer with its cookie. */
const signIn = (base: string, origin: string, init: RequestInit = {}) =>
  api(base)(
    "POST",
    "/api/login",
    { username: "admin", password: PASSWORD },
    {
      ...init,
      headers: { origin, "sec-fetch-site": "same-origin", host: new URL(origin).host, ...init.headers },
    },
  );

/** Signs in with a wrong password from 127.0.0.2, another address than the proxy's; the status. */
const failToSignIn = (base: string, options: string[]): Promise<string> => {
  const body = ["-H", "Content-Type: application/json", "-d", '{"username": "admin", "password": "not this one"}'];
  const output = ["-s", "-o", "/dev/null", "-w", "%{http_code}"];
  return sh(["curl", "--interface", "127.0.0.2", ...output, ...body, ...options, `${base}/api/login`]);
};

/** The first chunk must come while the bot has not yet said the second one. */
const expectUnbuffered = async (base: string, token: string, wsUrl: string, init: RequestInit = {}) => {
  const bot = await v1Bot(wsUrl, { botId: "slow", token: BOT_TOKEN, onChat: () => {} });
  try {
    expect(bot.registered.success).toBe(true);
    const response = await api(base, token).stream(
      "/api/chat/stream",
      { message: "hi", target: "slow" },
      {
        method: "POST",
        ...init,
      },
    );
    expect(response.status).toBe(200);
    const reader = readSse(response);
    const chat = await until(() => bot.chats[0], 5000, "the chat");
    const text = () => reader.events.map(({ data }) => data.content ?? "").join("");
    for (const piece of ["一", "二", "三"]) {
      bot.reply(chat, piece, piece === "三");
      await until(() => text().endsWith(piece), 5000, `the piece ${piece}, alone`);
    }
    await reader.find(({ type }) => type === "end");
  } finally {
    await bot.close();
  }
};

const image = (bytes: number): string =>
  `data:image/png;base64,${Buffer.alloc(bytes, "\x89PNG\r\n\x1a\n", "latin1").toBase64()}`;

/** Sends a picture to a bot that connected through the same nginx; what the bot got. */
const sendImage = async (base: string, token: string, wsUrl: string, bytes: number, init: RequestInit = {}) => {
  const bot = await v1Bot(wsUrl, { botId: "looks", token: BOT_TOKEN });
  try {
    const body = { message: "look", target: "looks", image: image(bytes) };
    const answer = await api(base, token)("POST", "/api/chat", body, init);
    return { status: answer.status, arrived: bot.chats[0]?.image === body.image };
  } finally {
    await bot.close();
  }
};

const lacks =
  !nginx || !openssl || !find("curl")
    ? "needs nginx, openssl and curl"
    : process.getuid?.() !== 0
      ? "written for root"
      : undefined;
if (lacks) notRun(FILE, "nginx in front, with the shipped file and with the old block", lacks);
else
  describe("nginx", () => {
    let folder: Awaited<ReturnType<typeof tempDir>>;
    let binary: string[] | "source";
    beforeAll(async () => {
      folder = await tempDir("nginx");
      binary = own ? [join(await unpack(own, folder.path), own.executable)] : "source";
      console.log((await sh([nginx!, "-v"])).trim());
    }, 240_000);
    afterAll(() => folder.remove());

    const start = async (name: string, conf: string, config: ConfigJson) => {
      const gateway = await startProcess({ run: binary, config: { trustedProxies: ["127.0.0.1"], ...config } });
      const front = await startNginx(join(folder.path, name), conf, gateway.port);
      return { gateway, front };
    };
    const failedFrom = (gateway: RunningProcess): string[] =>
      [...gateway.stdout().matchAll(/"event":"login_failed","address":"([^"]+)"/g)].map((match) => match[1]!);

    describe("with deploy/nginx.conf", () => {
      let gateway: RunningProcess;
      let front: Front;
      let base: string;
      let wsUrl: string;
      let token: string;
      const tls = { tls: { rejectUnauthorized: false } } as RequestInit;
      const origin = `https://${NAME}`;
      beforeAll(async () => {
        const conf = await Bun.file(join(ROOT, "deploy/nginx.conf")).text();
        ({ gateway, front } = await start("shipped", conf, { publicUrl: origin, host: "127.0.0.1" }));
        base = `https://127.0.0.1:${front.tlsPort}`;
        wsUrl = `wss://127.0.0.1:${front.tlsPort}/bot-ws`;
        // For the WebSocket of the scripted bots, which can only be told this way that the certificate is ours.
        process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
      });
      afterAll(async () => {
        delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
        await front?.stop();
        await gateway?.stop();
      });

      test("plain http is sent to https", async () => {
        const response = await fetch(`http://127.0.0.1:${front.port}/x?y=1`, {
          redirect: "manual",
          headers: { host: NAME },
        });
        expect(response.status).toBe(301);
        expect(response.headers.get("location")).toBe(`${origin}/x?y=1`);
      });

      test("signing in over TLS sets the __Host- cookie, and with it the page may act", async () => {
        const answer = await signIn(base, origin, tls);
        expect(answer.status).toBe(200);
        token = answer.body.token as string;
        const cookie = answer.headers.get("set-cookie") ?? "";
        expect(cookie).toMatch(/^__Host-nexus=nxs_[\w-]{43};/);
        for (const part of ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"]) expect(cookie).toContain(part);
        expect(answer.headers.get("strict-transport-security")).toContain("max-age=");
        const headers = { cookie: cookie.split(";")[0]!, host: NAME, "sec-fetch-site": "same-origin", origin };
        const made = await api(base)("POST", "/api/conversations", { title: "by cookie" }, { ...tls, headers });
        expect(made.status).toBe(201);
        const foreign = { ...headers, origin: "https://evil.example", "sec-fetch-site": "cross-site" };
        expect((await api(base)("POST", "/api/conversations", {}, { ...tls, headers: foreign })).status).toBe(403);
      });

      test(
        "a bot connects, and an answer comes piece by piece",
        () => expectUnbuffered(base, token, wsUrl, tls),
        30_000,
      );

      test("a picture of 4 MB arrives as it was sent", async () => {
        expect(await sendImage(base, token, wsUrl, 4_000_000, tls)).toEqual({ status: 200, arrived: true });
      }, 30_000);

      test("what is over the gateway's limit is refused in the gateway's words", async () => {
        const answer = await api(base, token)("POST", "/api/chat", { message: "x", image: image(16_000_000) }, tls);
        expect(`${answer.status} ${answer.body.code}`).toBe("413 too_large");
      }, 30_000);

      test("/api/events comes through at once", async () => {
        const reader = readSse(await api(base, token).stream("/api/events", undefined, tls));
        await reader.find(({ type }) => type === "hello");
        await reader.leave();
      });

      test("the address that counts is the client's, and a forged header does not change it", async () => {
        const forged = ["-H", "X-Forwarded-For: 203.0.113.9"];
        expect(await failToSignIn(base, ["-k", "-H", `Host: ${NAME}`, ...forged])).toBe("401");
        expect(failedFrom(gateway)).toEqual(["127.0.0.2"]);
      });
    });

    describe("with the block of the first README", () => {
      let gateway: RunningProcess;
      let front: Front;
      let base: string;
      let wsUrl: string;
      let token: string;
      beforeAll(async () => {
        ({ gateway, front } = await start("seed", SEED, {}));
        base = `http://127.0.0.1:${front.port}`;
        wsUrl = `ws://127.0.0.1:${front.port}/bot-ws`;
      });
      afterAll(async () => {
        await front?.stop();
        await gateway?.stop();
      });

      test("signing in sets the cookie for plain http", async () => {
        const answer = await signIn(base, `http://${NAME}`);
        expect(answer.status).toBe(200);
        token = answer.body.token as string;
        expect(answer.headers.get("set-cookie")).toMatch(/^nexus=nxs_[\w-]{43};/);
      });

      test(
        "a bot connects, and an answer comes piece by piece though the block says nothing of buffering",
        () => expectUnbuffered(base, token, wsUrl),
        30_000,
      );

      test("pictures up to nginx's own limit arrive; 4 MB needs client_max_body_size, which the block lacks", async () => {
        expect(await sendImage(base, token, wsUrl, 600_000)).toEqual({ status: 200, arrived: true });
        expect(await sendImage(base, token, wsUrl, 4_000_000)).toEqual({ status: 413, arrived: false });
      }, 30_000);

      test("X-Real-IP alone is the client's address, and a client cannot forge it", async () => {
        expect(await failToSignIn(base, ["-H", "X-Real-IP: 203.0.113.9"])).toBe("401");
        expect(failedFrom(gateway)).toEqual(["127.0.0.2"]);
      });
    });
  });
