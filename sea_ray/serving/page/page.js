// Questions to several models side by side. Whatever a model writes becomes text, never markup.

import { Refused, call, chunks, forgetKey, hasKey, json, keepKey, takeKeyFromLink } from "./api.js";

const MAX_COLUMNS = 3;
const $ = (id) => document.getElementById(id);
const made = (id) => $(id).content.firstElementChild.cloneNode(true);

let settings; // of the server: whether it asks for a key and flags refusals; the languages and their questions
let cards = []; // what /v1/models says
let chatless = new Set(); // checkpoints without a chat template
let columns = []; // the models side by side: {element, wantsPack, said}
let running = null; // AbortController of the turn in progress

// ---- Connection

async function start() {
  takeKeyFromLink();
  settings = await json("page/settings.json");
  for (const { code, name, native_name: native } of settings.languages)
    $("language").append(option(code, native === name ? native : `${native} · ${name}`, code));
  const own = navigator.languages.map((tag) => tag.split("-")[0].replace("fil", "tl")).find((code) => languageOf(code));
  $("language").value = own ?? "en";
  if (settings.needs_key && !hasKey()) askForKey("");
  else await connect();
}

async function connect() {
  try {
    await readCards();
    for (const { id } of roots())
      if (!(await json(`tokenizer_info?model=${encodeURIComponent(id)}`)).chat_template) chatless.add(id);
  } catch (error) {
    if (error.status === 401) forgetKey();
    askForKey(error.message);
    return;
  }
  $("connect").hidden = true;
  $("setup").hidden = $("ask").hidden = false;
  $("change-key").hidden = !settings.needs_key;
  if (!columns.length) {
    $("max-tokens").value = Math.min(128, ...cards.map((card) => Math.floor(card.max_model_len / 2)));
    const [first, ...others] = roots().map((card) => card.id);
    const second = others.find((id) => id === "base") ?? others[0];
    for (const root of second ? [first, second] : [first]) addColumn(root);
  }
  showLanguage();
  $("question").focus();
}

async function readCards() {
  cards = (await json("v1/models")).data;
  const packs = cards.length - roots().length;
  $("connection").textContent = `${count(roots().length, "checkpoint")}, ${count(packs, "language pack")}`;
}

function askForKey(problem) {
  $("connect").hidden = false;
  $("setup").hidden = $("ask").hidden = $("change-key").hidden = true;
  $("connection").textContent = "";
  $("connect-problem").textContent = problem;
  $("key").focus();
}

// ---- Models and language

const roots = () => cards.filter((card) => !card.parent);
const languageOf = (code) => settings.languages.find((each) => each.code === code);
const languageNow = () => languageOf($("language").value);
const packOf = (root, code) => cards.find((card) => card.parent === root && card.language === code);

function addColumn(root) {
  const element = made("column");
  const column = { element, wantsPack: false, said: [] };
  const select = element.querySelector(".root");
  for (const { id } of roots()) select.append(option(id, id));
  select.value = root;
  select.onchange = () => showColumn(column, true);
  element.querySelector(".pack").onchange = (event) => {
    column.wantsPack = event.target.checked;
    showColumn(column);
  };
  element.querySelector(".remove").onclick = () => {
    columns = columns.filter((each) => each !== column);
    element.remove();
    showColumns();
    $("add-column").focus();
  };
  columns.push(column);
  $("columns").append(element);
  showColumn(column, true);
  showColumns();
}

function showColumns() {
  columns.forEach(({ element }, place) => {
    element.querySelector("legend").textContent = `Model ${place + 1}`;
    const remove = element.querySelector(".remove");
    remove.hidden = columns.length === 1;
    remove.ariaLabel = `Remove model ${place + 1}`;
  });
  $("add-column").hidden = columns.length >= MAX_COLUMNS;
}

function showColumn({ element, wantsPack }, isNew = false) {
  const root = element.querySelector(".root").value;
  const pack = packOf(root, $("language").value);
  const tick = element.querySelector(".pack");
  const { code, native_name: native } = languageNow();
  tick.disabled = !pack;
  tick.checked = Boolean(pack) && wantsPack; // the wish outlasts a language without a pack
  const label = tick.nextElementSibling;
  label.replaceChildren(pack ? "with the pack of " : "has no pack of ", spoken(code, native));
  element.querySelector(".note").textContent = pack && tick.checked ? aboutPack(pack) : "";
  const form = element.querySelector(".form");
  form.firstElementChild.disabled = chatless.has(root);
  if (isNew) form.value = "chat";
  if (chatless.has(root)) form.value = "text";
}

function aboutPack(card) {
  const parts = [count(card.neurons, "neuron")];
  if (card.approximate) parts.push("approximate: laid on another checkpoint than it was trained on");
  if (!card.loaded) parts.push("is loaded at the first question");
  return parts.join(" · ");
}

function showLanguage() {
  const { code, questions } = languageNow();
  $("question").lang = code;
  $("questions").replaceChildren(...questions.map((text) => {
    const button = spoken(code, text, "button");
    button.type = "button";
    button.onclick = () => {
      $("question").value = text;
      $("question").focus();
    };
    return button;
  }));
  columns.forEach((column) => showColumn(column));
}

const modelOf = ({ element }) => {
  const root = element.querySelector(".root").value;
  return element.querySelector(".pack").checked ? packOf(root, $("language").value).id : root;
};

// ---- Questions and answers

