/// Which model runs where: rollouts with each station's own figures, and what every station runs. Releases are
/// signed and begun by `picket-coordinator model`: this page has no key. An operator can hold and end rollouts and pin stations here.

import { iso, percent, plural, time_of_day } from "../format.ts";
import type { ModelsView, StationModel } from "../protocol.ts";
import { type Rollout, rollouts } from "../state.ts";
import { COURSE_WORDS, STAGE_WORDS, trial_words } from "../words.ts";
import { pin_order, rollout_orders } from "../orders.ts";
import { type Acting, Orders } from "./button.tsx";
import { Icon } from "./icon.tsx";

export function Models({ models, now_s, acting }: { models: ModelsView | null; now_s: number; acting: Acting }) {
  if (models === null || (models.rollouts.length === 0 && models.stations.every(({ assigned }) => assigned === null))) return null;
  const shown = rollouts(models);
  return (
    <section aria-labelledby="models-title" data-testid="models">
      <h2 id="models-title">Models</h2>
      {shown.map((rollout) => <RolloutCard key={rollout.number} rollout={rollout} now_s={now_s} acting={acting} />)}
      <details class="runs">
        <summary>{plural(models.stations.length, "station", "stations")}: what runs where</summary>
        <ul>
          {models.stations.map(({ node, station, runs, assigned, pinned }) => (
            <li key={node}>
              <b>{station}</b> ({node}) runs {runs ?? "what it has not said"}
              {assigned !== null && assigned !== runs && `, and was told ${assigned}`}
              {pinned && <span class="chip">pinned</span>}
              <Orders orders={[pin_order(station, pinned)]} acting={acting} label={`Station ${station}`} />
            </li>
          ))}
        </ul>
      </details>
    </section>
  );
}

function RolloutCard({ rollout, now_s, acting }: { rollout: Rollout; now_s: number; acting: Acting }) {
  const { number, model, counter, head, course, why, groups, group, begun, stations } = rollout;
  const halted = course === "halted";
  const failing = stations.filter(({ stage }) => stage === "rolled_back" || stage === "refused");
  return (
    <article class="rollout" data-testid="rollout" data-number={number} data-course={course}>
      <div class="rollout-head">
        {halted && <Icon shape="suspect" />}
        <h3>
          {model} {counter}{head !== null && ` with head ${head}`}
        </h3>
        <span class={halted ? "chip loud" : course === "running" ? "chip on" : "chip"}>{COURSE_WORDS[course]}</span>
        <small>
          rollout {number}, since <time dateTime={iso(begun)}>{time_of_day(begun, now_s)}</time>
        </small>
      </div>
      {why !== "" && <p class="rollout-why">{why}</p>}
      <ol class="groups">
        {groups.map(({ name, members, committed, failed, aside }, index) => (
          <li key={name} data-now={index === group && course === "running"}>
            <span>{name}</span>
            <Bar committed={committed} failed={failed} members={members} />
            <span>
              {committed} of {members} run it{failed > 0 && `, ${failed} failed`}{aside > 0 && `, ${aside} aside`}
            </span>
          </li>
        ))}
      </ol>
      <details open={failing.length > 0}>
        <summary>{plural(stations.length, "station", "stations")}</summary>
        <ul class="rollout-stations">
          {stations.map((station) => <Station key={station.node} station={station} />)}
        </ul>
      </details>
      <Orders orders={rollout_orders(number, course)} acting={acting} label={`Rollout ${number}`} />
      {acting.desk.operator === null && (halted || course === "running" || course === "paused") && (
        <p class="rollout-orders">
          <code>picket-coordinator model rollout {course === "running" ? "pause" : "resume"} {number}</code>{" "}
          <code>picket-coordinator model rollout abort {number}</code>
        </p>
      )}
    </article>
  );
}

function Station({ station }: { station: StationModel }) {
  const { node, stage, fetched, detail } = station;
  const bad = stage === "rolled_back" || stage === "refused";
  const trial = trial_words(station);
  return (
    <li data-testid="rollout-station" data-node={node} data-stage={stage ?? "none"} data-bad={bad}>
      <b>{station.station}</b> <span>({node})</span> {stage !== null && STAGE_WORDS[stage]}
      {fetched !== null && ` (${percent(fetched)})`}
      {detail !== null && <p class="rollout-detail">{detail}</p>}
      {trial !== "" && <p class="rollout-trial">{trial}</p>}
    </li>
  );
}

function Bar({ committed, failed, members }: { committed: number; failed: number; members: number }) {
  const part = (count: number) => (100 * count) / Math.max(1, members);
  return (
    <svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      <rect class="none" width="100" height="6" />
      <rect class="good" width={part(committed)} height="6" />
      <rect class="bad" x={part(committed)} width={part(failed)} height="6" />
    </svg>
  );
}
