// What a page does beyond its HTML: copies ids, and keeps what is live up to date.

const news = document.querySelector("#news");
const live = () => document.querySelector("#live");

function addCopyButtons(scope) {
  if (!navigator.clipboard) return;
  for (const element of scope.querySelectorAll("[data-copy]")) {
    if (element.nextElementSibling?.classList.contains("copy")) continue;
    const button = document.createElement("button");
    button.className = "copy";
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${element.dataset.copy}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(element.textContent.trim());
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    element.after(button);
  }
}

addCopyButtons(document);

// --- Live parts -------------------------------------------------------------------------------

// Rows have ids, by which they are kept, moved and added: who reads or stands in one stays there.
const rows = () => [...live().querySelectorAll("tr[id]")];
const idsOf = (list) => new Set(list.map((row) => row.id));
let before = live() ? idsOf(rows()) : new Set();

// The server tells of each new block. Browsers open few connections to one server over HTTP/1.1, so a
// page that nobody looks at gives its own back.
let watch = null;

function watchBlocks() {
  watch?.close();
  watch = null;
  const url = live()?.dataset.watch;
  if (!url || document.hidden) return;
  watch = new EventSource(url);
  watch.addEventListener("message", () => document.body.dispatchEvent(new Event("block")));
}

document.addEventListener("visibilitychange", watchBlocks);
watchBlocks();

document.addEventListener("htmx:before:request", (event) => {
  if (document.hidden) event.preventDefault();
});

// A page that could not be had, or is an error, changes nothing: the next one may be better.
document.addEventListener("htmx:before:response", (event) => {
  if (event.detail.ctx.response.status !== 200) event.preventDefault();
});

document.addEventListener("htmx:after:swap", () => {
  const fresh = rows().filter((row) => !before.has(row.id));
  for (const row of fresh) row.classList.add("new");
  const told = fresh.find((row) => row.dataset.news);
  if (told) news.textContent = told.dataset.news;
  before = idsOf(rows());
});
