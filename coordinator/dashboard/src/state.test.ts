/// The page's state machine, by what an operator relies on.

import { describe, expect, it } from "vitest";

import type { Said, SeenEvent } from "./protocol.ts";
import { camera, event, learning, models_view, node, rollout, site_view, station, station_model } from "./samples.ts";
import {
  box_in_picture, by_urgency, cameras_together, EVENTS_KEPT_MAX, first_state, is_stale, type Message, out_of_line, persons_at_site, pictures,
  reduce, rollouts, site_now_s, STALE_AFTER_MS, type State, TIMELINE_MINUTES, timelines,
} from "./state.ts";

it("ground that nobody watches comes before what is covered, and what is as usual is not shown", () => {
  const stations = [
    station("arch", { guard: "covered", holder: "pi-2", how: "camera" }),
    station("gate"),
    station("yard", { guard: "uncovered", holder: null }),
    station("barn", { guard: "uncovered", holder: null }),
  ];
  expect(out_of_line(stations).map(({ station }) => station)).toEqual(["barn", "yard", "arch"]);
});

it("rollouts that are open are shown, and the newest one however it ended, with what needs a person first", () => {
  const stations = [
    station_model("ok", { stage: "committed" }),
    station_model("busy", { stage: "trial" }),
    station_model("bad", { stage: "rolled_back" }),
    station_model("other", { rollout: 2 }),
  ];
  const models = models_view({
    rollouts: [rollout(4, { course: "done" }), rollout(3, { course: "aborted" }), rollout(2, { course: "halted" }), rollout(1)],
    stations,
  });
  const shown = rollouts(models);
  expect(shown.map(({ number }) => number)).toEqual([4, 2, 1]);
  expect(shown[2]!.stations.map(({ node }) => node)).toEqual(["bad", "busy", "ok"]);
  expect(rollouts(null)).toEqual([]);
});

const after = (messages: Message[], from: State = first_state(0)): State => messages.reduce(reduce, from);
const said = (said: Said, at_ms = 0): Message => ({ is: "said", at_ms, said });
const live = (moment: SeenEvent): Message => said({ said: "event", event: moment });
const recent = (...events: SeenEvent[]): Message => said({ said: "recent", events });
const view = (time: number, at_ms: number, part = {}): Message => said({ said: "site", view: site_view({ time, ...part }) }, at_ms);
const ids = (state: State) => state.events.map(({ id }) => id);

it("what was learned is never taken back by what a broker says again", () => {
  const tell = (time: number, version: number) => said({ said: "learning", learning: learning({ time, version }) });
  expect(after([tell(5, 3), tell(4, 2)]).learning?.version).toBe(3);
  expect(after([tell(5, 3), tell(6, 4)]).learning?.version).toBe(4);
});

describe("the line to the broker", () => {
  it("is lost since it was lost first, however often it is tried again", () => {
    const state = after([
      { is: "live", at_ms: 10 },
      { is: "lost", at_ms: 20, why: "cut" },
      { is: "lost", at_ms: 30, why: "refused" },
    ]);
    expect(state.link).toEqual({ state: "lost", since_ms: 20, why: "refused" });
    expect(after([{ is: "live", at_ms: 40 }], state).link).toEqual({ state: "live", since_ms: 40, why: "" });
  });

  it("keeps what is known when it is lost, and forgets it when the site is another one", () => {
    const known = after([{ is: "configured", site: "yard" }, view(1100, 0), live(event("a")), { is: "lost", at_ms: 1, why: "" }]);
    expect(ids(known)).toEqual(["a"]);
    expect(ids(after([{ is: "configured", site: "yard" }], known))).toEqual(["a"]);
    const other = after([{ is: "configured", site: "mill" }], known);
    expect([other.site, other.view, other.events, other.link.state]).toEqual(["mill", null, [], "lost"]);
  });
});

it("an older word of models than the last one changes nothing", () => {
  const models = (time: number): Message => said({ said: "models", models: models_view({ time, rollouts: [rollout(time)] }) });
  const state = after([models(5), models(4)]);
  expect(state.models?.rollouts[0]?.number).toBe(5);
  expect(after([models(6)], state).models?.rollouts[0]?.number).toBe(6);
});

