/// What an operator can order at the page: where it is sent, what is asked first, and what becomes of it.
///
/// Pure: it sends nothing, and knows no token.

import type { SeenEvent } from "./protocol.ts";

/** Answers remembered; the oldest go. */
export const ANSWERS_KEPT_MAX = 256;

/** One thing that can be ordered. */
export interface Order {
  /** The same for what contradicts each other: the answer to the newest is shown. */
  key: string;
  /** What the button says. */
  word: string;
  /** Asked before it is sent; nothing where it is harmless or can be taken back. */
  question: string | null;
  path: "learn" | "labels" | "rollout";
  body: Record<string, unknown>;
}

/** What became of an order. */
export interface Answer {
  state: "sent" | "done" | "refused";
  /** The order's word. */
  word: string;
  said: string;
}

/** Who acts, and what he did. */
export interface Desk {
  /** His name; nothing where nobody may act. */
  operator: string | null;
  /** Why nobody may, where somebody tried. */
  denied: string;
  /** The order, by key and word, that is about to be sent: its question is being asked. */
  asking: string | null;
  answers: Record<string, Answer>;
}

/** What happens at the desk. */
export type DeskMessage =
  | { is: "operator"; name: string }
  | { is: "denied"; why: string }
  | { is: "asking"; order: Order | null }
  | { is: "answer"; order: Order; state: Answer["state"]; said: string };

export const first_desk: Desk = { operator: null, denied: "", asking: null, answers: {} };

/** Names an order among all. */
export const id_of = ({ key, word }: Order): string => `${key} ${word}`;

/** The one step. */
export function reduce_desk(desk: Desk, message: DeskMessage): Desk {
  switch (message.is) {
    case "operator":
      return { ...desk, operator: message.name, denied: "" };
    case "denied":
      return { ...desk, operator: null, asking: null, denied: message.why };
    case "asking":
      return { ...desk, asking: message.order === null ? null : id_of(message.order) };
    case "answer": {
      const { order, state, said } = message;
      const { [order.key]: _, ...others } = desk.answers;
      const kept = Object.entries(others).slice(-(ANSWERS_KEPT_MAX - 1));
      return { ...desk, asking: null, answers: { ...Object.fromEntries(kept), [order.key]: { state, word: order.word, said } } };
    }
  }
}

const learn = (order: string, more: object, key: string, word: string, question: string | null): Order => ({
  key, word, question, path: "learn", body: { order, ...more },
});

export const freeze = (): Order => learn("freeze", {}, "learn", "Stop learning", "Nothing is learned until somebody lets it go on. Stop?");
export const unfreeze = (): Order => learn("unfreeze", {}, "learn", "Go on learning", null);
export const revert = (): Order =>
  learn("revert", {}, "learn", "Go back", "Stations get the release before the last one, and nothing more is learned. Go back?");
export const take_out = (node: string): Order => learn("out", { node }, `learner ${node}`, "Take out", `What ${node} learned counts no more. Take it out?`);
export const take_in = (node: string): Order => learn("in", { node }, `learner ${node}`, "Take in", null);

/** What can be said of an event: nothing of one that is not one person's. */
export const labels = (event: Pick<SeenEvent, "id" | "node">): Order[] =>
  !event.id.startsWith(`${event.node}-`) || !/^-\d+-\d+$/.test(event.id.slice(event.node.length))
    ? []
    : [
        { key: `event ${event.id}`, word: "Somebody", question: null, path: "labels", body: { person: true, events: [event.id] } },
        { key: `event ${event.id}`, word: "Nobody", question: null, path: "labels", body: { person: false, events: [event.id] } },
      ];

const rollout = (order: string, number: number, word: string, question: string | null): Order => ({
  key: `rollout ${number}`, word, question, path: "rollout", body: { order, rollout: number },
});

/** What can be done with a rollout that goes so. */
export function rollout_orders(number: number, course: string): Order[] {
  const abort = rollout("abort", number, "Abort", `Nobody else is told of it; who runs it goes on with it. Abort rollout ${number}?`);
  switch (course) {
    case "running": return [rollout("pause", number, "Pause", null), abort];
    case "paused": return [rollout("resume", number, "Resume", null), abort];
    case "halted": return [rollout("resume", number, "Resume", "What failed is excused, and who refused is told once more. Resume?"), abort];
    default: return [];
  }
}

/** Whether a station takes part in rollouts: one click, and one back. */
export const pin_order = (station: string, pinned: boolean): Order => ({
  key: `pin ${station}`, word: pinned ? "Unpin" : "Pin", question: null, path: "rollout", body: { order: pinned ? "unpin" : "pin", station },
});

/** The token in an address's fragment; nothing where there is none. */
export function token_in(fragment: string): string | null {
  const token = new URLSearchParams(fragment.replace(/^#/, "")).get("operator");
  return token !== null && /^[0-9a-f]{64}$/.test(token) ? token : null;
}
