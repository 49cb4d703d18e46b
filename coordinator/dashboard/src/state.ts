/// What the page knows: `(state, message) → state`, and what is derived from it.
///
/// Pure: no clock, no DOM, no network. `at_ms` and `now_ms` are milliseconds since 1970 by the viewer's clock.

import { type Desk, type DeskMessage, first_desk, reduce_desk } from "./orders.ts";
import type {
  BoxPx, CameraStats, EventKind, Health, Learning, Liveness, ModelsView, NodeView, RolloutView, Said, SeenEvent, SiteView, StationModel, StationView,
} from "./protocol.ts";

/** Events remembered; the timeline counts them. */
export const EVENTS_KEPT_MAX = 1000;
/** Events listed. */
export const EVENTS_SHOWN_MAX = 200;
/** A view older than this is not believed to be the present. */
export const STALE_AFTER_MS = 5000;
/** Minutes in a station's timeline. */
export const TIMELINE_MINUTES = 30;

/** The page's own line to the broker. */
export interface Link {
  state: "connecting" | "live" | "lost";
  since_ms: number;
  /** Why it was lost; empty otherwise. */
  why: string;
}

/** One event from `new` to `end`, as far as it is known. */
export interface EventRow extends Omit<SeenEvent, "type"> {
  kind: EventKind;
  /** When the archive first spoke of it: the order of the list, by one clock. */
  first_archived: number;
  /** Whether any moment of it came while the page was watching. */
  live: boolean;
}

/** All that the page knows. */
export interface State {
  site: string | null;
  link: Link;
  view: SiteView | null;
  /** When the view was last known to be the present. */
  view_fresh_ms: number;
  /** How far the viewer's clock is ahead of the site's. */
  clock_ahead_ms: number;
  coordinator: Health | null;
  models: ModelsView | null;
  learning: Learning | null;
  /** Newest first; at most `EVENTS_KEPT_MAX`. */
  events: EventRow[];
  malformed: { count: number; last: string };
  /** Who acts at this page, if anybody. */
  desk: Desk;
}

/** What happens to the page. */
export type Message =
  | { is: "configured"; site: string }
  | { is: "live"; at_ms: number }
  | { is: "lost"; at_ms: number; why: string }
  | { is: "said"; at_ms: number; said: Said }
  | { is: "desk"; what: DeskMessage };

/** Before anything has happened. */
export const first_state = (now_ms: number): State => ({
  site: null,
  link: { state: "connecting", since_ms: now_ms, why: "" },
  view: null,
  view_fresh_ms: 0,
  clock_ahead_ms: 0,
  coordinator: null,
  models: null,
  learning: null,
  events: [],
  malformed: { count: 0, last: "" },
  desk: first_desk,
});

/** The one step. */
export function reduce(state: State, message: Message): State {
  switch (message.is) {
    case "configured":
      // Another site under the same address: nothing known before is true of it.
      if (state.site !== null && state.site !== message.site) {
        return { ...first_state(state.link.since_ms), site: message.site, link: state.link, desk: state.desk };
      }
      return { ...state, site: message.site };
    case "live":
      return { ...state, link: { state: "live", since_ms: message.at_ms, why: "" } };
    case "lost": {
      const since_ms = state.link.state === "lost" ? state.link.since_ms : message.at_ms;
      return { ...state, link: { state: "lost", since_ms, why: message.why } };
    }
    case "said":
      return hear(state, message.said, message.at_ms);
    case "desk":
      return { ...state, desk: reduce_desk(state.desk, message.what) };
  }
}

function hear(state: State, said: Said, at_ms: number): State {
  switch (said.said) {
    case "site":
      return take_view(state, said.view, at_ms);
    case "recent":
      return { ...state, events: merge(state.events, said.events, false) };
    case "event":
      return { ...state, events: merge(state.events, [said.event], true) };
    case "models":
      // What a broker says again may be older than what was heard since.
      if (state.models !== null && said.models.time < state.models.time) return state;
      return { ...state, models: said.models };
    case "learning":
      if (state.learning !== null && said.learning.time < state.learning.time) return state;
      return { ...state, learning: said.learning };
    case "coordinator":
      return { ...state, coordinator: said.health };
    case "malformed":
      return { ...state, malformed: { count: state.malformed.count + 1, last: said.why } };
  }
}

