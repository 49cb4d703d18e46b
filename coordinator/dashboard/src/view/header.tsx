/// The top line: which site, whether the page itself is connected, and the totals.

import { count, duration, plural, time_of_day } from "../format.ts";
import { is_stale, liveness_counts, persons_at_site, type State } from "../state.ts";
import { Icon, Mark } from "./icon.tsx";

export function Header({ state, now_ms }: { state: State; now_ms: number }) {
  const { view } = state;
  const nodes = view?.nodes ?? [];
  const { up, suspect, down } = liveness_counts(nodes);
  return (
    <header>
      <div class="brand">
        <Mark />
        <h1>{state.site ?? "Picket"}</h1>
      </div>
      <Connection state={state} now_ms={now_ms} />
      <dl class="totals" aria-label="Totals">
        <Total name="People now" value={view && persons_at_site(nodes)} big />
        <Total name="Nodes up" value={view && up} of={nodes.length} big />
        <Total name="Suspect" value={view && suspect} tone={suspect > 0 ? "suspect" : undefined} />
        <Total name="Down" value={view && down} tone={down > 0 ? "down" : undefined} />
        <Total name="Archived" value={view && view.events_archived} testid="total-archived" />
        <Total name="Duplicate" value={view && view.events_duplicate} />
        <Total name="Missed" value={view && view.events_missed} tone={view && view.events_missed > 0 ? "down" : undefined} />
        <Total name="Rejected" value={view && view.rejected} tone={view && view.rejected > 0 ? "suspect" : undefined} />
      </dl>
    </header>
  );
}

interface TotalProps {
  name: string;
  value: number | null;
  of?: number;
  tone?: "down" | "suspect" | undefined;
  big?: boolean;
  testid?: string;
}

function Total({ name, value, of, tone, big, testid }: TotalProps) {
  return (
    <div class={big ? "total big" : "total"} data-tone={tone}>
      <dt>{name}</dt>
      <dd data-testid={testid} data-value={value ?? undefined}>
        {value === null ? "–" : count(value)}
        {value !== null && of !== undefined && <small> / {count(of)}</small>}
      </dd>
    </div>
  );
}

/** The page's own connection. A line that is up and brings nothing is not called live. */
function Connection({ state, now_ms }: { state: State; now_ms: number }) {
  const { link } = state;
  const stale = is_stale(state, now_ms);
  const silent_s = (now_ms - state.view_fresh_ms) / 1000;
  const [shape, word, detail] =
    link.state === "lost"
      ? (["down", "Lost", `since ${time_of_day(link.since_ms / 1000, now_ms / 1000)} · trying again`] as const)
      : link.state === "connecting"
        ? (["waiting", "Connecting", "to the broker"] as const)
        : stale
          ? (["suspect", "No news", `for ${duration(silent_s)}`] as const)
          : (["up", "Live", view_age(state)] as const);
  return (
    <div class="connection" data-testid="connection" data-state={link.state} data-stale={stale} data-shape={shape} title={link.why}>
      <Icon shape={shape} />
      <span class="connection-word">{word}</span>
      <span class="connection-detail">{detail}</span>
    </div>
  );
}

const view_age = (state: State): string =>
  state.view === null ? "nothing heard yet" : `sees ${plural(state.view.nodes.length, "node", "nodes")}`;
