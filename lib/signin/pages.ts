/**
 * The two pages of sign-in that are not the chat page: DingTalk's, which runs the vendor's script, and the one that says why
 * it did not work. No text of others becomes markup here.
 *
 * Owns their policy. The vendor's script is allowed on DingTalk's page alone, which holds no secret: it gets a code that only
 * works together with the browser's cookie.
 */
import type { Say } from "../protocol.ts";

type Lang = "zh" | "en";

export const SIGN_IN_CSS = `:root{color-scheme:light dark}
body{margin:0;min-height:100vh;display:grid;place-items:center;font:16px/1.7 system-ui,"PingFang SC","Microsoft YaHei",sans-serif;background:#f5f7f6;color:#17211f}
main{max-width:30rem;padding:1.5rem;overflow-wrap:anywhere}
h1{font-size:1.25rem;font-weight:600;margin:0 0 .5rem}
p{margin:.5rem 0}
a{display:inline-block;margin:.75rem 1rem 0 0;padding:.5rem 1rem;border-radius:10px;border:1px solid #0b6b5c;color:#0b6b5c;text-decoration:none}
a.main{background:#0b6b5c;color:#fff}
[hidden]{display:none}
@media (prefers-color-scheme:dark){body{background:#0f1514;color:#e6edeb}a{color:#7fd1c1;border-color:#7fd1c1}a.main{background:#7fd1c1;color:#0f1514}}
`;

/** Old web views have no newer syntax. Never in a log or an address: the code goes in the body of a POST. */
export const DINGTALK_JS = `(function () {
  "use strict";
  var data = document.getElementById("sign-in").dataset;
  var done = false;
  function fail(text) {
    if (done) return;
    done = true;
    document.getElementById("why").textContent = text || data.failed;
    document.getElementById("failed").hidden = false;
    document.getElementById("working").hidden = true;
  }
  function send(code) {
    if (done || !code) return fail();
    done = true;
    fetch("/sign-in/dingtalk/code", {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json", "Accept-Language": document.documentElement.lang },
      body: JSON.stringify({ code: code, state: data.state })
    }).then(function (answer) {
      return answer.json().then(function (body) {
        if (answer.ok) location.replace(body.to);
        else { done = false; fail(body.error); }
      });
    }).catch(function () { done = false; fail(); });
  }
  var began = Date.now();
  function ask() {
    var dd = window.dd;
    if (!dd || !(dd.requestAuthCode || (dd.runtime && dd.runtime.permission))) {
      if (Date.now() - began > 8000) return fail(data.noscript);
      return setTimeout(ask, 50);
    }
    setTimeout(fail, 10000);
    var given = {
      corpId: data.corp,
      clientId: data.client,
      onSuccess: function (got) { send(got && got.code); },
      onFail: function () { old(); }
    };
    var triedOld = false;
    function old() {
      if (triedOld || done) return; // the script tells of a failure twice, by callback and by promise
      triedOld = true;
      if (!(dd.runtime && dd.runtime.permission)) return fail();
      var again = dd.runtime.permission.requestAuthCode({ corpId: data.corp, onSuccess: given.onSuccess, onFail: function () { fail(); } });
      if (again && again.then) again.then(given.onSuccess, function () { fail(); });
    }
    if (!dd.requestAuthCode) return old();
    try {
      var promised = dd.requestAuthCode(given);
      if (promised && promised.then) promised.then(given.onSuccess, function () { old(); });
    } catch (error) { old(); }
  }
  ask();
})();
`;

const quoted = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const document = (lang: Lang, head: string, body: string): string =>
  `<!doctype html>
<html lang="${lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Nexus</title>
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/sign-in/page.css">
${head}</head>
<body>
${body}
</body>
</html>
`;

/** Runs nothing and loads nothing but the style. `ancestors`: who may frame the page, from the config. */
export const signInPolicy = (ancestors: readonly string[]): string =>
  "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; " +
  `frame-ancestors ${ancestors.join(" ")}; require-trusted-types-for 'script'; trusted-types 'none'`;

/** For the page that runs the vendor's script. iOS clients open their bridge with a frame of their own scheme. */
export const dingtalkPolicy = (script: string, ancestors: readonly string[]): string =>
  `default-src 'none'; script-src 'self' ${new URL(script).origin}; style-src 'self'; img-src 'self'; connect-src 'self'; ` +
  `frame-src wvjbscheme: dingtalk:; base-uri 'none'; form-action 'none'; frame-ancestors ${ancestors.join(" ")}`;

const WORDS = {
  failed: { zh: "没有登录成功", en: "You are not signed in" },
  retry: { zh: "再试一次", en: "Try again" },
  password: { zh: "用密码登录", en: "Use a password" },
  working: { zh: "正在通过钉钉登录…", en: "Signing in with DingTalk…" },
  login: { zh: "打开钉钉登录页", en: "Open DingTalk's sign-in page" },
  refused: {
    zh: "钉钉没有给出登录码；请确认应用已发布、对你可见，并且是从钉钉工作台打开的",
    en: "DingTalk gave no code; check that the app is published, visible to you, and opened from DingTalk's workbench",
  },
  noscript: {
    zh: "钉钉的登录脚本没有加载；请检查网络，或用下面的方式登录",
    en: "DingTalk's script did not load; check the network, or sign in another way",
  },
} as const;

/** Why a sign-in did not work, with a way to try again and one to the password form. */
export const failurePage = (lang: Lang, why: Say, retry: string | undefined): string =>
  document(
    lang,
    "",
    `<main><h1>${WORDS.failed[lang]}</h1><p role="alert">${quoted(why[lang])}</p>
${retry ? `<a class="main" href="${quoted(retry)}">${WORDS.retry[lang]}</a>` : ""}<a href="/?password">${WORDS.password[lang]}</a></main>`,
  );

export const dingtalkPage = (
  lang: Lang,
  { url, corpId, clientId, state, to }: { url: string; corpId: string; clientId: string; state: string; to: string },
): string =>
  document(
    lang,
    `<script src="${quoted(url)}" async></script>\n<script src="/sign-in/dingtalk.js" defer></script>\n`,
    `<main id="sign-in" data-corp="${quoted(corpId)}" data-client="${quoted(clientId)}" data-state="${quoted(state)}"
 data-failed="${quoted(WORDS.refused[lang])}" data-noscript="${quoted(WORDS.noscript[lang])}">
<p id="working">${WORDS.working[lang]}</p>
<div id="failed" hidden><h1>${WORDS.failed[lang]}</h1><p id="why" role="alert"></p>
<a class="main" href="/sign-in/dingtalk?browser=1&amp;to=${encodeURIComponent(to)}">${quoted(WORDS.login[lang])}</a></div>
<a href="/?password">${WORDS.password[lang]}</a></main>`,
  );
