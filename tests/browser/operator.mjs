/// Acts at the dashboard with a real browser, as an operator does: opens the link, says what an event was, stops learning and lets it
/// go on; and looks whether somebody without the link can do nothing.
///
///   node operator.mjs --link http://127.0.0.1:PORT/#operator=TOKEN --name anna --timeout-s 60
///   more: --screenshot FILE --chromium /usr/bin/chromium
///
/// There must be an event of one person, and something must be learned. Prints one line of JSON, what it saw, and exits 0; or the same
/// with `failed`, why, and exits 1. It starts no server and reaches no other address than the page's.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { chromium } from "playwright-core";

const { values: options } = parseArgs({
  options: {
    link: { type: "string" }, name: { type: "string" }, screenshot: { type: "string" },
    "timeout-s": { type: "string", default: "60" }, chromium: { type: "string", default: "/usr/bin/chromium" },
  },
});
if (!options.link?.includes("#operator=") || !options.name) {
  console.error("Give --link, as `picket-coordinator operator add` prints it, and --name.");
  process.exit(2);
}
const [plain, token] = options.link.split("#operator=");
const console_errors = [];
const failed = [];
const report = { operator: "", event: "", asked: "", frozen: [], buttons_without: -1, denied: "" };

async function open(context) {
  const page = await context.newPage();
  page.setDefaultTimeout(Number(options["timeout-s"]) * 1000);
  page.on("console", (message) => message.type() === "error" && console_errors.push(message.text()));
  page.on("pageerror", (error) => console_errors.push(String(error)));
  return page;
}

const learning = '[data-testid="learning"]';
const row = '[data-testid="event-row"]';

async function act(page) {
  await page.goto(options.link);
  await page.waitForSelector(`[data-testid="operator"][data-operator="${options.name}"]`);
  report.operator = await page.textContent('[data-testid="operator"]');
  if (page.url() !== plain) failed.push(`the token stays in the address: ${page.url().replace(token, "TOKEN")}`);
  if ((await page.content()).includes(token)) failed.push("the token is in the page");
  // What an event was: one click.
  const event = await page.getAttribute(row, "data-event");
  await page.click(`${row}[data-event="${event}"] .orders button:has-text("Nobody")`);
  await page.waitForSelector(`[data-key="event ${event}"][data-answer="done"]`);
  report.event = event;
  // Stopping is asked first, and can be left.
  const stop = `${learning} [data-key="learn"]`;
  await page.click(`${stop} button:has-text("Stop learning")`);
  report.asked = await page.textContent(`${stop} .orders-question`);
  if (options.screenshot) await page.screenshot({ path: options.screenshot, animations: "disabled" });
  await page.click(`${stop} button:has-text("Leave it")`);
  report.frozen.push(await page.getAttribute(learning, "data-frozen"));
  await page.click(`${stop} button:has-text("Stop learning")`);
  await page.click(`${stop} button.sure`);
  await page.waitForSelector(`${learning}[data-frozen="true"]`);
  report.frozen.push(await page.getAttribute(learning, "data-frozen"));
  await page.click(`${stop} button:has-text("Go on learning")`);
  await page.waitForSelector(`${learning}[data-frozen="false"]`);
  report.frozen.push(await page.getAttribute(learning, "data-frozen"));
  // The same tab, loaded again, still acts.
  await page.reload();
  await page.waitForSelector(`[data-testid="operator"][data-operator="${options.name}"]`);
}

/** Another tab has no token, and a wrong one is said to be wrong. */
async function without(page) {
  await page.goto(plain);
  await page.waitForSelector(row);
  await page.waitForSelector(learning);
  report.buttons_without = await page.locator(".orders").count();
  if (report.buttons_without !== 0) failed.push("somebody without a token has buttons");
  const errors = console_errors.length;
  await page.goto(`${plain}#operator=${"0".repeat(64)}`);
  await page.waitForSelector('[data-testid="operator"][data-operator=""]');
  report.denied = await page.textContent('[data-testid="operator"]');
  if ((await page.locator(".orders").count()) !== 0) failed.push("a wrong token gives buttons");
  // The browser tells of the refusal, as it should.
  console_errors.splice(errors, 1);
}

const profile = mkdtempSync(join(tmpdir(), "picket-browser-"));
let context;
try {
  context = await chromium.launchPersistentContext(profile, {
    executablePath: options.chromium,
    headless: true,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
    ],
    viewport: { width: 1280, height: 1000 },
  });
  await act(await open(context));
  await without(await open(context));
} catch (error) {
  failed.push(String(error).split("\n")[0].replaceAll(token, "TOKEN"));
} finally {
  await context?.close();
  rmSync(profile, { recursive: true, force: true });
}
if (console_errors.length > 0) failed.push("errors on the console");
console.log(JSON.stringify({ ...report, console_errors, ...(failed.length > 0 && { failed }) }));
process.exitCode = failed.length > 0 ? 1 : 0;
