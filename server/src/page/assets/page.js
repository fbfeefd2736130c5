// Copies commands, keeps the list of uploads up to date, and waits for the first measurement. The page works without this file.
"use strict";

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    if (await copy(source)) {
      button.textContent = button.dataset.done;
      setTimeout(() => (button.textContent = label), 2000);
    }
  });
}

// Browsers have a clipboard only at https addresses and on this machine.
async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    const selection = getSelection();
    selection.selectAllChildren(source);
    return document.execCommand("copy");
  }
}

// Until the storage is measured. Nothing is lost: the visitor is not typing.
const unmeasured = document.querySelector("[data-reload]");
if (unmeasured) {
  setInterval(() => {
    const focused = document.activeElement;
    if (!document.hidden && (!focused || focused === document.body)) location.reload();
  }, Number(unmeasured.dataset.reload));
}

const live = document.querySelector("[data-live]");
if (live) {
  refreshRepeatedly(Number(live.dataset.interval));
}

// One request at a time: a slow server must not get more of them.
async function refreshRepeatedly(interval) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, interval));
    await refresh();
  }
}

async function refresh() {
  // The focus would be lost with the row that has it.
  if (document.hidden || live.contains(document.activeElement)) return;
  try {
    const signal = AbortSignal.timeout(30000);
    const response = await fetch(live.dataset.live, { credentials: "same-origin", signal });
    // The session has ended: the whole page leads to the login.
    if (response.status === 403) location.reload();
    if (!response.ok) return;
    const fetched = new DOMParser().parseFromString(await response.text(), "text/html");
    live.replaceChildren(...fetched.body.childNodes);
  } catch {
    // The server restarts, or the network is down: the next attempt follows.
  }
}
