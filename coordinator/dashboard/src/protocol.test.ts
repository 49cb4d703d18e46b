/// Reading of messages: what is right comes through, and what is wrong is one sentence, never an exception.

import { describe, expect, it } from "vitest";

import { ITEMS_MAX, MESSAGE_BYTES_MAX, read_config, read_message, topics_of } from "./protocol.ts";
import { camera, curve_point, event, learner, learning, models_view, node, release, release_station, rollout, site_view, station, station_model } from "./samples.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const read = (below: string, json: unknown) => read_message("yard", `picket/v1/yard/${below}`, bytes(JSON.stringify(json)));
const why = (below: string, json: unknown) => {
  const said = read(below, json);
  return said.said === "malformed" ? said.why : `it was read as ${said.said}`;
};
const without = (from: object, key: string) => Object.fromEntries(Object.entries(from).filter(([name]) => name !== key));

describe("what the coordinator sends", () => {
  it("is listened to on these topics", () => {
    expect(topics_of("yard")).toEqual([
      "picket/v1/yard/view/site",
      "picket/v1/yard/view/recent",
      "picket/v1/yard/view/event",
      "picket/v1/yard/view/models",
      "picket/v1/yard/view/learning",
      "picket/v1/yard/coordinator/status/health",
    ]);
  });

  it("comes through unchanged", () => {
    const change = { time: 5, change: "takeover" as const, node: "pi-2", station: "gate", epoch: 7, why: "orin-1 is down" };
    const stations = [station("gate"), station("yard", { guard: "covered", holder: "pi-2", how: "flight" })];
    const nodes = [node("orin-1"), node("pi-2", { station: null, detector: null, stats: null })];
    const view = site_view({ nodes, stations, changes: [change] });
    expect(read("view/site", view)).toEqual({ said: "site", view });
    expect(read("view/event", event("a"))).toEqual({ said: "event", event: event("a") });
    expect(read("view/recent", { events: [event("a"), event("b")] })).toEqual({
      said: "recent",
      events: [event("a"), event("b")],
    });
  });

  it("says of models what each station runs, and how rollouts go", () => {
    const halted = rollout(2, { course: "halted", why: "gate-1: it agrees to 0.1" });
    const models = models_view({ rollouts: [halted, rollout(1)], stations: [station_model("a"), station_model("b", { stage: null, trial: null })] });
    expect(read("view/models", models)).toEqual({ said: "models", models });
    expect(why("view/models", models_view({ rollouts: [{ ...halted, course: "lost" as "done" }] }))).toContain("rollouts[0].course is not one of");
    expect(why("view/models", models_view({ stations: [{ ...station_model("a"), stage: "gone" as "trial" }] }))).toContain("stations[0].stage is not one of");
    expect(why("view/models", without(models_view(), "stations"))).toContain("stations is missing");
  });

  it("says of learning who contributes, and what no number is hides nothing else", () => {
    const view = learning({ curve: [curve_point(1), curve_point(2, { canary: 0.9 })], stations: [learner("a"), learner("b", { gate: null })] });
    expect(read("view/learning", view)).toEqual({ said: "learning", learning: view });
    const told = learning({ releases: [release(7, { stations: [release_station("a"), release_station("b", { outcome: "unseen", difference: null })] })] });
    expect(read("view/learning", told)).toEqual({ said: "learning", learning: told });
    expect(read("view/learning", without(learning(), "releases"))).toEqual({ said: "learning", learning: learning() });
    const huge = learning({ curve: [curve_point(1, { loss: null })], stations: [learner("a", { loss: null, norm: null })] });
    expect(read("view/learning", huge)).toEqual({ said: "learning", learning: huge });
    expect(why("view/learning", learning({ stations: [learner("a", { fate: "lost" as "used" })] }))).toContain("stations[0].fate is not one of");
    expect(why("view/learning", without(learning(), "frozen"))).toContain("frozen is missing");
  });

  it("may leave out what is optional, and what has a default", () => {
    const bare = without(without(event("a"), "end_time"), "covering_for");
    expect(read("view/event", bare)).toEqual({ said: "event", event: event("a") });
    const health = { status: "down", pid: 7, time: 5, boot: 1, epoch: 0 };
    expect(read("coordinator/status/health", health)).toEqual({
      said: "coordinator",
      health: { status: "down", time: 5, problems: [] },
    });
  });

  it("may hold fields that this page does not know", () => {
    const view = site_view({ nodes: [node("orin-1")] });
    const newer = { ...view, mood: "calm", nodes: [{ ...view.nodes[0], wings: 2 }] };
    expect(read("view/site", newer)).toEqual({ said: "site", view });
  });

  it("cannot reach into the page's objects", () => {
    const json = JSON.stringify(site_view()).replace("{", '{"__proto__": {"nodes": 1}, "constructor": 1, ');
    expect(read_message("yard", "picket/v1/yard/view/site", bytes(json)).said).toBe("site");
    const passed_over = JSON.parse('{"__proto__": "no device"}');
    const view = site_view({ nodes: [node("orin-1", { detector: { ...node("x").detector!, passed_over } })] });
    const said = read("view/site", view);
    expect(said.said === "site" && Object.keys(said.view.nodes[0]!.detector!.passed_over)).toEqual(["__proto__"]);
  });
});

