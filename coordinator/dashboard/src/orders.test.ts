/// What an operator can order, and what becomes of it.

import { expect, it } from "vitest";

import {
  ANSWERS_KEPT_MAX, first_desk, freeze, id_of, labels, pin_order, reduce_desk, revert, rollout_orders, take_in, take_out, token_in, unfreeze,
} from "./orders.ts";

it("what cannot be taken back in one click is asked first", () => {
  for (const order of [freeze(), revert(), take_out("a"), ...rollout_orders(1, "halted")]) expect(order.question).not.toBeNull();
  for (const order of [unfreeze(), take_in("a"), ...labels({ id: "gate-1-7-3", node: "gate-1" })]) expect(order.question).toBeNull();
});

it("only an event of one person has something to be said of", () => {
  const said = labels({ id: "gate-1-7-3", node: "gate-1" });
  expect(said.map(({ body }) => body)).toEqual([{ person: true, events: ["gate-1-7-3"] }, { person: false, events: ["gate-1-7-3"] }]);
  expect(new Set(said.map(({ key }) => key)).size).toBe(1);
  for (const [id, node] of [["gate-1-7-3-crowd1", "gate-1"], ["gate-1-7", "gate-1"], ["gate-1-7-3", "gate-2"], ["other", "gate-1"]] as const) {
    expect(labels({ id, node })).toEqual([]);
  }
});

it("a rollout offers what its course allows", () => {
  const words = (course: string) => rollout_orders(4, course).map(({ body }) => body["order"]);
  expect(words("running")).toEqual(["pause", "abort"]);
  expect(words("paused")).toEqual(["resume", "abort"]);
  expect(words("halted")).toEqual(["resume", "abort"]);
  expect(words("done")).toEqual([]);
});

it("a station is pinned or taken along again, whichever it is not", () => {
  expect(pin_order("gate", false)).toMatchObject({ word: "Pin", path: "rollout", body: { order: "pin", station: "gate" } });
  expect(pin_order("gate", true)).toMatchObject({ word: "Unpin", question: null, body: { order: "unpin", station: "gate" } });
  expect(pin_order("gate", true).key).toBe(pin_order("gate", false).key);
});

it("an order is asked, sent and answered, and the newest answer stands for all that it contradicts", () => {
  let desk = reduce_desk(first_desk, { is: "operator", name: "anna" });
  desk = reduce_desk(desk, { is: "asking", order: freeze() });
  expect(desk.asking).toBe(id_of(freeze()));
  expect(id_of(freeze())).not.toBe(id_of(revert()));
  desk = reduce_desk(desk, { is: "answer", order: freeze(), state: "sent", said: "" });
  expect([desk.asking, desk.answers["learn"]?.state]).toEqual([null, "sent"]);
  desk = reduce_desk(desk, { is: "answer", order: revert(), state: "refused", said: "no" });
  expect(desk.answers).toEqual({ learn: { state: "refused", word: "Go back", said: "no" } });
  expect(reduce_desk(desk, { is: "denied", why: "gone" })).toMatchObject({ operator: null, denied: "gone" });
});

it("answers are bounded, and the newest stay", () => {
  let desk = first_desk;
  for (let n = 0; n < ANSWERS_KEPT_MAX + 10; n++) desk = reduce_desk(desk, { is: "answer", order: take_in(`n${n}`), state: "done", said: "" });
  expect(Object.keys(desk.answers).length).toBe(ANSWERS_KEPT_MAX);
  expect(desk.answers["learner n0"]).toBeUndefined();
  expect(desk.answers[`learner n${ANSWERS_KEPT_MAX + 9}`]).toBeDefined();
});

it("a token is taken from the fragment only whole", () => {
  const token = "0a".repeat(32);
  expect(token_in(`#operator=${token}`)).toBe(token);
  for (const wrong of ["", "#events", "#operator=", `#operator=${token}0`, `#operator=${token.toUpperCase()}`, `#x=${token}`]) expect(token_in(wrong)).toBeNull();
});
