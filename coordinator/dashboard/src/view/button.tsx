/// A button that orders something: it asks first where it should, waits, and says what came of it. Where nobody may act there is none.

import type { ComponentChildren } from "preact";

import { type Desk, id_of, type Order } from "../orders.ts";

/** What buttons need: what is at the desk, and where their clicks go. */
export interface Acting {
  desk: Desk;
  ask(order: Order | null): void;
  send(order: Order): void;
}

/** Buttons for orders that contradict each other, and the newest answer to one of them. */
export function Orders({ orders, acting, label }: { orders: Order[]; acting: Acting; label: string }) {
  const { desk, ask, send } = acting;
  const key = orders[0]?.key;
  if (desk.operator === null || key === undefined) return null;
  const answer = desk.answers[key];
  const asked = orders.find((order) => id_of(order) === desk.asking);
  const waits = answer?.state === "sent";
  return (
    <div class="orders" role="group" aria-label={label} data-testid="orders" data-key={key} data-answer={answer?.state ?? "none"}>
      {asked ? (
        <Question text={asked.question ?? ""}>
          <button type="button" class="sure" autofocus onClick={() => send(asked)}>{asked.word}</button>
          <button type="button" onClick={() => ask(null)}>Leave it</button>
        </Question>
      ) : (
        orders.map((order) => (
          <button
            key={order.word}
            type="button"
            disabled={waits}
            aria-pressed={answer?.state === "done" && answer.word === order.word ? "true" : undefined}
            onClick={() => (order.question === null ? send(order) : ask(order))}
          >
            {order.word}
          </button>
        ))
      )}
      {answer && (
        <span class="orders-said" role="status" data-bad={answer.state === "refused"}>
          {waits ? `${answer.word}: sent, no answer yet` : `${answer.word}: ${answer.said}`}
        </span>
      )}
    </div>
  );
}

function Question({ text, children }: { text: string; children: ComponentChildren }) {
  return <><span class="orders-question" role="alert">{text}</span> {children}</>;
}
