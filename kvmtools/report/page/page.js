"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const hex = (number) => "0x" + number.toString(16);
  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
  for (const each of document.querySelectorAll(".needs-script")) each.hidden = false;

  function svg(name, attributes, parent, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  function goToFinding(number) {
    const finding = byId("finding-" + number);
    if (!finding) return;
    location.hash = "finding-" + number;
    finding.focus();
  }

  // Colours: what the system prefers, until the button is pressed.
  const theme = byId("theme");
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { theme.textContent = isDark() ? "Light colours" : "Dark colours"; };
  theme.hidden = false;
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  systemDark.addEventListener("change", nameTheme);
  nameTheme();

  // The address space: [from, to) is what is seen, high addresses on top.
  function addressSpace(space) {
    const box = byId("space-map"), says = byId("space-says"), smallest = 4096 * 16;
    let from = space.start, to = space.end;

    function size(bytes) {
      for (const [unit, name] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [1024, "KiB"]])
        if (bytes >= unit) return `${Number((bytes / unit).toFixed(bytes % unit ? 1 : 0))} ${name}`;
      return `${bytes} B`;
    }

    function draw() {
      const width = box.clientWidth, height = box.clientHeight, top = 20;
      if (width < 160) return;  // not laid out yet, or too narrow for three columns
      const scale = (height - top - 4) / (to - from);
      const y = (address) => top + (clamp(to - address, 0, to - from)) * scale;
      const left = 84, right = space.found.length ? 66 : 8, inner = width - left - right;
      const columns = { guest: [left, inner * 0.38], mapped: [left + inner * 0.4, inner * 0.2], model: [left + inner * 0.62, inner * 0.38] };
      const root = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      root.setAttribute("aria-hidden", "false");
      for (const [name, [x]] of Object.entries(columns)) svg("text", { x, y: 13, class: "head" }, root, name);
      for (const side of ["guest", "model"]) areas(root, space[side], columns[side], y);
      for (const [start, end, rights, what] of space.mapped) {
        if (end <= from || start >= to) continue;
        const [x, wide] = columns.mapped;
        const bar = svg("rect", { x, y: y(end), width: wide, height: Math.max(0.75, y(start) - y(end)), class: permissionClass(rights) }, root);
        svg("title", {}, bar, `${hex(start)}-${hex(end)} ${rights}, ${what}`);
      }
      edges(root, y, left, width - right);
      spots(root, y, width - right);
      box.replaceChildren(root);
      says.textContent = `${hex(from)} to ${hex(to)}, ${size(to - from)}: ${names()}`;
    }

    function permissionClass(rights) {
      if (rights.endsWith("user")) return "p-user";
      return { "rw-": "p-rw", "r-x": "p-rx", "r--": "p-r", "rwx": "p-rwx" }[rights.slice(0, 3)];
    }

    function areas(root, list, [x, wide], y) {
      for (const [name, start, end] of list) {
        if (end <= from || start >= to) continue;
        const high = Math.max(0.75, y(start) - y(end));
        const area = svg("rect", { x, y: y(end), width: wide, height: high, class: name.startsWith("(") ? "gap" : "area" }, root);
        svg("title", {}, area, `${name}: ${hex(start)}-${hex(end)}, ${size(end - start)}`);
        if (high < 14) continue;
        const room = Math.floor((wide - 10) / 7.3);
        const words = [`${name}, ${size(end - start)}`, name, name.split(",")[0]].find((each) => each.length <= room);
        if (words) svg("text", { x: x + 6, y: (y(start) + y(end)) / 2 + 4 }, root, words);
      }
    }

    function edges(root, y, left, right) {
      const ends = (list) => new Set(list.flatMap(([, start, end]) => [start, end]));
      const guest = ends(space.guest), model = ends(space.model);
      let last = -100;
      for (const at of [...new Set([...guest, ...model, from, to])].sort((a, b) => b - a)) {
        if (at < from || at > to) continue;
        const differs = space.model.length && guest.has(at) && !model.has(at);
        svg("line", { x1: left, x2: right, y1: y(at), y2: y(at), class: differs ? "differs" : "edge" }, root);
        if (y(at) - last < 13) continue;
        last = y(at);
        svg("text", { x: 4, y: clamp(y(at) + 4, 24, box.clientHeight - 4) }, root, at.toString(16).padStart(8, "0"));
      }
    }

    function spots(root, y, x) {
      let last = -100;
      for (const [address, number, title] of [...space.found].sort((a, b) => b[0] - a[0])) {
        if (address < from || address >= to) continue;
        const at = y(address), link = svg("a", { href: "#finding-" + number, "aria-label": title }, root);
        svg("path", { d: `M${x} ${at}l9 -5v10z`, class: "spot" }, link);
        svg("title", {}, link, `${hex(address)}: ${title}`);
        link.addEventListener("click", (event) => { event.preventDefault(); goToFinding(number); });
        if (at - last >= 13) { svg("text", { x: x + 13, y: at + 4 }, link, number); last = at; }
      }
    }

    function names() {
      const seen = (space.guest.length ? space.guest : space.model).filter(([, start, end]) => end > from && start < to);
      return seen.map(([name]) => name).join(", ");
    }

    function show(low, high) {
      const wide = clamp(Math.round(high - low), smallest, space.end - space.start);
      from = clamp(Math.round((low + high - wide) / 2), space.start, space.end - wide);
      to = from + wide;
      draw();
    }

    const middle = () => (from + to) / 2;
    const zoom = (factor, at = middle()) => show(at - (at - from) * factor, at + (to - at) * factor);
    const pan = (part) => show(from + (to - from) * part, to + (to - from) * part);
    const around = (start, end) => show(start - (end - start) * 0.25, end + (end - start) * 0.25);
    function enter() {
      const inside = space.guest.find(([, start, end]) => start <= middle() && middle() < end);
      if (inside) around(inside[1], inside[2]);
    }
    const moves = {
      in: () => zoom(0.5), out: () => zoom(2), up: () => pan(0.25), down: () => pan(-0.25), all: () => show(space.start, space.end), enter,
    };
    const keys = {
      "+": "in", "=": "in", "-": "out", ArrowUp: "up", ArrowDown: "down", PageUp: "up", PageDown: "down", Home: "all", "0": "all", Enter: "enter",
    };
    box.addEventListener("keydown", (event) => {
      const move = keys[event.key];
      if (!move || event.target !== box || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      moves[move]();
    });
    box.addEventListener("dblclick", (event) => {
      const place = (event.clientY - box.getBoundingClientRect().top - 20) / (box.clientHeight - 24);
      zoom(0.5, to - clamp(place, 0, 1) * (to - from));
    });
    for (const button of document.querySelectorAll("[data-zoom]"))
      button.addEventListener("click", () => moves[button.dataset.zoom]());
    for (const button of document.querySelectorAll("[data-from]"))
      button.addEventListener("click", () => { around(Number(button.dataset.from), Number(button.dataset.to)); box.focus(); });
    new ResizeObserver(draw).observe(box);
    return (address) => { show(address - 2 ** 19, address + 2 ** 19); box.focus(); };
  }

  // pkmap: one cell of the grid is in the tab order, arrow keys move it.
  function slotGrid() {
    const grid = byId("slots"), says = byId("slot-says");
    const cells = [...grid.querySelectorAll("td")], columns = grid.rows[0].cells.length - 1;
    let at = 0;
    function move(to) {
      cells[at].tabIndex = -1;
      at = clamp(to, 0, cells.length - 1);
      cells[at].tabIndex = 0;
      cells[at].focus();
    }
    const steps = {
      ArrowLeft: () => at - 1, ArrowRight: () => at + 1, ArrowUp: () => (at < columns ? at : at - columns),
      ArrowDown: () => (at + columns < cells.length ? at + columns : at),
      Home: (event) => (event.ctrlKey ? 0 : at - at % columns), End: (event) => (event.ctrlKey ? cells.length : at - at % columns + columns) - 1 + (event.ctrlKey ? 1 : 0),
    };
    grid.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        const link = cells[at].querySelector("a");
        if (link) { event.preventDefault(); goToFinding(link.hash.slice("#finding-".length)); }
      } else if (steps[event.key]) {
        event.preventDefault();
        move(steps[event.key](event));
      }
    });
    grid.addEventListener("focusin", (event) => {
      const cell = event.target.closest("td");
      if (!cell) return;
      cells[at].tabIndex = -1;
      at = cells.indexOf(cell);
      cell.tabIndex = 0;
      says.textContent = cell.getAttribute("aria-label");
    });
    grid.addEventListener("click", (event) => {
      const cell = event.target.closest("td");
      if (cell && !event.target.closest("a")) move(cells.indexOf(cell));
    });
  }

  // Physical memory: a cursor on the cells of the drawing.
  function memoryMap(memory) {
    const box = byId("memory-map"), says = byId("memory-says"), cursor = byId("memory-cursor"), drawing = box.querySelector("svg");
    const starts = [];
    let cells = 0, at = 0;
    for (const run of memory.runs) { starts.push(cells); cells += run[0]; }
    const found = new Map(memory.found);

    function runOf(cell) {
      let low = 0, high = starts.length - 1;
      while (low < high) {
        const half = (low + high + 1) >> 1;
        if (starts[half] <= cell) low = half; else high = half - 1;
      }
      return memory.runs[low];
    }

    function move(to) {
      at = clamp(to, 0, cells - 1);
      cursor.setAttribute("x", at % memory.columns);
      cursor.setAttribute("y", Math.floor(at / memory.columns));
      cursor.setAttribute("visibility", "visible");
      const first = at * memory.cell, last = Math.min(first + memory.cell, memory.pages) - 1, counts = runOf(at).slice(1), said = [];
      for (let i = 0; i < counts.length; i += 2) said.push(`${counts[i + 1]} ${memory.states[counts[i]]}`);
      const zone = memory.zones.find(([, start, end]) => start <= last && first < end);
      const numbers = found.get(at) || [];
      says.textContent = `pfn ${hex(first)}${last > first ? " to " + hex(last) : ""}, physical ${hex(first * 4096)}` +
        `${zone ? ", zone " + zone[0] : ""}: ${said.join(", ")}${numbers.length ? "; finding " + numbers.join(", ") : ""}`;
    }

    const steps = {
      ArrowLeft: () => at - 1, ArrowRight: () => at + 1,
      ArrowUp: () => (at < memory.columns ? at : at - memory.columns),
      ArrowDown: () => (at + memory.columns < cells ? at + memory.columns : at),
      PageUp: () => (at < 8 * memory.columns ? at % memory.columns : at - 8 * memory.columns),
      PageDown: () => (at + 8 * memory.columns < cells ? at + 8 * memory.columns : at),
      Home: (event) => (event.ctrlKey ? 0 : at - at % memory.columns),
      End: (event) => (event.ctrlKey ? cells - 1 : at - at % memory.columns + memory.columns - 1),
    };
    box.addEventListener("keydown", (event) => {
      if (event.target !== box) return;
      if (event.key === "Enter" && found.has(at)) { event.preventDefault(); goToFinding(found.get(at)[0]); }
      if (!steps[event.key]) return;
      event.preventDefault();
      move(steps[event.key](event));
    });
    box.addEventListener("focus", () => move(at));
    drawing.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (link) { event.preventDefault(); goToFinding(link.getAttribute("href").slice("#finding-".length)); return; }
      const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
      const x = clamp(Math.floor(place.x), 0, memory.columns - 1), y = Math.max(0, Math.floor(place.y));
      at = clamp(y * memory.columns + x, 0, cells - 1);
      move(at);
      box.focus();
    });
    for (const [label, start] of memory.zones) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.addEventListener("click", () => { at = Math.floor(start / memory.cell); box.focus(); move(at); });
      byId("memory-zones").append(button);
    }
    return (pfn) => { at = Math.floor(pfn / memory.cell); move(at); box.focus(); box.scrollIntoView({ block: "nearest" }); };
  }

  const showAddress = data.space && addressSpace(data.space);
  const showPage = data.memory && memoryMap(data.memory);
  if (byId("slots")) slotGrid();
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || !link.closest(".links, .back, #slots")) return;
    const { address, pfn } = link.dataset;
    if (address !== undefined && showAddress) { event.preventDefault(); showAddress(Number(address)); byId("space-map").scrollIntoView({ block: "nearest" }); }
    else if (pfn !== undefined && showPage) { event.preventDefault(); showPage(Number(pfn)); }
    else {
      const target = byId(link.getAttribute("href").slice(1));
      if (target) setTimeout(() => target.focus(), 0);
    }
  });
})();
