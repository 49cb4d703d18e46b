/// Picket's messages as this page reads them: topics, shapes and the reading of them. It mirrors `shared/src/topics.rs`,
/// `view.rs`, `status.rs`, `event.rs`, `model/rollouts.rs` and `learn/view.rs`; no other file here builds or takes apart a topic.
///
/// Reading never throws: what cannot be read comes back as one sentence that says where and why. Unknown fields are
/// left out, as a newer coordinator may send more.

/** Largest message read, as `PACKET_BYTES_MAX` in `shared/src/limits.rs`. */
export const MESSAGE_BYTES_MAX = 512 * 1024;
/** Most items that any list or table in a message may have: `NODES_MAX`, the largest bound of the protocol. */
export const ITEMS_MAX = 1024;
/** Last second that a browser's `Date` can show. */
const TIME_S_MAX = 8.64e12;

/** Takes a value apart, or throws `Malformed`; `at` is where in the message the value stands. */
type Reader<T> = (value: unknown, at: string) => T;
/** What a reader makes. */
type Read<R> = R extends Reader<infer T> ? T : never;

class Malformed extends Error {}

function refuse(at: string, expected: string, value: unknown): never {
  throw new Malformed(value === undefined ? `${at} is missing` : `${at || "it"} is not ${expected}`);
}

const text: Reader<string> = (value, at) => (typeof value === "string" ? value : refuse(at, "text", value));

const number: Reader<number> = (value, at) =>
  typeof value === "number" && Number.isFinite(value) ? value : refuse(at, "a number", value);

const flag: Reader<boolean> = (value, at) => (typeof value === "boolean" ? value : refuse(at, "true or false", value));

const time_s: Reader<number> = (value, at) => {
  const seconds = number(value, at);
  return seconds >= 0 && seconds <= TIME_S_MAX ? seconds : refuse(at, "a time in seconds since 1970", value);
};

/** Absent and null are the same to us, as they are to serde. */
const optional =
  <T>(inner: Reader<T>): Reader<T | null> =>
  (value, at) => (value === undefined || value === null ? null : inner(value, at));

const otherwise =
  <T>(inner: Reader<T>, absent: T): Reader<T> =>
  (value, at) => (value === undefined ? absent : inner(value, at));

const one_of =
  <const T extends readonly string[]>(...words: T): Reader<T[number]> =>
  (value, at) => words.find((word) => word === value) ?? refuse(at, `one of ${words.join(", ")}`, value);

const list =
  <T>(inner: Reader<T>): Reader<T[]> =>
  (value, at) => {
    if (!Array.isArray(value)) return refuse(at, "a list", value);
    if (value.length > ITEMS_MAX) throw new Malformed(`${at} has more than ${ITEMS_MAX} items`);
    return value.map((item, index) => inner(item, `${at}[${index}]`));
  };

const fields_of = (value: unknown, at: string): Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : refuse(at, "an object", value);

const table =
  <T>(inner: Reader<T>): Reader<Record<string, T>> =>
  (value, at) => {
    const entries = Object.entries(fields_of(value, at));
    if (entries.length > ITEMS_MAX) throw new Malformed(`${at} has more than ${ITEMS_MAX} items`);
    return Object.fromEntries(entries.map(([key, item]) => [key, inner(item, `${at}.${key}`)]));
  };

const object =
  <S extends Record<string, Reader<unknown>>>(shape: S): Reader<{ [K in keyof S]: Read<S[K]> }> =>
  (value, at) => {
    const fields = fields_of(value, at);
    const own = (key: string) => (Object.hasOwn(fields, key) ? fields[key] : undefined);
    const read = Object.entries(shape).map(([key, inner]) => [key, inner(own(key), at === "" ? key : `${at}.${key}`)]);
    return Object.fromEntries(read) as { [K in keyof S]: Read<S[K]> };
  };

const box_px: Reader<[number, number, number, number]> = (value, at) => {
  const edges = list(number)(value, at);
  if (edges.length !== 4) return refuse(at, "four numbers", value);
  return edges as [number, number, number, number];
};

const precision = one_of("fp32", "fp16", "int8");
const liveness = one_of("up", "suspect", "down");
const outbox_mode = one_of("live", "offline", "catching_up", "full");
const event_kind = one_of("new", "update", "end");
const direction = one_of("left_to_right", "right_to_left");

const health = object({
  status: one_of("up", "down"),
  time: time_s,
  problems: otherwise(list(text), []),
});

const detector = object({
  model: text,
  layout: text,
  provider: text,
  precision,
  threads: number,
  runtime: text,
  passed_over: table(text),
});

const crossed = object({ left_to_right: number, right_to_left: number });

const camera_stats = object({
  camera: text,
  state: text,
  frames: number,
  frames_dropped: number,
  frames_gated: number,
  frames_detected: number,
  persons_now: number,
  fps: number,
  inference_ms: number,
  restarts: number,
  last_error: optional(text),
  zones: otherwise(table(number), {}),
  lines: otherwise(table(crossed), {}),
});

