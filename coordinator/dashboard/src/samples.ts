/// Well-formed messages for tests. Nothing of the page imports this.

import type { CameraStats, CurvePoint, LearnerView, Learning, ModelsView, NodeView, ReleaseStation, ReleaseView, RolloutView, SeenEvent, SiteView, StationModel, StationView } from "./protocol.ts";

export const camera = (name: string, part: Partial<CameraStats> = {}): CameraStats => ({
  camera: name, state: "running", frames: 100, frames_dropped: 4, frames_gated: 30, frames_detected: 66, persons_now: 2,
  fps: 10, inference_ms: 15, restarts: 0, last_error: null, zones: { door: 2 }, lines: { kerb: { left_to_right: 5, right_to_left: 2 } }, ...part,
});

export const node = (name: string, part: Partial<NodeView> = {}): NodeView => ({
  node: name, liveness: "up", since: 1000, why: "heartbeats come", station: "gate", problems: [],
  detector: {
    model: "1b635a15bfb9", layout: "centernet", provider: "cpu", precision: "int8", threads: 1, runtime: "1.24.4",
    passed_over: { cuda: "no device" },
  },
  stats: {
    time: 1100, uptime_s: 100, resident_bytes: 1 << 27, events_stored: 9, events_acked: 8, events_pending: 1, events_lost: 0,
    rejected: { garbage: 1 }, connects: 1, cameras: [camera("north")],
    outbox: "live", events_backlog: 0, events_given_up: {}, events_dead: 0, learn: null,
  },
  events_archived: 8,
  events_missed: 0,
  ...part,
});

export const site_view = (part: Partial<SiteView> = {}): SiteView => ({
  site: "yard", time: 1100, events_archived: 8, events_duplicate: 0, events_missed: 0, rejected: 0, nodes: [],
  leader: 1, stations: [], changes: [], ...part,
});

export const station = (name: string, part: Partial<StationView> = {}): StationView => ({
  station: name, home: "orin-1", guard: "home", holder: "orin-1", epoch: 4294967297, how: null, sight: "watching", since: 1000,
  why: "orin-1 watches its own", ranks: [], ...part,
});

export const rollout = (number: number, part: Partial<RolloutView> = {}): RolloutView => ({
  number, model: "person", counter: 7, head: null, begun: 1000, course: "running", why: "", group: 0,
  groups: [
    { name: "canary", members: 1, committed: 0, failed: 0, pending: 1, aside: 0 },
    { name: "rest-100", members: 2, committed: 0, failed: 0, pending: 2, aside: 0 },
  ],
  ...part,
});

export const station_model = (node: string, part: Partial<StationModel> = {}): StationModel => ({
  node, station: "gate", pinned: false, runs: "own", assigned: "person 7", phase: "trial", rollout: 1, stage: "trial", fetched: null,
  reason: null, detail: null,
  trial: { frames: 40, frames_wanted: 300, agreement: 0.912, count_off_mean: 0.1, inference_ms: 12, inference_ms_before: 15 }, ...part,
});

export const models_view = (part: Partial<ModelsView> = {}): ModelsView => ({ time: 1100, rollouts: [], stations: [], ...part });

export const curve_point = (version: number, part: Partial<CurvePoint> = {}): CurvePoint => ({
  time: 1000 + version, version, rows: 3, loss: 0.5, canary: null, ...part,
});

export const learner = (node: string, part: Partial<LearnerView> = {}): LearnerView => ({
  node, updates: 12, repeated: 1, age: 0, norm: 0.4, clip: 1, gate: 0.8, fate: "used", loss: 0.3, ...part,
});

export const release = (version: number, part: Partial<ReleaseView> = {}): ReleaseView => ({
  version, revert_of: null, time: 1000, course: "running", why: "", stations: [], ...part,
});

export const release_station = (node: string, part: Partial<ReleaseStation> = {}): ReleaseStation => ({
  node, canary: false, outcome: "committed", samples: 40, difference: -0.12, error: 0.03, why: null, ...part,
});

export const learning = (part: Partial<Learning> = {}): Learning => ({
  time: 1100, lineage: "0a1b2c3d4e5f6071", version: 9, released: 7, frozen: false, why: "", mixing: "nnm_gate", root_lacks: "",
  root_samples: [101, 104], curve: [], stations: [], refused: {}, releases: [], ...part,
});

/** By default the first moment of its event, archived at 1100.5. */
export const event = (id: string, part: Partial<SeenEvent> = {}): SeenEvent => ({
  type: "new", id, node: "orin-1", boot: 5, seq: 1, station: "gate", camera: "north", label: "person", frame_time: 1100,
  start_time: 1099, end_time: null, archive_time: 1100.5, score: 0.7, top_score: 0.8, box: [10, 20, 50, 120],
  current_zones: ["road"], entered_zones: ["road"], stationary: false, model: "1b635a15bfb9", precision: "int8",
  covering_for: null, epoch: 0, dwell_times: [12], loitering_zones: [], crossings: [], count: null, ...part,
});
