/// The operator's token and what is sent with it. The token comes in the address's fragment, which no server sees, leaves the address
/// at once, and stays in this tab until it is closed.
///
/// It decides nothing: what became of an order is handed on.

import type { DeskMessage, Order } from "./orders.ts";
import { token_in } from "./orders.ts";

const KEY = "picket-operator";
/** Longest wait for an answer. */
const ANSWER_MAX_MS = 15_000;
/** Most characters of an answer that are shown. */
const SAID_CHARS_MAX = 300;

/** Takes the token out of the address, and asks who this is, where somebody has one. */
export async function sit_down(happen: (message: DeskMessage) => void): Promise<void> {
  const given = token_in(location.hash);
  if (location.hash.includes("operator=")) history.replaceState(null, "", location.pathname + location.search);
  if (given !== null) sessionStorage.setItem(KEY, given);
  if (sessionStorage.getItem(KEY) === null) return;
  const { ok, status, said } = await ask("operator", null);
  const name: unknown = ok ? read(said)?.["operator"] : null;
  if (typeof name === "string") return happen({ is: "operator", name });
  deny(status, said, happen);
}

/** Sends an order. */
export async function send(order: Order, happen: (message: DeskMessage) => void): Promise<void> {
  happen({ is: "answer", order, state: "sent", said: "" });
  const { ok, status, said } = await ask(order.path, order.body);
  const done: unknown = ok ? read(said)?.["said"] : null;
  happen({ is: "answer", order, state: ok ? "done" : "refused", said: typeof done === "string" ? done : said });
  if (status === 401) deny(status, said, happen);
}

/** A token that is none any more is not kept. */
function deny(status: number, said: string, happen: (message: DeskMessage) => void): void {
  if (status === 401) sessionStorage.removeItem(KEY);
  happen({ is: "denied", why: said });
}

async function ask(path: string, body: object | null): Promise<{ ok: boolean; status: number; said: string }> {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}` };
  const request: RequestInit =
    body === null ? { headers } : { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) };
  try {
    const answer = await fetch(`./api/${path}`, { ...request, cache: "no-store", signal: AbortSignal.timeout(ANSWER_MAX_MS) });
    return { ok: answer.ok, status: answer.status, said: (await answer.text()).trim().slice(0, SAID_CHARS_MAX) };
  } catch {
    return { ok: false, status: 0, said: "The coordinator's web server does not answer; whether it was done is not known." };
  }
}

function read(said: string): Record<string, unknown> | null {
  try {
    const json: unknown = JSON.parse(said);
    return typeof json === "object" && json !== null ? (json as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
