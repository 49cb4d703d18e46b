/// What the page derives of learning: the order of stations, the shape of the curve, and each in words.
///
/// Pure: no clock, no DOM, no network.

import { count, duration, percent, plural } from "./format.ts";
import type { CurvePoint, LearnerView, Learning, NodeView, ReleaseStation, ReleaseView, Stats } from "./protocol.ts";

/** Stations listed. */
export const LEARNERS_SHOWN_MAX = 200;
/** A curve's picture, in its own units. */
export const CURVE_WIDE = 320;
export const CURVE_HIGH = 64;
/** No station can flatten the curve: what is higher than so many medians is drawn at the top. */
const LOSS_MEDIANS_MAX = 4;

/** How the rows of all stations become one step, in words. */
export const MIXING_WORDS: Record<Learning["mixing"], string> = {
  nnm_gate: "Confirmed samples judge what each station says; what is left is mixed so that no station leads alone.",
  nnm: "No confirmed samples judge yet: what stations say is mixed so that no station leads alone.",
  clip: "Every station is trusted: what they say is cut to the same length and averaged.",
  plain: "What stations say is averaged as it comes.",
};

/** What became of a station's newest word. */
export const FATE_WORDS: Record<LearnerView["fate"], string> = {
  used: "counted",
  waiting: "waits for the next step",
  gated: "left out: against the confirmed samples",
  old: "left out: begun from too old a head",
  frozen: "taken out by a person",
};

const FATES: LearnerView["fate"][] = ["gated", "frozen", "old", "waiting", "used"];

/** One station that learns, with what it says of its own examples. */
export interface Learner extends LearnerView {
  own: NonNullable<Stats["learn"]> | null;
}

/** All that contributed: what somebody may have to look at first, then by name. */
export function learners(learning: Learning, nodes: NodeView[]): Learner[] {
  const own = new Map(nodes.map(({ node, stats }) => [node, stats?.learn ?? null]));
  return learning.stations
    .map((station) => ({ ...station, own: own.get(station.node) ?? null }))
    .sort((a, b) => FATES.indexOf(a.fate) - FATES.indexOf(b.fate) || (a.node < b.node ? -1 : 1));
}

/** Where a device's examples have their labels from. */
export function label_words(own: Learner["own"]): string {
  if (own === null) return "has not said where its labels are from";
  const { confirmed, tracked, taught, held_out } = own;
  const by_teacher = taught > 0 ? `, ${count(taught)} by the teacher` : "";
  return `${plural(confirmed, "label", "labels")} by persons, ${count(tracked)} by the tracker${by_teacher}, ${count(held_out)} of them held out to compare by`;
}

/** How much of its length was left, in words: the longest rows are cut to the middle one. */
export const clip_words = (clip: number | null): string => (clip === null ? "–" : clip >= 0.995 ? "uncut" : percent(clip));

/** A figure of learning, short. */
export const figure = (value: number | null): string =>
  value === null ? "–" : Math.abs(value) >= 1e4 ? value.toExponential(0) : value.toPrecision(2);

/** The confirmed samples, in words; of two classes the second is "somebody". */
export function root_words({ root_samples, root_lacks }: Learning): string {
  const of = (total: number, index: number) =>
    root_samples.length === 2 ? `${count(total)} of ${index === 0 ? "nobody" : "somebody"}` : `${count(total)} of class ${index}`;
  const have = root_samples.length > 0 ? `Confirmed samples: ${root_samples.map(of).join(", ")}.` : "";
  return root_lacks === "" ? have : `${have} The gate is not in use: ${root_lacks}.`.trim();
}

/** How far a station is with a release of the head, in words. */
export const OUTCOME_WORDS: Record<ReleaseStation["outcome"], string> = {
  waiting: "waits for its turn",
  pinned: "pinned to what it runs",
  assigned: "told",
  fetching: "fetches it",
  trial: "compares it",
  committed: "judges by it",
  rolled_back: "does not: it would lose",
  refused: "refused it",
  unseen: "keeps what it has for now",
  unreachable: "told, and down",
  elsewhere: "told something else since",
};

/** What a release did to a station's own loss, in words: on examples that it never learned from. */
export function effect_words({ samples, difference, error }: ReleaseStation): string {
  if (samples === 0 || difference === null) return "";
  const how = difference < 0 ? "better" : difference > 0 ? "worse" : "the same";
  const sure = error === null ? "" : ` ± ${figure(error)}`;
  return `loss ${how} by ${figure(Math.abs(difference))}${sure} on ${plural(samples, "example", "examples")} of its own`;
}

/** What a release is, in words: of one that takes another back, which one. */
export const release_words = ({ version, revert_of }: ReleaseView): string =>
  `Head ${count(version)}${revert_of === null ? "" : `, which goes back to ${count(revert_of)}`}`;

/** How many stations of a release are where, in a few words; the good ones first. */
export function tally_words({ stations }: ReleaseView): string {
  const of = (...outcomes: ReleaseStation["outcome"][]) => stations.filter(({ outcome }) => outcomes.includes(outcome)).length;
  const bad = of("rolled_back", "refused");
  const good = of("committed");
  const open = stations.length - good - bad;
  return [`${count(good)} of ${count(stations.length)} judge by it`, bad > 0 && `${count(bad)} do not`, open > 0 && `${count(open)} open`]
    .filter(Boolean)
    .join(", ");
}

/** One line of a curve. */
export interface Trace {
  /** An SVG path; a gap where nothing is known. Empty where nothing is to be drawn. */
  path: string;
  /** What the top of the picture stands for. */
  top: number;
  last: { version: number; value: number; x: number; y: number } | null;
  /** The same in words, for those who do not see it. */
  said: string;
}

/** Draws one figure of the curve over the head's version, from zero to `top`, or to what is usual in it. */
export function trace(curve: CurvePoint[], of: (point: CurvePoint) => number | null, words: (value: number) => string, top?: number): Trace {
  const known = curve.flatMap((point) => {
    const value = of(point);
    return value === null ? [] : [{ version: point.version, time: point.time, value }];
  });
  const [first, last] = [known[0], known.at(-1)];
  if (first === undefined || last === undefined) return { path: "", top: top ?? 1, last: null, said: "nothing is known yet" };
  const values = known.map(({ value }) => value).sort((a, b) => a - b);
  const usual = LOSS_MEDIANS_MAX * values[Math.floor(values.length / 2)]!;
  const high = top ?? (Math.min(values.at(-1)!, usual) || 1);
  const [from, to] = [curve[0]!.version, curve.at(-1)!.version];
  const x_of = (version: number) => round((CURVE_WIDE * (version - from)) / Math.max(1, to - from));
  const y_of = (value: number) => round(CURVE_HIGH * (1 - Math.min(1, Math.max(0, value / high))));
  let path = "";
  let pen = "M";
  for (const point of curve) {
    const value = of(point);
    if (value === null) {
      pen = "M";
      continue;
    }
    path += `${pen}${x_of(point.version)} ${y_of(value)}`;
    pen = "L";
  }
  const best = top === undefined ? values[0]! : values.at(-1)!;
  const span = last.time > first.time ? ` in ${duration(last.time - first.time)}` : "";
  const said =
    `from ${words(first.value)} at version ${count(first.version)} to ${words(last.value)} at version ${count(last.version)}${span}; ` +
    `${top === undefined ? "lowest" : "highest"} ${words(best)}`;
  return { path, top: high, last: { version: last.version, value: last.value, x: x_of(last.version), y: y_of(last.value) }, said };
}

const round = (value: number): number => Math.round(value * 10) / 10;
