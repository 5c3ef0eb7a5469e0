// The live page renews itself, takes answers, and draws pictures that can be looked into. It asks its own server only.
"use strict";

const SILENT_MS = 60_000; // without a word of the server for so long a banner says so
const RENEW_MS = 60_000; // what counts down is renewed so often, whether anything changed or not
const LOOK_MS = 5_000;
const ASK_MS = 8_000; // so long a button waits for its second press

const main = document.getElementById("main");
const silent = document.getElementById("silent");
const visible = () => document.visibilityState === "visible";
const keyed = (name, scope = main) => [...scope.querySelectorAll(`${name}[data-key]`)];

// --- what stands there ------------------------------------------------------------------------------------------------

let heardAt = Date.now();
let renewedAt = Date.now();
let shown = null; // the part that stands there, as it came
let waiting = null; // one that came while somebody was typing
let asking = false;
let askAgain = false;
let signedOut = false;

function say(text, link) {
  silent.hidden = text === null;
  if (text === null || silent.textContent.startsWith(text)) return;
  silent.textContent = `${text} `;
  if (link) silent.append(Object.assign(document.createElement("a"), { href: location.href, textContent: link }));
}

function heard() {
  heardAt = Date.now();
  if (!signedOut) say(null);
}

function leave() {
  signedOut = true;
  hangUp();
  say("You are not signed in any more, and what stands here grows old.", "Sign in again");
}

function isBusy() {
  const here = document.activeElement;
  const chosen = getSelection();
  return (
    (here && main.contains(here) && here.matches("input, textarea")) ||
    (!chosen.isCollapsed && main.contains(chosen.anchorNode)) ||
    main.querySelector("button.asks, button:disabled") !== null
  );
}

async function renew() {
  if (main.querySelector("[data-still]")) return; // what is looked up of the past does not change
  if (asking) {
    askAgain = true;
    return;
  }
  asking = true;
  renewedAt = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { "X-Part": "main" }, cache: "no-store" });
    if (answer.status === 401) return leave();
    if (!answer.ok) return;
    const text = await answer.text();
    if (/^\s*<!doctype/i.test(text)) return leave(); // led to the page where one signs in
    if (signedOut) {
      signedOut = false;
      say(null);
      listen();
    }
    if (text === shown) return;
    if (isBusy()) waiting = text;
    else put(text);
  } catch {
    // The network is away; the banner says so when the stream has been silent for long enough.
  } finally {
    asking = false;
    if (askAgain) {
      askAgain = false;
      renew();
    }
  }
}

const named = (element) => `${element.tagName} ${element.getAttribute("href") || element.value || element.textContent}`;

function put(text) {
  const open = new Set(keyed("details").filter((one) => one.open).map((one) => one.dataset.key));
  const typed = new Map(keyed("input").map((one) => [one.dataset.key, [one.value, one.defaultValue]]));
  const said = new Map(keyed("output").map((one) => [one.dataset.key, one.textContent]));
  const here = document.activeElement;
  const focused = here && here !== main && main.contains(here) ? named(here) : null;

  main.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.childNodes);
  shown = text;
  waiting = null;

  for (const one of keyed("details")) one.open = open.has(one.dataset.key);
  for (const one of keyed("input")) {
    const [value, before] = typed.get(one.dataset.key) || [];
    if (value !== before) one.value = value;
  }
  for (const one of keyed("output")) one.textContent = said.get(one.dataset.key) || "";
  prepare();
  if (focused) {
    const again = [...main.querySelectorAll("a, button, summary, [tabindex]")].find((one) => named(one) === focused);
    again?.focus({ preventScroll: true });
  }
}

function prepare() {
  const titled = main.querySelector("[data-title]");
  if (titled) document.title = titled.dataset.title;
  for (const form of main.querySelectorAll("form.answers, form.propose, form.approve")) form.hidden = false;
  draw();
}

// --- one stream a browser, of a page that is seen -----------------------------------------------------------------------

const others = "BroadcastChannel" in window ? new BroadcastChannel("mm") : null;
let stream = null;
let again = 0;
let letGo = null; // gives the turn to another tab
let noLonger = null; // stops waiting for the turn

function receive(kind) {
  if (!visible() || signedOut) return;
  heard();
  if (kind === "changed") renew();
}

function tell(kind) {
  others?.postMessage(kind);
  receive(kind);
}

function connect() {
  stream = new EventSource("/stream");
  stream.onopen = () => tell("alive");
  stream.addEventListener("alive", () => tell("alive"));
  stream.addEventListener("changed", () => tell("changed"));
  stream.onerror = () => {
    // It comes back by itself unless it was refused: then the page finds out why, and tries again.
    if (stream?.readyState !== EventSource.CLOSED) return;
    renew();
    again = setTimeout(connect, LOOK_MS);
  };
}

