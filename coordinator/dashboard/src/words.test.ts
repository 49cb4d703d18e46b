/// What events and cameras say in words.

import { expect, it } from "vitest";

import { event, station_model } from "./samples.ts";
import { change_words, said_of, scene_words, trial_words } from "./words.ts";

const crossing = (line: string, direction: "left_to_right" | "right_to_left") => ({ line, direction, frame_time: 1100 });

it.each([
  ["nothing special", {}, []],
  ["a crowd", { label: "crowd", count: 12 }, ["crowd of up to 12"]],
  [
    "loitering, with the time in that zone",
    { loitering_zones: ["door"], entered_zones: ["road", "door"], dwell_times: [5, 125] },
    ["loitering in door for 2 min 05 s"],
  ],
  ["loitering of an unknown time", { loitering_zones: ["door"], entered_zones: [], dwell_times: [] }, ["loitering in door"]],
  [
    "each line once, with the last way",
    { crossings: [crossing("kerb", "left_to_right"), crossing("gate", "left_to_right"), crossing("kerb", "right_to_left")] },
    ["crossed kerb, right to left", "crossed gate, left to right"],
  ],
])("%s", (_, part, expected) => expect(said_of(event("a", part))).toEqual(expected));

it("a camera's zones and lines are one short word each", () => {
  expect(scene_words({ door: 3 }, { kerb: { left_to_right: 5, right_to_left: 2 } })).toEqual(["door 3", "kerb → 5 ← 2"]);
});

it.each([
  ["takeover", "pi-2 stands in at gate"],
  ["hand_back", "pi-2 has gate back"],
  ["uncovered", "nobody watches gate"],
  ["down", "pi-2 is down"],
] as const)("the change %s is said in words", (change, expected) => {
  expect(change_words({ time: 1, change, node: "pi-2", station: "gate", epoch: 1, why: "" })).toBe(expected);
});

it("a trial is told by its figures, and one that has seen nothing by none", () => {
  expect(trial_words(station_model("a"))).toBe("40 of 300 frames: agrees to 91.2 %, counts differ by 0.10, 12.0 ms a frame (before: 15.0)");
  expect(trial_words(station_model("a", { trial: null }))).toBe("");
  expect(trial_words(station_model("a", { trial: { ...station_model("a").trial!, frames: 0 } }))).toBe("");
});