const stats = object({
  time: time_s,
  uptime_s: number,
  resident_bytes: number,
  events_stored: number,
  events_acked: number,
  events_pending: number,
  events_lost: number,
  rejected: table(number),
  connects: number,
  cameras: list(camera_stats),
  outbox: otherwise(outbox_mode, "live"),
  events_backlog: otherwise(number, 0),
  events_given_up: otherwise(table(number), {}),
  events_dead: otherwise(number, 0),
  learn: optional(object({
    version: number,
    used_version: number,
    confirmed: number,
    tracked: number,
    taught: otherwise(number, 0),
    held_out: number,
    taken: number,
    kept: number,
  })),
});

const node_view = object({
  node: text,
  liveness,
  since: time_s,
  why: text,
  station: optional(text),
  problems: list(text),
  detector: optional(detector),
  stats: optional(stats),
  events_archived: number,
  events_missed: otherwise(number, 0),
});

const station_view = object({
  station: text,
  home: text,
  guard: one_of("home", "covered", "uncovered"),
  holder: optional(text),
  epoch: number,
  how: optional(one_of("camera", "view", "preset", "flight")),
  sight: optional(one_of("starting", "watching", "blind")),
  since: time_s,
  why: text,
  ranks: list(text),
});

const change = object({
  time: time_s,
  change: one_of("up", "suspect", "down", "granted", "takeover", "hand_back", "uncovered", "leader"),
  node: optional(text),
  station: optional(text),
  epoch: number,
  why: text,
});

const site_view = object({
  site: text,
  time: time_s,
  events_archived: number,
  events_duplicate: number,
  events_missed: number,
  rejected: number,
  nodes: list(node_view),
  leader: otherwise(number, 0),
  stations: otherwise(list(station_view), []),
  changes: otherwise(list(change), []),
});

const crossing = object({ line: text, direction, frame_time: time_s });

const seen_event = object({
  type: event_kind,
  id: text,
  node: text,
  boot: number,
  seq: number,
  station: text,
  camera: text,
  label: text,
  frame_time: time_s,
  start_time: time_s,
  end_time: optional(time_s),
  archive_time: time_s,
  score: number,
  top_score: number,
  box: box_px,
  current_zones: list(text),
  entered_zones: list(text),
  stationary: flag,
  model: text,
  precision,
  covering_for: optional(text),
  epoch: number,
  dwell_times: otherwise(list(number), []),
  loitering_zones: otherwise(list(text), []),
  crossings: otherwise(list(crossing), []),
  count: optional(number),
});

const recent = object({ events: list(seen_event) });

const course = one_of("running", "paused", "halted", "aborted", "superseded", "done");
const stage = one_of(
  "waiting", "pinned", "assigned", "fetching", "trial", "committed", "rolled_back", "refused", "unseen", "unreachable", "elsewhere",
);
const phase = one_of(
  "idle", "fetching", "checking", "waiting", "loading", "trial", "switching", "probation", "refused", "rolled_back",
);

const group_view = object({ name: text, members: number, committed: number, failed: number, pending: number, aside: number });

const rollout_view = object({
  number,
  model: text,
  counter: number,
  head: optional(number),
  begun: time_s,
  course,
  why: text,
  group: number,
  groups: list(group_view),
});

const trial_figures = object({
  frames: number,
  frames_wanted: number,
  agreement: number,
  count_off_mean: number,
  inference_ms: number,
  inference_ms_before: number,
});

const station_model = object({
  node: text,
  station: text,
  pinned: flag,
  runs: optional(text),
  assigned: optional(text),
  phase: optional(phase),
  rollout: optional(number),
  stage: optional(stage),
  fetched: optional(number),
  reason: optional(text),
  detail: optional(text),
  trial: optional(trial_figures),
});

const models_view = object({ time: time_s, rollouts: list(rollout_view), stations: list(station_model) });

const curve_point = object({
  time: time_s,
  version: number,
  rows: number,
  // What is no number in JSON (a station may say any loss, and sums overflow) must not hide the rest.
  loss: optional(number),
  canary: optional(number),
});

const learner_view = object({
  node: text,
  updates: number,
  repeated: number,
  age: number,
  norm: optional(number),
  clip: optional(number),
  gate: optional(number),
  fate: one_of("waiting", "used", "gated", "old", "frozen"),
  loss: optional(number),
});

const release_station = object({
  node: text,
  canary: flag,
  outcome: stage,
  samples: number,
  difference: optional(number),
  error: optional(number),
  why: optional(text),
});

const release_view = object({
  version: number,
  revert_of: optional(number),
  time: time_s,
  course,
  why: text,
  stations: list(release_station),
});

