"use strict";
// Sliders, keys, and the rows that come as one scrolls. Every page works without this, by its links and forms.
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Boxes below the threshold are hidden, in what is there and in what comes.
const threshold = one("#threshold");
const boxes = one("#boxes");
function hide(root) {
  const least = threshold ? Number(threshold.value) : 0;
  for (const box of all("[data-score]", root)) box.classList.toggle("off", Number(box.dataset.score) < least);
}
function showBoxes() { document.body.classList.toggle("no-boxes", Boolean(boxes) && !boxes.checked); }
if (threshold) threshold.addEventListener("input", () => { hide(document); });
if (boxes) boxes.addEventListener("change", showBoxes);
for (const slider of all("input[type=range]")) {
  const shown = one(`output[for="${slider.id}"]`);
  slider.addEventListener("input", () => {
    if (shown) shown.textContent = slider.id === "threshold" ? Number(slider.value).toFixed(2) : slider.value;
    if (slider.dataset.name) slider.name = slider.dataset.name;  // only what was moved is sent
  });
}
for (const form of all("form[data-submit]")) form.addEventListener("change", () => form.requestSubmit());
for (const form of all("form.filter")) form.addEventListener("submit", () => {
  for (const field of all("input, select", form)) if (field.value === "") field.disabled = true;  // a short address
});
window.addEventListener("pageshow", () => { for (const field of all("form.filter :disabled")) field.disabled = false; });

// A region of the table lights up its box.
for (const row of all("[data-region]")) {
  const box = one(`.box[data-rank="${row.dataset.region}"]`);
  for (const [event, on] of [["mouseenter", true], ["mouseleave", false]])
    row.addEventListener(event, () => { if (box) box.classList.toggle("on", on); });
}

for (const button of all("[data-copy]")) button.addEventListener("click", async () => {
  const text = document.getElementById(button.dataset.copy).textContent;
  try { await navigator.clipboard.writeText(text); button.textContent = "copied"; }
  catch (refused) { getSelection().selectAllChildren(document.getElementById(button.dataset.copy)); button.textContent = "selected"; }
});

// Work that is not over: the page is asked for again, unless a form is on its way or somebody is in a field.
const again = one("[data-again]");
if (again) {
  const reload = setInterval(() => {
    if (!document.activeElement.matches("form :is(input, select)")) location.reload();
  }, Number(again.dataset.again));
  document.addEventListener("submit", () => clearInterval(reload));
}

// Rows come in chunks as one scrolls; chunks far away give their content back, so that ten thousand rows are few nodes.
const grid = one("#grid");
if (grid && grid.dataset.next) {
  const first = Number(grid.dataset.page);
  const pager = one(".pager");
  let loading = false, next = first + 1, last = false;
  const sentinel = document.createElement("div");
  grid.after(sentinel);
  async function load(chunk, page) {
    const answer = await fetch(`${grid.dataset.next}&page=${page}`);
    if (!answer.ok) return false;
    chunk.innerHTML = await answer.text();  // made by the same templates as the page, escaped there
    chunk.style.minHeight = "";
    hide(chunk);
    return true;
  }
  const watched = new IntersectionObserver(entries => {
    for (const {target, isIntersecting, boundingClientRect} of entries) {
      if (isIntersecting && target.dataset.empty) { delete target.dataset.empty; load(target, target.dataset.page); }
      if (!isIntersecting && !target.dataset.empty && boundingClientRect.height > 0) {
        target.style.minHeight = `${boundingClientRect.height}px`;
        target.dataset.empty = "1";
        target.replaceChildren();
      }
    }
  }, {rootMargin: "4000px"});
  const more = new IntersectionObserver(async entries => {
    if (loading || last || !entries.some(entry => entry.isIntersecting)) return;
    loading = true;
    const chunk = document.createElement("div");
    chunk.className = "chunk";
    chunk.dataset.page = String(next);
    grid.append(chunk);
    if (await load(chunk, next)) {
      watched.observe(chunk);
      last = Boolean(one("[data-last]", chunk));
      next += 1;
    } else { chunk.remove(); last = true; }
    loading = false;
    more.unobserve(sentinel); more.observe(sentinel);  // asks again where the screen is not full
  }, {rootMargin: "1500px"});
  if (pager) pager.hidden = true;
  more.observe(sentinel);
}

// Keys.
document.addEventListener("keydown", event => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const cards = all(".card .open");
  const at = cards.indexOf(document.activeElement);
  const across = () => Math.max(1, cards.filter(card => Math.abs(card.offsetTop - cards[0].offsetTop) < 5).length);
  const steps = {ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: across, ArrowUp: () => -across()};
  if (event.key === "/") { event.preventDefault(); one("#find").focus(); }
  else if (event.key === "?") { const help = one("#help"); if (!help.open) help.showModal(); }
  else if (event.key === "b" && boxes) { boxes.checked = !boxes.checked; showBoxes(); }
  else if (event.key in steps && cards.length) {
    event.preventDefault();
    const to = at < 0 ? 0 : Math.min(cards.length - 1, Math.max(0, at + steps[event.key]()));
    cards[to].focus();
  }
});
