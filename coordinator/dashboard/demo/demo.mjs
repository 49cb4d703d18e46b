/// Shows the page without a camera: serves dist/ as the coordinator does (same policy, same config.json), starts a
/// mosquitto on loopback, and publishes a made-up site. For work on the page only.
///
///   npm run build && npm run demo-data -- [--rollout] [--bad] [--learn] [--dead] [--empty] [--stall] [--broken] [--http 8089] [--ws 8090]
///
/// --rollout: a release is on its way; --bad: it fails at its canary; --learn: stations learn together; --dead: one node is down and one suspect; --empty: no nodes; --stall: the view stops after 6 s; --broken: malformed
/// messages too.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { parseArgs } from "node:util";

import mqtt from "mqtt";

const flag = { type: "boolean", default: false };
const { values: options } = parseArgs({
  options: {
    rollout: flag, bad: flag, learn: flag, dead: flag, empty: flag, stall: flag, broken: flag,
    http: { type: "string", default: "8089" }, ws: { type: "string", default: "8090" },
  },
});
const ws_url = `ws://127.0.0.1:${options.ws}/mqtt`;
const site = "yard";

const dir = mkdtempSync(join(tmpdir(), "picket-demo-"));
// Mosquitto 2.0.11 ends at once when all its listeners are WebSocket ones, so it gets a plain one as well.
const plain_port = Number(options.ws) + 1;
const listeners = [`listener ${plain_port} 127.0.0.1`, `listener ${options.ws} 127.0.0.1`, "protocol websockets"];
writeFileSync(join(dir, "broker.conf"), ["allow_anonymous true", ...listeners, ""].join("\n"));
const broker = spawn("mosquitto", ["-c", join(dir, "broker.conf")], { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
process.on("exit", () => {
  broker.kill();
  rmSync(dir, { recursive: true });
});

const dist = join(import.meta.dirname, "..", "dist");
const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
createServer((request, response) => {
  const path = normalize(new URL(request.url, "http://demo").pathname);
  response.setHeader(
    "Content-Security-Policy",
    `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ${ws_url}; base-uri 'none'`,
  );
  if (path === "/config.json") return response.end(JSON.stringify({ site, mqtt_websocket_url: ws_url }));
  try {
    const file = join(dist, path === "/" ? "index.html" : path);
    const bytes = readFileSync(file);
    response.setHeader("Content-Type", types[extname(file)] ?? "application/octet-stream");
    response.end(bytes);
  } catch {
    response.statusCode = 404;
    response.end();
  }
}).listen(Number(options.http), "127.0.0.1", () => console.log(`http://127.0.0.1:${options.http}/`));

const client = mqtt.connect(ws_url, { protocolVersion: 4, reconnectPeriod: 200 });
const say = (below, json, retain = false) =>
  client.publish(`picket/v1/${site}/${below}`, typeof json === "string" ? json : JSON.stringify(json), { retain });
const now = () => Date.now() / 1000;
const started = now() - 7500;
const pick = (list) => list[Math.floor(Math.random() * list.length)];

const places = [
  { node: "orin-1", station: "gate", camera: "north", provider: "tensorrt", precision: "fp16", fps: 29.7, ms: 6.2 },
  { node: "pi-2", station: "path", camera: "lane", provider: "cpu", precision: "int8", fps: 14.8, ms: 41.3 },
  { node: "pc-3", station: "square", camera: "roof", provider: "cpu", precision: "fp32", fps: 24.9, ms: 15.1 },
  { node: "drone-4", station: "fence-east", camera: "belly", provider: "cuda", precision: "fp16", fps: 27.2, ms: 8.4 },
];
const open = new Map();
const recent = [];
let seq = 0;
let archived = 8412;

function node(place, index) {
  const persons_now = [...open.values()].filter((event) => event.node === place.node).length;
  const liveness = !options.dead ? "up" : index === 3 ? "down" : index === 1 ? "suspect" : "up";
  const why = { up: "heartbeats come", suspect: "no heartbeat for 4 s", down: "the broker says that the connection is gone" };
  const since = { up: started + index * 61, suspect: now() - 4, down: started + 7200 };
  const frames = Math.round((now() - started) * place.fps);
  const stalled = options.dead && index === 1;
  return {
    node: place.node, liveness, since: since[liveness], why: why[liveness], station: place.station,
    problems: index === 2 && options.dead ? ["The disk has 212 MB left; events are kept for 3 days only."] : [],
    detector: {
      model: "1b635a15bfb9", layout: "centernet", provider: place.provider, precision: place.precision, threads: 2,
      runtime: "1.24.4", passed_over: place.provider === "cpu" ? { cuda: "no CUDA device was found" } : {},
    },
    stats: {
      time: Math.floor(now()), boot: 1, uptime_s: Math.floor(now() - started), resident_bytes: (112 + 23 * index) * 2 ** 20,
      events_stored: 2100, events_acked: 2100, events_pending: stalled ? 312 : persons_now % 3, events_lost: 0, events_resent: 0,
      rejected: {}, connects: 1 + index,
      learn: options.learn && index < 3
        ? { version: 90, used_version: 84, confirmed: 41 - 9 * index, tracked: 640, held_out: 140, acked: 100, taken: 3, kept: 1 } : undefined,
      cameras: [{
        camera: place.camera, state: stalled ? "stalled" : "running", frames, frames_dropped: Math.round(frames * 0.004 * index),
        frames_gated: Math.round(frames * 0.3), frames_detected: Math.round(frames * 0.69), detections: 9000, tracks: 2100,
        persons_now, fps: place.fps + Math.random() * 0.4, inference_ms: place.ms + Math.random() * 0.3,
        restarts: 0, last_error: stalled ? "no frame for 5 s" : null,
        zones: { entrance: Math.min(2, persons_now), road: Math.max(0, persons_now - 2) },
        lines: { kerb: { left_to_right: 211 + index, right_to_left: 198 } },
      }],
    },
    events_archived: Math.round(archived / 4) + index * 17,
  };
}

function tell(event, kind, at, live) {
  archived++;
  const told = { ...event, type: kind, seq: ++seq, frame_time: at, archive_time: at + 0.12, end_time: kind === "end" ? at : null };
  recent.unshift(told);
  recent.length = Math.min(recent.length, 50);
  if (live) say("view/event", told);
  return told;
}

function appear(at, live) {
  const place = pick(options.dead ? [places[0], places[2]] : places);
  const [x, y, tall] = [Math.random() * 640, 60 + Math.random() * 280, 90 + Math.random() * 120].map(Math.round);
  const score = 0.55 + Math.random() * 0.42;
  const event = {
    id: `${place.node}-1-${seq + 1}`, node: place.node, boot: 1, station: place.station, camera: place.camera, label: "person",
    start_time: at, score, top_score: score, box: [x, y, x + Math.round(tall * 0.42), y + tall],
    current_zones: Math.random() < 0.5 ? [pick(["entrance", "road", "lawn"])] : [], entered_zones: [], stationary: false,
    model: "1b635a15bfb9", precision: place.precision, covering_for: null, epoch: 0,
    dwell_times: [], loitering_zones: [], crossings: [], count: null,
  };
  if (Math.random() < 0.3) event.crossings = [{ line: "kerb", direction: pick(["left_to_right", "right_to_left"]), frame_time: at }];
  if (Math.random() < 0.1) Object.assign(event, { label: "crowd", count: 4 + Math.floor(Math.random() * 9) });
  if (options.dead && place === places[0] && Math.random() < 0.4) {
    Object.assign(event, { station: "fence-east", covering_for: "fence-east", epoch: 4 });
  }
  event.entered_zones = [...new Set([...event.current_zones, ...(Math.random() < 0.3 ? ["road"] : [])])];
  event.dwell_times = event.entered_zones.map(() => Math.random() * 90);
  if (Math.random() < 0.15) event.loitering_zones = event.current_zones;
  open.set(event.id, tell(event, "new", at, live));
}

function move(event, at, live) {
  const step = Math.round(Math.random() * 24 - 8);
  const [x1, y1, x2, y2] = event.box;
  const score = 0.5 + Math.random() * 0.48;
  const stationary = Math.random() < 0.2;
  const moved = { ...event, box: [x1 + step, y1, x2 + step, y2], score, top_score: Math.max(score, event.top_score), stationary };
  const over = at - event.start_time > 4 + Math.random() * 20;
  const told = tell(moved, over ? "end" : "update", at, live);
  if (over) open.delete(event.id);
  else open.set(event.id, told);
}

const step = (at, live) => {
  if (open.size < 9 && Math.random() < 0.45) appear(at, live);
  for (const event of [...open.values()]) if (Math.random() < 0.3) move(event, at, live);
};

/** A release on its way to all places: the first one is its canary. */
function models() {
  const trial = { frames: 212, frames_wanted: 300, agreement: 0.931, count_off_mean: 0.14, inference_ms: 9.8, inference_ms_before: 15.2 };
  const detail = "it agrees with the active model to 0.402 in 300 frames, and 0.85 is asked for";
  const bad = { stage: "rolled_back", phase: "rolled_back", reason: "model_trial_agreement", detail, trial: { ...trial, frames: 300, agreement: 0.402 } };
  const stages = options.bad ? [bad, {}, {}, {}] : [
    { stage: "committed", phase: "idle", runs: "person 7", trial: { ...trial, frames: 300 } },
    { stage: "trial", phase: "trial", trial },
    { stage: "fetching", phase: "fetching", fetched: 0.37 },
    { stage: "pinned", pinned: true },
  ];
  const stations = places.map(({ node, station }, index) => ({
    node, station, pinned: false, runs: "person 6", assigned: index < 3 && !options.bad ? "person 7" : "person 6", phase: "idle", rollout: 3,
    stage: "waiting", fetched: null, reason: null, detail: null, trial: null, ...stages[index],
  }));
  const canary = { name: "canary", members: 1, committed: options.bad ? 0 : 1, failed: options.bad ? 1 : 0, pending: 0, aside: 0 };
  const rest = { name: "rest-100", members: 3, committed: 0, failed: 0, pending: options.bad ? 3 : 2, aside: options.bad ? 0 : 1 };
  const why = options.bad ? `of the group canary, 1 of 1 that came to an end failed; ${places[0].node}: ${detail}` : "";
  const course = options.bad ? "halted" : "running";
  const group = options.bad ? 0 : 1;
  const rollout = { number: 3, model: "person", counter: 7, head: null, begun: Math.floor(started), course, why, group, groups: [canary, rest] };
  return { time: now(), rollouts: [rollout], stations };
}

/** Four stations that learn; one says what the confirmed samples speak against. */
function learning() {
  const curve = Array.from({ length: 90 }, (_, index) => {
    const loss = 0.18 + 0.5 * Math.exp(-index / 22) + 0.03 * Math.sin(index);
    const canary = index < 20 ? null : 0.97 - 0.3 * Math.exp(-(index - 20) / 25) + 0.01 * Math.sin(3 * index);
    return { time: started + 80 * index, version: index + 1, rows: 3 + (index % 2), step: 0.1, loss, canary };
  });
  const fates = ["used", "gated", "used", "waiting"];
  const stations = places.map(({ node }, index) => ({
    node, updates: 120 - 17 * index, repeated: index, age: index, norm: 0.3 + 0.4 * index, clip: index === 1 ? 0.42 : 1,
    gate: [0.86, -0.31, 0.64, null][index], fate: fates[index], loss: 0.2 + 0.05 * index,
  }));
  return {
    time: now(), lineage: "0a1b2c3d4e5f6071", version: 90, released: 84, frozen: false, why: "", mixing: "nnm_gate", root_lacks: "",
    root_samples: [131, 164], curve, stations, refused: { learn_crc: 2 },
    releases: [
      { version: 84, revert_of: null, time: started + 6700, course: "running", why: "", stations: places.map(({ node }, index) => ({
        node, canary: index === 0, outcome: ["committed", "rolled_back", "trial", "waiting"][index], samples: [140, 96, 31, 0][index],
        difference: [-0.12, 0.04, -0.05, null][index], error: [0.02, 0.05, 0.04, null][index],
        why: index === 1 ? "on 96 examples of its own it would lose by 0.04" : null,
      })) },
      { version: 61, revert_of: null, time: started + 4900, course: "done", why: "", stations: places.map(({ node }, index) => ({
        node, canary: index === 0, outcome: "committed", samples: 90, difference: -0.2, error: 0.03, why: null,
      })) },
    ],
  };
}

const begun = now();
say("coordinator/status/health", { status: "up", pid: 1, time: Math.floor(now()), boot: 1, epoch: 0, problems: [] }, true);
if (!options.empty) for (let ago = 25 * 60; ago > 0; ago -= 20) step(now() - ago, ago < 25 * 60 - 20);
for (;;) {
  if (!options.empty) step(now(), true);
  const nodes = options.empty ? [] : places.map(node);
  if (!(options.stall && now() - begun > 6)) {
    say("view/site", {
      site, time: now(), events_archived: options.empty ? 0 : archived, events_duplicate: options.empty ? 0 : 37,
      events_missed: options.dead ? 3 : 0, rejected: 0, nodes,
    }, true);
    say("view/recent", { events: recent }, true);
  }
  if (options.rollout || options.bad) say("view/models", models(), true);
  if (options.learn) say("view/learning", learning(), true);
  if (options.broken) say("view/site", '{"site": "yard"');
  await wait(1000);
}