describe("a view", () => {
  it("that the broker has kept for long is stale at once", () => {
    const state = after([view(1000, 1_000_000 + STALE_AFTER_MS + 1)]);
    expect(is_stale(state, 1_000_000 + STALE_AFTER_MS + 1)).toBe(true);
  });

  it("is stale when none follows, and fresh when one does", () => {
    const state = after([view(1000, 1_000_000)]);
    expect(is_stale(state, 1_000_000 + STALE_AFTER_MS)).toBe(false);
    expect(is_stale(state, 1_000_001 + STALE_AFTER_MS)).toBe(true);
    expect(is_stale(after([view(1001, 1_000_001 + STALE_AFTER_MS)], state), 1_000_001 + STALE_AFTER_MS)).toBe(false);
  });

  it("that comes again after a reconnection is no news", () => {
    const state = after([view(1000, 1_000_000), view(1000, 1_009_000)]);
    expect(is_stale(state, 1_009_000)).toBe(true);
  });

  it("by a leader before the one that has spoken is refused and counted, while there is news of that one", () => {
    const state = after([view(1000, 1_000_000, { leader: 3 }), view(1001, 1_001_000, { leader: 2 })]);
    expect([state.view?.leader, state.malformed.count]).toEqual([3, 1]);
    expect(after([view(1002, 1_002_000, { leader: 4 })], state).view?.leader).toBe(4);
    const late = 1_000_001 + STALE_AFTER_MS;
    expect(after([view(1006, late, { leader: 1 })], state).view?.leader).toBe(1);
  });

  it("is judged right by a viewer whose clock is an hour ahead, once a second one has come", () => {
    const ahead_ms = 3_600_000;
    const state = after([view(1000, 1_000_000 + ahead_ms), view(1001, 1_001_000 + ahead_ms)]);
    expect(is_stale(state, 1_002_000 + ahead_ms)).toBe(false);
    expect(site_now_s(state, 1_002_000 + ahead_ms)).toBe(1002);
  });

  it("that is not there is not stale", () => expect(is_stale(first_state(0), 1e9)).toBe(false));
});

describe("an event", () => {
  const moments = [
    event("a", { type: "new", seq: 1, top_score: 0.6, frame_time: 1100 }),
    event("a", { type: "update", seq: 4, top_score: 0.9, frame_time: 1104, archive_time: 1104.5 }),
    event("a", { type: "end", seq: 9, top_score: 0.9, frame_time: 1109, end_time: 1108, archive_time: 1109.5 }),
  ];

  it("is one row from new to end", () => {
    const state = after(moments.map(live));
    expect(state.events).toHaveLength(1);
    expect(state.events[0]).toMatchObject({ kind: "end", seq: 9, end_time: 1108, top_score: 0.9, first_archived: 1100.5, live: true });
  });

  it("looks the same whatever the order and however often its moments come", () => {
    const expected = after(moments.map(live)).events;
    for (const order of [[2, 1, 0], [1, 0, 2], [0, 2, 1, 2, 0], [2, 2, 0, 1]]) {
      expect(after(order.map((index) => live(moments[index]!))).events).toEqual(expected);
      expect(after([recent(...order.map((index) => moments[index]!)), ...moments.map(live)]).events).toEqual(expected);
    }
  });

  it("is live only if it came while the page was watching", () => {
    const state = after([recent(event("a"), event("b")), live(event("b"))]);
    expect(state.events.filter((row) => row.live).map(({ id }) => id)).toEqual(["b"]);
  });

  it("of a later boot is newer, whatever its sequence", () => {
    const state = after([live(event("a", { boot: 5, seq: 90 })), live(event("a", { boot: 6, seq: 1, stationary: true }))]);
    expect(state.events[0]).toMatchObject({ boot: 6, seq: 1, stationary: true });
  });

  it("keeps its place in the list when it is updated; new ones come on top", () => {
    const state = after([
      live(event("a", { archive_time: 1 })),
      live(event("b", { archive_time: 2 })),
      live(event("a", { type: "update", seq: 7, archive_time: 3 })),
      live(event("c", { archive_time: 4 })),
    ]);
    expect(ids(state)).toEqual(["c", "b", "a"]);
  });

  it("does not make the list grow without bound", () => {
    const many = Array.from({ length: EVENTS_KEPT_MAX + 50 }, (_, i) => live(event(`e${i}`, { archive_time: i })));
    const state = after(many);
    expect(state.events).toHaveLength(EVENTS_KEPT_MAX);
    expect(state.events[0]!.id).toBe(`e${EVENTS_KEPT_MAX + 49}`);
  });
});