const learning = object({
  time: time_s,
  lineage: text,
  version: number,
  released: optional(number),
  frozen: flag,
  why: text,
  mixing: one_of("nnm", "nnm_gate", "clip", "plain"),
  root_lacks: text,
  root_samples: list(number),
  curve: list(curve_point),
  stations: list(learner_view),
  refused: table(number),
  releases: otherwise(list(release_view), []),
});

const config = object({
  site: text,
  mqtt_websocket_url: (value, at) => {
    if (value === null) throw new Malformed("the coordinator does not say where a browser finds the broker; set mqtt.websocket_url there");
    const url = text(value, at);
    return /^wss?:\/\//.test(url) && URL.canParse(url) ? url : refuse(at, "a ws:// or wss:// address", value);
  },
});

export type Liveness = Read<typeof liveness>;
export type OutboxMode = Read<typeof outbox_mode>;
export type EventKind = Read<typeof event_kind>;
export type BoxPx = Read<typeof box_px>;
/** Retained on `coordinator/status/health`; with `status: down` it is the coordinator's will. */
export type Health = Read<typeof health>;
export type DetectorTwin = Read<typeof detector>;
export type CameraStats = Read<typeof camera_stats>;
export type Direction = Read<typeof direction>;
export type Stats = Read<typeof stats>;
export type NodeView = Read<typeof node_view>;
/** One station: who watches it. */
export type StationView = Read<typeof station_view>;
/** A change of who lives and who watches what. */
export type Change = Read<typeof change>;
/** Retained on `view/site`. */
export type SiteView = Read<typeof site_view>;
/** On `view/event`; `view/recent` holds the newest of them. */
export type SeenEvent = Read<typeof seen_event>;
/** How far a station is in a rollout. */
export type Stage = Read<typeof stage>;
/** How far a device is with its assignment, as it says itself. */
export type Phase = Read<typeof phase>;
/** One rollout of a model. */
export type RolloutView = Read<typeof rollout_view>;
/** One node: which model it runs. */
export type StationModel = Read<typeof station_model>;
/** Retained on `view/models`. */
export type ModelsView = Read<typeof models_view>;
/** One step of learning. */
export type CurvePoint = Read<typeof curve_point>;
/** One station's part in learning. */
export type LearnerView = Read<typeof learner_view>;
/** A head that was released, and what it did to each station. */
export type ReleaseView = Read<typeof release_view>;
/** One station in it. */
export type ReleaseStation = Read<typeof release_station>;
/** Retained on `view/learning`. */
export type Learning = Read<typeof learning>;
/** What the coordinator's web server tells the page: `config.json`. */
export type Config = Read<typeof config>;

/** What a message turned out to be. */
export type Said =
  | { said: "site"; view: SiteView }
  | { said: "recent"; events: SeenEvent[] }
  | { said: "event"; event: SeenEvent }
  | { said: "models"; models: ModelsView }
  | { said: "learning"; learning: Learning }
  | { said: "coordinator"; health: Health }
  | { said: "malformed"; why: string };

/** What stands below `picket/v1/<site>/`, and how it is read. */
const TOPICS: Record<string, (json: unknown) => Said> = {
  "view/site": (json) => ({ said: "site", view: site_view(json, "") }),
  "view/recent": (json) => ({ said: "recent", events: recent(json, "").events }),
  "view/event": (json) => ({ said: "event", event: seen_event(json, "") }),
  "view/models": (json) => ({ said: "models", models: models_view(json, "") }),
  "view/learning": (json) => ({ said: "learning", learning: learning(json, "") }),
  "coordinator/status/health": (json) => ({ said: "coordinator", health: health(json, "") }),
};

const root_of = (site: string): string => `picket/v1/${site}/`;

/** Every topic that the page listens to. */
export const topics_of = (site: string): string[] => Object.keys(TOPICS).map((below) => root_of(site) + below);

/** Reads one message; never throws. */
export function read_message(site: string, topic: string, payload: Uint8Array): Said {
  const root = root_of(site);
  const below = topic.startsWith(root) ? topic.slice(root.length) : "";
  const read = Object.hasOwn(TOPICS, below) ? TOPICS[below] : undefined;
  const malformed = (why: string): Said => ({ said: "malformed", why: `${topic.slice(0, 200)}: ${why}` });
  if (!read) return malformed("not a topic of this page");
  if (payload.byteLength > MESSAGE_BYTES_MAX) return malformed(`more than ${MESSAGE_BYTES_MAX} bytes`);
  try {
    return read(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload)));
  } catch (error) {
    return malformed(reason(error));
  }
}

/** Reads `config.json`; throws an `Error` with one sentence. */
export function read_config(json: unknown): Config {
  try {
    return config(json, "");
  } catch (error) {
    throw new Error(`The page cannot use config.json: ${reason(error)}.`);
  }
}

const reason = (error: unknown): string =>
  error instanceof Malformed ? error.message : "not JSON text in UTF-8";