function listen() {
  if (noLonger || signedOut) return;
  const stop = new AbortController();
  noLonger = () => stop.abort();
  if (!navigator.locks) {
    connect();
    return;
  }
  const held = () => new Promise((done) => {
    letGo = done;
    connect();
  });
  navigator.locks.request("mm-stream", { signal: stop.signal }, held).catch(() => {});
}

function hangUp() {
  clearTimeout(again);
  stream?.close();
  stream = null;
  letGo?.();
  letGo = null;
  noLonger?.();
  noLonger = null;
}

function look() {
  if (!visible()) return;
  const now = Date.now();
  if (waiting !== null && !isBusy()) put(waiting);
  if (!signedOut && now - heardAt > SILENT_MS) {
    say("Nothing was heard from the server for a minute: what stands here may be old.");
  }
  if (!signedOut && now - renewedAt >= RENEW_MS) renew();
}

// --- answers ------------------------------------------------------------------------------------------------------------

async function post(path, content) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Requested-With": "mm" },
    body: JSON.stringify(content),
  });
  const read = await answer.json().catch(() => ({}));
  const sentence = [read.sentence, read.error, read.detail].find((one) => typeof one === "string");
  return { status: answer.status, ok: answer.ok, sentence, read };
}

function ask(button) {
  const before = button.textContent;
  button.textContent = button.dataset.asks;
  button.classList.add("asks");
  setTimeout(() => {
    button.textContent = before;
    button.classList.remove("asks");
  }, ASK_MS);
}

async function respond(button) {
  const form = button.form;
  if (button.dataset.asks && !button.classList.contains("asks")) return ask(button);
  const buttons = [...form.querySelectorAll("button")];
  const said = form.querySelector("output");
  const note = form.elements.note.value.trim() || null;
  said.textContent = "";
  for (const one of buttons) one.disabled = true;
  try {
    const path = `/grids/${encodeURIComponent(form.dataset.grid)}/respond`;
    const answer = await post(path, { action: button.value, note });
    if (answer.status === 401) leave();
    said.textContent = answer.sentence || (answer.ok ? "Noted." : `It was not noted (${answer.status}).`);
    if (answer.ok) form.elements.note.value = "";
  } catch {
    said.textContent = "It was not noted: the server does not answer.";
  }
  for (const one of buttons) one.disabled = false;
  button.classList.remove("asks");
  renew();
}

// --- leaving a grid by the program -----------------------------------------------------------------------------------------

async function leaveGrid(button) {
  if (button.dataset.asks && !button.classList.contains("asks")) return ask(button);
  const form = button.form;
  const said = form.querySelector("output");
  const proposes = form.matches("form.propose");
  const path = proposes ? `/grids/${encodeURIComponent(form.dataset.grid)}/exit` : `/x/${form.dataset.plan}`;
  const content = proposes
    ? { mode: button.value, accept: form.elements.accept.checked }
    : {
        until: Number(form.dataset.until),
        signature: form.dataset.signature,
        stopped: Boolean(form.elements.stopped?.checked),
        amount: form.elements.amount?.value.trim() || null,
      };
  said.textContent = "";
  button.disabled = true;
  try {
    const answer = await post(path, content);
    if (answer.status === 401) leave();
    if (answer.ok && answer.read.link) return location.assign(answer.read.link);
    said.textContent = answer.sentence || (answer.ok ? "Noted." : `It was not done (${answer.status}).`);
    if (answer.ok) return location.reload();
  } catch {
    said.textContent = "It is not known whether it was done: the server does not answer. See mm exit status.";
  }
  button.disabled = false;
  button.classList.remove("asks");
}

// --- where a code is redeemed ---------------------------------------------------------------------------------------------

function enter(form) {
  const code = form.elements.code;
  const refused = document.getElementById("refused");
  const brought = new URLSearchParams(location.hash.slice(1)).get("code") || location.hash.slice(1);
  if (brought) {
    // Only a press redeems it: what merely opens the link spends nothing. It does not stay in the address.
    code.value = brought;
    history.replaceState(null, "", location.pathname);
    form.querySelector("button").focus();
  }
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    form.querySelector("button").disabled = true;
    refused.textContent = "";
    try {
      const answer = await post("/enter", { code: code.value.trim() });
      if (answer.ok) {
        if (location.pathname === "/enter") location.replace("/");
        else location.reload();
        return;
      }
      refused.textContent = answer.sentence || "This code is not valid: it was used, it is too old, or it was mistyped.";
    } catch {
      refused.textContent = "The server does not answer.";
    }
    form.querySelector("button").disabled = false;
    code.select();
  });
}

