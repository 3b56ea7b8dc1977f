import { useCallback, useRef, type CSSProperties, type KeyboardEvent, type MouseEvent, type ReactNode } from "react";
import { CreditsError, InsufficientCreditsError, UnauthenticatedError } from "../client.js";
import { useSettings, type CreditsSettings, type ResolvedSettings } from "./CreditsProvider.js";
import { fill } from "./fill.js";
import type { SpendOptions } from "./Spending.js";
import { Alert } from "./Trouble.js";
import { useSpend, type Spend } from "./useSpend.js";

export interface SpendButtonProps extends CreditsSettings, SpendOptions {
  /** The button's label; the price is shown beside it. By default it only says how many credits it uses. */
  children?: ReactNode;
  /** Whether it is disabled, for a reason of yours. */
  disabled?: boolean | undefined;
}

/** A button that uses credits: once a click; for some seconds a click can be undone. */
export function SpendButton({ children, disabled = false, ...props }: SpendButtonProps) {
  const settings = useSettings(props);
  const { texts, locale } = settings;
  const spending = useSpend(props);
  const { status, canUndo, spend, undo } = spending;
  const button = useRef<HTMLButtonElement>(null);
  const undoButton = useRef<HTMLButtonElement | null>(null);
  // If the focused button disappears, the focus stays beside it.
  const setUndoButton = useCallback((element: HTMLButtonElement | null) => {
    if (!element && document.activeElement === undoButton.current) button.current?.focus();
    undoButton.current = element;
  }, []);
  const isDisabled = disabled || spending.isDisabled;
  // A double click, and a key that is held down, count once.
  const press = (event: MouseEvent) => event.detail <= 1 && !isDisabled && spend();
  const hold = (event: KeyboardEvent) => event.repeat && event.preventDefault();
  const count = props.amount.toLocaleString(locale);
  const timeToUndo = { "--credits-undo": `${props.undoSeconds ?? 5}s` } as CSSProperties;
  return (
    <div className={`credits-spend credits-is-${status}`} aria-busy={status === "sending" || status === "undoing"}>
      <button ref={button} type="button" className="credits-use" aria-disabled={isDisabled} onClick={press} onKeyDown={hold}>
        {children ? (
          <>
            {children} <span className="credits-price">{fill(texts, texts.price, { amount: count }, props.amount)}</span>
          </>
        ) : (
          fill(texts, texts.use, { amount: count }, props.amount)
        )}
      </button>{" "}
      {canUndo ? (
        <button ref={setUndoButton} type="button" className="credits-undo" style={timeToUndo} onClick={undo}>
          {texts.undo}
        </button>
      ) : null}
      <p role="status" className="credits-said">
        {saidOf(spending, settings)}
      </p>
      {spending.error ? <Refusal spending={spending} settings={settings} /> : null}
    </div>
  );
}

/** What is going on, also for screen readers. */
function saidOf({ status, amount, answer, error }: Spend, { texts, locale }: ResolvedSettings): ReactNode {
  const say = (text: Parameters<typeof fill>[1]) => fill(texts, text, { amount: amount.toLocaleString(locale) }, amount);
  if (status === "waiting") return say(texts.waiting);
  if (status === "sending") return say(texts.sending);
  if (status === "spent" && !error) return say(texts.spent);
  if (status === "undoing") return say(texts.undoing);
  if (status === "undone") return answer ? texts.undone : texts.nothingUsed;
  return null;
}

/** Why it failed, and how to go on. */
function Refusal({ spending, settings }: { spending: Spend; settings: ResolvedSettings }) {
  const { status, error, amount, spend, undo } = spending;
  const { texts, locale, getMore } = settings;
  if (error instanceof InsufficientCreditsError) {
    const available = error.availableBalance;
    const gaps = { amount: amount.toLocaleString(locale), available: available.toLocaleString(locale) };
    return (
      <>
        <Alert texts={texts}>{fill(texts, texts.insufficient, gaps, amount)}</Alert>
        {getMore ? <div className="credits-more">{getMore({ available, missing: amount - available })}</div> : null}
      </>
    );
  }
  if (status === "spent") return <Alert texts={texts} onRetry={undo}>{texts.notUndone}</Alert>;
  if (error instanceof UnauthenticatedError) return <Alert texts={texts} onRetry={spend}>{texts.unansweredSignedOut}</Alert>;
  const words = error instanceof CreditsError ? texts.problems[error.problem.code as keyof typeof texts.problems] : undefined;
  if (status === "unanswered") return <Alert texts={texts} onRetry={spend}>{words ?? texts.unanswered}</Alert>;
  return <Alert texts={texts}>{words ?? (error as CreditsError).problem.detail}</Alert>;
}
