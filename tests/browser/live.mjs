/// Looks at a device's live view with a real browser: is nothing shown without the token, does the picture move with it, does
/// an event's clip play and seek?
///
///   node live.mjs --url http://127.0.0.1:PORT/ --token TOKEN --camera NAME --timeout-s 60
///   more: --chromium /usr/bin/chromium
///
/// Prints one line of JSON, what it saw, and exits 0; or the same with `failed`, why, and exits 1. It keeps no picture, starts
/// no server and reaches no other address than the page's.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { parseArgs } from "node:util";

import { chromium } from "playwright-core";

const POLL_MS = 200;
/// Pictures that must differ from each other.
const PICTURES = 3;

const { values: options } = parseArgs({
  options: {
    url: { type: "string" }, token: { type: "string" }, camera: { type: "string" },
    "timeout-s": { type: "string", default: "60" }, chromium: { type: "string", default: "/usr/bin/chromium" },
  },
});
if (!options.url || !options.token || !options.camera) {
  console.error("Give --url, --token and --camera.");
  process.exit(2);
}
const until = Date.now() + Number(options["timeout-s"]) * 1000;

const report = { denied: [], console_errors: [], pictures: 0, boxes: false, clip: null };
const failed = [];

/** Asks until there is an answer. */
async function wait_for(what, ask) {
  while (Date.now() < until) {
    const answer = await ask();
    if (answer) return answer;
    await wait(POLL_MS);
  }
  throw new Error(`waited too long for ${what}`);
}

/** A digest of an image on the page, and whether it has the colour of boxes. Runs in the browser. */
const seen_in = (selector) => {
  const image = document.querySelector(selector);
  if (!image?.naturalWidth) return null;
  const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight });
  const drawing = canvas.getContext("2d");
  drawing.drawImage(image, 0, 0);
  const { data } = drawing.getImageData(0, 0, canvas.width, canvas.height);
  let [digest, yellow] = [0, 0];
  for (let at = 0; at < data.length; at += 4) {
    digest = (Math.imul(digest, 31) + data[at] + data[at + 1] + data[at + 2]) | 0;
    yellow += data[at] > 200 && data[at + 1] > 140 && data[at + 2] < 110;
  }
  return { digest, yellow };
};

async function denied(page) {
  for (const path of ["", `cameras/${options.camera}/live.mjpeg`, `cameras/${options.camera}/snapshot.jpg`, "state.json", "?token=wrong"]) {
    const answer = await page.goto(options.url + path);
    report.denied.push(answer.status());
    const pictures = await page.evaluate(() => document.images.length);
    if (answer.status() !== 401 || pictures > 0) failed.push(`${path} is answered ${answer.status()} with ${pictures} pictures`);
  }
}

async function moving(page) {
  const card = `figure img[alt="Newest picture of ${options.camera}"]`;
  await wait_for("the camera's card", () => page.evaluate(seen_in, card));
  await page.click(`figure:has(img[alt="Newest picture of ${options.camera}"]) button.open`);
  const large = `#shown img[alt="Live picture of ${options.camera}"]`;
  const digests = new Set();
  await wait_for("a picture that moves and has a box", async () => {
    const seen = await page.evaluate(seen_in, large);
    if (seen) digests.add(seen.digest);
    report.boxes ||= seen !== null && seen.yellow > 200;
    report.pictures = digests.size;
    return digests.size >= PICTURES && report.boxes;
  });
  await page.click("#large button");
  await wait_for("the stream's end where nobody looks", () => page.evaluate(() => document.querySelector("#shown").children.length === 0));
}

async function clip(page) {
  await wait_for("an event with a clip", () => page.evaluate(() => {
    const open = document.querySelector('#events button[title="Play the clip"]');
    open?.click();
    return open !== null;
  }));
  await wait_for("the clip to play", () => page.evaluate(() => (document.querySelector("#shown video")?.readyState ?? 0) >= 2));
  report.clip = await page.evaluate(async () => {
    const video = document.querySelector("#shown video");
    video.pause();
    const end = video.seekable.length > 0 ? video.seekable.end(video.seekable.length - 1) : 0;
    const sought = new Promise((resolve) => video.addEventListener("seeked", resolve, { once: true }));
    video.currentTime = end * 0.75;
    await sought;
    return { duration_s: video.duration, seekable_s: end, sought_s: video.currentTime, error: video.error?.message ?? null };
  });
  const { seekable_s, sought_s, error } = report.clip;
  if (error || !(seekable_s > 0.5) || Math.abs(sought_s - seekable_s * 0.75) > 0.3) failed.push("the clip cannot be sought in");
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
  });
  // Its own tab: a browser asks for a refused page's icon too, late, and that refusal is no error of the view's.
  const refused = await context.newPage();
  await denied(refused);
  await refused.close();
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && report.console_errors.push(`${message.text()} ${message.location().url}`));
  page.on("pageerror", (error) => report.console_errors.push(String(error)));
  await page.goto(`${options.url}?token=${options.token}`);
  if (page.url().includes("token")) failed.push("the token stays in the address");
  await moving(page);
  await clip(page);
} catch (error) {
  failed.push(String(error).split("\n")[0]);
} finally {
  await context?.close();
  rmSync(profile, { recursive: true, force: true });
}
if (report.console_errors.length > 0) failed.push("errors on the console");
console.log(JSON.stringify({ ...report, ...(failed.length > 0 && { failed }) }));
process.exitCode = failed.length > 0 ? 1 : 0;
