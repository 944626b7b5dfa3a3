// The list of clips: what is searched and filtered stands in the address, so every view can be linked to.
import { closeClip, node, showClip, stopOrPlay } from "/clip.js";

const byId = (id) => document.getElementById(id);
const main = document.querySelector("main");
const q = byId("q"), sort = byId("sort"), list = byId("list"), count = byId("count"), choices = byId("choices");
const FACETS = { split: "Split", standing: "Outcome", reason: "Reason" };
let about, shown = [], open = null, asked = 0, timer = 0;

function state() { return new URLSearchParams(location.search); }

function go(change, { push = false, keepPlace = false } = {}) {
  address(change, { push, keepPlace });
  return refresh();
}

function address(change, { push, keepPlace }) {
  const next = state();
  change(next);
  if (!keepPlace) next.delete("first");
  const text = next.toString();
  history[push ? "pushState" : "replaceState"](null, "", text ? `/?${text}` : "/");
}

function put(parameters, name, value) {
  if (value === "" || value === null) parameters.delete(name);
  else parameters.set(name, value);
}

async function ask(path) {
  let reply;
  try {
    reply = await fetch(path, { headers: { Accept: "application/json" } });
  } catch {
    throw new Error("the server does not answer: is valor-data view still running?");
  }
  const tree = await reply.json();
  if (!reply.ok) throw new Error(tree.error || reply.statusText);
  return tree;
}

async function refresh() {
  const now = state(), number = ++asked;
  const wanted = new URLSearchParams(now);
  wanted.delete("clip");
  main.setAttribute("aria-busy", "true");
  try {
    const answer = await ask(`/api/clips?${wanted}`);
    if (number !== asked) return;
    shown = answer.clips;
    drawList(answer, now);
    drawChoices(answer.facets, now);
  } catch (error) {
    if (number === asked) count.replaceChildren(error.message);
  }
  if (number === asked) main.removeAttribute("aria-busy");
  await followClip();
}

function drawList(answer, now) {
  const total = about.num_clips.toLocaleString("en");
  const fits = node("strong", {}, answer.count.toLocaleString("en"));
  count.replaceChildren(fits, answer.count === about.num_clips ? " clips" : ` of ${total} clips`);
  byId("changed").hidden = !answer.changed;
  list.replaceChildren(...shown.map((clip) => node("li", {}, card(clip, now))));
  list.start = answer.first + 1;
  const last = answer.first + shown.length;
  byId("pages").hidden = answer.count <= about.page;
  byId("place").textContent = `${(answer.first + 1).toLocaleString("en")} to ${last.toLocaleString("en")}`;
  byId("before").disabled = answer.first === 0;
  byId("after").disabled = last >= answer.count;
}

function card(clip, now) {
  const link = new URLSearchParams(now);
  link.set("clip", clip.key);
  const caption = clip.captions[0] || "";
  const below = [node("span", { class: "number" }, clip.split)];
  if (clip.duration !== null) below.push(node("span", {}, `${clip.duration.toFixed(1)} s`));
  if (clip.rms !== null) below.push(node("span", {}, `${clip.rms.toFixed(0)} dBFS`));
  if (clip.standing !== "kept") {
    const words = clip.reason ? `${clip.standing}: ${clip.reason}` : clip.standing;
    below.unshift(node("span", { class: `standing ${clip.standing}` }, words));
  }
  const picture = clip.shard
    ? node("img", { src: `/media/${clip.key}/thumbnail`, alt: "", loading: "lazy", decoding: "async" })
    : "no picture";
  const text = caption ? node("p", { class: "words" }, caption) : node("p", { class: "words empty" }, "no caption");
  const box = node("a", { class: "card", href: `/?${link}`, "data-key": clip.key },
    node("span", { class: "picture", "aria-hidden": "true" }, picture),
    node("span", {}, text, node("span", { class: "below" }, ...below)));
  box.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    openClip(clip.key);
  });
  return box;
}

function drawChoices(facets, now) {
  for (const [name, values] of Object.entries(facets)) {
    for (const [value, number] of Object.entries(values)) {
      const label = choices.querySelector(`label[data-facet="${name}"][data-value="${CSS.escape(value)}"]`);
      if (!label) continue;
      label.querySelector("input").checked = now.getAll(name).includes(value);
      label.querySelector(".number").textContent = number.toLocaleString("en");
      label.classList.toggle("none", number === 0);
    }
  }
  for (const input of choices.querySelectorAll("input[type=number]")) {
    if (document.activeElement !== input) input.value = now.get(input.name) || "";
  }
  if (document.activeElement !== q) q.value = now.get("q") || "";
  sort.value = now.get("sort") || "";
  const filters = [...now.keys()].filter((name) => !["q", "sort", "first", "clip"].includes(name)).length;
  byId("clear").hidden = filters === 0;
  byId("filters-on").textContent = filters ? `(${filters})` : "";
}

