import { useCallback, useEffect, useId, useState } from "react";
import type { AllocationSchedule, CreditsClient } from "../client.js";
import { Trouble } from "./Trouble.js";
import { useLoaded } from "./useLoaded.js";

export interface CreditsCardProps {
  client: CreditsClient;
  /** The language of numbers and dates; the default is the browser's. */
  locale?: string;
  /** The present time, in milliseconds; for tests and previews. */
  now?: () => number;
}

/** Shows a user's credits, which are reserved, when more come, and which expire. It has no styles: style the class names yourself. */
export function CreditsCard({ client, locale, now = Date.now }: CreditsCardProps) {
  const title = useId();
  const { value, error, isLoading, reload } = useLoaded(useCallback((signal: AbortSignal) => client.schedule(undefined, signal), [client]));
  return (
    <section className="credits-card" aria-labelledby={title} aria-busy={isLoading}>
      <h2 id={title}>Your credits</h2>
      {error ? <Trouble error={error} onRetry={reload} /> : null}
      {value ? <Contents client={client} schedule={value} locale={locale} now={now} onDue={reload} /> : null}
      {!value && !error ? <p>Loading …</p> : null}
    </section>
  );
}

interface ContentsProps {
  client: CreditsClient;
  schedule: AllocationSchedule;
  locale: string | undefined;
  now: () => number;
  onDue: () => void;
}

function Contents({ client, schedule, locale, now, onDue }: ContentsProps) {
  const count = (number: number) => number.toLocaleString(locale);
  const day = (date: string) => formatDay(date, locale);
  const lasting = schedule.current_balance - schedule.expiring_credits.reduce((sum, { amount }) => sum + amount, 0);
  return (
    <>
      <p className="credits-balance">
        <strong>{count(schedule.current_balance)}</strong> available
      </p>
      <Reserved client={client} schedule={schedule} locale={locale} />
      <h3>Next credits</h3>
      {schedule.next_allocation_date && schedule.next_allocation_at ? (
        <p className="credits-next">
          +{count(schedule.allocation_amount)}
          {schedule.balance_cap ? `, filling up to ${count(schedule.balance_cap)},` : ""} on <time dateTime={schedule.next_allocation_at}>{day(schedule.next_allocation_date)}</time>
          , <Countdown until={schedule.next_allocation_at} now={now} onDue={onDue} />
        </p>
      ) : (
        <p className="credits-next">None. {schedule.not_allocated_because?.words}</p>
      )}
      <h3>What expires</h3>
      <ul className="credits-expiring">
        {schedule.expiring_credits.map(({ amount, expires_at }) => (
          <li key={expires_at}>
            {count(amount)} can be used through <time dateTime={dayBefore(expires_at)}>{day(dayBefore(expires_at))}</time>
          </li>
        ))}
        {lasting > 0 ? <li>{count(lasting)} never expire</li> : null}
        {schedule.current_balance === 0 ? <li>Nothing: there are no credits.</li> : null}
      </ul>
    </>
  );
}

/** What is set aside for jobs that are under way. If it cannot be had, the card does without it. */
function Reserved({ client, schedule, locale }: Pick<ContentsProps, "client" | "schedule" | "locale">) {
  // A schedule that is loaded again asks for the holds again, too.
  const load = useCallback((signal: AbortSignal) => client.balance(undefined, signal), [client, schedule]);
  const holds = useLoaded(load).value?.holds.filter(({ amount }) => amount > 0) ?? [];
  if (holds.length === 0) return null;
  return (
    <ul className="credits-reserved">
      {holds.map(({ hold_id, amount, expires_at }) => (
        <li key={hold_id}>
          {amount.toLocaleString(locale)} reserved until{" "}
          <time dateTime={expires_at}>{formatInstant(expires_at, schedule.timezone, locale)}</time>
        </li>
      ))}
    </ul>
  );
}

/** The remaining time, to the second; loads again when it is over. */
function Countdown({ until, now, onDue }: { until: string; now: () => number; onDue: () => void }) {
  const left = () => Math.max(0, Math.ceil((Date.parse(until) - now()) / 1000));
  const [seconds, setSeconds] = useState(left);
  useEffect(() => {
    const timer = setInterval(() => setSeconds(left()), 1000);
    return () => clearInterval(timer);
  }, [until, now]);
  const isDue = seconds === 0;
  useEffect(() => {
    // Not at once: the credits are posted some time after midnight.
    const timer = isDue ? setInterval(onDue, 10_000) : undefined;
    return () => clearInterval(timer);
  }, [isDue, onDue]);
  const two = (number: number) => String(Math.floor(number)).padStart(2, "0");
  const days = Math.floor(seconds / 86_400);
  const time = `${two((seconds % 86_400) / 3600)}:${two((seconds % 3600) / 60)}:${two(seconds % 60)}`;
  return <span role="timer">{isDue ? "any moment now" : `in ${days ? `${days} ${days === 1 ? "day" : "days"} and ` : ""}${time}`}</span>;
}

/** A local date in words. It is in the user's timezone already, so the browser's timezone must not move it. */
function formatDay(date: string, locale: string | undefined): string {
  return new Intl.DateTimeFormat(locale, { dateStyle: "long", timeZone: "UTC" }).format(new Date(date));
}

/** An instant in words, where the user lives; if the browser does not know the timezone, in its own. */
function formatInstant(instant: string, timeZone: string, locale: string | undefined): string {
  const style = { dateStyle: "long", timeStyle: "short" } as const;
  try {
    return new Intl.DateTimeFormat(locale, { ...style, timeZone }).format(new Date(instant));
  } catch {
    return new Intl.DateTimeFormat(locale, style).format(new Date(instant));
  }
}

/** The last day on which credits that expire on `date` can be used. */
function dayBefore(date: string): string {
  const day = new Date(date);
  day.setUTCDate(day.getUTCDate() - 1);
  return day.toISOString().replace(/T.*/, "");
}
