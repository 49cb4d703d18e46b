/// One node: whether it lives, what it sees now, how it does.

import type { CameraStats, Liveness, NodeView, Stats } from "../protocol.ts";
import { count, decimal, duration, iso, mebibytes, plural, small_percent, time_of_day } from "../format.ts";
import { cameras_together } from "../state.ts";
import { scene_words } from "../words.ts";
import { Icon } from "./icon.tsx";

/** As many as a node sends before it waits for an ack: `WINDOW_EVENTS_MAX` in `shared/src/limits.rs`. */
const PENDING_USUAL_MAX = 64;

const WORDS: Record<Liveness, string> = { up: "Up", suspect: "Suspect", down: "Down" };

export function NodeCard({ node, now_s }: { node: NodeView; now_s: number }) {
  const { stats, liveness } = node;
  const together = stats && cameras_together(stats.cameras);
  const title = `node-${node.node}`;
  return (
    <article class="node" data-testid="node-card" data-node={node.node} data-liveness={liveness} aria-labelledby={title}>
      <div class="node-head">
        <Icon shape={liveness} />
        <div class="node-name">
          <h3 id={title}>{node.node}</h3>
          <p>{node.station === null ? "station not known yet" : <>watches <b>{node.station}</b></>}</p>
        </div>
        <p class="node-liveness" data-testid="node-liveness" data-liveness={liveness}>{WORDS[liveness]}</p>
      </div>
      <p class="node-why">
        since <time dateTime={iso(node.since)}>{time_of_day(node.since, now_s)}</time>
        {liveness !== "up" && ` (${duration(now_s - node.since)})`}: {node.why}
      </p>
      <div class="node-now">
        <p class="persons">
          <b>{together ? count(together.persons_now) : "–"}</b>
          <span>{liveness === "up" ? "people now" : "people when last heard"}</span>
        </p>
        <dl class="figures">
          <Figure name="Speed" value={together && decimal(together.fps)} unit="fps" title="Frames a second that go through the detector" />
          <Figure name="Inference" value={together && decimal(together.inference_ms)} unit="ms" />
          <Figure
            name="Dropped"
            value={together && count(together.frames_dropped)}
            unit={together && together.frames > 0 ? `· ${small_percent(together.frames_dropped / together.frames)}` : ""}
            title="Frames that a newer one replaced before they were looked at"
          />
          <Figure name="Pending" value={stats && count(stats.events_pending)} unit="events" loud={(stats?.events_pending ?? 0) > PENDING_USUAL_MAX} />
          <Figure name="Memory" value={stats && mebibytes(stats.resident_bytes)} />
          <Figure name="Archived" value={count(node.events_archived)} unit="events" />
        </dl>
      </div>
      {stats && <Scenes cameras={stats.cameras} />}
      {stats && <p class="node-why" data-testid="node-outbox" data-outbox={stats.outbox}>{outbox_words(stats)}</p>}
      <Problems node={node} />
      <More node={node} />
    </article>
  );
}

/** Per camera: people in each zone now, and how often each line was crossed. */
function Scenes({ cameras }: { cameras: CameraStats[] }) {
  const drawn = cameras
    .map(({ camera, zones, lines }) => ({ camera, words: scene_words(zones, lines) }))
    .filter(({ words }) => words.length > 0);
  if (drawn.length === 0) return null;
  return (
    <ul class="scenes" aria-label="People in zones now, and crossings of lines">
      {drawn.map(({ camera, words }) => (
        <li key={camera} data-testid="camera-scene" data-camera={camera}>
          <span>{camera}</span> {words.map((word) => <span class="chip" key={word}>{word}</span>)}
        </li>
      ))}
    </ul>
  );
}

/** What the node's outbox is at. */
function outbox_words({ outbox, events_backlog }: Stats): string {
  switch (outbox) {
    case "live": return "Events are sent as they come.";
    case "offline": return "Events are kept until there is a connection.";
    case "catching_up": return `Catching up: ${plural(events_backlog, "older event", "older events")} behind the new ones.`;
    case "full": return "No room is left for what is owed: older events are given up, and counted.";
  }
}

