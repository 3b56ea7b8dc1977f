import { useId, useState, type ReactNode } from "react";
import type { Transaction, TransactionType } from "../client.js";
import { useSettings, type CreditsSettings, type ResolvedSettings } from "./CreditsProvider.js";
import { fill } from "./fill.js";
import { Trouble } from "./Trouble.js";
import { useHistory } from "./useHistory.js";

export interface CreditsHistoryProps extends CreditsSettings {
  /** The timezone of the times; the default is the browser's. */
  timeZone?: string | undefined;
  /** Lines on a page. */
  pageSize?: number | undefined;
}

/** Everything that happened to a user's credits, newest first: by type, and page by page. */
export function CreditsHistory({ timeZone, pageSize, ...props }: CreditsHistoryProps) {
  const title = useId();
  const group = useId();
  const [type, setType] = useState<TransactionType | null>(null);
  const settings = useSettings(props);
  const { texts, locale } = settings;
  const { lines, error, isLoading, hasMore, more, retry } = useHistory({ ...props, type, pageSize });
  const shown = fill(texts, texts.linesShown, { count: lines.length.toLocaleString(locale) }, lines.length);
  return (
    <section className="credits-history" aria-labelledby={title} aria-busy={isLoading}>
      <h2 id={title}>{texts.history}</h2>
      <fieldset>
        <legend>{texts.show}</legend>
        {[null, ...(Object.keys(texts.types) as TransactionType[])].map((choice) => (
          <label key={choice ?? ""}>
            <input type="radio" name={group} checked={type === choice} onChange={() => setType(choice)} />
            {choice ? texts.types[choice] : texts.everything}
          </label>
        ))}
      </fieldset>
      {error ? <Trouble error={error} texts={texts} onRetry={retry} /> : null}
      <ol>
        {lines.map((line) => (
          <Line key={line.transaction_id} line={line} settings={settings} timeZone={timeZone} />
        ))}
      </ol>
      {!error && !isLoading && lines.length === 0 && !hasMore ? <p>{texts.nothingYet}</p> : null}
      {hasMore && !error ? (
        <button type="button" onClick={more} disabled={isLoading}>
          {texts.showOlder}
        </button>
      ) : null}
      <p role="status" className="credits-said">
        {isLoading ? texts.loading : shown}
      </p>
    </section>
  );
}

interface LineProps {
  line: Transaction;
  settings: ResolvedSettings;
  timeZone: string | undefined;
}

function Line({ line, settings, timeZone }: LineProps) {
  const { texts, locale } = settings;
  const when = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short", ...(timeZone && { timeZone }) });
  const balance = line.balance_after.toLocaleString(locale);
  return (
    <li className={`credits-line credits-${line.type}`}>
      <span className="credits-what">{whatOf(line, settings)}</span> <span className="credits-type">{texts.types[line.type]}</span>{" "}
      <time dateTime={line.effective_at}>{when.format(new Date(line.effective_at))}</time>{" "}
      <strong className="credits-amount">{changeOf(line, settings)}</strong>{" "}
      {line.left_out_amount ? <span className="credits-left-out">{leftOutOf(line, settings)} </span> : null}
      <span className="credits-balance-after">{fill(texts, texts.balanceAfter, { balance }, line.balance_after)}</span>
    </li>
  );
}

/** A line's description. The system's own words can be translated; those of people stay. */
function whatOf({ actor, type, description, allocation_period }: Transaction, { texts, locale }: ResolvedSettings): ReactNode {
  const words = actor === "system" ? texts.described[type] : undefined;
  if (words === undefined) return description;
  const month = new Intl.DateTimeFormat(locale, { month: "long", year: "numeric", timeZone: "UTC" });
  return fill(texts, words, { month: allocation_period && month.format(new Date(allocation_period)) });
}

/** What a line did. A hold moves no credits, and its end moves only what is used. */
function changeOf(line: Transaction, { texts, locale }: ResolvedSettings): ReactNode {
  const held = line.held_amount ?? 0;
  const released = line.released_amount ?? 0;
  if (line.type === "hold") return fill(texts, texts.amountReserved, { amount: held.toLocaleString(locale) }, held);
  if (line.type === "release") return fill(texts, texts.amountFree, { amount: released.toLocaleString(locale) }, released);
  return line.amount.toLocaleString(locale, { signDisplay: "exceptZero" });
}

/** What an allocation left out, because existing credits fill the plan's cap. */
function leftOutOf({ left_out_amount, balance_cap }: Transaction, { texts, locale }: ResolvedSettings): ReactNode {
  const amount = left_out_amount ?? 0;
  return fill(texts, texts.leftOut, { amount: amount.toLocaleString(locale), cap: balance_cap?.toLocaleString(locale) }, amount);
}
