/** The numbers of the gateway at a glance, live, and how sign-in by other platforms is used where there is any. */
import type { Overview, SignInCounts } from "../../lib/protocol/admin.ts";
import { h, setText } from "../dom.ts";
import { named, table, type Admin, type AdminText, type Section } from "./parts.ts";

type Tile = {
  key: AdminText;
  value: (now: Overview) => string;
  more: (now: Overview) => string;
  alarm?: (now: Overview) => boolean;
};

export const createOverview = (admin: Admin): Section => {
  const { t, number, bytes, page } = admin;
  const span = (ms: number | undefined): string =>
    ms === undefined ? "–" : ms < 1000 ? `${number(Math.round(ms))} ms` : page.i18n.span(ms);
  const up = (ms: number): string => {
    const minutes = Math.floor(ms / 60_000);
    if (minutes < 60) return page.i18n.span(Math.max(1000, ms));
    const hours = Math.floor(minutes / 60);
    return hours < 48 ? t("upHours", { h: hours, m: minutes % 60 }) : t("upDays", { d: Math.floor(hours / 24) });
  };

  const tiles: Tile[] = [
    {
      key: "tileOpen",
      value: ({ turns }) => number(turns.open),
      more: ({ turns }) => t("tileQueued", { n: turns.queued }),
    },
    {
      key: "tileToday",
      value: ({ today }) => number(today.messages),
      more: ({ today }) => t("tileTodayMore", { p: today.people, d: today.done, f: today.failed, c: today.cancelled }),
    },
    {
      key: "tileFirst",
      value: ({ firstChunkMs }) => span(firstChunkMs.p50),
      more: ({ firstChunkMs }) =>
        firstChunkMs.p95 === undefined ? t("tileFirstNone") : t("tileFirstMore", { t: span(firstChunkMs.p95) }),
    },
    {
      key: "tileBots",
      value: ({ bots }) => number(bots.online),
      more: ({ bots }) => t("tileBotsMore", { n: bots.connections, b: bots.busy }),
      alarm: ({ bots }) => bots.online === 0,
    },
    {
      key: "tileSessions",
      value: ({ sessions }) => number(sessions),
      more: ({ people }) => t("tileSessionsMore", { p: number(people) }),
    },
    {
      key: "tileStreams",
      value: ({ streams }) => number(streams),
      more: ({ sentBytes }) => t("tileStreamsMore", { b: bytes(sentBytes) }),
    },
    {
      key: "tileDead",
      value: ({ deadLetters }) => number(deadLetters),
      more: () => t("tileDeadMore"),
      alarm: ({ deadLetters }) => deadLetters > 0,
    },
    {
      key: "tileMemory",
      value: ({ memoryBytes }) => bytes(memoryBytes),
      more: ({ loopDelayMs }) => t("tileMemoryMore", { t: span(loopDelayMs.max) }),
    },
    {
      key: "tileStore",
      value: ({ store }) => bytes(store.bytes),
      more: ({ store }) => t("tileStoreMore", { n: number(store.commits), t: span(store.maxCommitMs) }),
    },
  ];

  const drawn = tiles.map((tile) => {
    const value = h("span.tile-value", {}, "–");
    const more = h("span.meta", {});
    return {
      tile,
      value,
      more,
      element: h("div.tile", { "data-tile": tile.key }, h("span.tile-label", {}, t(tile.key)), value, more),
    };
  });
  const head = h("p.meta", {});
  const signIns = h("div", { id: "admin-sign-ins", hidden: true });
  const element = h("section", {}, head, h("div.tiles", {}, ...drawn.map((one) => one.element)), signIns);

  let seen = "";
  const drawSignIns = (counts: SignInCounts): void => {
    const text = JSON.stringify(counts);
    if (text === seen) return;
    seen = text;
    signIns.hidden = counts.providers.length === 0;
    const columns = [
      { label: t("provider") },
      { label: t("signIns"), numeric: true },
      { label: t("refused"), numeric: true },
      { label: t("requests"), numeric: true },
      { label: t("spent"), numeric: true },
      { label: t("freeQuota") },
    ];
    const rows = counts.providers.map(({ id, name, signIns: count, refused, calls, freeBotQuota: free }) => [
      named(name, id),
      number(count),
      number(refused),
      number(calls),
      free ? number(free.spentBySignIn) : "–",
      free
        ? h(
            "span.who",
            {},
            h("span", {}, t(free.per === "month" ? "perMonth" : "perMemberDay", { n: number(free.calls) })),
            h("span.meta", {}, [free.asOf, free.source].filter(Boolean).join(" · ")),
          )
        : "–",
    ]);
    signIns.replaceChildren(
      h("h3", {}, t("signInsOf", { month: counts.month })),
      h("p.meta", {}, t("signInsHint")),
      table(t("signInsOf", { month: counts.month }), columns, rows),
    );
  };

  const load = async (again = false): Promise<void> => {
    const [now, counts] = await Promise.all([
      admin.read<Overview>("/api/admin/overview", again),
      admin.read<SignInCounts>("/api/admin/sign-ins", again),
    ]);
    if (counts) drawSignIns(counts);
    if (!now) return;
    setText(
      head,
      now.draining ? t("draining") : t("upFor", { t: up(now.at - now.startedAt), v: now.version, zone: now.timeZone }),
    );
    for (const { tile, value, more, element: box } of drawn) {
      setText(value, tile.value(now));
      setText(more, tile.more(now));
      box.classList.toggle("alarm", tile.alarm?.(now) === true);
    }
  };
  return { element, load, live: true };
};
