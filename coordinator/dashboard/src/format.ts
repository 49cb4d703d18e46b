/// Numbers, times and durations in the viewer's locale, short enough for a glance.
///
/// Pure but for the locale, which the browser gives.

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day_and_clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const share = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
const small_share = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });

export const count = (value: number): string => whole.format(value);
export const decimal = (value: number): string => tenth.format(value);
export const percent = (part: number): string => share.format(part);
export const small_percent = (part: number): string => small_share.format(part);
export const mebibytes = (bytes: number): string => `${whole.format(bytes / 1024 / 1024)} MiB`;
/** `one` or `many` as the number demands. */
export const plural = (value: number, one: string, many: string): string => `${count(value)} ${value === 1 ? one : many}`;

/** The time of day; with the day where it was another one. */
export function time_of_day(time_s: number, now_s: number): string {
  const time = new Date(time_s * 1000);
  const today = time.toDateString() === new Date(now_s * 1000).toDateString();
  return (today ? clock : day_and_clock).format(time);
}

/** For machines: the `datetime` attribute of `<time>`. */
export const iso = (time_s: number): string => new Date(time_s * 1000).toISOString();

/** `4 s`, `12 min 05 s`, `3 h 20 min`, `5 d 2 h`: two units at most. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  const two = (value: number) => String(value).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}
