/// Looks at the dashboard with a real browser: is it connected, are the nodes up, do events arrive while one watches?
///
///   node dashboard.mjs --url http://127.0.0.1:PORT/ --nodes 3 --events 1 --screenshot FILE --timeout-s 60
///   more: --width 1440 --height 900 --scheme light|dark --chromium /usr/bin/chromium
///         --liveness up (what each node card must say; `any` asks for the number of cards only)
///         --rollout 2:halted (a rollout that must be shown so) --station b:rolled_back (a station of a rollout that must be shown so)
///         --ground arcade:covered (a station that must be shown so; `uncovered` must be the loudest thing on the page)
///
/// Prints one line of JSON, what it saw, and exits 0; or the same with `failed`, why, and exits 1. Any error on the
/// browser's console is a failure. It starts no server and reaches no other address than the page's.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { parseArgs } from "node:util";

import { chromium } from "playwright-core";

const POLL_MS = 200;

const text = (value) => ({ type: "string", default: value });
const { values: options } = parseArgs({
  options: {
    url: { type: "string" }, nodes: text("1"), events: text("1"), screenshot: { type: "string" }, "timeout-s": text("60"),
    width: text("1440"), height: text("900"), scheme: text("light"), chromium: text("/usr/bin/chromium"), liveness: text("up"),
    ground: { type: "string" }, rollout: { type: "string" }, station: { type: "string" },
  },
});
if (!options.url) {
  console.error("Give the page's address: --url http://127.0.0.1:PORT/");
  process.exit(2);
}
const asked = { nodes: Number(options.nodes), events: Number(options.events), timeout_ms: Number(options["timeout-s"]) * 1000 };
if (Object.values(asked).some((number) => !Number.isFinite(number) || number < 0)) {
  console.error("--nodes, --events and --timeout-s are numbers from 0.");
  process.exit(2);
}

const console_errors = [];

/** What is on the page now. Runs in the browser. */
const look = () => {
  const top = (element) => element?.getBoundingClientRect().top ?? Infinity;
  const all = (id) => [...document.querySelectorAll(`[data-testid="${id}"]`)];
  const rows = all("event-row");
  return {
    connection: all("connection")[0]?.dataset.state ?? "absent",
    stale: all("connection")[0]?.dataset.stale === "true",
    nodes: all("node-card").map((card) => ({
      name: card.dataset.node,
      liveness: card.querySelector('[data-testid="node-liveness"]')?.dataset.liveness ?? "absent",
    })),
    ground: all("ground").map(({ dataset }) => `${dataset.station}:${dataset.guard}`),
    ground_is_first: top(all("ground")[0]) < Math.min(innerHeight, top(all("node-card")[0])),
    rollouts: all("rollout").map(({ dataset }) => `${dataset.number}:${dataset.course}`),
    stations: all("rollout-station").map(({ dataset }) => `${dataset.node}:${dataset.stage}`),
    alarms: all("ground").filter((ground) => ground.dataset.liveness === "down" && ground.textContent.includes("Nobody watches")).length,
    title: document.title,
    events: rows.length,
    live_events: rows.filter((row) => row.dataset.live === "true").length,
    archived: Number(all("total-archived")[0]?.dataset.value ?? 0),
    newest: rows[0] ? `${rows[0].dataset.event} ${rows[0].dataset.seq}` : "",
  };
};

/** What is still missing; empty when all was seen. `first` is what was there when the page had connected. */
function missing(seen, first) {
  const nodes_right = seen.nodes.filter(({ liveness }) => options.liveness === "any" || liveness === options.liveness).length;
  const uncovered = seen.ground.filter((ground) => ground.endsWith(":uncovered"));
  const loud =
    seen.ground_is_first && seen.title.startsWith("✕") && seen.alarms === uncovered.length && uncovered.includes(seen.ground[0]);
  const changed = first !== null && (seen.events !== first.events || seen.newest !== first.newest);
  return [
    seen.connection !== "live" && `the connection is ${seen.connection}`,
    seen.stale && "the view is stale",
    nodes_right !== asked.nodes && `${nodes_right} node cards are ${options.liveness}, not ${asked.nodes}`,
    options.ground && !seen.ground.includes(options.ground) && `the ground is ${seen.ground.join(" ") || "as usual"}, not ${options.ground}`,
    options.ground?.endsWith(":uncovered") && !loud && `what nobody watches is not the loudest thing: "${seen.title}"`,
    options.rollout && !seen.rollouts.includes(options.rollout) && `the rollouts are ${seen.rollouts.join(" ") || "none"}, not ${options.rollout}`,
    options.station && !seen.stations.includes(options.station) && `the stations are ${seen.stations.join(" ") || "none"}, not ${options.station}`,
    seen.live_events < asked.events && `${seen.live_events} events arrived live, not ${asked.events}`,
    asked.events > 0 && !changed && "no event came while watching",
  ].filter(Boolean);
}

async function watch(page) {
  const until = Date.now() + asked.timeout_ms;
  await page.goto(options.url, { timeout: asked.timeout_ms });
  let first = null;
  for (;;) {
    const seen = await page.evaluate(look);
    const lacks = missing(seen, first);
    if (lacks.length === 0 || console_errors.length > 0 || Date.now() > until) return { seen, lacks };
    if (first === null && seen.connection === "live" && seen.nodes.length > 0) first = seen;
    await wait(POLL_MS);
  }
}

const profile = mkdtempSync(join(tmpdir(), "picket-browser-"));
let context;
let report = { connection: "absent", nodes: [], events: 0, archived: 0 };
const failed = [];
try {
  context = await chromium.launchPersistentContext(profile, {
    executablePath: options.chromium,
    headless: true,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
    ],
    viewport: { width: Number(options.width), height: Number(options.height) },
    colorScheme: options.scheme,
  });
  const page = context.pages()[0] ?? (await context.newPage());
  page.on("console", (message) => message.type() === "error" && console_errors.push(message.text()));
  page.on("pageerror", (error) => console_errors.push(String(error)));
  const { seen, lacks } = await watch(page);
  report = seen;
  failed.push(...lacks);
  if (options.screenshot) await page.screenshot({ path: options.screenshot, animations: "disabled" });
} catch (error) {
  failed.push(String(error).split("\n")[0]);
} finally {
  await context?.close();
  rmSync(profile, { recursive: true, force: true });
}
if (console_errors.length > 0) failed.push("errors on the console");
console.log(JSON.stringify({ ...report, console_errors, ...(failed.length > 0 && { failed }) }));
process.exitCode = failed.length > 0 ? 1 : 0;
