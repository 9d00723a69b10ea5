/**
 * The demo bot: an ordinary bot on the ordinary socket, worth talking to. It shows what the gateway and the page can do:
 * streaming Markdown, tool activity, pictures both ways, cancel, errors, a message of its own later.
 *
 * What must stay true: it honours cancel within one word, and answers in the language it is asked in, Chinese first.
 */
import { type Bot, connectBot, type Turn } from "../../plugin/client.ts";
import type { Log } from "../log.ts";
import { drawPicture } from "./picture.ts";

/** About the pace of a model: 30 pieces a second, of a few Chinese characters or a word. */
const PIECE_MS = 33;
const PIECE = /\p{Script=Han}{1,4}|[^\p{Script=Han}\s]{1,8}|\s+/gu;
/** One short word a second: long enough to reload, switch devices or stop it. */
const SLOW_MS = 1_000;
const SLOW_LINES = 60;
const REMIND_MS = 10_000;

type Speaks = "zh" | "en";
type Answer = { words: RegExp; run(turn: Turn, speaks: Speaks, bot: Bot): Promise<void> };

/** Resolves early when the turn is over: nobody waits for a cancelled answer. */
const pause = (turn: Turn, ms: number): Promise<void> =>
  new Promise((resolve) => {
    if (turn.signal.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      turn.signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    turn.signal.addEventListener("abort", done);
  });

/** Writes `text` piece by piece, never half of an emoji; stops when the turn is over. */
const say = async (turn: Turn, text: string): Promise<void> => {
  for (const [piece] of text.matchAll(PIECE)) {
    if (turn.signal.aborted) return;
    turn.write(piece);
    // Spaces go out with the word that follows.
    if (piece.trim() !== "") await pause(turn, PIECE_MS);
  }
};

const TICKS = "```";

const TOUR = {
  zh: `你好，我是演示机器人。我从真正的 \`/bot-ws\` 连进来，和你自己的机器人走同一条路。

| 对我说 | 你会看到 |
|---|---|
| **代码** | 高亮的代码块，可以复制 |
| **慢一点** | 一个长长的回答：中途刷新、换手机、按停止都行 |
| **查天气** | 工具调用的过程 |
| **图片** | 我画一张给你；你发图给我，我原样发回来 |
| **提醒我** | 十秒后我主动发一条消息 |
| **错误** | 失败的回答是什么样子，可以重试 |

几件值得一试的事：

1. 回答到一半时**刷新页面**：文字接着往下走，不缺不重
2. 在另一个窗口登录：两边同时更新
3. 把网关停掉再启动：对话都还在
`,
  en: `Hello, I am the demo bot. I came in through the real \`/bot-ws\`, the same way your own bots will.

| Say | and see |
|---|---|
| **code** | a highlighted block you can copy |
| **slow** | a long answer: reload, switch devices or stop it half way |
| **weather** | a tool call as it happens |
| **picture** | I draw one; send me one and I send it back |
| **remind me** | I write first, ten seconds later |
| **error** | what a failed answer looks like, and retry |

Worth a try:

1. **Reload** in the middle of an answer: the text goes on, nothing missing, nothing twice
2. Sign in in a second window: both follow
3. Stop the gateway and start it again: the chats are still there
`,
};

const CODE = {
  zh: `一个完整的机器人只要几行：

${TICKS}ts
const ws = new WebSocket("ws://127.0.0.1:17392/bot-ws");
const send = (frame: object) => ws.send(JSON.stringify(frame));
ws.onopen = () => send({ type: "register", botId: "echo", token: process.env.BOT_TOKEN });
ws.onmessage = ({ data }) => {
  const frame = JSON.parse(data);
  if (frame.type === "ping") send({ type: "pong" });
  if (frame.type === "chat")
    send({ type: "reply", replyTo: frame.id, content: \`你说：\${frame.content}\`, done: true });
};
${TICKS}

要断线续传、取消和收发文件，用 \`plugin/client.ts\`：一个文件，没有依赖。
`,
  en: `A whole bot is a few lines:

${TICKS}ts
const ws = new WebSocket("ws://127.0.0.1:17392/bot-ws");
const send = (frame: object) => ws.send(JSON.stringify(frame));
ws.onopen = () => send({ type: "register", botId: "echo", token: process.env.BOT_TOKEN });
ws.onmessage = ({ data }) => {
  const frame = JSON.parse(data);
  if (frame.type === "ping") send({ type: "pong" });
  if (frame.type === "chat")
    send({ type: "reply", replyTo: frame.id, content: \`You said: \${frame.content}\`, done: true });
};
${TICKS}

For resuming, cancel and files there is \`plugin/client.ts\`: one file, no dependencies.
`,
};

const slow = async (turn: Turn, speaks: Speaks): Promise<void> => {
  await say(
    turn,
    speaks === "zh"
      ? "好，一秒一行，数到六十。刷新或按停止试试。\n\n"
      : "One line a second, up to sixty. Reload, or press stop.\n\n",
  );
  for (let i = 1; i <= SLOW_LINES && !turn.signal.aborted; i++) {
    turn.write(speaks === "zh" ? `${i}. 第 ${i} 秒\n` : `${i}. second ${i}\n`);
    await pause(turn, SLOW_MS);
  }
};

const weather = async (turn: Turn, speaks: Speaks): Promise<void> => {
  const name = speaks === "zh" ? "查询天气" : "weather";
  turn.event({
    kind: "reasoning",
    text: speaks === "zh" ? "需要先查一下天气" : "The weather has to be looked up first",
  });
  await pause(turn, 800);
  turn.event({ kind: "tool", tool: { id: "weather", name, phase: "start" } });
  await pause(turn, 1_200);
  turn.event({
    kind: "tool",
    tool: { id: "weather", name, phase: "update" },
    text: speaks === "zh" ? "杭州" : "Hangzhou",
  });
  await pause(turn, 1_300);
  turn.event({ kind: "tool", tool: { id: "weather", name, phase: "end", ok: true } });
  const text = {
    zh: "查到了（演示数据）：\n\n| 城市 | 天气 | 气温 |\n|---|---|---:|\n| 杭州 | 小雨 | 14 °C |\n| 北京 | 晴 | 6 °C |\n\n> 出门带伞。\n",
    en: "Here it is (made up for the demo):\n\n| City | Weather | Temp. |\n|---|---|---:|\n| Hangzhou | light rain | 14 °C |\n| Beijing | clear | 6 °C |\n\n> Take an umbrella.\n",
  };
  await say(turn, text[speaks]);
};

const picture = async (turn: Turn, speaks: Speaks): Promise<void> => {
  turn.event({ kind: "status", text: speaks === "zh" ? "正在画" : "Drawing" });
  await pause(turn, 600);
  if (turn.signal.aborted) return;
  const name = speaks === "zh" ? "青山.png" : "hills.png";
  await turn.attach({ name, mime: "image/png", data: drawPicture(640, 360, Math.random()) });
  await say(turn, speaks === "zh" ? "给你画了一张。也可以发一张图给我。" : "Here is one. You can send me one, too.");
};

const remind = async (turn: Turn, speaks: Speaks, bot: Bot): Promise<void> => {
  const { conversationId, userId } = turn;
  const to = conversationId ? { conversationId } : userId ? { userId } : undefined;
  if (!to) return say(turn, speaks === "zh" ? "这个网关不支持主动消息。" : "This gateway cannot carry such messages.");
  await say(
    turn,
    speaks === "zh"
      ? "好，十秒后我来找你。可以先切到别的对话。"
      : "I will write in ten seconds. Go to another chat meanwhile.",
  );
  const text = speaks === "zh" ? "⏰ 时间到。这条消息是我主动发的。" : "⏰ Time is up. I wrote this one first.";
  setTimeout(() => void bot.send(to, text).catch(() => {}), REMIND_MS).unref();
};

const ANSWERS: readonly Answer[] = [
  { words: /慢|slow|长|long/i, run: slow },
  { words: /代码|编程|\bcode\b/i, run: (turn, speaks) => say(turn, CODE[speaks]) },
  { words: /天气|工具|weather|\btool/i, run: weather },
  { words: /图|画|picture|image|draw|photo/i, run: picture },
  { words: /提醒|remind/i, run: remind },
  {
    words: /错误|出错|失败|\berror|\bfail/i,
    run: async (turn, speaks) => {
      await say(turn, speaks === "zh" ? "我先写一半，然后" : "Half of an answer, and then");
      const message =
        speaks === "zh" ? "演示用的错误：我出错了，可以重试" : "An error for show: something failed, try again";
      await turn.fail({ code: "demo_error", message });
    },
  },
  {
    words: /你好|您好|帮助|能做什么|表格|列表|hello|\bhi\b|help|table|list/i,
    run: (turn, speaks) => say(turn, TOUR[speaks]),
  },
];

const echo = async (turn: Turn, speaks: Speaks): Promise<void> => {
  for (const file of turn.attachments) {
    const data = await turn.fetchAttachment(file);
    await turn.attach({ name: file.name, mime: file.mime, data });
  }
  const what = turn.attachments.map(
    ({ name, mime, size }) => `- \`${name}\` · ${mime} · ${(size / 1024).toFixed(1)} kB`,
  );
  if (what.length > 0)
    await say(turn, `${speaks === "zh" ? "收到，原样发回：" : "Received, and back to you:"}\n\n${what.join("\n")}\n`);
};

const chat = async (turn: Turn, speaks: Speaks): Promise<void> => {
  const quoted = turn.text
    .split("\n")
    .slice(0, 20)
    .map((line) => `> ${line}`)
    .join("\n");
  const letters = [...turn.text].length;
  const text = {
    zh: `${turn.userName}，你说的是：\n\n${quoted}\n\n一共 ${letters} 个字。我只是演示机器人，不会思考；说**你好**看看我会什么，或者说**慢一点**试试续传。\n`,
    en: `${turn.userName}, you said:\n\n${quoted}\n\nThat is ${letters} characters. I am only the demo bot and cannot think; say **hello** to see what I can do, or **slow** to try resuming.\n`,
  };
  await say(turn, text[speaks]);
};

/** Chinese unless the message has letters and no Chinese at all. */
const spoken = (text: string): Speaks => (/[a-z]/i.test(text) && !/\p{Script=Han}/u.test(text) ? "en" : "zh");

const PROFILE = {
  zh: {
    botName: "演示机器人",
    description: "会写 Markdown、画图、用工具，也会出错。Shows what the gateway can do.",
    suggestions: ["你好，你会什么？", "写一段代码", "慢一点", "画一张图片"],
  },
  en: {
    botName: "Demo bot",
    description: "Writes Markdown, draws, uses tools, and fails when asked to.",
    suggestions: ["Hello, what can you do?", "Write some code", "Something slow", "Draw a picture"],
  },
};

/** Connects the demo bot to the gateway at `url` (its origin), presented in `language`. The caller closes it. */
export const startDemoBot = ({
  url,
  token,
  language,
  log,
}: {
  url: string;
  token: string;
  language: Speaks;
  log: Log;
}): Bot => {
  const bot = connectBot({
    url,
    token,
    botId: "demo",
    ...PROFILE[language],
    log: (level, event, fields) => log(level, `demo_${event}`, { ...fields }),
    async onTurn(turn) {
      const speaks = spoken(turn.text);
      turn.event({ kind: "typing" });
      await pause(turn, 300);
      if (turn.attachments.length > 0) {
        await echo(turn, speaks);
        if (turn.text.trim() === "") return;
        turn.write("\n");
      }
      const answer = ANSWERS.find(({ words }) => words.test(turn.text));
      if (answer && turn.attachments.length === 0) await answer.run(turn, speaks, bot);
      else await chat(turn, speaks);
    },
    async onLost(turn) {
      const zh = spoken(turn.text) === "zh";
      turn.write(zh ? "\n\n（我重启过，后面的内容没有了。）" : "\n\n(I was restarted; the rest is gone.)");
    },
  });
  return bot;
};
