"use strict";
(() => {
  const root = document.documentElement;
  const find = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  // Light and dark: as the system has it, until the button says otherwise.
  const theme = find("#theme");
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);
  const showTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; showTheme(); });
  systemDark.addEventListener("change", showTheme);
  showTheme();

  // Colours of the classes. Pictures of classes are PNG with a palette: its chunk is written anew, with its checksum.
  const table = new Uint32Array(256).map((_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
    return n >>> 0;
  });
  const checksum = (bytes) => ~bytes.reduce((sum, byte) => table[(sum ^ byte) & 255] ^ (sum >>> 8), 0xffffffff) >>> 0;
  const repainted = (source, colours, hidden = new Set()) => {
    const text = atob(source.slice(source.indexOf(",") + 1));
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    const start = text.indexOf("PLTE");
    const view = new DataView(bytes.buffer);
    const length = view.getUint32(start - 4);
    colours.forEach((colour, k) => {
      for (let part = 0; part < 3 && 3 * k + part < length; part++) {
        bytes[start + 4 + 3 * k + part] = parseInt(colour.slice(1 + 2 * part, 3 + 2 * part), 16);
      }
    });
    const seal = (at, size) => view.setUint32(at + 4 + size, checksum(bytes.subarray(at, at + 4 + size)));
    seal(start, length);
    const opacity = text.indexOf("tRNS");
    if (hidden.size && opacity > 0) {
      hidden.forEach((k) => { bytes[opacity + 4 + k] = 0; });
      seal(opacity, view.getUint32(opacity - 4));
    }
    let written = "";
    bytes.forEach((byte) => { written += String.fromCharCode(byte); });
    return "data:image/png;base64," + btoa(written);
  };
  const classColours = () => {
    const style = getComputedStyle(root), colours = [];
    for (let k = 0, colour; (colour = style.getPropertyValue("--k" + k).trim()); k++) colours.push(colour);
    return colours;
  };
  const isClasses = (image) => image.matches(".truth, .prediction, .mask, .layer.classes");
  const repaint = (images) => {
    const colours = classColours();
    images.filter(isClasses).forEach((image) => { image.src = repainted(image.src, colours); });
  };
  const palette = find("#palette");
  if (palette) {
    palette.addEventListener("click", () => {
      const safe = root.dataset.palette !== "safe";
      root.dataset.palette = safe ? "safe" : "legend";
      palette.setAttribute("aria-pressed", String(safe));
      repaint(all("img"));
      document.dispatchEvent(new CustomEvent("palette"));
    });
    if (root.dataset.palette === "safe") repaint(all("img"));
  }
  window.geodistillClasses = (source, hidden, palette) =>
    root.dataset.palette !== palette || hidden.size ? repainted(source, classColours(), hidden) : source;

  // Images: which are shown, which layer, how strongly.
  const gallery = find("#gallery");
  if (!gallery) return;
  const viewer = find("#viewer"), stage = find(".stage", viewer), items = all("li", gallery);
  const layers = all("input[name=layer]");
  const setLayer = (value) => {
    gallery.dataset.layer = stage.dataset.layer = value;
    all("input[name=layer], input[name=viewer-layer]").forEach((input) => { input.checked = input.value === value; });
  };
  const setChoice = (value) => items.forEach((item) => { item.hidden = item.dataset.choice !== value; });
  all("input[name=choice]").forEach((input) => input.addEventListener("change", () => setChoice(input.value)));
  layers.forEach((input) => input.addEventListener("change", () => setLayer(input.value)));
  const strength = find("#strength");
  const setStrength = () => root.style.setProperty("--strength", strength.value / 100);
  strength.addEventListener("input", setStrength);
  setStrength();

  // The enlarged view: dragged, zoomed around the pointer, and driven by keys.
  const choices = find("#viewer-layers");
  choices.append(Object.assign(document.createElement("legend"), { textContent: "Layer" }));
  layers.forEach((input) => {
    const copy = input.parentElement.cloneNode(true);
    const radio = find("input", copy);
    radio.name = "viewer-layer";
    radio.addEventListener("change", () => setLayer(radio.value));
    choices.append(copy);
  });
  let number = 0, scale = 1, x = 0, y = 0;
  const place = () => {
    const pane = find(".pane", stage);
    if (pane) pane.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  };
  const fit = () => { scale = 1; x = y = 0; place(); };
  const zoom = (factor, at = [stage.clientWidth / 2, stage.clientHeight / 2]) => {
    const next = Math.min(Math.max(scale * factor, 1), 32);
    x = at[0] - (at[0] - x) * (next / scale);
    y = at[1] - (at[1] - y) * (next / scale);
    scale = next;
    if (scale === 1) x = y = 0;
    place();
  };
  const show = (index) => {
    const visible = items.filter((item) => !item.hidden);
    number = (index + visible.length) % visible.length;
    const pane = document.createElement("div");
    pane.className = "pane";
    all("img", visible[number]).forEach((image) => pane.append(image.cloneNode()));
    stage.replaceChildren(pane);
    stage.dataset.layer = gallery.dataset.layer;
    find("#viewer-title").textContent = find("figcaption b", visible[number]).textContent;
    setLayer(gallery.dataset.layer);
    fit();
  };
  items.forEach((item) => find("button", item).addEventListener("click", () => {
    viewer.showModal();
    show(items.filter((other) => !other.hidden).indexOf(item));
    stage.focus();
  }));
  const acts = {
    in: () => zoom(1.5), out: () => zoom(1 / 1.5), fit,
    before: () => show(number - 1), after: () => show(number + 1), close: () => viewer.close(),
  };
  all("[data-act]", viewer).forEach((button) => button.addEventListener("click", acts[button.dataset.act]));
  const move = (dx, dy) => { x += dx; y += dy; place(); };
  const keys = {
    "+": acts.in, "=": acts.in, "-": acts.out, 0: fit, n: acts.after, p: acts.before,
    ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0), ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60),
  };
  layers.forEach((input, k) => { keys[k + 1] = () => setLayer(input.value); });
  viewer.addEventListener("keydown", (event) => {
    const onRadio = event.target.matches("input") && event.key.startsWith("Arrow");
    if (!keys[event.key] || onRadio || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, [event.clientX - box.left, event.clientY - box.top]);
  }, { passive: false });
  const pointers = new Map();
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const others = [...pointers.values()].filter((other) => other !== before);
    if (others.length) {
      const other = others[0], box = stage.getBoundingClientRect();
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      zoom(apart(event) / apart(before), [other.clientX - box.left, other.clientY - box.top]);
    } else move(event.clientX - before.clientX, event.clientY - before.clientY);
    pointers.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
})();
