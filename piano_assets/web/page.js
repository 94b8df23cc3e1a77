"use strict";
// Uploads go one after another; what the server says of all files is asked for every second while any is under way.
const list = document.getElementById("list"), said = document.getElementById("said"), drop = document.getElementById("drop");
const uploads = [];
let sending = false, timer = null, shown = null;

function take(files) {
  for (const file of files) uploads.push({ file, sent: 0, error: null });
  send();
  draw([]);
}

async function send() {
  if (sending) return;
  sending = true;
  while (uploads.some((u) => u.error === null)) {
    const next = uploads.find((u) => u.error === null);
    next.error = await upload(next);
    if (next.error === "") uploads.splice(uploads.indexOf(next), 1);
    await refresh();
  }
  sending = false;
}

function upload(one) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/recordings?name=" + encodeURIComponent(one.file.name));
    request.setRequestHeader("x-piano", "page");
    request.upload.onprogress = (event) => { one.sent = event.loaded / Math.max(1, one.file.size); draw(last); };
    request.onload = () => resolve(request.status === 202 ? "" : answer(request));
    request.onerror = () => resolve("The page's server does not answer: is `piano page` still running?");
    request.send(one.file);
  });
}

function answer(request) {
  try { return JSON.parse(request.responseText).error; } catch { return "The server answered " + request.status + "."; }
}

let last = [];
async function refresh() {
  clearTimeout(timer);
  try {
    last = await (await fetch("/recordings")).json();
    said.textContent = "";
  } catch {
    said.textContent = "The page's server does not answer: is `piano page` still running?";
  }
  draw(last);
  const busy = sending || last.some((job) => job.state === "waiting" || job.state === "scoring");
  if (busy) timer = setTimeout(refresh, 1000);
}

function draw(jobs) {
  if (jobs.length) last = jobs;
  list.replaceChildren(
    ...uploads.map((u) => row(u.file.name, u.error ? "refused" : "sending", u.error || "sending", u.error ? null : u.sent)),
    ...last.map((job) => row(job.name, job.state, words(job), job.state === "scoring" ? -1 : null, job)));
}

function words(job) {
  if (job.state === "waiting") return job.ahead ? "waiting, " + job.ahead + " before it" : "waiting, next";
  return { scoring: job.doing || "scoring", scored: "scored", refused: job.refused }[job.state];
}

function row(name, state, text, progress, job) {
  const item = document.createElement("li"), what = document.createElement("span");
  item.className = state;
  what.className = "state";
  what.textContent = " " + text + " ";
  item.append(Object.assign(document.createElement("b"), { textContent: name }), what);
  if (progress !== null) {
    const bar = document.createElement("progress");
    if (progress >= 0) bar.value = progress;
    item.append(bar);
  }
  if (state === "scored") item.append(button("show", () => show(job)), " ", link("JSON", "/recordings/" + job.number + "/json"));
  return item;
}

function button(text, act) {
  const made = Object.assign(document.createElement("button"), { textContent: text, type: "button" });
  made.addEventListener("click", act);
  return made;
}

function link(text, to) {
  return Object.assign(document.createElement("a"), { textContent: text, href: to, target: "_blank", rel: "noopener" });
}

function show(job) {
  if (shown === job.number) return;
  shown = job.number;
  const frame = document.createElement("iframe");
  frame.title = "scores of " + job.name;
  frame.src = "/recordings/" + job.number + "/page";
  document.getElementById("result").replaceChildren(frame);
  frame.scrollIntoView({ behavior: "smooth" });
}

document.getElementById("files").addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
refresh();
