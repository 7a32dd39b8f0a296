// The map's coordinates are rows and columns of the largest product: row r, column c is the point (-r, c).
"use strict";

const AT_FIRST = { scene: 1, composite: 1, mask: 0.7 }; // opacity of what is shown at first
const ORDER = ["scene", "composite", "optical", "cloud_free"]; // lowest first; all others lie above

function element(tag, parent, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

function short(value) {
  return Number.isInteger(value) ? value : Number(value.toPrecision(3));
}

async function json(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.json();
}

async function start() {
  const [item, grid] = await Promise.all([json("files/stac_item.json"), json("layers")]);
  document.title = document.getElementById("name").textContent = item.id;
  const bounds = L.latLngBounds([[-grid.height, 0], [0, grid.width]]);
  const coarsest = -Math.max(0, Math.ceil(Math.log2(Math.max(grid.width, grid.height) / 512)));
  const map = L.map("map", { crs: L.CRS.Simple, minZoom: coarsest, maxZoom: 5, attributionControl: false });
  map.fitBounds(bounds);
  map.createPane("swiped").style.zIndex = 250; // above the scene's tiles

  const titled = Object.entries(grid.layers).map(([name, range]) => ({ name, range, title: "The scene", ...item.assets[name] }));
  if (!("scene" in grid.layers) && !("composite" in grid.layers)) {
    titled.push({ name: "scene", title: "The scene (quick-look)", picture: "files/quicklook.png" });
  }
  const rank = ({ name }) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length + (name === "mask"));
  titled.sort((one, other) => rank(one) - rank(other));
  const outputs = titled.map((one, place) => {
    const options = { pane: rank(one) < 2 ? "tilePane" : "swiped", bounds, zIndex: place + 1 };
    const tiles = { ...options, minZoom: coarsest, maxZoom: 5, maxNativeZoom: 0, level: (at) => -at.z };
    const layer = one.picture
      ? L.imageOverlay(one.picture, bounds, options)
      : L.tileLayer(`tiles/${one.name}/{level}/{y}/{x}`, tiles);
    return [one, panel(map, one, layer)];
  });
  swipe(map);
  values(map, grid, outputs);
}

function panel(map, one, layer) {
  const box = element("fieldset", document.createDocumentFragment());
  const label = element("label", element("legend", box));
  const shown = element("input", label, { type: "checkbox", checked: one.name in AT_FIRST });
  label.append(` ${one.title}`);
  const slider = element("input", box, { type: "range", min: 0, max: 1, step: 0.05, value: AT_FIRST[one.name] ?? 1 });
  slider.setAttribute("aria-label", `Opacity: ${one.title}`);
  const update = () => {
    layer.setOpacity(Number(slider.value));
    shown.checked ? layer.addTo(map) : layer.remove();
  };
  shown.addEventListener("change", update);
  slider.addEventListener("input", update);
  update();
  if (one.range) {
    const ramp = element("div", box, { className: "ramp" });
    for (const end of one.range) element("span", ramp, { textContent: short(end) });
  }
  for (const { description, color_hint: colour } of one.range ? [] : one["classification:classes"] ?? []) {
    const key = element("span", box, { className: "key" });
    element("i", key).style.background = `#${colour}`;
    key.append(description);
  }
  document.getElementById("layers").prepend(box);
  return element("output", box);
}

function swipe(map) {
  const slider = document.getElementById("swipe");
  const clip = () => {
    const size = map.getSize();
    const left = (size.x * slider.value) / slider.max;
    const from = map.containerPointToLayerPoint([left, 0]);
    const to = map.containerPointToLayerPoint(size);
    map.getPane("swiped").style.clip = `rect(${from.y}px, ${to.x}px, ${to.y}px, ${from.x}px)`;
    document.getElementById("line").style.left = `${left}px`;
  };
  slider.addEventListener("input", clip);
  map.on("move resize zoom", clip);
  clip();
}

function values(map, grid, outputs) {
  const place = document.getElementById("place");
  const [a, b, c, d, e, f] = grid.transform;
  let wanted = null;
  let busy = false;
  map.on("mousemove", async ({ latlng }) => {
    wanted = [Math.floor(-latlng.lat), Math.floor(latlng.lng)];
    if (busy) return; // one question at a time; what the cursor passes meanwhile is skipped
    busy = true;
    while (wanted) {
      const [row, column] = wanted;
      wanted = null;
      if (row < 0 || column < 0 || row >= grid.height || column >= grid.width) continue;
      const told = await json(`values/${row}/${column}`).catch(() => ({})); // the server may have been ended
      const [x, y] = [a * (column + 0.5) + b * (row + 0.5) + c, d * (column + 0.5) + e * (row + 0.5) + f];
      const digits = Math.abs(a) < 0.1 ? 5 : 0;
      const where = grid.crs ? ` · ${x.toFixed(digits)}, ${y.toFixed(digits)}` : "";
      place.textContent = `row ${row}, column ${column}${where}${grid.crs?.length < 20 ? ` (${grid.crs})` : ""}`;
      for (const [one, output] of outputs) output.textContent = said(told[one.name] ?? [], one);
    }
    busy = false;
  });
}

function said(bands, one) {
  const classes = new Map((one["classification:classes"] ?? []).map((each) => [each.value, each.description]));
  return bands
    .map(([name, value], place) => {
      if (value === null) return "no data";
      if (place === 0 && classes.has(value)) return `${classes.get(value)} (${value})`;
      return `${name} ${short(value)}`;
    })
    .filter((text, place, all) => all.indexOf(text) === place)
    .join(", ");
}

start().catch((error) => { document.getElementById("place").textContent = `The products cannot be shown: ${error.message}`; });