function makeChoices() {
  for (const [name, heading] of Object.entries(FACETS)) {
    const values = about.facets[name].filter((value) => value !== "");
    if (values.length < 2 && name !== "reason") continue;
    if (!values.length) continue;
    const field = node("fieldset", {}, node("legend", {}, heading));
    for (const value of values) {
      const box = node("input", { type: "checkbox", name, value });
      box.addEventListener("change", () => go((next) => {
        const kept = next.getAll(name).filter((one) => one !== value);
        next.delete(name);
        for (const one of box.checked ? [...kept, value] : kept) next.append(name, one);
      }, { push: true }));
      const label = node("label", { class: "choice", "data-facet": name, "data-value": value }, box,
        node("span", { class: "name" }, value), node("span", { class: "number" }, ""));
      if (about.meanings[value]) label.title = about.meanings[value];
      field.append(label);
    }
    choices.append(field);
  }
  for (const [name, range] of Object.entries(about.ranges)) {
    const heading = range.label[0].toUpperCase() + range.label.slice(1);
    const input = (side, value, words) => {
      const made = node("input", {
        type: "number", step: "any", name: `${side}_${name}`, placeholder: String(Math.round(value * 10) / 10),
        "aria-label": `${heading}, ${words}, ${range.unit}`,
      });
      made.addEventListener("input", () => later(() => go((next) => put(next, made.name, made.value))));
      return made;
    };
    choices.append(node("fieldset", {}, node("legend", {}, `${heading}, ${range.unit}`),
      node("div", { class: "range" }, input("min", range.least, "at least"), "to", input("max", range.largest, "at most"))));
  }
  const orders = [["", "as in the set"]];
  for (const [name, range] of Object.entries(about.ranges)) {
    orders.push([name, `${range.label}, least first`], [`-${name}`, `${range.label}, most first`]);
  }
  sort.replaceChildren(...orders.map(([value, words]) => node("option", { value }, words)));
}

function later(action) {
  clearTimeout(timer);
  timer = setTimeout(action, 160);
}

// One clip beside the list.

function openClip(key) {
  address((next) => next.set("clip", key), { push: true, keepPlace: true });
  return followClip();
}

async function followClip() {
  const key = state().get("clip");
  for (const box of list.querySelectorAll(".card")) {
    if (box.dataset.key === key) box.setAttribute("aria-current", "true");
    else box.removeAttribute("aria-current");
  }
  if (key === open) return;
  const before = open;
  open = key;
  if (!key) {
    closeClip();
    main.classList.remove("open");
    document.title = `${about.title} · valor-data`;
    const box = before && list.querySelector(`.card[data-key="${CSS.escape(before)}"]`);
    if (box) box.focus();
    return;
  }
  main.classList.add("open");
  await showClip(key, { ask, close, step, labelled: (label) => searched(`label:"${label}"`) });
  document.title = `${key} · ${about.title}`;
}

function searched(text) {
  const link = new URLSearchParams();
  link.set("q", text);
  return `/?${link}`;
}

function close() {
  address((next) => next.delete("clip"), { push: true, keepPlace: true });
  return followClip();
}

function step(by) {
  const at = shown.findIndex((clip) => clip.key === open);
  const next = shown[at < 0 ? (by > 0 ? 0 : shown.length - 1) : at + by];
  if (next) {
    openClip(next.key);
    list.querySelector(`.card[data-key="${CSS.escape(next.key)}"]`)?.scrollIntoView({ block: "nearest" });
  }
}

function turn(by) {
  return go((next) => {
    const first = Math.max(0, Number(next.get("first") || 0) + by * about.page);
    put(next, "first", first ? String(first) : "");
  }, { push: true, keepPlace: true }).then(() => {
    scrollTo({ top: 0 });
    byId("results").focus({ preventScroll: true });
  });
}

// Keys.

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const typing = event.target.closest("input:not([type=checkbox]), select, textarea");
  if (event.key === "Escape") {
    if (typing && typing.value && typing === q) return;
    if (typing) typing.blur();
    else if (open) close();
    return;
  }
  if (typing) {
    if (event.key === "ArrowDown" && typing === q) {
      event.preventDefault();
      list.querySelector(".card")?.focus();
    }
    return;
  }
  const actions = { "/": () => { q.focus(); q.select(); }, j: () => move(1), k: () => move(-1), p: stopOrPlay, "?": help };
  const action = actions[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});

function move(by) {
  if (open) return step(by);
  const boxes = [...list.querySelectorAll(".card")];
  const at = boxes.indexOf(document.activeElement);
  boxes[Math.min(Math.max(at + by, 0), boxes.length - 1)]?.focus();
}

function help() { byId("help").showModal(); }

q.addEventListener("input", () => later(() => go((next) => put(next, "q", q.value.trim()))));
byId("search").addEventListener("submit", (event) => event.preventDefault());
choices.addEventListener("submit", (event) => event.preventDefault());
sort.addEventListener("change", () => go((next) => put(next, "sort", sort.value), { push: true }));
byId("before").addEventListener("click", () => turn(-1));
byId("after").addEventListener("click", () => turn(1));
byId("help-open").addEventListener("click", help);
byId("clear").addEventListener("click", () => go((next) => {
  for (const name of [...next.keys()]) if (!["q", "sort", "clip"].includes(name)) next.delete(name);
}, { push: true }));
addEventListener("popstate", refresh);

try {
  about = await ask("/api/about");
  byId("title").textContent = about.title;
  byId("title").title = about.title;
  document.title = `${about.title} · valor-data`;
  if (matchMedia("(max-width: 760px)").matches) byId("filters").open = false;
  makeChoices();
  q.value = state().get("q") || "";
  await refresh();
} catch (error) {
  count.replaceChildren(error.message);
}
