/// Durations and times as a person reads them; and the waits of the line.

import { expect, it } from "vitest";

import { duration, time_of_day } from "./format.ts";
import { retry_ms } from "./link.ts";

it.each([
  [-3, "0 s"], [0, "0 s"], [59.9, "59 s"], [60, "1 min 00 s"], [725, "12 min 05 s"], [3600, "1 h 00 min"],
  [12_000, "3 h 20 min"], [86_400, "1 d 0 h"], [440_000, "5 d 2 h"],
])("%d s is %s", (seconds, expected) => expect(duration(seconds)).toBe(expected));

it("another day's time says the day", () => {
  const noon = new Date(2026, 10, 24, 12).getTime() / 1000;
  expect(time_of_day(noon - 86_400, noon)).toContain("23");
  expect(time_of_day(noon, noon)).not.toContain("24");
});

it("waits longer each time, up to a bound, and pages spread", () => {
  expect([0, 1, 2, 3, 4, 5, 100].map((attempt) => retry_ms(attempt, 1))).toEqual([500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
  expect(retry_ms(3, 0)).toBe(2000);
});
