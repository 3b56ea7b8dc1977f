import { useCallback, useId, useState } from "react";
import type { CreditsClient, HistoryPage, Transaction, TransactionType } from "../client.js";
import { Trouble } from "./Trouble.js";
import { useLoaded } from "./useLoaded.js";

const NAMES: Record<TransactionType, string> = {
  allocation: "Monthly credits",
  usage: "Used",
  expiration: "Expired",
  manual: "Changed by hand",
  reversal: "Given back",
  hold: "Reserved",
  release: "Free again",
  purchase: "Bought",
  refund: "Refunded",
};

export interface CreditsHistoryProps {
  client: CreditsClient;
  /** The timezone of the times; the default is the browser's. */
  timeZone?: string;
  locale?: string;
  /** Lines on a page. */
  pageSize?: number;
}

/** Everything that happened to a user's credits, newest first: by type, and page by page. */
export function CreditsHistory({ client, timeZone, locale, pageSize = 20 }: CreditsHistoryProps) {
  const title = useId();
  const group = useId();
  const [type, setType] = useState<TransactionType | null>(null);
  const { lines, error, isLoading, hasMore, more, reload } = useLines(client, type, pageSize);
  return (
    <section className="credits-history" aria-labelledby={title} aria-busy={isLoading}>
      <h2 id={title}>History</h2>
      <fieldset>
        <legend>Show</legend>
        {[null, ...(Object.keys(NAMES) as TransactionType[])].map((choice) => (
          <label key={choice ?? ""}>
            <input type="radio" name={group} checked={type === choice} onChange={() => setType(choice)} />
            {choice ? NAMES[choice] : "Everything"}
          </label>
        ))}
      </fieldset>
      {error ? <Trouble error={error} onRetry={reload} /> : null}
      <ol>
        {lines.map((line) => (
          <Line key={line.transaction_id} line={line} timeZone={timeZone} locale={locale} />
        ))}
      </ol>
      {!error && !isLoading && lines.length === 0 && !hasMore ? <p>Nothing of this kind has happened yet.</p> : null}
      {hasMore && !error ? (
        <button type="button" onClick={more} disabled={isLoading}>
          Show older
        </button>
      ) : null}
      <p role="status" className="credits-said">
        {isLoading ? "Loading …" : lines.length === 1 ? "1 line is shown." : `${lines.length} lines are shown.`}
      </p>
    </section>
  );
}

function Line({ line, timeZone, locale }: { line: Transaction; timeZone: string | undefined; locale: string | undefined }) {
  const when = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short", ...(timeZone && { timeZone }) });
  return (
    <li className={`credits-line credits-${line.type}`}>
      <span className="credits-what">{line.description}</span> <span className="credits-type">{NAMES[line.type]}</span>{" "}
      <time dateTime={line.effective_at}>{when.format(new Date(line.effective_at))}</time>{" "}
      <strong className="credits-amount">{changeOf(line, locale)}</strong>{" "}
      {line.left_out_amount ? <span className="credits-left-out">{leftOutOf(line, locale)} </span> : null}
      <span className="credits-balance-after">balance {line.balance_after.toLocaleString(locale)}</span>
    </li>
  );
}

/** What a line did. A hold moves no credits, and its end moves only what is used. */
function changeOf(line: Transaction, locale: string | undefined): string {
  if (line.type === "hold") return `${(line.held_amount ?? 0).toLocaleString(locale)} reserved`;
  if (line.type === "release") return `${(line.released_amount ?? 0).toLocaleString(locale)} free again`;
  return line.amount.toLocaleString(locale, { signDisplay: "exceptZero" });
}

/** What an allocation left out, because the credits that were there fill the plan's cap. */
function leftOutOf({ left_out_amount, balance_cap }: Transaction, locale: string | undefined): string {
  return `${(left_out_amount ?? 0).toLocaleString(locale)} left out: filled up to ${(balance_cap ?? 0).toLocaleString(locale)}`;
}

interface Older {
  /** The listing of these lines; pages of another choice are ignored. */
  of: AsyncGenerator<HistoryPage, void>;
  lines: Transaction[];
  hasMore: boolean;
  error: unknown;
  isLoading: boolean;
}

/** The lines so far. Pages are loaded one by one; late pages of an earlier choice are dropped. */
function useLines(client: CreditsClient, type: TransactionType | null, pageSize: number) {
  const first = useLoaded(
    useCallback(
      async (signal: AbortSignal) => {
        const pages = client.historyPages({ limit: pageSize, ...(type && { type }) }, signal);
        const { value } = await pages.next();
        return { pages, lines: value?.items ?? [], hasMore: !!value?.next_cursor };
      },
      [client, type, pageSize],
    ),
  );
  const [kept, setOlder] = useState<Older | null>(null);
  const older = kept && kept.of === first.value?.pages ? kept : null;
  const more = async () => {
    if (!first.value) return;
    const of = first.value.pages;
    const lines = older?.lines ?? [];
    setOlder({ of, lines, hasMore: true, error: null, isLoading: true });
    try {
      const { value } = await of.next();
      setOlder({ of, lines: [...lines, ...(value?.items ?? [])], hasMore: !!value?.next_cursor, error: null, isLoading: false });
    } catch (error) {
      setOlder({ of, lines, hasMore: false, error, isLoading: false });
    }
  };
  return {
    lines: [...(first.value?.lines ?? []), ...(older?.lines ?? [])],
    hasMore: (older ?? first.value)?.hasMore ?? false,
    error: first.error ?? older?.error,
    isLoading: first.isLoading || !!older?.isLoading,
    more: () => void more(),
    reload: first.reload,
  };
}
