// The map of DualGeo's answers: the world in Equal Earth, and a view round one answer that is true to distance.
// A page calls DualGeoMap.show(element, records, coastlines, whenOneIsChosen). The posterior is drawn from its kernels at every zoom.
"use strict";

const DualGeoMap = (() => {
  const RADIUS_KM = 6371.0088;
  const RAD = Math.PI / 180;
  const NEAR_KM = 50; // a true place that is this near is in the view round the answer
  const COLOURS = { posterior: [196, 64, 32], answer: "#b3261e", candidate: "#1f5fa8", cluster: "#8a5a00", path: "#444", truth: "#006b4f" };

  // Geometry. Angles are degrees, distances km.
  function distanceKm(latA, lonA, latB, lonB) {
    const half = Math.sin(((latB - latA) * RAD) / 2) ** 2
      + Math.cos(latA * RAD) * Math.cos(latB * RAD) * Math.sin(((lonB - lonA) * RAD) / 2) ** 2;
    return 2 * RADIUS_KM * Math.asin(Math.sqrt(Math.min(1, half)));
  }

  function destination(lat, lon, bearing, km) {
    const angle = km / RADIUS_KM;
    const sine = Math.sin(lat * RAD) * Math.cos(angle) + Math.cos(lat * RAD) * Math.sin(angle) * Math.cos(bearing * RAD);
    const arrival = Math.asin(Math.max(-1, Math.min(1, sine)));
    const east = Math.atan2(
      Math.sin(bearing * RAD) * Math.sin(angle) * Math.cos(lat * RAD),
      Math.cos(angle) - Math.sin(lat * RAD) * Math.sin(arrival));
    return [arrival / RAD, ((lon + east / RAD + 540) % 360) - 180];
  }

  // Equal Earth (Savric, Patterson and Jenny 2018, equations 1 to 3); x and y in km.
  const A = [1.340264, -0.081106, 0.000893, 0.003796];
  const rise = (t) => A[0] + 3 * A[1] * t ** 2 + 7 * A[2] * t ** 6 + 9 * A[3] * t ** 8;
  const height = (t) => A[0] * t + A[1] * t ** 3 + A[2] * t ** 7 + A[3] * t ** 9;
  const world = {
    forward(lat, lon) {
      const theta = Math.asin((Math.sqrt(3) / 2) * Math.sin(lat * RAD));
      const x = (2 * Math.sqrt(3) * lon * RAD * Math.cos(theta)) / (3 * rise(theta));
      return [RADIUS_KM * x, RADIUS_KM * height(theta)];
    },
    inverse(x, y) {
      const target = y / RADIUS_KM;
      if (Math.abs(target) > height(Math.PI / 3)) return null;
      let theta = target;
      for (let step = 0; step < 8; step++) theta -= (height(theta) - target) / rise(theta);
      const lat = Math.asin(Math.max(-1, Math.min(1, (2 * Math.sin(theta)) / Math.sqrt(3)))) / RAD;
      const lon = ((x / RADIUS_KM) * 3 * rise(theta)) / (2 * Math.sqrt(3) * Math.cos(theta)) / RAD;
      return Math.abs(lon) <= 180 ? [lat, lon] : null;
    },
  };

  // Azimuthal equidistant about a point: no pole or meridian is special.
  function around(lat, lon) {
    const [sin0, cos0] = [Math.sin(lat * RAD), Math.cos(lat * RAD)];
    return {
      forward(atLat, atLon) {
        const [sin, cos, turn] = [Math.sin(atLat * RAD), Math.cos(atLat * RAD), (atLon - lon) * RAD];
        const angle = distanceKm(lat, lon, atLat, atLon) / RADIUS_KM;
        const bearing = Math.atan2(Math.sin(turn) * cos, cos0 * sin - sin0 * cos * Math.cos(turn));
        return [RADIUS_KM * angle * Math.sin(bearing), RADIUS_KM * angle * Math.cos(bearing)];
      },
      inverse(x, y) {
        const km = Math.hypot(x, y);
        return km > Math.PI * RADIUS_KM ? null : destination(lat, lon, Math.atan2(x, y) / RAD, km);
      },
    };
  }

  // The posterior: kernels exp(-d/s) that are no sharper than a cell of the screen, and a uniform background.
  function kernelsOf(spread, cellKm) {
    const points = [];
    for (const [lat, lon, ...weights] of spread.points) {
      const kernels = [];
      weights.forEach((weight, index) => {
        if (weight <= 0) return;
        const scale = Math.max(spread.scales_km[index], cellKm);
        const ratio = RADIUS_KM / scale;
        const mass = (2 * Math.PI * RADIUS_KM ** 2 * (1 + Math.exp(-Math.PI * ratio))) / (1 + ratio ** 2);
        kernels.push([scale, weight, weight / mass]);
      });
      points.push([lat, lon, kernels]);
    }
    return { points, background: spread.background / (4 * Math.PI * RADIUS_KM ** 2) };
  }

  function densityAt(kernels, lat, lon) {
    let density = kernels.background;
    for (const [pointLat, pointLon, parts] of kernels.points) {
      const km = distanceKm(lat, lon, pointLat, pointLon);
      for (const [scale, , factor] of parts) if (km < 20 * scale) density += factor * Math.exp(-km / scale);
    }
    return density;
  }

  // The density at the border of the smallest region that holds each share, from points spread over every kernel.
  const RING = [0.367, 0.741, 1.084, 1.446, 1.863, 2.388, 3.15, 4.85]; // distances of equal mass, in scales
  function borders(kernels, shares) {
    const samples = [];
    for (const [lat, lon, parts] of kernels.points) {
      for (const [scale, weight] of parts) {
        if (weight < 0.002) continue;
        RING.forEach((ring, turn) => {
          for (let bearing = turn * 7; bearing < 360; bearing += 60) {
            const at = destination(lat, lon, bearing, Math.min(ring * scale, 20000));
            samples.push([densityAt(kernels, ...at), weight / RING.length / 6]);
          }
        });
      }
    }
    samples.sort((a, b) => b[0] - a[0]);
    return shares.map((share) => {
      let mass = 0;
      for (const [density, weight] of samples) if ((mass += weight) >= share) return density;
      return Infinity; // the rest is uniform over the Earth, so there is no outline
    });
  }

  const rounded = (km) => (km < 1 ? `${Math.round(km * 1000)} m` : km < 10 ? `${km.toFixed(1)} km` : `${Math.round(km).toLocaleString("en")} km`);
  const percent = (share) => `${Math.round(100 * share)} %`;

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // One canvas with pan, zoom and hover. `scene()` returns what is drawn.
  class View {
    constructor(parent, label, { projection, spanKm, scene, kind }) {
      Object.assign(this, { projection, spanKm, scene, centre: [0, 0] });
      this.figure = element("figure", `dg-view dg-${kind}`);
      this.canvas = element("canvas");
      this.canvas.tabIndex = 0;
      this.canvas.setAttribute("role", "img");
      this.caption = element("figcaption", "", label);
      this.tip = element("div", "dg-tip");
      this.tip.hidden = true;
      this.figure.append(this.canvas, this.tip, this.buttons(), this.caption);
      parent.append(this.figure);
      this.marks = [];
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.canvas);
    }

    buttons() {
      const box = element("div", "dg-zoom");
      for (const [sign, name, factor] of [["+", "Zoom in", 0.5], ["−", "Zoom out", 2]]) {
        const button = element("button", "", sign);
        button.type = "button";
        button.setAttribute("aria-label", name);
        button.addEventListener("click", () => this.zoom(factor));
        box.append(button);
      }
      return box;
    }

    listen() {
      const canvas = this.canvas;
      const fingers = new Map();
      canvas.addEventListener("wheel", (event) => {
        event.preventDefault();
        this.zoom(event.deltaY > 0 ? 1.25 : 0.8, [event.offsetX, event.offsetY]);
      }, { passive: false });
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
      });
      for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => {
        fingers.delete(event.pointerId);
        this.draw();
      });
      canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
      canvas.addEventListener("pointermove", (event) => {
        const at = [event.offsetX, event.offsetY];
        const before = fingers.get(event.pointerId);
        if (!before) return this.hover(at);
        fingers.set(event.pointerId, at);
        const other = [...fingers].find(([id]) => id !== event.pointerId);
        if (other) {
          const apart = (p) => Math.hypot(p[0] - other[1][0], p[1] - other[1][1]) || 1;
          return this.zoom(apart(before) / apart(at), other[1], true);
        }
        this.pan(at[0] - before[0], at[1] - before[1], true);
      });
      canvas.addEventListener("keydown", (event) => {
        const step = 40;
        const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
        if (moves[event.key]) this.pan(...moves[event.key]);
        else if (event.key === "+" || event.key === "=") this.zoom(0.8);
        else if (event.key === "-") this.zoom(1.25);
        else return;
        event.preventDefault();
      });
    }

    get kmPerPx() { return this.spanKm / this.canvas.clientWidth; }

    toScreen(lat, lon) {
      const [x, y] = this.projection.forward(lat, lon);
      return [
        this.canvas.clientWidth / 2 + (x - this.centre[0]) / this.kmPerPx,
        this.canvas.clientHeight / 2 - (y - this.centre[1]) / this.kmPerPx];
    }

    toPlace(px, py) {
      return this.projection.inverse(
        this.centre[0] + (px - this.canvas.clientWidth / 2) * this.kmPerPx,
        this.centre[1] - (py - this.canvas.clientHeight / 2) * this.kmPerPx);
    }

    pan(px, py, moving = false) {
      this.centre = [this.centre[0] - px * this.kmPerPx, this.centre[1] + py * this.kmPerPx];
      this.draw(moving);
    }

    zoom(factor, at = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2], moving = false) {
      const span = Math.min(42000, Math.max(0.2, this.spanKm * factor));
      const change = (span - this.spanKm) / this.canvas.clientWidth;
      this.centre[0] -= (at[0] - this.canvas.clientWidth / 2) * change;
      this.centre[1] += (at[1] - this.canvas.clientHeight / 2) * change;
      this.spanKm = span;
      this.draw(moving);
    }

    hover(at) {
      const near = this.marks.find((mark) => Math.hypot(mark.x - at[0], mark.y - at[1]) < 12);
      this.tip.hidden = !near;
      this.canvas.classList.toggle("dg-over", Boolean(near && near.select));
      if (!near || near === this.shownMark) return;
      this.shownMark = near;
      this.tip.replaceChildren(element("span", "", near.text));
      if (near.thumbnail) {
        const image = element("img");
        image.src = near.thumbnail;
        image.alt = "";
        this.tip.prepend(image);
      }
      this.tip.style.left = `${Math.min(near.x + 10, this.canvas.clientWidth - 190)}px`;
      this.tip.style.top = `${near.y + 10}px`;
    }

    draw(moving = false) {
      const [width, tall] = [this.canvas.clientWidth, this.canvas.clientHeight];
      if (!width || !tall) return;
      const sharp = window.devicePixelRatio || 1;
      this.canvas.width = width * sharp;
      this.canvas.height = tall * sharp;
      const pen = this.canvas.getContext("2d");
      pen.scale(sharp, sharp);
      this.marks = [];
      this.shownMark = null;
      this.tip.hidden = true;
      const scene = this.scene();
      this.canvas.setAttribute("aria-label", scene.description);
      this.drawGround(pen);
      if (scene.spread) this.shade(pen, scene.spread, moving ? 8 : 2);
      this.lines(pen, scene.coastlines, "#7a7a7a", 0.8);
      for (const circle of scene.circles) this.circle(pen, circle);
      this.lines(pen, scene.paths, COLOURS.path, 1.2);
      for (const mark of scene.marks) this.mark(pen, mark);
      this.scaleBar(pen, width, tall);
    }

    drawGround(pen) {
      const meridians = [];
      for (let lon = -180; lon <= 180; lon += 30) meridians.push(range(-90, 90, 3).map((lat) => [lat, lon]));
      for (let lat = -60; lat <= 60; lat += 30) meridians.push(range(-180, 180, 3).map((lon) => [lat, lon]));
      this.lines(pen, meridians, "#dedede", 0.7);
    }

    // Lines of [latitude, longitude]; a step that jumps across the map is not drawn.
    lines(pen, lines, colour, thickness) {
      pen.strokeStyle = colour;
      pen.lineWidth = thickness;
      pen.beginPath();
      const far = (this.projection === world ? 9000 : 12000) / this.kmPerPx;
      for (const line of lines) {
        let last = null;
        for (const [lat, lon] of line) {
          const at = this.toScreen(lat, lon);
          if (last && Math.hypot(at[0] - last[0], at[1] - last[1]) < far) pen.lineTo(...at);
          else pen.moveTo(...at);
          last = at;
        }
      }
      pen.stroke();
    }

    circle(pen, { latitude, longitude, km, dashed, colour }) {
      pen.setLineDash(dashed ? [5, 4] : []);
      const points = range(0, 360, 3).map((bearing) => destination(latitude, longitude, bearing, km));
      this.lines(pen, [points], colour, 1.6);
      pen.setLineDash([]);
    }

    shade(pen, spread, cell) {
      const [columns, rows] = [Math.ceil(this.canvas.clientWidth / cell), Math.ceil(this.canvas.clientHeight / cell)];
      const kernels = kernelsOf(spread, this.kmPerPx * cell);
      const [inner, outer] = borders(kernels, [0.5, 0.9]);
      const density = new Float64Array(columns * rows).fill(-1);
      for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
        const place = this.toPlace((column + 0.5) * cell, (row + 0.5) * cell);
        if (place) density[row * columns + column] = densityAt(kernels, ...place);
      }
      const peak = density.reduce((most, value) => Math.max(most, value), 0);
      const image = new ImageData(columns, rows);
      density.forEach((value, index) => {
        if (value <= 0) return;
        const border = [inner, outer].some((level) => value >= level && [1, columns].some((step) =>
          (density[index + step] ?? value) < level || (density[index - step] ?? value) < level));
        const alpha = border ? 210 : 165 * Math.max(0, 1 + Math.log10(value / peak) / 3);
        image.data.set([...COLOURS.posterior, value > 1.5 * kernels.background || border ? alpha : 0], 4 * index);
      });
      const small = new OffscreenCanvas(columns, rows);
      small.getContext("2d").putImageData(image, 0, 0);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(small, 0, 0, columns * cell, rows * cell);
    }

    mark(pen, { latitude, longitude, kind, size, text, thumbnail, select }) {
      const [x, y] = this.toScreen(latitude, longitude);
      pen.beginPath();
      pen.lineWidth = 2;
      if (kind === "cluster") {
        pen.strokeStyle = COLOURS.cluster;
        pen.arc(x, y, size, 0, 7);
        pen.stroke();
        this.marks.push({ x: x + size, y, text });
        return;
      }
      pen.fillStyle = COLOURS[kind];
      pen.strokeStyle = "#fff";
      if (kind === "answer") {
        for (let tip = 0; tip < 10; tip++) {
          const reach = tip % 2 ? size * 0.45 : size;
          pen.lineTo(x + reach * Math.sin((tip * Math.PI) / 5), y - reach * Math.cos((tip * Math.PI) / 5));
        }
        pen.closePath();
      } else if (kind === "truth") pen.rect(x - size, y - size, 2 * size, 2 * size);
      else pen.arc(x, y, size, 0, 7);
      pen.stroke();
      pen.fill();
      this.marks.unshift({ x, y, text, thumbnail, select });
    }

    scaleBar(pen, width, tall) {
      const round = (km) => [1, 2, 5].map((digit) => digit * 10 ** Math.floor(Math.log10(km))).filter((step) => step <= km).pop();
      const km = round(0.3 * width * this.kmPerPx);
      if (this.projection === world && this.spanKm > 5000) return; // one bar would not be true everywhere
      pen.fillStyle = pen.strokeStyle = "#222";
      pen.lineWidth = 2;
      pen.beginPath();
      pen.moveTo(12, tall - 12);
      pen.lineTo(12 + km / this.kmPerPx, tall - 12);
      pen.stroke();
      pen.font = "12px system-ui, sans-serif";
      pen.fillText(rounded(km), 12, tall - 18);
    }
  }

  function range(from, to, step) {
    const values = [];
    for (let value = from; value <= to; value += step) values.push(value);
    return values;
  }

  const located = (record) => record.latitude !== null;
  const headline = (record) => {
    if (!located(record)) return `No position: ${record.reason}.`;
    if (record.status === "anchor") return `${record.place}. From the photo's own GPS.`;
    if (record.radius_90_km === null) return `${record.place}. Radius not calibrated.`;
    return `${record.place}. Within ${rounded(record.radius_90_km)}${record.calibrated ? ", 9 times out of 10" : " (not calibrated)"}.`;
  };

  // A candidate is a gallery photo, or a place, which has no id.
  const named = ({ gallery_id, latitude, longitude }) => gallery_id ?? `${latitude.toFixed(3)}, ${longitude.toFixed(3)}`;
  const arePlaces = (records) => records.some((record) => record.candidates.some((candidate) => candidate.gallery_id === null));

  function marksOf(record) {
    const marks = [];
    const clusters = record.spread ? record.spread.clusters : [];
    clusters.forEach((cluster, number) => marks.push({
      latitude: cluster.latitude, longitude: cluster.longitude, kind: "cluster", size: 6 + 14 * Math.sqrt(cluster.mass),
      text: `Cluster ${number + 1}: ${percent(cluster.mass)} of the candidates' weight, ${cluster.place}` }));
    record.candidates.forEach((candidate, rank) => marks.push({
      latitude: candidate.latitude, longitude: candidate.longitude, kind: "candidate", size: rank < 3 ? 5 : 4,
      thumbnail: candidate.thumbnail,
      text: `Candidate ${rank + 1}: ${named(candidate)}, similarity ${candidate.similarity.toFixed(3)}` }));
    return marks;
  }

  const errorKm = (record) => (record.truth && located(record) ? distanceKm(record.latitude, record.longitude, ...record.truth) : null);
  const truthText = (record) => `True place${located(record) ? `: ${rounded(errorKm(record))} from the answer` : ""}`;

  const truthMarks = (record) => (record.truth
    ? [{ latitude: record.truth[0], longitude: record.truth[1], kind: "truth", size: 4, text: truthText(record) }]
    : []);

  const answerMark = (record, size) => ({
    latitude: record.latitude, longitude: record.longitude, kind: "answer", size, thumbnail: record.thumbnail,
    text: `${record.photo}: ${headline(record)}` });

  const circlesOf = (record) => (located(record) && record.radius_90_km !== null
    ? [[record.radius_50_km, false], [record.radius_90_km, true]].map(([km, dashed]) => (
      { latitude: record.latitude, longitude: record.longitude, km, dashed, colour: COLOURS.answer }))
    : []);

  // In the overview of an album, each photo has its region: the 50 % radius.
  const regionOf = (record) => circlesOf(record).slice(0, 1).map((circle) => ({ ...circle, colour: COLOURS.path }));

  // The part of the world that holds all positions, with a margin.
  function fit(view, positions) {
    const points = positions.map(([lat, lon]) => world.forward(lat, lon));
    const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    view.centre = [(left + right) / 2, (low + high) / 2];
    view.spanKm = Math.min(36000, Math.max(20, 1.6 * (right - left), 3.2 * (high - low)));
  }

  function show(parent, records, coastlines, chosenRecord = () => {}) {
    const order = [...records.keys()].sort((a, b) => (records[a].radius_90_km ?? Infinity) - (records[b].radius_90_km ?? Infinity));
    let [chosen, least] = [order[0], 0];
    const albums = [...new Set(records.map((record) => record.album).filter(Boolean))];
    const paths = albums.map((album) => records.filter((record) => record.album === album && located(record))
      .map((record) => [record.latitude, record.longitude]));
    const root = element("section", records.length > 1 ? "dg-map dg-several" : "dg-map");
    root.setAttribute("aria-label", "Map of the answers");
    const views = element("div", "dg-views");
    const detail = element("div", "dg-detail");
    detail.setAttribute("aria-live", "polite");
    const scene = (whole) => () => {
      const record = records[chosen];
      const others = whole ? records.filter((other) => other !== record && located(other) && (other.confidence_25km ?? 0) >= least) : [];
      return {
        coastlines,
        spread: record.spread,
        circles: [...circlesOf(record), ...(whole && albums.length ? others.flatMap(regionOf) : [])],
        paths: whole ? paths : [],
        marks: [...others.map((other) => answerMark(other, 6)), ...marksOf(record), ...(located(record) ? [answerMark(record, 11)] : []), ...truthMarks(record)],
        description: `${whole ? "World" : "Surroundings"}. ${record.photo}: ${headline(record)}`,
      };
    };
    const globe = new View(views, "World (Equal Earth). Drag to move, scroll to zoom.", {
      projection: world, spanKm: 36000, scene: scene(true), kind: "world" });
    const local = new View(views, "Round the answer. Circles: 50 % radius, and 90 % radius (dashed).", {
      projection: around(0, 0), spanKm: 100, scene: scene(false), kind: "local" });

    if (paths.flat().length > 1) fit(globe, paths.flat());

    function choose(index) {
      chosen = index;
      const record = records[chosen];
      const at = located(record) ? record : record.candidates[0];
      local.figure.hidden = !at;
      if (at) local.projection = around(at.latitude, at.longitude);
      local.centre = [0, 0];
      const off = errorKm(record) ?? 0;
      local.spanKm = Math.min(20000, Math.max(0.6, 3.2 * (record.radius_90_km ?? 5000), off <= NEAR_KM ? 3 * off : 0));
      detail.replaceChildren(...detailOf(record));
      for (const button of root.querySelectorAll(".dg-list button")) {
        button.setAttribute("aria-pressed", String(Number(button.dataset.index) === chosen));
      }
      globe.draw();
      local.draw();
      chosenRecord(record);
    }

    if (records.length > 1) root.append(list(records, order, choose, (share) => { least = share; globe.draw(); }));
    const main = element("div", "dg-main");
    main.append(views, legend(records), detail);
    root.append(main);
    parent.replaceChildren(root);
    choose(chosen);
    return { choose, globe, local };
  }

  function list(records, order, choose, filter) {
    const side = element("div", "dg-list");
    const label = element("label", "", "Show answers that are within 25 km with at least ");
    const slider = element("input");
    Object.assign(slider, { type: "range", min: 0, max: 100, value: 0 });
    const shown = element("output", "", "0 %");
    label.append(slider, shown);
    const items = element("ul");
    for (const index of order) {
      const record = records[index];
      const button = element("button");
      button.type = "button";
      button.dataset.index = index;
      if (record.thumbnail) {
        const image = element("img");
        image.src = record.thumbnail;
        image.alt = "";
        button.append(image);
      }
      const words = element("span");
      words.append(element("b", "", record.photo.split("/").pop()), element("span", "", headline(record)));
      button.append(words);
      button.addEventListener("click", () => choose(index));
      const item = element("li");
      item.append(button);
      items.append(item);
    }
    slider.addEventListener("input", () => {
      shown.textContent = `${slider.value} %`;
      filter(slider.value / 100);
      [...items.children].forEach((item, place) => {
        item.hidden = (records[order[place]].confidence_25km ?? 0) < slider.value / 100;
      });
    });
    side.append(label, items);
    return side;
  }

  function legend(records) {
    const box = element("ul", "dg-legend");
    const entries = [["answer", records.length > 1 ? "Answer; small: of another photo" : "Answer"], ["candidate", arePlaces(records) ? "Similar place" : "Similar gallery photo"], ["cluster", "Cluster of them"], ["posterior", "Posterior; outlines hold 50 and 90 % of it"]];
    if (records.some((record) => record.truth)) entries.push(["truth", "True place"]);
    if (records.some((record) => record.album)) entries.push(["path", "Path of each camera"]);
    for (const [kind, text] of entries) {
      const entry = element("li");
      entry.append(element("i", `dg-${kind}`), document.createTextNode(text));
      box.append(entry);
    }
    return box;
  }

  function detailOf(record) {
    const parts = [element("h2", "", record.photo.split("/").pop()), element("p", "dg-headline", headline(record))];
    if (record.thumbnail) {
      const photo = element("img", "dg-photo");
      photo.src = record.thumbnail;
      photo.alt = "The photo";
      parts.unshift(photo);
    }
    if (record.truth) parts.push(element("p", "", `${truthText(record)}.`));
    if (located(record)) {
      const facts = [`Coordinates ${record.latitude}, ${record.longitude}`];
      if (record.status !== "anchor" && record.radius_90_km !== null) {
        facts.push(`50 % radius ${rounded(record.radius_50_km)}`, `90 % radius ${rounded(record.radius_90_km)}`,
          `within 25 km: ${percent(record.confidence_25km)}${record.calibrated ? "" : " (not calibrated)"}`);
      }
      parts.push(element("p", "", `${facts.join("; ")}.`));
    }
    if (record.note) parts.push(element("p", "", record.note));
    const evidence = element("ol", "dg-evidence");
    for (const candidate of record.candidates.slice(0, 8)) {
      const item = element("li");
      if (candidate.thumbnail) {
        const image = element("img");
        image.src = candidate.thumbnail;
        image.alt = `Gallery photo ${candidate.gallery_id}`;
        item.append(image);
      }
      item.append(element("span", "", `${named(candidate)} (similarity ${candidate.similarity.toFixed(3)})`));
      evidence.append(item);
    }
    if (record.candidates.length) parts.push(element("h3", "", arePlaces([record]) ? "Most similar places" : "Most similar gallery photos"), evidence);
    return parts;
  }

  return { show, borders, densityAt, kernelsOf, world, around };
})();
