"use strict";
(() => {
  const frame = document.getElementById("map-frame");
  if (!frame) return;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const about = read("map-about"), stored = read("map-tiles");
  const all = (selector) => [...document.querySelectorAll(selector)];
  const side = about.tile, shown = side + 0.7; // between two zoom levels tiles would leave seams, so they overlap a little

  // Pixel (column, row) of the map is at x, -y of the plane; at zoom 0 a pixel of the map is one of the screen.
  const plane = L.Util.extend({}, L.CRS.Simple);
  const zoomOf = (level) => level - about.finest;
  const map = L.map(frame, {
    crs: plane, minZoom: zoomOf(0) - 1, maxZoom: 4, zoomSnap: 0.25, zoomDelta: 1, attributionControl: true, keyboard: true,
  });
  map.attributionControl.setPrefix("Leaflet");
  const bounds = L.latLngBounds([[-about.height, 0], [0, about.width]]);
  map.setMaxBounds(bounds.pad(0.5));

  // Pictures beside the page cannot be painted anew, since a page may not read files: while classes are hidden or have other
  // colours, they are drawn from what is in the page.
  const hidden = new Set();
  const repaints = () => hidden.size > 0 || document.documentElement.dataset.palette !== about.palette;
  const coarser = document.getElementById("map-coarser");
  const showCoarser = () => { coarser.hidden = !about.folder || !repaints(); };
  showCoarser();
  const address = (layer, level, x, y) => {
    const text = (stored[layer.name] || {})[`${level}/${x}/${y}`];
    if (text) {
      const source = `data:image/${layer.suffix.slice(1)};base64,${text}`;
      return layer.kind === "classes" ? window.geodistillClasses(source, hidden, about.palette) : source;
    }
    if (layer.kind === "classes" && repaints()) return "";
    return level >= about.embedded && about.folder ? `${encodeURIComponent(about.folder)}/${layer.name}/${level}/${x}/${y}${layer.suffix}` : "";
  };

  // A tile that is not in the page is cut out of a coarser one until it has come from the folder, or where that is gone.
  const piece = (layer, level, x, y) => {
    const tile = document.createElement("div");
    tile.className = "map-tile";
    for (let up = 0; up <= level; up++) {
      const inPage = level - up < about.embedded;
      if (!inPage && up > 0) continue;
      const source = address(layer, level - up, x >> up, y >> up);
      if (!source) { if (inPage) break; continue; }
      const image = new Image();
      image.alt = "";
      image.draggable = false;
      const scale = 2 ** up, size = (scale * shown) / side;
      image.style.left = `${-(x % scale) * shown}px`;
      image.style.top = `${-(y % scale) * shown}px`;
      image.addEventListener("load", () => {
        image.style.width = `${image.naturalWidth * size}px`;
        image.style.height = `${image.naturalHeight * size}px`;
        image.style.visibility = "visible";
      });
      image.addEventListener("error", () => image.remove());
      image.src = source;
      tile.prepend(image);
      if (inPage) break;
    }
    return tile;
  };

  const Tiles = L.GridLayer.extend({
    initialize(layer, pane) {
      this.about = layer;
      L.GridLayer.prototype.initialize.call(this, {
        pane, tileSize: side, bounds, noWrap: true, keepBuffer: 1,
        minNativeZoom: zoomOf(0), maxNativeZoom: zoomOf(about.level), minZoom: zoomOf(0) - 1, maxZoom: 4,
      });
    },
    createTile(coords) { return piece(this.about, coords.z - zoomOf(0), coords.x, coords.y); },
  });
  const layers = about.layers.map((layer, k) => {
    const pane = map.createPane(`layer-${layer.name}`);
    pane.style.zIndex = 200 + k;
    pane.classList.add("leaflet-tile-pane");
    return { ...layer, pane, tiles: new Tiles(layer, `layer-${layer.name}`) };
  });
  map.fitBounds(bounds);
  const fitted = () => layers.forEach((layer) => {
    const box = all("input.map-layer").find((input) => input.value === layer.name);
    if (box.checked) layer.tiles.addTo(map); else layer.tiles.remove();
  });
  all("input.map-layer").forEach((input) => input.addEventListener("change", fitted));
  fitted();
  all("input.map-strength").forEach((input) => {
    const layer = layers.find((each) => each.name === input.dataset.layer);
    const set = () => { layer.pane.style.opacity = input.value / 100; };
    input.addEventListener("input", set);
    set();
  });

  // Swipe: what lies over the lowest layer ends at the divider.
  const swipe = document.getElementById("swipe");
  const divider = document.createElement("div");
  divider.className = "map-divider";
  frame.append(divider);
  const clip = () => {
    const share = swipe.value / 100, size = map.getSize();
    const start = map.containerPointToLayerPoint([0, 0]), end = map.containerPointToLayerPoint([size.x * share, size.y]);
    layers.slice(1).forEach((layer) => {
      layer.pane.style.clipPath = share >= 1 ? "none"
        : `polygon(${start.x}px ${start.y}px, ${end.x}px ${start.y}px, ${end.x}px ${end.y}px, ${start.x}px ${end.y}px)`;
    });
    divider.style.left = `${100 * share}%`;
    divider.hidden = share >= 1;
  };
  swipe.addEventListener("input", clip);
  map.on("move zoom viewreset resize moveend zoomend", clip);
  clip();

  // Classes that are switched off, and colours that are changed: the tiles of classes are made anew.
  const renew = () => {
    showCoarser();
    layers.filter((layer) => layer.kind === "classes").forEach((layer) => layer.tiles.redraw());
  };
  all("input.map-class").forEach((input) => input.addEventListener("change", () => {
    if (input.checked) hidden.delete(Number(input.value)); else hidden.add(Number(input.value));
    renew();
  }));
  document.addEventListener("palette", renew);

  // Scale, and the place under the pointer.
  const scaleBar = L.control({ position: "bottomleft" });
  scaleBar.onAdd = () => {
    const bar = L.DomUtil.create("div", "map-scale");
    const update = () => {
      const perPixel = (about.gsd || 1) / 2 ** map.getZoom();
      const power = 10 ** Math.floor(Math.log10(perPixel * 120));
      const length = [5, 2, 1].map((factor) => factor * power).find((each) => each <= perPixel * 120) || power;
      bar.style.width = `${length / perPixel}px`;
      bar.textContent = about.gsd ? (length >= 1000 ? `${length / 1000} km` : `${length} m`) : `${length} pixels`;
    };
    map.on("zoomend", update);
    update();
    return bar;
  };
  scaleBar.addTo(map);
  const place = document.getElementById("map-place");
  map.on("mousemove", (event) => {
    const column = event.latlng.lng, row = -event.latlng.lat;
    const inside = column >= 0 && row >= 0 && column < about.width && row < about.height;
    let text = inside ? `row ${Math.floor(row)}, column ${Math.floor(column)}` : "\u00a0";
    if (inside && about.transform) {
      const [a, b, c, d, e, f] = about.transform;
      const digits = Math.abs(a) < 0.01 ? 6 : 1;
      text += `; ${(a * column + b * row + c).toFixed(digits)}, ${(d * column + e * row + f).toFixed(digits)} (${about.crs})`;
    }
    place.textContent = text;
  });
  window.geodistillMap = map;
})();