/** The first view may be one that the broker has kept for long, so its own time counts; a later time proves it new. */
function take_view(state: State, view: SiteView, at_ms: number): State {
  const view_ms = view.time * 1000;
  if (state.view === null) return { ...state, view, view_fresh_ms: Math.min(at_ms, view_ms) };
  // A coordinator that no longer leads may not know it yet. Where nobody else is heard, the site may have begun anew.
  if (view.leader < state.view.leader && !is_stale(state, at_ms)) {
    const last = `a view by leader ${view.leader}, and there has been ${state.view.leader}`;
    return { ...state, malformed: { count: state.malformed.count + 1, last } };
  }
  if (view.time === state.view.time) return { ...state, view };
  return { ...state, view, view_fresh_ms: at_ms, clock_ahead_ms: at_ms - view_ms };
}

/** Puts moments into the rows of their events. The same moment twice, or an older one later, changes nothing. */
function merge(rows: EventRow[], moments: SeenEvent[], live: boolean): EventRow[] {
  const by_id = new Map(rows.map((row) => [row.id, row]));
  for (const moment of moments) by_id.set(moment.id, join(by_id.get(moment.id), moment, live));
  return [...by_id.values()].sort((a, b) => b.first_archived - a.first_archived).slice(0, EVENTS_KEPT_MAX);
}

function join(row: EventRow | undefined, moment: SeenEvent, live: boolean): EventRow {
  const { type: kind, ...now } = moment;
  if (!row) return { ...now, kind, first_archived: now.archive_time, live };
  const newer = (now.boot - row.boot || now.seq - row.seq) > 0;
  return {
    ...(newer ? { ...now, kind } : row),
    top_score: Math.max(row.top_score, now.top_score),
    first_archived: Math.min(row.first_archived, now.archive_time),
    live: row.live || live,
  };
}

// What is derived.

/** Whether what is shown may no longer be the present. */
export const is_stale = (state: State, now_ms: number): boolean =>
  state.view !== null && now_ms - state.view_fresh_ms > STALE_AFTER_MS;

/** The site's clock, seconds since 1970. */
export const site_now_s = (state: State, now_ms: number): number => (now_ms - state.clock_ahead_ms) / 1000;

const LOUDNESS: Record<Liveness, number> = { down: 0, suspect: 1, up: 2 };

/** The nodes that somebody must look after first; among equals those with problems, then by name. */
export const by_urgency = (nodes: NodeView[]): NodeView[] =>
  [...nodes].sort(
    (a, b) =>
      LOUDNESS[a.liveness] - LOUDNESS[b.liveness] ||
      Number(b.problems.length > 0) - Number(a.problems.length > 0) ||
      (a.node < b.node ? -1 : 1),
  );

/** The stations that are not watched by their own node: first those that nobody watches, then by name. */
export const out_of_line = (stations: StationView[]): StationView[] =>
  stations
    .filter(({ guard }) => guard !== "home")
    .sort((a, b) => Number(b.guard === "uncovered") - Number(a.guard === "uncovered") || (a.station < b.station ? -1 : 1));

/** A rollout that somebody may want to see, with its stations: those that need a person first, then those that are on their way. */
export interface Rollout extends RolloutView {
  stations: StationModel[];
}

const STAGES: StationModel["stage"][] = [
  "rolled_back", "refused", "unseen", "unreachable", "trial", "fetching", "assigned", "waiting", "pinned", "elsewhere", "committed",
];

/** The rollouts that are open, and the newest of those that are over; the newest first. */
export function rollouts(models: ModelsView | null): Rollout[] {
  const open = ({ course }: RolloutView) => course === "running" || course === "paused" || course === "halted";
  const shown = (models?.rollouts ?? []).filter((rollout, index) => index === 0 || open(rollout));
  return shown.map((rollout) => ({
    ...rollout,
    stations: (models?.stations ?? [])
      .filter((station) => station.rollout === rollout.number)
      .sort((a, b) => STAGES.indexOf(a.stage) - STAGES.indexOf(b.stage) || (a.node < b.node ? -1 : 1)),
  }));
}

/** How many nodes are in each state. */
export function liveness_counts(nodes: NodeView[]): Record<Liveness, number> {
  const counts = { up: 0, suspect: 0, down: 0 };
  for (const { liveness } of nodes) counts[liveness]++;
  return counts;
}

