/// What the page derives of learning.

import { describe, expect, it } from "vitest";

import { CURVE_HIGH, CURVE_WIDE, clip_words, effect_words, figure, label_words, learners, release_words, root_words, tally_words, trace } from "./learning.ts";
import { curve_point, learner, learning, node, release, release_station } from "./samples.ts";

const stats = { ...node("a").stats!, learn: { version: 9, used_version: 7, confirmed: 1, tracked: 40, taught: 0, held_out: 8, taken: 2, kept: 1 } };

it("stations that were left out come first, each with what it says of its own examples", () => {
  const stations = [learner("c"), learner("b", { fate: "waiting" }), learner("d", { fate: "gated" }), learner("a"), learner("e", { fate: "frozen" })];
  const shown = learners(learning({ stations }), [node("a", { stats }), node("b", { stats: null })]);
  expect(shown.map(({ node }) => node)).toEqual(["d", "e", "b", "a", "c"]);
  expect(shown.map(({ own }) => own?.tracked ?? null)).toEqual([null, null, null, 40, null]);
  expect(label_words(shown[3]!.own)).toBe("1 label by persons, 40 by the tracker, 8 of them held out to compare by");
  expect(label_words({ ...shown[3]!.own!, taught: 12 })).toBe("1 label by persons, 40 by the tracker, 12 by the teacher, 8 of them held out to compare by");
  expect(label_words(null)).toContain("has not said");
});

it("says what the gate lacks, and what there is", () => {
  expect(root_words(learning())).toBe("Confirmed samples: 101 of nobody, 104 of somebody.");
  expect(root_words(learning({ root_samples: [3, 4], root_lacks: "3 confirmed samples of class 0; 100 are needed of each" })))
    .toBe("Confirmed samples: 3 of nobody, 4 of somebody. The gate is not in use: 3 confirmed samples of class 0; 100 are needed of each.");
  expect(root_words(learning({ root_samples: [1, 2, 3] }))).toContain("3 of class 2");
});

it("figures stay short, whatever a station says", () => {
  expect([0.3141, 12, 123456, 3.4e38, -0.5, null].map(figure)).toEqual(["0.31", "12", "1e+5", "3e+38", "-0.50", "–"]);
  expect([1, 0.999, 0.25, null].map(clip_words)).toEqual(["uncut", "uncut", "25%", "–"]);
});

it("says what a release did to each station", () => {
  expect(effect_words(release_station("a"))).toBe("loss better by 0.12 ± 0.030 on 40 examples of its own");
  expect(effect_words(release_station("a", { difference: 0.5, error: null, samples: 1 }))).toBe("loss worse by 0.50 on 1 example of its own");
  expect(effect_words(release_station("a", { samples: 0 }))).toBe("");
  const stations = [release_station("a"), release_station("b", { outcome: "rolled_back" }), release_station("c", { outcome: "trial" })];
  expect(tally_words(release(7, { stations }))).toBe("1 of 3 judge by it, 1 do not, 1 open");
  expect(release_words(release(7, { revert_of: 5 }))).toBe("Head 7, which goes back to 5");
});

describe("the curve", () => {
  const words = (value: number) => value.toFixed(2);
  const loss = (values: (number | null)[]) => values.map((value, index) => curve_point(10 + index, { loss: value, time: 1000 + 60 * index }));

  it("goes from its first version to its last, zero at the bottom", () => {
    const drawn = trace(loss([0.8, 0.4, 0]), ({ loss }) => loss, words);
    expect(drawn.path).toBe(`M0 0L${CURVE_WIDE / 2} ${CURVE_HIGH / 2}L${CURVE_WIDE} ${CURVE_HIGH}`);
    expect(drawn.said).toBe("from 0.80 at version 10 to 0.00 at version 12 in 2 min 00 s; lowest 0.00");
    expect(drawn.last).toEqual({ version: 12, value: 0, x: CURVE_WIDE, y: CURVE_HIGH });
  });

  it("has a gap where nothing is known, and is empty where nothing is", () => {
    expect(trace(loss([1, null, 1]), ({ loss }) => loss, words).path).toBe(`M0 0M${CURVE_WIDE} 0`);
    expect(trace(loss([null, null]), ({ loss }) => loss, words)).toMatchObject({ path: "", last: null, said: "nothing is known yet" });
    expect(trace([], ({ loss }) => loss, words).path).toBe("");
  });

  it("is not flattened by a station that says anything", () => {
    const drawn = trace(loss([0.5, 0.5, 3e38, 0.5, 0.4]), ({ loss }) => loss, words);
    expect(drawn.top).toBe(2);
    expect(drawn.path).toContain(`L${CURVE_WIDE / 2} 0L`);
  });

  it("of a share reaches from none to all", () => {
    const canary = [0.5, 0.75].map((value, index) => curve_point(index, { canary: value }));
    const drawn = trace(canary, ({ canary }) => canary, words, 1);
    expect([drawn.top, drawn.last?.y]).toEqual([1, CURVE_HIGH / 4]);
    expect(drawn.said).toContain("highest 0.75");
  });

  it("of one step is a point", () => {
    expect(trace(loss([0.5]), ({ loss }) => loss, words)).toMatchObject({ path: "M0 0", said: "from 0.50 at version 10 to 0.50 at version 10; lowest 0.50" });
  });
});