describe("what is malformed says where and why", () => {
  const broken_node = (part: object) => site_view({ nodes: [{ ...node("orin-1"), ...part }] });
  it.each([
    ["view/site", without(site_view(), "events_archived"), "events_archived is missing"],
    ["view/site", { ...site_view(), nodes: {} }, "nodes is not a list"],
    ["view/site", { ...site_view(), time: 1e300 }, "time is not a time in seconds since 1970"],
    ["view/site", { ...site_view(), time: -1 }, "time is not a time"],
    ["view/site", broken_node({ liveness: "leaving" }), "nodes[0].liveness is not one of up, suspect, down"],
    ["view/site", broken_node({ problems: [7] }), "nodes[0].problems[0] is not text"],
    ["view/site", broken_node({ stats: { cameras: [] } }), "nodes[0].stats.time is missing"],
    ["view/site", { ...site_view(), nodes: Array(ITEMS_MAX + 1).fill(node("a", { detector: null, stats: null })) }, `nodes has more than ${ITEMS_MAX}`],
    ["view/event", without(event("a"), "id"), "id is missing"],
    ["view/event", { ...event("a"), type: "begin" }, "type is not one of new, update, end"],
    ["view/event", { ...event("a"), box: [1, 2, 3] }, "box is not four numbers"],
    ["view/event", { ...event("a"), score: "high" }, "score is not a number"],
    ["view/event", { ...event("a"), score: null }, "score is not a number"],
    ["view/event", [event("a")], "view/event: it is not an object"],
    ["view/recent", { events: [event("a"), {}] }, "events[1].type is missing"],
    ["coordinator/status/health", { status: "sleepy", time: 1 }, "status is not one of up, down"],
    ["twin", {}, "not a topic of this page"],
    ["constructor", {}, "not a topic of this page"],
  ])("%s %#", (below, json, expected) => {
    expect(why(below, json)).toContain(expected);
  });

  it.each([
    ["nothing", bytes(""), "not JSON"],
    ["half a message", bytes('{"site": "yard"'), "not JSON"],
    ["bytes that are not UTF-8", new Uint8Array([0x22, 0xff, 0xfe, 0x22]), "in UTF-8"],
    ["a number too large", bytes('{"site":"yard","time":1e999}'), "time is not a number"],
    ["too many bytes", bytes(`"${"x".repeat(MESSAGE_BYTES_MAX)}"`), `more than ${MESSAGE_BYTES_MAX} bytes`],
    ["deep nesting", bytes("[".repeat(100_000)), "not JSON"],
  ])("%s", (_, payload, expected) => {
    const said = read_message("yard", "picket/v1/yard/view/site", payload);
    expect(said).toMatchObject({ said: "malformed", why: expect.stringContaining(expected) });
  });

  it("another site's topic", () => {
    expect(read_message("yard", "picket/v1/mill/view/site", bytes("{}")).said).toBe("malformed");
    expect(read_message("yard", "picket/v1/yardx/view/site", bytes("{}")).said).toBe("malformed");
  });

  it("any value in any place of a message", () => {
    const view = site_view({ nodes: [node("a", { stats: { ...node("a").stats!, cameras: [camera("c")] } })] });
    const paths = (value: unknown, at: string[] = []): string[][] =>
      typeof value !== "object" || value === null
        ? [at]
        : [at, ...Object.entries(value).flatMap(([key, item]) => paths(item, [...at, key]))];
    for (const path of paths(view)) {
      for (const wrong of [undefined, null, -1, "", [], {}, [[]], true]) {
        const json = structuredClone({ root: view }) as Record<string, unknown>;
        const keys = ["root", ...path];
        const last = keys.pop()!;
        const holder = keys.reduce((value, key) => value[key] as Record<string, unknown>, json);
        holder[last] = wrong;
        expect(["site", "malformed"]).toContain(read("view/site", json["root"] ?? null).said);
      }
    }
  });
});

describe("config.json", () => {
  const good = { site: "yard", mqtt_websocket_url: "ws://127.0.0.1:9001/mqtt" };
  it("is read", () => expect(read_config({ ...good, more: 1 })).toEqual(good));
  it.each([
    [null, "The page cannot use config.json: it is not an object."],
    [{ site: "yard" }, "mqtt_websocket_url is missing"],
    [{ ...good, mqtt_websocket_url: "http://127.0.0.1/" }, "mqtt_websocket_url is not a ws:// or wss:// address"],
    [{ ...good, mqtt_websocket_url: null }, "set mqtt.websocket_url there."],
    [{ ...good, mqtt_websocket_url: "ws://" }, "mqtt_websocket_url is not a ws:// or wss:// address"],
  ])("is refused %#", (json, expected) => expect(() => read_config(json)).toThrow(expected));
});
