/// What an event says beside where it is, in words for people. Pure.

import { count, duration } from "./format.ts";
import type { Change, Direction, RolloutView, SeenEvent, Stage, StationModel, StationView } from "./protocol.ts";

/** As seen by somebody who looks along the line on the picture. */
const WAYS: Record<Direction, string> = { left_to_right: "left to right", right_to_left: "right to left" };

type Told = Pick<SeenEvent, "label" | "count" | "loitering_zones" | "entered_zones" | "dwell_times" | "crossings">;

/** A crowd and its size, loitering with its time, and each line with the way that it was crossed last. */
export function said_of(event: Told): string[] {
  const crowd = event.count === null ? [] : [`${event.label} of up to ${count(event.count)}`];
  const loitering = event.loitering_zones.map((zone) => {
    const seconds = event.dwell_times[event.entered_zones.indexOf(zone)];
    return `loitering in ${zone}${seconds === undefined ? "" : ` for ${duration(seconds)}`}`;
  });
  const newest = new Map(event.crossings.map(({ line, direction }) => [line, direction]));
  const crossed = [...newest].map(([line, direction]) => `crossed ${line}, ${WAYS[direction]}`);
  return [...crowd, ...loitering, ...crossed];
}

/** How a node stands in for another. */
export const HOW_WORDS: Record<NonNullable<StationView["how"]>, string> = {
  camera: "through its cameras",
  view: "with a camera of its own that sees the same ground",
  preset: "with a camera of its own that was turned there",
  flight: "from the air",
};

/** How a rollout goes. */
export const COURSE_WORDS: Record<RolloutView["course"], string> = {
  running: "under way",
  paused: "paused",
  halted: "halted",
  aborted: "aborted",
  superseded: "superseded",
  done: "done",
};

/** How far a station is in it. */
export const STAGE_WORDS: Record<Stage, string> = {
  waiting: "waits for its turn",
  pinned: "pinned to what it runs",
  assigned: "told",
  fetching: "fetches it",
  trial: "tries it",
  committed: "runs it",
  rolled_back: "went back",
  refused: "refused it",
  unseen: "saw too little to judge",
  unreachable: "told, and down",
  elsewhere: "told something else since",
};

/** What a station has seen of a candidate beside the model before. */
export function trial_words({ trial }: Pick<StationModel, "trial">): string {
  if (trial === null || trial.frames === 0) return "";
  const { frames, frames_wanted, agreement, count_off_mean, inference_ms, inference_ms_before } = trial;
  const of = frames_wanted > 0 ? ` of ${count(frames_wanted)}` : "";
  return `${count(frames)}${of} frames: agrees to ${(100 * agreement).toFixed(1)} %, counts differ by ${count_off_mean.toFixed(2)}, ` +
    `${inference_ms.toFixed(1)} ms a frame (before: ${inference_ms_before.toFixed(1)})`;
}

/** A change in a few words. */
export function change_words({ change, node, station, epoch }: Change): string {
  switch (change) {
    case "up": return `${node} is up`;
    case "suspect": return `${node} may be gone`;
    case "down": return `${node} is down`;
    case "granted": return `${node} watches ${station}`;
    case "takeover": return `${node} stands in at ${station}`;
    case "hand_back": return `${node} has ${station} back`;
    case "uncovered": return `nobody watches ${station}`;
    case "leader": return `a coordinator leads, the ${epoch}. of this site`;
  }
}

/** The zones and lines of one camera with their counts. */
export function scene_words(zones: Record<string, number>, lines: Record<string, Record<Direction, number>>): string[] {
  const zone = ([name, persons]: [string, number]) => `${name} ${count(persons)}`;
  const line = ([name, { left_to_right, right_to_left }]: [string, Record<Direction, number>]) =>
    `${name} → ${count(left_to_right)} ← ${count(right_to_left)}`;
  return [...Object.entries(zones).map(zone), ...Object.entries(lines).map(line)];
}
