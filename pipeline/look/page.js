"use strict";
(() => {
  const one = (query) => document.querySelector(query), all = (query) => [...document.querySelectorAll(query)];
  document.documentElement.classList.add("js");
  const data = JSON.parse(one("#data").textContent);

  // The table of classes: sorted and searched over all classes, of which the first hundred are shown.
  const body = one("#classes tbody"), heads = all("#classes th button"), search = one("#search");
  let column = data.sorted, down = true;
  const drawn = (row) => {
    const line = document.createElement("tr");
    row.cells.forEach((text, place) => {
      const cell = line.insertCell();
      if (place === 1) {
        cell.append(swatch(row.colour));
        const name = document.createElement("bdi");
        name.textContent = text;
        cell.append(name);
      } else cell.textContent = place && typeof text === "number" ? text.toLocaleString("en") : text;
    });
    const cell = line.insertCell();
    cell.append(box("bar", "currentColor", row.bar));
    return line;
  };
  const svg = (name, values) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
    return made;
  };
  const box = (kind, fill, width) => {
    const made = svg("svg", { class: kind, viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    made.append(svg("rect", { fill, width, height: 10 }));
    return made;
  };
  const swatch = (colour) => box("swatch", colour, 100);
  const show = () => {
    const wanted = search.value.trim().toLowerCase();
    const value = (row) => column === data.sorted ? row.total : row.cells[column]; // its share, which is rounded
    const rows = data.rows.filter((row) => !wanted || row.cells[1].toLowerCase().includes(wanted));
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = typeof x === "number" && typeof y === "number" ? x - y : parseFloat(x) - parseFloat(y) ||
        String(x).localeCompare(String(y));
      return (down ? -order : order) || a.cells[0] - b.cells[0];
    });
    body.replaceChildren(...rows.slice(0, data.most).map(drawn));
    one("#shown").textContent = rows.length > data.most ? `the first ${data.most} of ${rows.length} classes` : "";
  };
  heads.forEach((head, place) => head.addEventListener("click", () => {
    down = column === place ? !down : place !== 1;
    column = place;
    all("#classes th").forEach((th) => th.removeAttribute("aria-sort"));
    head.parentElement.setAttribute("aria-sort", down ? "descending" : "ascending");
    show();
  }));
  if (search) search.addEventListener("input", show);
  const copy = one("#copy");
  if (copy) copy.addEventListener("click", async () => {
    const text = one("#csv").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy as CSV"; }, 1500);
  });

  // The gallery: filtered by class and split, enlarged by the address alone (:target), so that it works without this.
  const figures = all(".gallery figure"), byClass = one("#by-class"), bySplit = one("#by-split");
  if (!figures.length) return;
  const option = (list, text, value) => {
    const made = new Option(text, value);
    list.append(made);
  };
  const present = new Set(figures.flatMap((figure) => figure.dataset.c.split(" ").filter(Boolean)));
  for (const number of [...present].sort((a, b) => a - b)) option(byClass, data.names[number], number);
  for (const split of new Set(figures.map((figure) => figure.dataset.s))) option(bySplit, split, split);
  const filter = () => {
    let count = 0;
    for (const figure of figures) {
      const fits = (!byClass.value || figure.dataset.c.split(" ").includes(byClass.value)) &&
        (!bySplit.value || figure.dataset.s === bySplit.value);
      figure.classList.toggle("gone", !fits);
      count += fits;
    }
    one("#count").textContent = `${count} of ${figures.length} pictures`;
  };
  byClass.addEventListener("change", filter);
  bySplit.addEventListener("change", filter);
  filter();

  let from = null;
  const opened = () => figures.find((figure) => `#${figure.id}` === location.hash);
  const go = (figure) => { location.replace(`#${figure ? figure.id : "images"}`); if (figure) figure.firstElementChild.focus(); };
  const close = () => {
    const y = scrollY, last = opened();
    location.replace("#images");
    scrollTo(0, from ?? y);
    from = null;
    if (last) last.firstElementChild.focus({ preventScroll: true });
  };
  for (const figure of figures) figure.addEventListener("click", (event) => {
    event.preventDefault();
    if (opened() === figure) close();
    else { from = scrollY; go(figure); }
  });
  document.addEventListener("keydown", (event) => {
    const here = opened();
    if (!here || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Escape") close();
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const shown = figures.filter((figure) => !figure.classList.contains("gone"));
    go(shown[(shown.indexOf(here) + step + shown.length) % shown.length]);
  });
})();
