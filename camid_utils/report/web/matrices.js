// The page of confusion matrices: choices, matrix, keyboard, photos behind a cell. matrices.py describes its facts.
(async () => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const CHOICES = {
    level: { patch: "patch", photo: "photo" },
    rows: { model: "model", brand: "brand", device: "device" },
    values: { percent: "row %", numbers: "numbers" },
    order: { name: "by name", similarity: "by similarity" },
  };
  const ZERO = "#".charCodeAt(); // of packed numbers
  const TEST = /(: .*|, (new .*|other patches .*|flat fields))$/; // the end of a label, which says how it was tested
  const RAMPS = { light: ["#eaf3f6", "#4d9ab5", "#0b4358"], dark: ["#22353d", "#2f7f9b", "#a5e2f6"] }; // 0, half, all
  const SHOWN = 60; // photos at once
  const NO_PLATEAU = "Training met its limit before the validation loss stopped falling: no verdict rests on it.";
  const NOT_SHOWN = "Real photographs are not shown; where they are public, their names link to the originals.";
  const SELECTION = "Some of the confused photos have thumbnails; these come first.";
  const VOTED = "probabilities after the vote, which treats patches as independent and is often too sure of itself.";
  const OWN = "the classifier’s own probabilities, which may be too sure.";

  const readable = (name) => name.replaceAll("_", " ");
  // As text, "0 %" and "100 %" only where it is none or all.
  function percent(share) {
    if (share > 0 && share < 0.0005) return "< 0.1\u00a0%";
    if (share < 1 && share >= 0.9995) return "> 99.9\u00a0%";
    const digits = (share > 0 && share < 0.0995) || (share < 1 && share >= 0.9905) ? 1 : 0;
    return `${(100 * share).toFixed(digits)}\u00a0%`;
  }
  const number = (n) => n.toLocaleString("en");
  const several = (n, what) => `${number(n)} ${what}${n === 1 ? "" : /(ch|s)$/.test(what) ? "es" : "s"}`;

  function element(tag, options = {}, ...children) {
    const made = Object.assign(document.createElement(tag), options);
    made.append(...children);
    return made;
  }

  // ---- facts

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  }

  const facts = await unpack($("facts").textContent.trim());
  const pictures = JSON.parse($("pictures").textContent);

  for (const [key, columns] of Object.entries(facts.units))
    columns.forEach((column, i) => (facts.experiments[i][key] = column));

  // One object per photo and seed: photo, seed, true, top ([class, percent] each), votes ([class, patches] each),
  // header.
  function unitsOf(one) {
    let photo = 0;
    const row = (text, i, size = text.length / one.photo.length) =>
      Array.from(text.slice(i * size, (i + 1) * size), (letter) => letter.charCodeAt() - ZERO);
    one.list ??= one.photo.map((step, i) => {
      photo += step;
      const share = row(one.share, i);
      const top = row(one.top, i).map((index, k) => [index, share[k]]);
      const votes = one.votes ? [...row(one.votes, i).entries()].filter(([, times]) => times) : [[top[0][0], 1]];
      return { photo, seed: one.seed[i], true: one.true[i], top, votes, header: one.header[i] ?? -1 };
    });
    return one.list;
  }

  // Networks, each with its tests: experiments of one notebook and data set whose labels differ in the test alone.
  const networkName = ({ label }) => label.replace(TEST, "");
  const alike = (one) => [one.notebook, one.dataset, networkName(one)].join();
  const networks = [...Map.groupBy(facts.experiments, alike).values()].map((tests) => ({
    name: networkName(tests[0]),
    tests,
  }));

  const level = () => (state.experiment.votes ? state.level : "photo"); // where a photo is one patch, there is no other

  const networkOf = (one) => networks.find((network) => network.tests.includes(one));

  // What distinguishes a test of a network: its protocol, and what its label says beyond the network's name.
  function testName(one) {
    const { name } = networkOf(one);
    const rest = one.label.startsWith(name) ? one.label.slice(name.length).replace(/^[\s,:]+/, "") : one.label;
    return [one.protocol, rest].filter(Boolean).join(": ") || one.id;
  }

  // ---- choices; the address keeps them

  const state = { experiment: facts.experiments[0] };

  function readHash() {
    const given = new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B")); // "+" belongs to a name
    const asked = given.get("experiment") ?? "";
    const one = facts.experiments.find(({ id }) => id === asked); // else the test whose name begins most like it; of
    const network = ({ id }) => id.split("-")[0] === asked.split("-")[0]; // several, the strictest of this run
    const likeness = ({ id }) => [...id, ""].findIndex((letter, i) => letter !== asked[i]); // letters alike
    const near = facts.experiments.filter(network).reduce((a, b) => (a && likeness(a) > likeness(b) ? a : b), undefined);
    state.experiment = one ?? near ?? state.experiment;
    state.missing = one ? "" : asked;
    state.level = state.experiment.level;
    for (const [key, options] of Object.entries(CHOICES)) {
      if (given.get(key) in options) state[key] = given.get(key);
      state[key] ??= Object.keys(options)[0];
    }
  }

  function writeHash() {
    const entries = Object.keys(CHOICES).map((key) => `${key}=${state[key]}`);
    entries.unshift(`experiment=${encodeURIComponent(state.experiment.id)}`);
    history.replaceState(null, "", `#${entries.join("&")}`);
  }

  function fillChoices() {
    const groups = Map.groupBy(networks, ({ tests }) => tests[0].notebook);
    for (const [notebook, members] of groups) {
      const twice = (name) => members.filter((other) => other.name === name).length > 1;
      const words = ["Notebook", notebook, facts.notebooks[notebook]?.replaceAll("_", " ")].filter(Boolean).join(" ");
      const options = members.map(({ name, tests }) =>
        element("option", { value: networks.findIndex((other) => other.tests === tests) },
          name + (twice(name) ? ` (${facts.datasets[tests[0].dataset][0]})` : "")));
      $("experiment").append(notebook ? element("optgroup", { label: words }, ...options) : options[0]);
    }
    for (const [key, options] of Object.entries(CHOICES))
      for (const [value, text] of Object.entries(options)) {
        const input = element("input", { type: "radio", name: key, value });
        input.addEventListener("change", () => change({ [key]: value }));
        $(key).append(element("label", {}, input, element("span", {}, text)));
      }
    $("experiment").addEventListener("change", (event) => {
      const { tests } = networks[event.target.value];
      change({ experiment: tests.find((one) => one.protocol === state.experiment.protocol) ?? tests[0] });
    });
    $("split").addEventListener("change", (event) => change({ experiment: facts.experiments[event.target.value] }));
  }

  function showChoices() {
    const network = networkOf(state.experiment);
    $("experiment").value = networks.indexOf(network);
    const options = network.tests.map((one) =>
      element("option", { value: facts.experiments.indexOf(one), selected: one === state.experiment }, testName(one)));
    $("split").replaceChildren(...options);
    for (const key of Object.keys(CHOICES))
      for (const input of $(key).querySelectorAll("input")) {
        input.checked = input.value === (key === "level" ? level() : state[key]);
        input.disabled = input.value === "patch" && !state.experiment.votes;
      }
  }

  function change(chosen) {
    Object.assign(state, chosen, { missing: "" });
    writeHash();
    show();
  }

  // ---- the matrix

  // Rows and columns: names, the row of a unit, the column of a class, the column that is right for a row; counts.
  function count() {
    const one = state.experiment;
    const byBrand = state.rows === "brand";
    const names = byBrand ? one.brand_names : one.names;
    const classOf = (index) => (byBrand ? one.brands[index] : index);
    const known = new Set(one.names.slice(0, one.classes).map((_, index) => classOf(index)));
    const order = state.order === "name" ? [...names.keys()] : (byBrand ? one.brand_order : one.order)[level()];
    const columns = order.filter((index) => known.has(index));
    const rows = new Map(); // key: name, class, total, counts by class
    const rowOf = (unit) => {
      const own = classOf(unit.true);
      return state.rows === "device" ? `${own} ${facts.photos.device[unit.photo]}` : String(own);
    };
    for (const unit of unitsOf(one)) {
      const key = rowOf(unit);
      const row = rows.get(key) ?? { key, class: classOf(unit.true), name: rowName(unit, names), total: 0, counts: {} };
      rows.set(key, row);
      for (const [named, times] of level() === "patch" ? unit.votes : [[unit.top[0][0], 1]]) {
        row.counts[classOf(named)] = (row.counts[classOf(named)] ?? 0) + times;
        row.total += times;
      }
    }
    const place = (row) => order.indexOf(row.class);
    const byName = new Intl.Collator("en", { numeric: true }).compare;
    const sorted = [...rows.values()].sort((a, b) => place(a) - place(b) || byName(a.name, b.name));
    return { rows: sorted, columns, names, rowOf, classOf };
  }

  function rowName(unit, names) {
    const own = state.experiment.names[unit.true];
    if (state.rows === "brand") return names[state.experiment.brands[unit.true]];
    if (state.rows === "model") return own;
    const device = facts.devices[facts.photos.device[unit.photo]];
    return device.startsWith(own) ? device : `${own} ${device}`;
  }

  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

  // The colour of a share and black or white on it: of the two the one with more contrast, which is at least 4.5.
  function colours(share) {
    const [light, dark] = ["light", "dark"].map((scheme) => coloursIn(scheme, share));
    return light.map((colour, i) => `light-dark(${colour}, ${dark[i]})`);
  }

  function coloursIn(scheme, share) {
    const ramp = RAMPS[scheme].map(rgb);
    const [from, to, t] = share < 0.5 ? [ramp[0], ramp[1], 2 * share] : [ramp[1], ramp[2], 2 * share - 1];
    const mixed = from.map((a, i) => Math.round(a + t * (to[i] - a)));
    const [r, g, b] = mixed.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    return [`rgb(${mixed.join(" ")})`, luminance > 0.179 ? "#000" : "#fff"];
  }

  function cellText(n, share) {
    if (!n) return "";
    if (state.values === "numbers") return n < 10000 ? String(n) : `${Math.round(n / 1000)}k`;
    return share < 0.005 ? "<1" : share < 1 && share >= 0.995 ? ">99" : String(Math.round(100 * share));
  }

  let matrix;

  function draw() {
    matrix = count();
    const { rows, columns, names } = matrix;
    const table = element("table", { role: "grid" });
    table.setAttribute("aria-labelledby", "title");
    const corner = element("th", { scope: "col" }, "true ↓", element("br"), "predicted →");
    const heads = columns.map((index) => element("th", { scope: "col" }, element("span", {}, readable(names[index]))));
    table.append(element("thead", {}, element("tr", {}, corner, ...heads)));
    const body = element("tbody");
    rows.forEach((row, y) => {
      const small = element("small", {}, ` (${number(row.total)})`);
      const cells = columns.map((index, x) => {
        const n = row.counts[index] ?? 0;
        const options = { tabIndex: -1, role: "gridcell", className: row.class === index ? "right" : "" };
        const made = element("td", options, cellText(n, n / row.total));
        made.dataset.at = `${y} ${x}`;
        if (n) [made.style.background, made.style.color] = colours(n / row.total);
        return made;
      });
      body.append(element("tr", {}, element("th", { scope: "row" }, readable(row.name), small), ...cells));
    });
    table.append(body);
    $("scroll").replaceChildren(table);
    fit();
    $("ramp").style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map((s) => colours(s)[0])})`;
    const first = body.querySelector("td.right") ?? body.querySelector("td");
    first.tabIndex = 0;
  }

  // Sizes for the window's width; the table stays, and with it focus and place.
  function fit() {
    const { rows, columns } = matrix;
    const labels = Math.max(...rows.map((row) => row.name.length)) * 8 + 90;
    const width = Math.max(0, $("scroll").clientWidth - labels);
    const longest = Math.max(...Array.from($("scroll").querySelectorAll("td"), (td) => td.textContent.length));
    const cell = Math.round(Math.min(46, Math.max(22, 7 * longest + 4, width / columns.length)));
    $("scroll").style.setProperty("--cell", `${cell}px`);
    $("scroll").style.setProperty("--columns", columns.length);
    $("scroll").style.setProperty("--letters", `${cell < 26 ? 10.5 : cell < 34 ? 12 : 13.5}px`);
    const { offsetWidth, offsetHeight } = $("scroll").querySelector("th"); // cells do not scroll below the names
    $("scroll").style.scrollPadding = `${offsetHeight}px 16px 16px ${offsetWidth}px`;
  }

  const cellAt = (y, x) => $("scroll").querySelector(`td[data-at="${y} ${x}"]`);
  const placeOf = (cell) => cell.dataset.at.split(" ").map(Number);

  const counted = () => (level() === "patch" ? "patch" : "answer"); // one per photo and seed

  function sentence(y, x) {
    const row = matrix.rows[y];
    const n = row.counts[matrix.columns[x]] ?? 0;
    const of = `${number(n)} of ${several(row.total, counted())}, ${percent(n / row.total)}`;
    return `true ${readable(row.name)}, predicted ${readable(matrix.names[matrix.columns[x]])}: ${of}`;
  }

  function point(cell) {
    const [y, x] = placeOf(cell);
    for (const head of $("scroll").querySelectorAll("th.here")) head.classList.remove("here");
    $("scroll").querySelectorAll("tbody th")[y].classList.add("here");
    $("scroll").querySelectorAll("thead th")[x + 1].classList.add("here");
    $("summary").textContent = sentence(y, x);
  }

  function reach(cell) {
    for (const other of $("scroll").querySelectorAll('td[tabindex="0"]')) other.tabIndex = -1;
    cell.tabIndex = 0;
    cell.focus({ preventScroll: true });
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }; // rows, columns
  Object.assign(MOVES, { Home: [0, -Infinity], End: [0, Infinity] });

  function onKey(event) {
    const cell = event.target.closest("td");
    if (!cell || event.altKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") openPhotos(cell);
    else if (event.key in MOVES) {
      const clip = (value, size) => Math.min(size - 1, Math.max(0, value));
      const [[y, x], [down, right]] = [placeOf(cell), MOVES[event.key]];
      reach(cellAt(clip(y + down, matrix.rows.length), clip(x + right, matrix.columns.length)));
    } else return;
    event.preventDefault();
  }

  // ---- the caption

  function showCaption() {
    const one = state.experiment;
    const [dataset, simulated] = facts.datasets[one.dataset];
    const units = unitsOf(one);
    const right = matrix.rows.reduce((sum, row) => sum + (row.counts[row.class] ?? 0), 0);
    const total = matrix.rows.reduce((sum, row) => sum + row.total, 0);
    const photos = new Set(units.map((unit) => unit.photo)).size;
    const devices = new Set(units.map((unit) => facts.photos.device[unit.photo])).size;
    const kind = simulated ? "SIMULATED photographs: these cameras do not exist" : "REAL photographs";
    const [value, low, high] = state.rows === "brand" ? [] : one.accuracy[level()] ?? [];
    const fixed = (share) => (100 * share).toFixed(1);
    const accuracy = value === undefined
      ? `${state.rows === "brand" ? "Brand correct" : "Accuracy"}: ${fixed(right / total)}\u00a0%`
      : `Accuracy: ${fixed(value)}\u00a0% (95\u00a0% interval ${fixed(low)} to ${fixed(high)})`;
    const pooled = one.seeds > 1
      ? `${one.seeds} seeds pooled: each seed is a separate training, and a photo counts once for each seed that tested it`
      : "one seed";
    const unit = level() === "patch" ? "patch, each by itself" : one.votes ? "photo, by the vote of its patches" : "photo";
    const sizes = [`${several(photos, "photo")} by ${several(devices, "device")}`,
      several(total, counted()),
      several(matrix.columns.length, state.rows === "brand" ? "brand" : "class")].join(", ");
    const lines = [
      [element("strong", {}, kind), ` (${dataset}). Split: ${one.protocol || "not recorded"}. Level: ${unit}.`],
      [`${sizes}; ${pooled}. `, element("strong", {}, accuracy), "."],
    ];
    if (!one.plateau) lines.push([NO_PLATEAU]);
    if (state.missing) lines.unshift([`This run has no test named ${state.missing}; another is shown.`]);
    $("summary").textContent = `${accuracy.split(" (")[0]}. Point at a cell, or move with the arrow keys.`;
    const title = element("p", { id: "title" }, one.label);
    $("caption").replaceChildren(title, ...lines.map((line) => element("p", {}, ...line)));
    document.title = `${one.label}: confusion matrix, ${facts.profile}`;
  }

  // ---- the photos of a cell

  function openPhotos(cell) {
    const [y, x] = placeOf(cell);
    const [row, column] = [matrix.rows[y], matrix.columns[x]];
    const inCell = ([named]) => matrix.classOf(named) === column;
    const votes = (unit) => unit.votes.filter(inCell).reduce((sum, [, times]) => sum + times, 0);
    const share = (unit) => unit.top.filter(inCell).reduce((sum, [, part]) => sum + part, 0);
    const units = unitsOf(state.experiment)
      .filter((unit) => matrix.rowOf(unit) === row.key && (level() === "patch" ? votes(unit) : inCell(unit.top[0])))
      .map((unit) => ({ unit, picture: unit.photo in pictures, votes: votes(unit), share: share(unit) }))
      .sort((a, b) => b.picture - a.picture || (level() === "patch" && b.votes - a.votes) || b.share - a.share);
    if (!units.length) return;
    $("cell").textContent = sentence(y, x);
    const simulated = facts.datasets[state.experiment.dataset][1];
    const kept = !simulated ? NOT_SHOWN : Object.keys(pictures).length ? SELECTION : "";
    $("about").textContent = `${kept} Percentages: ${state.experiment.votes ? VOTED : OWN}`;
    $("list").replaceChildren();
    const append = () => {
      const from = $("list").childElementCount;
      const cards = units.slice(from, from + SHOWN).map(({ unit, votes }) => card(unit, votes, matrix.names[column]));
      $("list").append(...cards);
      const left = units.length - from - SHOWN;
      if (from && left <= 0) Object.assign(cards[0], { tabIndex: -1 }).focus(); // the button goes, and with it the focus
      $("more").hidden = left <= 0;
      $("more").textContent = `Show ${Math.min(SHOWN, left)} more of ${number(left)}`;
    };
    $("more").onclick = append;
    append();
    $("photos").showModal();
    $("photos").scrollTop = 0;
    $("photos").onclose = () => cell.isConnected && reach(cell);
  }

  function card(unit, votes, column) {
    const one = state.experiment;
    const name = facts.photos.name[unit.photo];
    const short = name.split("/").pop();
    const link = facts.photos.link[unit.photo];
    const device = facts.devices[facts.photos.device[unit.photo]];
    const shown = link ? element("a", { href: link, rel: "noreferrer", target: "_blank" }, short) : short;
    const bars = unit.top.flatMap(([index, part]) => {
      const fill = element("span", { className: "fill" });
      fill.style.width = `${part}%`;
      const options = { className: index === unit.true ? "true" : "", title: one.names[index] };
      const label = element("span", options, readable(one.names[index]));
      return [label, element("span", { className: "track" }, fill),
        element("span", {}, `${part === 100 ? "> 99" : part || "< 1"}\u00a0%`)];
    });
    const patches = unit.votes.reduce((sum, [, times]) => sum + times, 0);
    const details = [`device ${readable(device)}`, one.seeds > 1 && `seed ${unit.seed}`,
      patches > 1 && `${votes} of ${patches} patches for ${readable(column)}`].filter(Boolean);
    const text = element("div", {}, element("p", { className: "name", title: name }, shown),
      element("p", {}, details.join(", ")), element("div", { className: "bars" }, ...bars));
    if (unit.header >= 0) text.append(element("p", {}, `header look-up: ${readable(one.names[unit.header])}`));
    const item = element("li", {}, text);
    const picture = pictures[unit.photo];
    if (picture) item.prepend(element("img", { src: picture, alt: `Simulated photo ${short}` }));
    return item;
  }

  // ---- start

  function show() {
    showChoices();
    draw();
    showCaption();
  }

  document.querySelector("h1").append(`: ${facts.profile}`);
  fillChoices();
  readHash();
  show();
  $("starting").remove();
  addEventListener("hashchange", () => ($("photos").close(), readHash(), show()));
  addEventListener("resize", fit);
  $("scroll").addEventListener("keydown", onKey);
  $("scroll").addEventListener("focusin", (event) => event.target.matches("td") && point(event.target));
  $("scroll").addEventListener("mouseover", (event) => event.target.matches("td") && point(event.target));
  $("scroll").addEventListener("click", (event) => event.target.matches("td") && openPhotos(event.target));
  $("close").addEventListener("click", () => $("photos").close());
  $("photos").addEventListener("click", (event) => event.target === $("photos") && $("photos").close());
  document.body.dataset.ready = "true";
})();