/** A node's cameras together. */
export function cameras_together(cameras: CameraStats[]) {
  const sum = (of: (camera: CameraStats) => number) => cameras.reduce((total, camera) => total + of(camera), 0);
  const fps = sum((camera) => camera.fps);
  const busy_ms = sum((camera) => camera.fps * camera.inference_ms);
  return {
    persons_now: sum((camera) => camera.persons_now),
    fps,
    /** Weighted by how often each camera is looked at. */
    inference_ms: fps > 0 ? busy_ms / fps : 0,
    frames: sum((camera) => camera.frames),
    frames_dropped: sum((camera) => camera.frames_dropped),
  };
}

/** People in all pictures of the nodes that are up. */
export const persons_at_site = (nodes: NodeView[]): number =>
  nodes
    .filter(({ liveness }) => liveness === "up")
    .reduce((total, { stats }) => total + cameras_together(stats?.cameras ?? []).persons_now, 0);

/** One station's last minutes. */
export interface Timeline {
  station: string;
  /** The nodes whose duty it is. */
  nodes: { node: string; liveness: Liveness }[];
  /** Events begun in each minute, oldest first, the running minute last; null before what is known. */
  minutes: (number | null)[];
}

/** The timelines of all stations known, by name. */
export function timelines(state: State, now_s: number): Timeline[] {
  const this_minute = Math.floor(now_s / 60);
  const first_minute = this_minute - TIMELINE_MINUTES + 1;
  const minute_of = (row: EventRow) => Math.floor(row.start_time / 60);
  // With all places taken, minutes before the oldest row may have lost some.
  const full = state.events.length >= EVENTS_KEPT_MAX;
  const known_minute = full ? Math.min(...state.events.map(minute_of)) + 1 : first_minute;
  const stations = new Map<string, Timeline>();
  const of = (station: string): Timeline => {
    const known = stations.get(station);
    if (known) return known;
    const minutes = Array.from({ length: TIMELINE_MINUTES }, (_, i) => (first_minute + i < known_minute ? null : 0));
    const fresh: Timeline = { station, nodes: [], minutes };
    stations.set(station, fresh);
    return fresh;
  };
  for (const { station, node, liveness } of state.view?.nodes ?? []) {
    if (station !== null) of(station).nodes.push({ node, liveness });
  }
  for (const row of state.events) {
    const { minutes } = of(row.station);
    const index = Math.min(minute_of(row), this_minute) - first_minute;
    const count = minutes[index];
    if (typeof count === "number") minutes[index] = count + 1;
  }
  return [...stations.values()].sort((a, b) => (a.station < b.station ? -1 : 1));
}

/** Picture sizes that cameras have. The protocol does not say a picture's size yet. */
const PICTURES: [number, number][] = [
  [320, 240], [640, 360], [640, 480], [768, 576], [800, 600], [1280, 720], [1280, 960], [1920, 1080], [2560, 1440],
  [2592, 1944], [3840, 2160],
];

/** The smallest usual picture that all boxes of a camera fit into, by `camera_key`. */
export function pictures(rows: EventRow[]): Map<string, [number, number]> {
  const reach = new Map<string, [number, number]>();
  for (const { box: [, , x2, y2], ...row } of rows) {
    const [w, h] = reach.get(camera_key(row)) ?? [1, 1];
    reach.set(camera_key(row), [Math.max(w, x2), Math.max(h, y2)]);
  }
  for (const [key, [w, h]] of reach) reach.set(key, PICTURES.find(([pw, ph]) => pw >= w && ph >= h) ?? [w, h]);
  return reach;
}

/** A camera of the site. */
export const camera_key = ({ node, camera }: { node: string; camera: string }): string => `${node}/${camera}`;

/** The box cut to the picture, as fractions `[x, y, width, height]`; never empty, so that it can be seen. */
export function box_in_picture([x1, y1, x2, y2]: BoxPx, [width, height]: [number, number]): BoxPx {
  const part = (v: number, of: number) => Math.min(1, Math.max(0, v / of));
  const x = part(Math.min(x1, x2), width);
  const y = part(Math.min(y1, y2), height);
  return [x, y, Math.max(0.01, part(Math.max(x1, x2), width) - x), Math.max(0.01, part(Math.max(y1, y2), height) - y)];
}
