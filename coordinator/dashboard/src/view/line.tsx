/// Who watches what, where it is not as usual: ground that nobody watches comes first and loudest, then who stands in.

import type { Change, StationView } from "../protocol.ts";
import { iso, time_of_day } from "../format.ts";
import { out_of_line, type State } from "../state.ts";
import { HOW_WORDS, change_words } from "../words.ts";
import { Icon } from "./icon.tsx";

export function Line({ state, now_s }: { state: State; now_s: number }) {
  const amiss = out_of_line(state.view?.stations ?? []);
  const changes = state.view?.changes ?? [];
  return (
    <>
      {amiss.map((station) => <Ground key={station.station} station={station} now_s={now_s} />)}
      {changes.length > 0 && <Changes changes={changes} now_s={now_s} />}
    </>
  );
}

function Ground({ station, now_s }: { station: StationView; now_s: number }) {
  const uncovered = station.guard === "uncovered";
  return (
    <section class="trouble" data-testid="ground" data-station={station.station} data-guard={station.guard} data-liveness={uncovered ? "down" : "suspect"} aria-label={`Station ${station.station}`}>
      <Icon shape={uncovered ? "down" : "suspect"} />
      <div>
        <strong>
          {uncovered
            ? `Nobody watches ${station.station}.`
            : `${station.holder} stands in at ${station.station}${station.how === null ? "" : ` ${HOW_WORDS[station.how]}`}.`}
        </strong>{" "}
        Since <time dateTime={iso(station.since)}>{time_of_day(station.since, now_s)}</time>: {station.why}.
        {station.sight === "blind" && " It sees nothing there yet."}
        {station.sight === "starting" && " Its cameras are being started."}
        {uncovered && station.ranks.length > 0 && ` Next in line: ${station.ranks.join(", ")}.`}
      </div>
    </section>
  );
}

function Changes({ changes, now_s }: { changes: Change[]; now_s: number }) {
  return (
    <details class="changes">
      <summary>What changed last: {change_words(changes[0]!)}</summary>
      <ol>
        {changes.map((change, index) => (
          <li key={index}>
            <time dateTime={iso(change.time)}>{time_of_day(change.time, now_s)}</time> {change_words(change)}: {change.why}
          </li>
        ))}
      </ol>
    </details>
  );
}
