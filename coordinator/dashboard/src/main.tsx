/// The one wiring place: link → state → page, and what an operator orders back.

import "./style.css";

import { render } from "preact";

import { keep_link } from "./link.ts";
import { send, sit_down } from "./operator.ts";
import type { DeskMessage, Order } from "./orders.ts";
import { read_message } from "./protocol.ts";
import { first_state, type Message, reduce } from "./state.ts";
import { Page, title_of } from "./view/page.tsx";

/** How often ages and durations on the page move on. */
const TICK_MS = 1000;

const page = document.getElementById("page")!; // index.html has it.
let state = first_state(Date.now());
let frame_asked = false;

/** However many messages come, the page is drawn at most once a frame, and not at all while it is hidden. */
function draw_soon(): void {
  if (frame_asked) return;
  frame_asked = true;
  requestAnimationFrame(() => {
    frame_asked = false;
    const now_ms = Date.now();
    document.title = title_of(state, now_ms);
    render(<Page state={state} now_ms={now_ms} acting={{ desk: state.desk, ask, send: order }} />, page);
  });
}

function happen(message: Message): void {
  state = reduce(state, message);
  draw_soon();
}

const at_desk = (what: DeskMessage): void => happen({ is: "desk", what });
const ask = (order: Order | null): void => at_desk({ is: "asking", order });
const order = (order: Order): void => void send(order, at_desk);

void sit_down(at_desk);
// A link that is opened in a tab where the page is already shown changes the fragment only.
addEventListener("hashchange", () => void sit_down(at_desk));
draw_soon();
setInterval(draw_soon, TICK_MS);
void keep_link({
  configured: ({ site }) => happen({ is: "configured", site }),
  live: () => happen({ is: "live", at_ms: Date.now() }),
  lost: (why) => happen({ is: "lost", at_ms: Date.now(), why }),
  message: (topic, payload) =>
    happen({ is: "said", at_ms: Date.now(), said: read_message(state.site ?? "", topic, payload) }),
});