/** What was given up, in words; `GapCause` in `shared/src/wire.rs`. */
const GIVEN_UP: Record<string, string> = {
  store_lost: "were lost with a damaged store",
  store_lost_uncounted: "stand for an unknown number that was lost with a damaged store",
  telemetry_dropped: "(updates only) were given up for want of room",
  full: "were given up for want of room",
};

interface FigureProps {
  name: string;
  value: string | null;
  unit?: string;
  title?: string;
  loud?: boolean;
}

function Figure({ name, value, unit, title, loud }: FigureProps) {
  return (
    <div class={loud ? "figure loud" : "figure"} title={title}>
      <dt>{name}</dt>
      <dd>{value ?? "–"}{value !== null && unit && <small> {unit}</small>}</dd>
    </div>
  );
}

function Problems({ node: { problems, stats, events_missed } }: { node: NodeView }) {
  const lost = stats?.events_lost ?? 0;
  const said = [
    ...problems,
    ...(lost > 0 ? [`${count(lost)} events could not be stored and are gone; is the disk full?`] : []),
    ...(events_missed > 0 ? [`${plural(events_missed, "event", "events")} of this node will never come: gaps in the archive.`] : []),
    ...Object.entries(stats?.events_given_up ?? {})
      .filter(([, number]) => number > 0)
      .map(([cause, number]) => `${plural(number, "event", "events")} ${GIVEN_UP[cause] ?? `are gone (${cause})`}.`),
    ...((stats?.events_dead ?? 0) > 0 ? [`${plural(stats!.events_dead, "event", "events")} could not be sent and went to the dead letters.`] : []),
    ...(stats?.cameras ?? []).filter((camera) => camera.state !== "running" && camera.state !== "ended").map(camera_problem),
  ];
  if (said.length === 0) return null;
  return (
    <ul class="problems" aria-label="Problems">
      {[...new Set(said)].map((text) => <li key={text}><Icon shape="suspect" /><span>{text}</span></li>)}
    </ul>
  );
}

const camera_problem = ({ camera, state, last_error }: CameraStats): string =>
  `Camera ${camera} is ${state}${last_error === null ? "" : `: ${last_error}`}.`.replace(/\.\.$/, ".");

/** What is looked up seldom. */
function More({ node: { detector, stats } }: { node: NodeView }) {
  return (
    <details>
      <summary aria-label="Detector, and more of this node">
        {detector ? (
          <>
            <span class="chip">{detector.provider}</span> <span class="chip">{detector.precision}</span>{" "}
            <span class="chip mono">{detector.model}</span>
          </>
        ) : (
          <span class="chip">detector not known yet</span>
        )}
      </summary>
      <dl class="facts">
        {detector && (
          <>
            <dt>Model</dt><dd>{detector.model}, {detector.layout}</dd>
            <dt>Runtime</dt><dd>{detector.runtime}, {count(detector.threads)} threads</dd>
            {Object.entries(detector.passed_over).map(([provider, reason]) => [
              <dt key={provider}>Without {provider}</dt>, <dd key={`${provider}-reason`}>{reason}</dd>,
            ])}
          </>
        )}
        {stats && (
          <>
            <dt>Running for</dt><dd>{duration(stats.uptime_s)}</dd>
            <dt>Events</dt>
            <dd>{count(stats.events_stored)} stored, {count(stats.events_acked)} acknowledged, {count(stats.events_lost)} lost</dd>
            <dt>Connections made</dt><dd>{count(stats.connects)}</dd>
            {stats.cameras.map((camera) => [
              <dt key={camera.camera}>Camera {camera.camera}</dt>,
              <dd key={`${camera.camera}-facts`}>
                {camera.state}; {count(camera.frames)} frames, {count(camera.frames_detected)} looked at,{" "}
                {count(camera.frames_gated)} without motion, {count(camera.frames_dropped)} dropped; started anew{" "}
                {count(camera.restarts)} times
              </dd>,
            ])}
          </>
        )}
      </dl>
    </details>
  );
}