// --- pictures that can be looked into -------------------------------------------------------------------------------------

let charts = [];
let zoomed = null; // from and until, seconds; kept when the page is renewed

const zone = document.documentElement.dataset.timezone;
const moment = (options) => {
  const format = new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
  return (seconds) => format.format(new Date(1000 * seconds));
};
const dayOf = moment({ day: "numeric", month: "short" });
const hourOf = moment({ hour: "2-digit", minute: "2-digit" });
const timeOf = moment({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
function rankColours() {
  const probe = main.appendChild(document.createElement("i"));
  const found = [0, 1, 2, 3].map((rank) => {
    probe.className = `b${rank}`;
    return getComputedStyle(probe).backgroundColor;
  });
  probe.remove();
  return found;
}

// Curves came as steps between known values, in units of the last decimal.
function undone({ decimals, steps }) {
  const values = (curve, at = 0) => curve.map((step) => (step === null ? null : (at += step) / 10 ** decimals));
  return Object.fromEntries(Object.entries(steps).map(([name, curve]) => [name, values(curve)]));
}

function draw() {
  const kept = zoomed;
  for (const one of charts) one.destroy();
  charts = [];
  const section = main.querySelector("[data-series]");
  if (!section || typeof uPlot === "undefined") return;
  const series = JSON.parse(section.dataset.series);
  const price = undone(series.price);
  const ends = price.close.map((_, piece) => series.start + Math.min((piece + 1) * series.piece, series.bars) * series.bar);
  const [decision, equity] = [section.querySelector(".plot.tall"), section.querySelector(".plot:not(.tall)")];
  if (decision) chart(decision, 290, [ends, price.low, price.high, price.close], priceOptions(series));
  if (equity && series.money) {
    const { realised, unrealised, total } = undone(series.money);
    chart(equity, 200, [ends, realised, unrealised, total], moneyOptions());
  }
  // They first show all that there is; then what was looked into before.
  if (kept) requestAnimationFrame(() => charts.forEach((one) => one.setScale("x", { ...kept })));
}

function chart(place, height, data, options) {
  const legend = document.createElement("div");
  legend.className = "chart-says";
  place.classList.add("drawn");
  place.replaceChildren();
  if (place.nextElementSibling?.classList.contains("chart-says")) place.nextElementSibling.remove();
  place.after(legend);
  const axis = { stroke: colour("soft"), grid: { stroke: colour("rule"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const made = new uPlot(
    {
      width: place.clientWidth,
      height,
      padding: [8, 0, 0, 0],
      tzDate: (seconds) => uPlot.tzDate(new Date(1000 * seconds), zone),
      cursor: { sync: { key: "mm", setSeries: false }, points: { size: 7 }, drag: { x: true, y: false } },
      legend: { mount: (_, element) => legend.append(element), markers: { width: 0 } },
      axes: [
        { ...axis, size: 32, values: (self, splits, __, ___, step) => splits.map((one) => (self.valToPos(one, "x") < 20 ? "" : (step >= 86400 ? dayOf : hourOf)(one))) },
        { ...axis, side: 1, size: 68, values: (_, splits) => splits.map((one) => options.text(one)) },
      ],
      ...options.rest,
      hooks: {
        ...options.hooks,
        setScale: [
          (self, key) => {
            if (key !== "x") return;
            const { min, max } = self.scales.x;
            const whole = min <= self.data[0][0] && max >= self.data[0].at(-1);
            zoomed = whole ? null : { min, max };
          },
        ],
      },
    },
    data,
    place,
  );
  new ResizeObserver(() => place.clientWidth && made.setSize({ width: place.clientWidth, height })).observe(place);
  charts.push(made);
}

const curve = (label, stroke, more) => ({ label, stroke, width: 1.6, points: { show: false }, ...more });
// Where nothing is pointed at, the newest is said.
const last = (self, row) => self.data[row].findLast((one) => one !== null) ?? null;
const orLast = (text) => (self, value, row, place) => text(place === null ? last(self, row) : value);
const when = { label: "at", value: orLast((seconds) => (seconds === null ? "–" : timeOf(seconds))) };

function priceOptions(series) {
  const ranks = rankColours();
  const unknown = colour("rule");
  const text = (value) => {
    if (value === null) return "–";
    if (series.decimals !== null) return value.toLocaleString("en-GB", { minimumFractionDigits: series.decimals, maximumFractionDigits: series.decimals });
    return value.toLocaleString("en-GB", { maximumSignificantDigits: 6 });
  };
  const [grid, alarm, ink] = [colour("grid"), colour("alarm"), colour("ink")];
  const range = (_, low, high) => {
    const width = series.upper - series.stop;
    if (low <= series.upper + 2 * width && high >= series.stop - 2 * width) {
      low = Math.min(low, series.stop);
      high = Math.max(high, series.upper);
    }
    const margin = Math.max(0.04 * (high - low), 0.002 * high);
    return [low - margin - 0.2 * (high - low), high + margin]; // below is room for regime and states
  };
  const line = (self, value, stroke, width, dash, name) => {
    const { ctx, bbox } = self;
    const y = self.valToPos(value, "y", true);
    if (y < bbox.top || y > bbox.top + bbox.height) return;
    ctx.strokeStyle = ctx.fillStyle = stroke;
    ctx.lineWidth = width * devicePixelRatio;
    ctx.setLineDash(dash.map((one) => one * devicePixelRatio));
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    if (!name) return;
    ctx.font = `${11 * devicePixelRatio}px system-ui`;
    const above = y - bbox.top > 16 * devicePixelRatio;
    ctx.textBaseline = above ? "bottom" : "top";
    ctx.fillText(name, bbox.left + 10 * devicePixelRatio, y + (above ? -2 : 3) * devicePixelRatio);
  };
  const strips = (self) => {
    const { ctx, bbox } = self;
    const one = 6 * devicePixelRatio;
    const bottom = bbox.top + bbox.height;
    const piece = (pieces, top) => {
      for (const [start, bars, rank] of pieces) {
        const left = self.valToPos(series.start + start * series.bar, "x", true);
        const right = self.valToPos(series.start + (start + bars) * series.bar, "x", true);
        ctx.fillStyle = rank === null ? unknown : ranks[rank];
        const [y, height] = top(rank);
        ctx.fillRect(left, y, right - left, height);
      }
    };
    piece(series.states, (rank) => [bottom - one * (rank + 1), one * (rank + 1)]);
    piece(series.verdicts, () => [bottom - 6 * one, one]);
  };
  const clipped = (paint) => (self) => {
    const { ctx, bbox } = self;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    paint(self);
    ctx.restore();
  };
  return {
    text,
    hooks: {
      drawAxes: [ // over the lines of the axes, below the curves
        clipped((self) => {
          for (const level of series.levels) line(self, level, `${grid}38`, 1, []);
          line(self, series.upper, grid, 1.5, [], "upper");
          line(self, series.lower, grid, 1.5, [], "lower");
          line(self, series.stop, alarm, 2, [6, 4], "stop");
          strips(self);
        }),
      ],
    },
    rest: {
      scales: { y: { range } },
      bands: [{ series: [2, 1], fill: `${ink}40` }],
      series: [
        when,
        curve("low", "transparent", { value: orLast(text) }),
        curve("high", "transparent", { value: orLast(text) }),
        curve("close", ink, { value: orLast(text) }),
      ],
    },
  };
}

function moneyOptions() {
  const text = (value) => (value === null ? "–" : value.toLocaleString("en-GB", { maximumFractionDigits: 2, signDisplay: "exceptZero" }));
  const value = orLast(text);
  return {
    text,
    hooks: {},
    rest: {
      series: [
        when,
        curve("realised", colour("realised"), { value }),
        curve("unrealised", colour("unrealised"), { value, dash: [5, 3] }),
        curve("total", colour("ink"), { value, width: 2.4 }),
      ],
    },
  };
}

// --- begin ----------------------------------------------------------------------------------------------------------------

function begin() {
  for (const one of document.querySelectorAll(".without-script")) one.remove();
  const door = document.getElementById("enter");
  if (door) return enter(door);
  prepare();
  main.addEventListener("click", (event) => {
    const button = event.target.closest("form.answers button");
    if (button) respond(button);
    const leaving = event.target.closest("form.propose button, form.approve button");
    if (leaving) leaveGrid(leaving);
  });
  main.addEventListener("submit", (event) => {
    if (event.target.matches("form.answers, form.propose, form.approve")) event.preventDefault(); // the Enter key in a note answers nothing
  });
  others?.addEventListener("message", (event) => receive(event.data));
  document.addEventListener("visibilitychange", () => {
    if (!visible()) return hangUp();
    heard();
    listen();
    renew();
  });
  addEventListener("pagehide", hangUp);
  addEventListener("pageshow", (event) => event.persisted && listen());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  setInterval(look, LOOK_MS);
  if (visible()) listen();
}

begin();
