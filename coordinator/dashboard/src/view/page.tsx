/// The page as a whole: what stands where, and what is said when there is nothing to show.

import { count } from "../format.ts";
import { by_urgency, is_stale, liveness_counts, out_of_line, site_now_s, type State } from "../state.ts";
import type { Acting } from "./button.tsx";
import { Events } from "./events.tsx";
import { Header } from "./header.tsx";
import { Icon } from "./icon.tsx";
import { Learning } from "./learning.tsx";
import { Line } from "./line.tsx";
import { Models } from "./models.tsx";
import { NodeCard } from "./node.tsx";
import { Stations } from "./stations.tsx";

export function Page({ state, now_ms, acting }: { state: State; now_ms: number; acting: Acting }) {
  const now_s = site_now_s(state, now_ms);
  const nodes = by_urgency(state.view?.nodes ?? []);
  return (
    <div class="page" data-stale={is_stale(state, now_ms)}>
      <a class="skip" href="#events">Skip to the events</a>
      <Header state={state} now_ms={now_ms} />
      <Announcement state={state} />
      <main>
        <div class="ground">
          <LinkTrouble state={state} />
          <CoordinatorTrouble state={state} />
          <Line state={state} now_s={now_s} />
          <section aria-labelledby="nodes-title">
            <h2 id="nodes-title">Nodes</h2>
            {nodes.length > 0 ? (
              <div class="nodes">
                {nodes.map((node) => <NodeCard key={node.node} node={node} now_s={now_s} />)}
              </div>
            ) : (
              <NoNodes state={state} />
            )}
          </section>
          <Models models={state.models} now_s={now_s} acting={acting} />
          <Learning learning={state.learning} nodes={state.view?.nodes ?? []} now_s={now_s} acting={acting} />
          <Stations state={state} now_s={now_s} />
        </div>
        <Events state={state} now_s={now_s} acting={acting} />
      </main>
      <footer>
        <span>No picture leaves a device: events carry a box, and nothing of who a person is.</span>
        <Operator state={state} />
        <Unreadable malformed={state.malformed} />
      </footer>
    </div>
  );
}

/** The window's title says the worst, so that it is seen in a row of tabs. */
export function title_of(state: State, now_ms: number): string {
  const name = state.site === null ? "Picket" : `${state.site} · Picket`;
  if (state.link.state !== "live") return `✕ Not connected · ${name}`;
  if (is_stale(state, now_ms)) return `? No news · ${name}`;
  const { down, suspect } = liveness_counts(state.view?.nodes ?? []);
  const nobody = out_of_line(state.view?.stations ?? []).filter(({ guard }) => guard === "uncovered").length;
  const alarms = [nobody > 0 && `✕ ${nobody} unwatched`, down > 0 && `✕ ${down} down`, suspect > 0 && `? ${suspect} suspect`].filter(Boolean);
  return [...alarms, name].join(" · ");
}

/** For those who hear the page: said again only when it changes. */
function Announcement({ state }: { state: State }) {
  const troubled = by_urgency(state.view?.nodes ?? []).filter(({ liveness }) => liveness !== "up");
  const text = troubled.map(({ node, liveness, why }) => `Node ${node} is ${liveness}: ${why}.`).join(" ");
  const nobody = out_of_line(state.view?.stations ?? []).filter(({ guard }) => guard === "uncovered");
  const ground = nobody.map(({ station }) => `Nobody watches ${station}.`).join(" ");
  const coordinator = state.coordinator?.status === "down" ? "The coordinator is down." : "";
  const link = state.link.state === "lost" ? "The connection is lost." : "";
  return <div class="unseen" role="status">{`${link} ${coordinator} ${ground} ${text}`.trim()}</div>;
}

function LinkTrouble({ state: { link, view } }: { state: State }) {
  if (link.state !== "lost") return null;
  return (
    <section class="trouble" data-liveness="down" aria-label="Connection">
      <Icon shape="down" />
      <div>
        <strong>This page has no connection.</strong> {link.why} It keeps trying
        {view !== null && "; what is shown here is the last that it heard"}.
      </div>
    </section>
  );
}

function CoordinatorTrouble({ state: { coordinator } }: { state: State }) {
  if (!coordinator || (coordinator.status === "up" && coordinator.problems.length === 0)) return null;
  const down = coordinator.status === "down";
  return (
    <section class="trouble" data-liveness={down ? "down" : "suspect"} aria-label="Coordinator">
      <Icon shape={down ? "down" : "suspect"} />
      <div>
        <strong>{down ? "The coordinator is down." : "The coordinator has a problem."}</strong>{" "}
        {down && "What nodes see is kept on them until it is back; what is shown here is the last that it knew."}
        {coordinator.problems.length > 0 && <ul>{coordinator.problems.map((text) => <li key={text}>{text}</li>)}</ul>}
      </div>
    </section>
  );
}

function NoNodes({ state }: { state: State }) {
  if (state.view === null) {
    return (
      <div class="empty">
        <h3>Waiting for the coordinator</h3>
        <p>There is no view of this site yet. Is the coordinator running, and is it this site's?</p>
      </div>
    );
  }
  return (
    <div class="empty">
      <h3>No node has reported yet</h3>
      <p>Start an agent on a device that has a camera, and point it at this site's broker:</p>
      <pre tabIndex={0}><code>picket-agent run --source rtsp://camera.local/stream</code></pre>
      <p>
        It appears here within seconds. If it does not, <code>picket-agent doctor</code> on the device says what is wrong.
      </p>
    </div>
  );
}

/** Whether somebody acts here, and as whom. */
function Operator({ state: { desk } }: { state: State }) {
  if (desk.operator === null && desk.denied === "") return null;
  return (
    <span class={desk.operator === null ? "unreadable bad" : "unreadable"} data-testid="operator" data-operator={desk.operator ?? ""}>
      {desk.operator === null ? `You cannot act here: ${desk.denied}` : `You act here as ${desk.operator}, until this tab is closed.`}
    </span>
  );
}

function Unreadable({ malformed }: { malformed: State["malformed"] }) {
  const bad = malformed.count > 0;
  return (
    <span class={bad ? "unreadable bad" : "unreadable"}>
      Messages not understood: {count(malformed.count)}{bad && ` (last: ${malformed.last})`}
    </span>
  );
}