describe("a malformed message", () => {
  it("is counted, and changes nothing else", () => {
    const before = after([view(1100, 0), live(event("a"))]);
    const state = after([said({ said: "malformed", why: "one" }), said({ said: "malformed", why: "two" })], before);
    expect(state).toEqual({ ...before, malformed: { count: 2, last: "two" } });
  });
});

describe("what is derived", () => {
  it("puts first who needs help", () => {
    const nodes = [
      node("a"), node("b", { problems: ["disk"] }), node("c", { liveness: "suspect" }), node("d", { liveness: "down" }), node("e"),
    ];
    expect(by_urgency(nodes).map(({ node }) => node)).toEqual(["d", "c", "b", "a", "e"]);
  });

  it("adds cameras up, and weighs inference by how often each is looked at", () => {
    const cameras = [camera("a", { fps: 30, inference_ms: 10 }), camera("b", { fps: 10, inference_ms: 30, persons_now: 1 })];
    expect(cameras_together(cameras)).toEqual({ persons_now: 3, fps: 40, inference_ms: 15, frames: 200, frames_dropped: 8 });
    expect(cameras_together([]).inference_ms).toBe(0);
  });

  it("does not count people whom nobody sees any more", () => {
    expect(persons_at_site([node("a"), node("b", { liveness: "down" }), node("c", { stats: null })])).toBe(2);
  });

  it("counts each event once in the minute it began, also at stations without a node", () => {
    const now_s = 60 * 1000 + 5;
    const ago = (minutes: number) => now_s - 60 * minutes;
    const state = after([
      view(now_s, 0, { nodes: [node("orin-1", { station: "gate" })] }),
      live(event("a", { start_time: ago(0) })),
      live(event("a", { start_time: ago(0), type: "update", seq: 2 })),
      live(event("b", { start_time: ago(1) })),
      live(event("c", { start_time: ago(1), station: "path" })),
      live(event("old", { start_time: ago(TIMELINE_MINUTES) })),
      live(event("ahead", { start_time: ago(-3) })),
    ]);
    const [gate, path, ...more] = timelines(state, now_s);
    expect(more).toEqual([]);
    expect([gate!.station, gate!.nodes]).toEqual(["gate", [{ node: "orin-1", liveness: "up" }]]);
    expect(gate!.minutes).toHaveLength(TIMELINE_MINUTES);
    expect(gate!.minutes.slice(-3)).toEqual([0, 1, 2]);
    expect([path!.nodes, path!.minutes.slice(-3)]).toEqual([[], [0, 1, 0]]);
  });

  it("does not claim to know minutes whose events it has dropped", () => {
    const now_s = 60 * 1000;
    const many = Array.from({ length: EVENTS_KEPT_MAX }, (_, i) => event(`e${i}`, { start_time: now_s - 60 * (i % 3), archive_time: i }));
    const [gate] = timelines(after([recent(...many)]), now_s);
    expect(gate!.minutes.slice(-4, -2)).toEqual([null, null]);
    expect(gate!.minutes.at(-1)).toBe(Math.ceil(EVENTS_KEPT_MAX / 3));
  });

  it("draws boxes in the smallest usual picture that holds all of a camera's boxes", () => {
    const { events } = after([
      live(event("a", { box: [0, 0, 700, 100] })),
      live(event("b", { box: [0, 0, 10, 570] })),
      live(event("c", { node: "other", box: [0, 0, 9000, 10] })),
    ]);
    expect([...pictures(events)].sort()).toEqual([["orin-1/north", [768, 576]], ["other/north", [9000, 10]]]);
  });

  it.each([
    [[10, 20, 60, 70], [0.1, 0.2, 0.5, 0.5]],
    [[60, 70, 10, 20], [0.1, 0.2, 0.5, 0.5]],
    [[-50, 0, 500, 100], [0, 0, 1, 1]],
    [[5, 5, 5, 5], [0.05, 0.05, 0.01, 0.01]],
  ] as const)("cuts a box to the picture: %j", (box, expected) => {
    const cut = box_in_picture([...box], [100, 100]);
    expected.forEach((edge, index) => expect(cut[index]).toBeCloseTo(edge));
  });
});
