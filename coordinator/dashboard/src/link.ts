/// The line to the broker: fetch the configuration, connect, subscribe, and do it all again when the line is lost.
///
/// It decides nothing about messages: they are handed on as they come.

import mqtt from "mqtt";

import { type Config, read_config, topics_of } from "./protocol.ts";

/** First wait before another try. */
const RETRY_FIRST_MS = 500;
/** Longest wait before another try. */
const RETRY_MAX_MS = 15_000;
/** Longest wait for a broker that does not answer. */
const CONNECT_TIMEOUT_MS = 10_000;
/** Browsers let the timers of a hidden page fire once a minute; at 60 s the broker waits 90 s, so one beat still comes. */
const KEEPALIVE_S = 60;

/** What the link reports. */
export interface Listener {
  configured(config: Config): void;
  live(): void;
  lost(why: string): void;
  message(topic: string, payload: Uint8Array): void;
}

/** Wait before try number `attempt` (from 0): doubling, with half of it drawn by `random` in 0..1 so that pages spread. */
export function retry_ms(attempt: number, random: number): number {
  const longest = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(attempt, 16));
  return longest * (0.5 + 0.5 * random);
}

/** Keeps the line for as long as the page is open. */
export async function keep_link(listener: Listener): Promise<never> {
  for (let attempt = 0; ; attempt++) {
    try {
      const config = await fetch_config();
      listener.configured(config);
      await hold(config, listener, () => (attempt = 0));
    } catch (error) {
      listener.lost(error instanceof Error ? error.message : String(error));
    }
    await wait(retry_ms(attempt, Math.random()));
  }
}

async function fetch_config(): Promise<Config> {
  const timeout = AbortSignal.timeout(CONNECT_TIMEOUT_MS);
  const answer = await fetch("./config.json", { cache: "no-store", signal: timeout }).catch(() => {
    throw new Error("The coordinator's web server does not answer.");
  });
  if (!answer.ok) throw new Error(`The coordinator's web server answers ${answer.status} for config.json.`);
  return read_config(await answer.json().catch(() => null));
}

/** One connection from its beginning to its end; the end is always an error. */
function hold(config: Config, listener: Listener, connected: () => void): Promise<never> {
  return new Promise((_, reject) => {
    const client = mqtt.connect(config.mqtt_websocket_url, {
      protocolVersion: 4, // The embedded broker speaks only MQTT 3.1.1 over WebSocket.
      clean: true,
      clientId: `dashboard-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`,
      keepalive: KEEPALIVE_S,
      connectTimeout: CONNECT_TIMEOUT_MS,
      reconnectPeriod: 0, // keep_link does it, with back-off.
      resubscribe: false,
      timerVariant: "native", // The other one starts a worker from a blob: address, which the page's policy forbids.
    });
    let why = `The broker at ${config.mqtt_websocket_url} cannot be reached.`;
    const finish = (): void => {
      client.removeAllListeners();
      client.on("error", () => {}); // A late error of a closed client has nobody to tell.
      client.end(true);
      reject(new Error(why));
    };
    client.on("message", (topic, payload) => listener.message(topic, payload));
    client.on("error", (error) => (why = `The broker said: ${error.message}`));
    client.on("close", finish);
    client.on("connect", () => {
      why = "The connection to the broker was cut.";
      client.subscribe(topics_of(config.site), { qos: 0 }, (error, granted) => {
        if (error || granted?.some(({ qos }) => qos > 2)) {
          why = "The broker refuses the subscription to this site's view.";
          return finish();
        }
        connected();
        listener.live();
      });
    });
  });
}

const wait = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));
