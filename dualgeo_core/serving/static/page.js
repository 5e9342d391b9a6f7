// The page: sends chosen or dropped photos to POST /locate and shows the answers with DualGeoMap.
"use strict";

const byId = (id) => document.getElementById(id);
const PHOTOS_AT_ONCE = 8;
const records = [];
let map = null;
let shown = null;
const coastlines = fetch("/coastlines.json").then((response) => response.json());

function say(text) { byId("status").textContent = text; }

function addError(text) {
  const item = document.createElement("li");
  item.textContent = text;
  byId("errors").append(item);
}

async function send(files) {
  const body = new FormData();
  for (const file of files) body.append("photos", file, file.name);
  const headers = byId("token").value ? { Authorization: `Bearer ${byId("token").value}` } : {};
  const response = await fetch("/locate?for_map=true", { method: "POST", body, headers });
  const retry = Number(response.headers.get("Retry-After"));
  if ((response.status === 503 || response.status === 429) && retry) {
    say(`The service is busy. Trying again in ${retry} s.`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * retry));
    return send(files);
  }
  const content = await response.json();
  if (response.status === 401) byId("token-row").hidden = false;
  if (content.error) throw new Error(content.error);
  return content.answers;
}

async function locate(files) {
  if (!files.length) return;
  byId("errors").replaceChildren();
  byId("progress").hidden = false;
  let done = 0;
  for (let start = 0; start < files.length; start += PHOTOS_AT_ONCE) {
    const part = files.slice(start, start + PHOTOS_AT_ONCE);
    say(`Locating ${done + 1} to ${done + part.length} of ${files.length} photos.`);
    try {
      for (const answer of await send(part)) {
        if (answer.status === "unreadable") addError(`${answer.photo}: ${answer.reason}.`);
        else records.push(answer);
      }
    } catch (error) {
      addError(`${part.map((file) => file.name).join(", ")}: ${error.message}.`);
    }
    done += part.length;
    byId("progress").value = done / files.length;
    await show();
  }
  byId("progress").hidden = true;
  byId("photos").value = "";
  say(records.length ? `${records.length} ${records.length === 1 ? "photo" : "photos"} on the map.` : "No photo was located.");
}

async function show() {
  if (!records.length) return;
  map = DualGeoMap.show(byId("map"), records, await coastlines, (record) => {
    shown = record;
    const placed = record.latitude !== null;
    byId("copy").disabled = !placed;
    byId("osm").hidden = !placed;
    const place = `${record.latitude}/${record.longitude}`;
    const zoom = Math.max(3, Math.min(16, Math.round(14 - Math.log2(record.radius_90_km || 1))));
    if (placed) byId("osm").href = `https://www.openstreetmap.org/?mlat=${record.latitude}&mlon=${record.longitude}#map=${zoom}/${place}`;
  });
  byId("actions").hidden = false;
}

function asGeoJson() {
  return { type: "FeatureCollection", features: records.map(({ spread, candidates, thumbnail, latitude, longitude, ...properties }) => ({
    type: "Feature", properties,
    geometry: latitude === null ? null : { type: "Point", coordinates: [longitude, latitude] } })) };
}

byId("photos").addEventListener("change", (event) => locate([...event.target.files]));
byId("form").addEventListener("submit", (event) => event.preventDefault());
for (const name of ["dragover", "dragenter"]) document.addEventListener(name, (event) => {
  event.preventDefault();
  byId("drop").classList.add("over");
});
for (const name of ["dragleave", "drop"]) document.addEventListener(name, (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => locate([...event.dataTransfer.files]));
byId("copy").addEventListener("click", async () => {
  const text = `${shown.latitude}, ${shown.longitude}`;
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied: ${text}`);
  } catch {
    say(`Coordinates: ${text}`);
  }
});
byId("geojson").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(asGeoJson())], { type: "application/geo+json" }));
  link.download = "dualgeo.geojson";
  link.click();
  URL.revokeObjectURL(link.href);
});
