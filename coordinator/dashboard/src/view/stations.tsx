/// Each station's last half hour as bars of one minute, all to one scale so that they can be compared.

import { count, plural } from "../format.ts";
import type { StationView } from "../protocol.ts";
import { type State, type Timeline, TIMELINE_MINUTES, timelines } from "../state.ts";

const BAR_WIDTH = 8;
const HEIGHT = 32;

export function Stations({ state, now_s }: { state: State; now_s: number }) {
  const stations = timelines(state, now_s);
  if (stations.length === 0) return null;
  const highest = Math.max(4, ...stations.flatMap(({ minutes }) => minutes.map((events) => events ?? 0)));
  return (
    <section aria-labelledby="stations-title">
      <h2 id="stations-title">
        Stations <small>events begun in each of the last {TIMELINE_MINUTES} minutes</small>
      </h2>
      <ul class="stations">
        {stations.map((station) => (
          <Station key={station.station} station={station} guard={state.view?.stations?.find((of) => of.station === station.station)} highest={highest} />
        ))}
      </ul>
    </section>
  );
}

function Station({ station: { station, nodes, minutes }, guard, highest }: { station: Timeline; guard: StationView | undefined; highest: number }) {
  const sum = minutes.reduce<number>((total, events) => total + (events ?? 0), 0);
  const last = minutes.at(-1) ?? 0;
  const said = `${plural(sum, "event", "events")} in ${TIMELINE_MINUTES} minutes, ${count(last)} in this one`;
  return (
    <li class="station">
      <div class="station-name">
        <b>{station}</b>
        {nodes.length === 0 && <span>no node has it as its duty</span>}
        {nodes.map(({ node, liveness }) => (
          <span key={node} data-liveness={liveness}>{liveness === "up" ? node : `${node} is ${liveness}`}</span>
        ))}
        {guard?.guard === "covered" && <span data-liveness="up">{guard.holder} stands in</span>}
        {guard?.guard === "uncovered" && <span data-liveness="down">nobody watches it</span>}
      </div>
      <svg class="timeline" viewBox={`0 0 ${TIMELINE_MINUTES * BAR_WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={said}>
        {minutes.map((events, index) => {
          const high = events === null ? 0 : Math.max(1.5, (events / highest) * HEIGHT);
          const kind = events === null ? "unknown" : events === 0 ? "none" : index === TIMELINE_MINUTES - 1 ? "now" : "some";
          const ago = TIMELINE_MINUTES - 1 - index;
          return (
            <rect key={index} class={kind} x={index * BAR_WIDTH + 1} y={HEIGHT - high} width={BAR_WIDTH - 2} height={high}>
              <title>{`${ago === 0 ? "this minute" : `${ago} min ago`}: ${events === null ? "not known" : count(events)}`}</title>
            </rect>
          );
        })}
      </svg>
      <p class="station-sum"><b>{count(sum)}</b> <span>events</span></p>
    </li>
  );
}