async function ask(question) {
  const turn = made("turn");
  running = new AbortController();
  showRunning(true);
  const heading = turn.querySelector("h2");
  heading.textContent = question;
  heading.lang = $("language").value;
  $("log").append(turn);
  const answers = columns.map((column) => {
    const card = made("answer");
    card.querySelector(".text").lang = $("language").value;
    turn.querySelector(".answers").append(card);
    return answer(column, question, card, running.signal);
  });
  turn.scrollIntoView({ block: "start" });
  $("status").textContent = "Answering …";
  await Promise.all(answers);
  running = null;
  showRunning(false);
  $("status").textContent = `${count(answers.length, "answer")}.`;
  await readCards().catch(() => {}); // a pack may have been loaded; if the server has gone, the next question says so
  columns.forEach((column) => showColumn(column));
}

async function answer(column, question, card, signal) {
  const model = modelOf(column);
  const plain = column.element.querySelector(".form").value === "text";
  const { code } = languageNow();
  const text = card.querySelector(".text").appendChild(document.createTextNode(""));
  const began = performance.now();
  const found = { first: null, tokens: null, end: null };
  const before = plain || !$("remember").checked ? [] : column.said.filter((turn) => turn.model === model && turn.code === code);
  card.querySelector("h3").append(model, ...asides(model, plain, before.length).flatMap((text) => [" ", aside(text)]));
  try {
    for await (const chunk of chunks(...asked(model, plain, before, question), signal)) {
      const [choice] = chunk.choices;
      const piece = choice?.text ?? choice?.delta?.content;
      if (piece) {
        found.first ??= performance.now();
        text.appendData(piece);
      }
      found.end = choice?.finish_reason ?? found.end;
      found.tokens = chunk.usage?.completion_tokens ?? found.tokens;
    }
    showFigures(card, found, began);
    if (!text.data.trim()) card.querySelector(".text").append(aside("an empty answer"));
    else if (settings.flags_refusals) showFlag(card, text.data); // the next question need not wait for it
  } catch (error) {
    const isStopped = error.name === "AbortError";
    card.querySelector(".problem").textContent = isStopped ? "Stopped." : error.message;
    if (error.status === 401) askForKey(error.message);
    if (!isStopped && !(error instanceof Refused)) console.error(error);
  } finally {
    card.ariaBusy = "false";
    if (text.data && !plain) column.said.push({ model, code, question, answer: text.data });
  }
}

/** Returns the request for an answer; `before` is what the model itself said so far in this language. */
function asked(model, plain, before, question) {
  const body = {
    model, temperature: Number($("temperature").value), max_tokens: Number($("max-tokens").value),
    stream: true, stream_options: { include_usage: true },
  };
  if (plain) return ["v1/completions", { ...body, prompt: question }];
  const messages = before.flatMap((turn) => [said("user", turn.question), said("assistant", turn.answer)]);
  return ["v1/chat/completions", { ...body, messages: [...messages, said("user", question)] }];
}

function asides(model, plain, numBefore) {
  const found = cards.find((card) => card.id === model).approximate ? ["approximate"] : [];
  if (plain) found.push("continues the text");
  if (numBefore) found.push(`remembers ${count(numBefore, "turn")}`);
  return found;
}

function showFigures(card, { first, tokens, end }, began) {
  const seconds = (performance.now() - began) / 1000;
  const rate = document.createElement("strong");
  rate.textContent = `${(tokens / seconds).toFixed(1)} tokens/s`;
  const parts = [` · ${count(tokens, "token")} in ${seconds.toFixed(2)} s`];
  if (first !== null) parts.push(` · first after ${((first - began) / 1000).toFixed(2)} s`);
  if (end === "length") parts.push(" · cut at the limit");
  card.querySelector(".figures").append(rate, ...parts);
}

async function showFlag(card, text) {
  const flag = card.querySelector(".flag");
  flag.textContent = "Does it refuse? …"; // the first time in a process this is learnt, which takes some seconds
  try {
    const { refusal } = await json("refusal", { text });
    flag.textContent = refusal ? "refuses" : "does not refuse";
    flag.classList.add(refusal ? "yes" : "no");
  } catch (error) {
    flag.textContent = `Whether it refuses is not known: ${error.message}`;
  }
}

function showRunning(isRunning) {
  $("send").hidden = isRunning;
  $("stop").hidden = !isRunning;
  $("clear").hidden = isRunning || !$("log").childElementCount;
}

// ---- Small things

const said = (role, content) => ({ role, content });
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

function option(value, text, lang = "") {
  const element = new Option(text, value);
  element.lang = lang;
  return element;
}

function spoken(lang, text, tag = "span") {
  const element = document.createElement(tag);
  Object.assign(element, { lang, dir: "auto", textContent: text });
  return element;
}

const aside = (text) => Object.assign(document.createElement("small"), { textContent: text });

// ---- What a person does

$("connect").onsubmit = (event) => {
  event.preventDefault();
  keepKey($("key").value);
  $("key").value = "";
  connect();
};
$("change-key").onclick = () => {
  forgetKey();
  askForKey("");
};
window.onhashchange = () => {
  if (takeKeyFromLink()) connect();
};
$("language").onchange = showLanguage;
$("add-column").onclick = () => {
  const used = columns.map(({ element }) => element.querySelector(".root").value);
  addColumn(roots().map((card) => card.id).find((id) => !used.includes(id)) ?? used[0]);
};
$("ask").onsubmit = (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (running || !question || !$("temperature").reportValidity() || !$("max-tokens").reportValidity()) return;
  $("question").value = "";
  ask(question);
};
$("question").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
};
document.onkeydown = (event) => {
  if (event.key === "Escape") running?.abort();
};
$("stop").onclick = () => running?.abort();
$("clear").onclick = () => {
  $("log").replaceChildren();
  columns.forEach((column) => (column.said = []));
  showRunning(false);
  $("question").focus();
};

start();
