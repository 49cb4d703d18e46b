/// What all stations learn together: the curve, what judges it, and each station's part in the last step.

import { count, iso, percent, plural, time_of_day } from "../format.ts";
import {
  clip_words, CURVE_HIGH, CURVE_WIDE, effect_words, FATE_WORDS, figure, label_words, type Learner, LEARNERS_SHOWN_MAX, learners, MIXING_WORDS,
  OUTCOME_WORDS, release_words, root_words, tally_words, trace, type Trace,
} from "../learning.ts";
import type { Learning as Learned, NodeView, ReleaseStation, ReleaseView } from "../protocol.ts";
import { freeze, revert, take_in, take_out, unfreeze } from "../orders.ts";
import { type Acting, Orders } from "./button.tsx";
import { COURSE_WORDS } from "../words.ts";
import { Icon } from "./icon.tsx";

interface Props {
  learning: Learned | null;
  nodes: NodeView[];
  now_s: number;
  acting: Acting;
}

export function Learning({ learning, nodes, now_s, acting }: Props) {
  if (learning === null) return null;
  const { version, released, frozen, why, mixing, curve, time, refused, releases } = learning;
  const stations = learners(learning, nodes);
  const loss = trace(curve, (point) => point.loss, figure);
  const right = trace(curve, (point) => point.canary, percent, 1);
  const odd = Object.entries(refused);
  return (
    <section aria-labelledby="learning-title" data-testid="learning" data-frozen={frozen} data-version={version}>
      <h2 id="learning-title">
        Learning <small>as of <time dateTime={iso(time)}>{time_of_day(time, now_s)}</time></small>
      </h2>
      <div class="learning">
        <div class="rollout-head">
          {why !== "" && <Icon shape="suspect" />}
          <h3>Head {count(version)}</h3>
          <span class={frozen ? "chip loud" : "chip on"}>{frozen ? "stopped" : "learning"}</span>
          <small>{released === null ? "none released yet" : `released: ${count(released)}`}</small>
        </div>
        {why !== "" && <p class="rollout-why">{frozen ? `Nothing is learned: ${why}.` : `${why}.`}</p>}
        <Orders orders={[frozen ? unfreeze() : freeze(), ...(released === null ? [] : [revert()])]} acting={acting} label="Learning" />
        <p class="learning-how">{MIXING_WORDS[mixing]} {root_words(learning)}</p>
        <div class="curves">
          <Curve name="Loss at the stations" trace={loss} words={figure} />
          <Curve name="Right on confirmed samples" trace={right} words={percent} />
        </div>
        <details open={stations.length <= 8}>
          <summary>{plural(stations.length, "station contributed", "stations contributed")}</summary>
          <ul class="learners">
            {stations.slice(0, LEARNERS_SHOWN_MAX).map((station) => <Station key={station.node} station={station} acting={acting} />)}
          </ul>
          {stations.length > LEARNERS_SHOWN_MAX && <p>{count(stations.length - LEARNERS_SHOWN_MAX)} more are not listed.</p>}
        </details>
        {releases.length > 0 && (
          <div class="releases">
            <h3>Releases of the head</h3>
            {releases.map((release, index) => <Release key={release.version} release={release} newest={index === 0} now_s={now_s} />)}
          </div>
        )}
        {odd.length > 0 && (
          <p class="learning-refused">Refused: {odd.map(([word, times]) => `${word} ${count(times)}`).join(", ")}.</p>
        )}
      </div>
    </section>
  );
}

function Release({ release, newest, now_s }: { release: ReleaseView; newest: boolean; now_s: number }) {
  const { version, course, why, time, stations } = release;
  const halted = course === "halted";
  return (
    <details class="release" data-testid="release" data-version={version} data-course={course} open={newest}>
      <summary>
        <b>{release_words(release)}</b> <span class={halted ? "chip loud" : course === "running" ? "chip on" : "chip"}>{COURSE_WORDS[course]}</span>{" "}
        {tally_words(release)}, since <time dateTime={iso(time)}>{time_of_day(time, now_s)}</time>
      </summary>
      {why !== "" && <p class="rollout-why">{why}</p>}
      <ul class="rollout-stations">
        {stations.slice(0, LEARNERS_SHOWN_MAX).map((station) => <Effect key={station.node} station={station} />)}
      </ul>
    </details>
  );
}

/** What a release did to one station. */
function Effect({ station }: { station: ReleaseStation }) {
  const { node, canary, outcome, why } = station;
  const effect = effect_words(station);
  return (
    <li data-testid="release-station" data-node={node} data-outcome={outcome} data-bad={outcome === "rolled_back" || outcome === "refused"}>
      <b>{node}</b> {canary && <span class="chip">canary</span>} {OUTCOME_WORDS[outcome]}
      {effect !== "" && <span class="rollout-trial">: {effect}</span>}
      {why !== null && <p class="rollout-detail">{why}</p>}
    </li>
  );
}

function Curve({ name, trace: { path, top, last, said }, words }: { name: string; trace: Trace; words: (value: number) => string }) {
  return (
    <figure class="curve">
      <figcaption><span>{name}</span> <b>{last === null ? "–" : words(last.value)}</b></figcaption>
      <svg viewBox={`-4 -4 ${CURVE_WIDE + 8} ${CURVE_HIGH + 8}`} preserveAspectRatio="none" role="img" aria-label={`${name}: ${said}`}>
        <path class="rule" d={`M0 0H${CURVE_WIDE}M0 ${CURVE_HIGH}H${CURVE_WIDE}`} />
        <path class="line" d={path} />
        {last !== null && <path class="last" d={`M${last.x} ${last.y}h0`} />}
        <title>{said}</title>
      </svg>
      <p class="curve-scale">{last === null ? said : `0 to ${words(top)}, up to head ${count(last.version)}`}</p>
    </figure>
  );
}

function Station({ station, acting }: { station: Learner; acting: Acting }) {
  const { node, updates, repeated, age, norm, clip, gate, fate, loss, own } = station;
  const aside = fate === "gated" || fate === "frozen" || fate === "old";
  return (
    <li data-testid="learner" data-node={node} data-fate={fate}>
      <div class="learner-head">
        <b>{node}</b>
        <span class={fate === "used" ? "chip on" : aside ? "chip loud" : "chip"}>{FATE_WORDS[fate]}</span>
        <Orders orders={[fate === "frozen" ? take_in(node) : take_out(node)]} acting={acting} label={`Learning of ${node}`} />
      </div>
      <dl class="figures">
        <Figure name="Updates" value={count(updates)} title={`${count(repeated)} more came again or too late`} />
        <Figure name="Age" value={plural(age, "head", "heads")} title="Versions since the head that its last word began from" />
        <Figure name="Left of its length" value={clip_words(clip)} title={`The longest are cut to the middle one; its own is ${figure(norm)} long`} />
        <Figure
          name="Gate"
          value={gate === null ? "–" : gate.toFixed(2)}
          title="1 points where the confirmed samples lead, -1 against them; nothing without enough of them"
        />
        <Figure name="Loss" value={figure(loss)} title="What it said before its own last steps" />
      </dl>
      <p class="learner-labels">
        {label_words(own)}
        {own !== null && `; it judges by head ${count(own.used_version)} (${plural(own.taken, "head", "heads")} taken, ${count(own.kept)} not)`}.
      </p>
    </li>
  );
}

function Figure({ name, value, title }: { name: string; value: string; title: string }) {
  return (
    <div class="figure" title={title}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
