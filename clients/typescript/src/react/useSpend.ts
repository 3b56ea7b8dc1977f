import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { useSettings, type CreditsSettings } from "./CreditsProvider.js";
import { IDLE, purposeOf, Spending, type SpendOptions, type SpendState } from "./Spending.js";

export interface Spend extends SpendState {
  /** Uses the credits, or tries again. It does nothing while a use is under way, or if the key's purpose is paid for. */
  spend: () => void;
  undo: () => void;
  /** Whether `spend` would do nothing. */
  isDisabled: boolean;
  /** The number of credits of the last click. */
  amount: number;
}

const nobody = () => () => {};
const idle = () => IDLE;

/** Uses credits at a click: once, however often a user clicks. The balance goes down at once, and back up if it is refused. */
export function useSpend({ client, ...options }: SpendOptions & Pick<CreditsSettings, "client">): Spend {
  const { store, client: api } = useSettings({ client });
  const [spending, setSpending] = useState<Spending | null>(null);
  const current = useRef<Spending | null>(null);
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const { idempotencyKey } = options;
  useEffect(
    () => () => {
      current.current?.leave();
      current.current = null;
      setSpending(null);
    },
    [store, idempotencyKey],
  );
  const state = useSyncExternalStore(spending?.subscribe ?? nobody, spending?.get ?? idle, idle);

  const spend = useCallback(() => {
    const mine = () => latest.current;
    const last = current.current;
    if (last?.isBusy || isOver(last?.state, mine().idempotencyKey)) return;
    if (last?.state.status === "unanswered") return last.start();
    if (last?.state.status === "refused" && last.purpose === purposeOf(mine())) return last.start();
    last?.leave();
    const open = store.adopt(purposeOf(mine()));
    const next = open ?? new Spending(store, (request, key) => api.use(request, key), mine);
    current.current = next;
    setSpending(next);
    if (open) open.join(mine);
    else next.start();
  }, [store, api]);

  return {
    ...state,
    spend,
    undo: useCallback(() => current.current?.undo(), []),
    isDisabled: !!spending?.isBusy || isOver(state, idempotencyKey),
    amount: spending?.amount ?? options.amount,
  };
}

/** Whether a key's purpose was paid for: the key would get the same answer, even after it was undone. */
const isOver = (state: SpendState | undefined, key: string | undefined) => !!key && !!state?.answer;
