import { useCallback, useEffect, useId, useState, type ReactNode } from "react";
import type { AllocationSchedule } from "../client.js";
import { fill } from "./fill.js";
import { useSettings, type CreditsSettings, type ResolvedSettings } from "./CreditsProvider.js";
import { Trouble } from "./Trouble.js";
import { useCredits } from "./useCredits.js";
import { useForecast, type Outlook } from "./useForecast.js";
import { useLoaded } from "./useLoaded.js";

export interface CreditsCardProps extends CreditsSettings {}

/** Shows a user's credits: reserved ones, the next ones, when they expire, and how long they last. Style it with `styles.css`, or your own. */
export function CreditsCard(props: CreditsCardProps) {
  const title = useId();
  const settings = useSettings(props);
  const { texts, getMore, lowBalance } = settings;
  const { available, pending, schedule, error, isLoading, refresh } = useCredits(props);
  const outlook = useForecast(props);
  return (
    <section className="credits-card" aria-labelledby={title} aria-busy={isLoading}>
      <h2 id={title}>{texts.yourCredits}</h2>
      {error ? <Trouble error={error} texts={texts} onRetry={refresh} /> : null}
      {schedule && available !== null ? (
        <>
          <p className={`credits-balance${pending ? " credits-pending" : ""}`}>
            {fill(texts, texts.available, { amount: <strong>{available.toLocaleString(settings.locale)}</strong> }, available)}
          </p>
          {getMore && available <= lowBalance ? <div className="credits-more">{getMore({ available, missing: 0 })}</div> : null}
          <Contents settings={settings} schedule={schedule} onDue={refresh} />
          {schedule.current_balance > 0 ? <Lasting settings={settings} outlook={outlook} /> : null}
        </>
      ) : null}
      {!schedule && !error ? <p>{texts.loading}</p> : null}
    </section>
  );
}

interface PartProps {
  settings: ResolvedSettings;
  schedule: AllocationSchedule;
}

function Contents({ settings, schedule, onDue }: PartProps & { onDue: () => void }) {
  const { texts, locale } = settings;
  const count = (number: number) => number.toLocaleString(locale);
  const lasting = schedule.current_balance - schedule.expiring_credits.reduce((sum, { amount }) => sum + amount, 0);
  return (
    <>
      <Parts amounts={[...schedule.expiring_credits.map(({ amount }) => amount), lasting]} />
      <Reserved settings={settings} schedule={schedule} />
      <h3>{texts.nextCredits}</h3>
      <p className="credits-next">
        <Next settings={settings} schedule={schedule} onDue={onDue} />
      </p>
      <h3>{texts.whatExpires}</h3>
      <ul className="credits-expiring">
        {schedule.expiring_credits.map(({ amount, expires_at }) => {
          const last = dayBefore(expires_at);
          const date = <time dateTime={last}>{formatDay(last, locale)}</time>;
          return <li key={expires_at}>{fill(texts, texts.usableThrough, { amount: count(amount), date }, amount)}</li>;
        })}
        {lasting > 0 ? <li>{fill(texts, texts.neverExpire, { amount: count(lasting) }, lasting)}</li> : null}
        {schedule.current_balance === 0 ? <li>{texts.noCredits}</li> : null}
      </ul>
    </>
  );
}

/** The lines of what expires, as parts of a bar. It only repeats what they say. */
function Parts({ amounts }: { amounts: number[] }) {
  const parts = amounts.filter((amount) => amount > 0);
  if (parts.length === 0) return null;
  return (
    <div className="credits-bar" aria-hidden="true">
      {parts.map((amount, place) => (
        <span key={place} style={{ flexGrow: amount }} />
      ))}
    </div>
  );
}

/** When the next credits come, and how many; or why none will come. */
function Next({ settings, schedule, onDue }: PartProps & { onDue: () => void }): ReactNode {
  const { texts, locale, now } = settings;
  const { next_allocation_at, next_allocation_date, allocation_amount, balance_cap, not_allocated_because } = schedule;
  if (next_allocation_date && next_allocation_at) {
    const gaps = {
      amount: allocation_amount.toLocaleString(locale),
      cap: balance_cap?.toLocaleString(locale),
      date: <time dateTime={next_allocation_at}>{formatDay(next_allocation_date, locale)}</time>,
      countdown: <Countdown until={next_allocation_at} settings={settings} now={now} onDue={onDue} />,
    };
    return fill(texts, balance_cap ? texts.nextUpTo : texts.next, gaps, allocation_amount);
  }
  if (!not_allocated_because) return texts.noNext;
  const { code, words } = not_allocated_because;
  return fill(texts, texts.noNextBecause, { reason: texts.reasons[code] ?? words });
}

/** Credits set aside for running jobs. If they cannot be loaded, the card does without them. */
function Reserved({ settings, schedule }: PartProps) {
  const { texts, locale, store } = settings;
  // Reloading the schedule reloads the holds, too.
  const load = useCallback((signal: AbortSignal) => store.balance(signal), [store, schedule]);
  const holds = useLoaded(load).value?.holds.filter(({ amount }) => amount > 0) ?? [];
  if (holds.length === 0) return null;
  return (
    <ul className="credits-reserved">
      {holds.map(({ hold_id, amount, expires_at }) => {
        const time = <time dateTime={expires_at}>{formatInstant(expires_at, schedule.timezone, locale)}</time>;
        return <li key={hold_id}>{fill(texts, texts.reserved, { amount: amount.toLocaleString(locale), time }, amount)}</li>;
      })}
    </ul>
  );
}

/** How long they last at the present pace. If no pace is justified, or it cannot be loaded, the card does without it. */
function Lasting({ settings, outlook }: { settings: ResolvedSettings; outlook: Outlook }) {
  const { texts, locale } = settings;
  const { forecast, pace } = outlook;
  if (!forecast || !pace) return null;
  const { days, runs_out_on, expiring_credits } = pace;
  const [unused] = expiring_credits;
  const day = (date: string) => <time dateTime={date}>{formatDay(date, locale)}</time>;
  const gaps = { days: days.toLocaleString(locale), date: day(runs_out_on ?? forecast.until) };
  return (
    <>
      <h3>{texts.howLongTheyLast}</h3>
      <p className="credits-pace">{fill(texts, runs_out_on ? texts.runOut : texts.lastAtLeast, gaps, days)}</p>
      {unused ? (
        <p className="credits-unused">
          {fill(texts, texts.expireUnused, { amount: unused.amount.toLocaleString(locale), date: day(dayBefore(unused.expires_at)) }, unused.amount)}
        </p>
      ) : null}
    </>
  );
}

interface CountdownProps {
  until: string;
  settings: ResolvedSettings;
  now: () => number;
  onDue: () => void;
}

/** The remaining time, to the second; loads again when it is over. */
function Countdown({ until, settings, now, onDue }: CountdownProps) {
  const { texts } = settings;
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
  const said = days ? fill(texts, texts.inDaysAndTime, { days, time }, days) : fill(texts, texts.inTime, { time });
  return <span role="timer">{isDue ? texts.anyMoment : said}</span>;
}

/** A local date in words. It is already in the user's timezone, so the browser's timezone must not move it. */
function formatDay(date: string, locale: string | undefined): string {
  return new Intl.DateTimeFormat(locale, { dateStyle: "long", timeZone: "UTC" }).format(new Date(date));
}

/** An instant in words, in the user's timezone; in the browser's if that does not know the user's. */
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
