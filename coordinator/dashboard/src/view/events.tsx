/// The live list: one row an event, newest first, with its life and its box.

import { duration, iso, percent, time_of_day } from "../format.ts";
import { said_of } from "../words.ts";
import { labels } from "../orders.ts";
import { box_in_picture, camera_key, type EventRow, EVENTS_SHOWN_MAX, pictures, type State } from "../state.ts";
import { type Acting, Orders } from "./button.tsx";

/** An event without an end that nothing was heard of for this long is not called "in view". */
const SILENT_AFTER_S = 60;

export function Events({ state, now_s, acting }: { state: State; now_s: number; acting: Acting }) {
  const frames = pictures(state.events);
  const rows = state.events.slice(0, EVENTS_SHOWN_MAX);
  return (
    <section class="events" id="events" tabIndex={-1} aria-labelledby="events-title">
      <h2 id="events-title">Events <small>newest first</small></h2>
      {rows.length === 0 ? (
        <div class="empty">
          <h3>No event yet</h3>
          <p>A row appears here as soon as somebody walks into a picture.</p>
        </div>
      ) : (
        <ol class="event-list" tabIndex={0} aria-label="Events, newest first">
          {rows.map((row) => (
            <Row key={row.id} row={row} picture={frames.get(camera_key(row)) ?? [1, 1]} now_s={now_s} acting={state.learning === null ? null : acting} />
          ))}
        </ol>
      )}
    </section>
  );
}

interface RowProps {
  row: EventRow;
  picture: [number, number];
  now_s: number;
  /** Nothing where nobody learns from what is said of events. */
  acting: Acting | null;
}

function Row({ row, picture, now_s, acting }: RowProps) {
  const life = life_of(row, now_s);
  const zones = row.entered_zones.filter((zone) => !row.current_zones.includes(zone));
  return (
    <li class="event" data-testid="event-row" data-event={row.id} data-seq={row.seq} data-kind={row.kind} data-live={row.live} data-life={life}>
      <Sketch row={row} picture={picture} />
      <div class="event-what">
        <p class="event-where"><b>{row.station}</b> <span>{row.camera}</span></p>
        <p class="event-when">
          <time dateTime={iso(row.start_time)}>{time_of_day(row.start_time, now_s)}</time>
          <span> · {duration((row.end_time ?? row.frame_time) - row.start_time)}</span>
        </p>
        <p class="event-zones">
          {row.covering_for !== null && <span class="chip on">covered by {row.node}</span>}
          {row.current_zones.map((zone) => <span class="chip on" key={zone} title={dwelt(row, zone, "has been in this zone")}>{zone}</span>)}
          {zones.map((zone) => <span class="chip" key={zone} title={dwelt(row, zone, "was in this zone before")}>{zone}</span>)}
          {row.stationary && <span class="chip">standing still</span>}
          {said_of(row).map((said) => <span class="chip on" key={said} data-testid="event-said">{said}</span>)}
        </p>
      </div>
      <div class="event-right">
        <p class="event-life">{LIFE_WORDS[life]}</p>
        <p class="event-score" title="Highest score"><small>{row.label}</small> {percent(row.top_score)}</p>
      </div>
      {acting && <Orders orders={labels(row)} acting={acting} label="Who was there?" />}
    </li>
  );
}

/** What a zone's chip says when it is pointed at: with the time, where it is known. */
function dwelt(row: EventRow, zone: string, what: string): string {
  const seconds = row.dwell_times[row.entered_zones.indexOf(zone)];
  return seconds === undefined ? what : `${what} for ${duration(seconds)}`;
}

const LIFE_WORDS = { new: "New", view: "In view", silent: "No news", end: "Ended" };

function life_of(row: EventRow, now_s: number): keyof typeof LIFE_WORDS {
  if (row.kind === "end") return "end";
  if (now_s - row.frame_time > SILENT_AFTER_S) return "silent";
  return row.kind === "new" ? "new" : "view";
}

/** Where in the picture, without the picture. */
function Sketch({ row, picture: [width, height] }: { row: EventRow; picture: [number, number] }) {
  const [x, y, w, h] = box_in_picture(row.box, [width, height]);
  const high = 60;
  const wide = Math.round(Math.min(2.4, Math.max(0.5, width / height)) * high);
  return (
    <svg class="sketch" viewBox={`0 0 ${wide} ${high}`} role="img" aria-label={`Box at ${percent(x + w / 2)} from the left, ${percent(y + h)} from the top`}>
      <rect class="picture" x="0.5" y="0.5" width={wide - 1} height={high - 1} rx="3" />
      <rect class="box" x={x * wide} y={y * high} width={w * wide} height={h * high} rx="1" />
    </svg>
  );
}
